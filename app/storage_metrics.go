package app

import (
	"github.com/millrace-run/millrace/router"
	"github.com/millrace-run/millrace/sinks/storage"
)

// storageStats are what the storage sinks count beside their deliveries.
func storageStats(plan *Plan) []router.Metric {
	var all []router.Metric
	for _, p := range plan.Pipelines {
		for _, s := range p.Sinks {
			sink, ok := s.Value.(interface{ Counts() storage.Counts })
			if !ok {
				continue
			}
			c := sink.Counts()
			for _, m := range [...]struct {
				name, help string
				kind       router.Kind
				value      int64
			}{
				{"closed_total", "Files that were closed: by rotate, because their path moved on, or by max_files.", router.Counter, c.Closed},
				{"packed_total", "Closed files that were compressed.", router.Counter, c.Packed},
				{"removed_total", "Closed files that keep removed.", router.Counter, c.Removed},
				{"left_total", "Files that were left alone because somebody had touched them.", router.Counter, c.Left},
				{"problems_total", "Files that could not be closed, compressed or removed at once.", router.Counter, c.Problems},
				{"waiting", "Closed files that wait to be compressed.", router.Gauge, c.Waiting},
			} {
				all = append(all, router.Metric{Name: "millrace_storage_files_" + m.name, Help: m.help, Kind: m.kind, Value: float64(m.value),
					Labels: []router.Label{{Name: "pipeline", Value: p.Name}, {Name: "sink", Value: s.Name}}})
			}
		}
	}
	return all
}
