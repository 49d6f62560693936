#!/bin/sh
# Appends lines as nginx writes them to logs/access.log: of each 20, one is a 404, one a 502, and one takes more than a second.
mkdir -p logs
i=0
while [ "$i" -lt "${1:-100}" ]; do
	i=$((i + 1))
	status=200 seconds=0.012
	case $((i % 20)) in
	5) status=404 ;;
	10) status=502 ;;
	15) seconds=1.204 ;;
	esac
	echo "192.0.2.$((i % 250 + 1)) - - [$(date -u '+%d/%b/%Y:%H:%M:%S +0000')] \"GET /page/$i HTTP/1.1\" $status 512 \"-\" \"curl/8.5\" $seconds"
done >>logs/access.log
