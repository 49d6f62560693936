# Prints the label of one parcel, which comes as JSON on standard input. Exit code 65: this one can never be printed.
to=$(sed -n 's/.*"to": *"\([^"]*\)".*/\1/p')
if [ -z "$to" ]; then
	echo "the parcel has no address" >&2
	exit 65
fi
printf '%s  %s\n' "$CE_SUBJECT" "$to" >>labels.txt
