package app

import (
	"context"
	"maps"
	"slices"

	"github.com/millrace-run/millrace/router"
	"github.com/millrace-run/millrace/sources/syslog"
)

// moveSyslog makes the sources of syslog listen on this machine only, at ports that are free.
func (d *Dev) moveSyslog(ctx context.Context, plan *Plan) error {
	for _, p := range plan.Pipelines {
		s, ok := p.Source.Value.(*syslog.Source)
		if !ok {
			continue
		}
		address := s.Address()
		if err := d.listen(ctx, "syslog.listen of "+p.Name, &address, plan.Admin.Listen); err != nil {
			return err
		}
		s.Move(address)
	}
	return nil
}

// syslogStats are the metrics of the sources of syslog.
func (in *intake) syslogStats() []router.Metric {
	var all []router.Metric
	for _, s := range in.sources {
		l, ok := s.value.(*syslog.Source)
		if !ok {
			continue
		}
		c := l.Counts()
		pipeline := router.Label{Name: "pipeline", Value: s.pipeline}
		one := func(name, help string, kind router.Kind, n int64, more ...router.Label) {
			all = append(all, router.Metric{
				Name: "millrace_syslog_" + name, Help: help, Kind: kind, Labels: append([]router.Label{pipeline}, more...), Value: float64(n),
			})
		}
		for _, p := range slices.Sorted(maps.Keys(c.Messages)) {
			one("messages_total", "Messages that were read.", router.Counter, c.Messages[p], router.Label{Name: "protocol", Value: p})
		}
		for _, r := range slices.Sorted(maps.Keys(c.Refused)) {
			one("connections_refused_total", "Connections that were refused or closed, by reason.", router.Counter, c.Refused[r],
				router.Label{Name: "reason", Value: string(r)})
		}
		one("unparsed_total", "Messages in neither format, which are kept as they came.", router.Counter, c.Unparsed)
		one("truncated_total", "Messages that were longer than max_message, of which the beginning is kept.", router.Counter, c.Truncated)
		one("incomplete_total", "Counted messages whose connection ended before they did.", router.Counter, c.Incomplete)
		one("datagrams_dropped_total", "Datagrams that the system dropped, as far as it says so.", router.Counter, c.Dropped)
		one("lost_total", "Messages that were read and could not be stored when the process had to end.", router.Counter, c.Lost)
		one("connections", "Open connections.", router.Gauge, c.Connections)
	}
	return all
}
