package app

import (
	"github.com/millrace-run/millrace/router"
	"github.com/millrace-run/millrace/sources/file"
	"github.com/millrace-run/millrace/sources/stdin"
)

// fileStats are what the sources of files and standard input count beside the events that were committed.
func (in *intake) fileStats() []router.Metric {
	var all []router.Metric
	for _, s := range in.sources {
		count := func(name, help string, value int64) {
			all = append(all, router.Metric{Name: name, Help: help, Kind: router.Counter,
				Labels: []router.Label{{Name: "pipeline", Value: s.pipeline}}, Value: float64(value)})
		}
		switch source := s.value.(type) {
		case *file.Source:
			c := source.Counts()
			count("millrace_files_read_total", "Files that were read to their end.", c.Files)
			count("millrace_files_failed_total", "Files that could not be read as what they are.", c.Failed)
			count("millrace_files_lost_total", "Files that were gone or changed before they were read to their end.", c.Lost)
			count("millrace_files_problems_total", "Files and folders that could not be opened, read, moved or deleted, as often as that was logged.", c.Problems)
		case *stdin.Source:
			count("millrace_stdin_bad_records_total", "Records of standard input that could not be read and were left out.", source.Bad())
		}
	}
	return all
}
