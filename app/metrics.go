package app

import (
	"slices"

	"github.com/millrace-run/millrace/brokers/engine"
	"github.com/millrace-run/millrace/console"
	"github.com/millrace-run/millrace/outbox"
	"github.com/millrace-run/millrace/router"
	"github.com/millrace-run/millrace/sources/tail"
)

// Metrics is what the routers count and how the room of the logs is used, in the console's form.
func (i *instance) Metrics() []console.Metric {
	out := families(slices.Concat(i.flows.stats(i.plan), i.intake.stats(), i.intake.fileStats(), i.intake.syslogStats(), storageStats(i.plan)))
	out = append(out, i.flows.durability(i.plan))
	for _, f := range i.flows {
		if f.space != nil {
			out = append(out, spaceMetrics(f.space())...)
		}
		if f.memory != nil {
			out = append(out, roomMetrics(f.memory.Room())...)
		}
	}
	return out
}

// durability says which pipelines lose what is pending when the process ends.
func (all flows) durability(plan *Plan) console.Metric {
	m := console.Metric{Name: "millrace_pipeline_durable", Labels: []string{"pipeline"},
		Help: "1 where accepted events are on disk, 0 where they are in memory only."}
	for _, p := range plan.Pipelines {
		s := console.Sample{Labels: []string{p.Name}, Value: 1}
		if f := all.of(p.Name); f == nil || !f.Can().Durable {
			s.Value = 0
		}
		m.Samples = append(m.Samples, s)
	}
	return m
}

func roomMetrics(r engine.Room) []console.Metric {
	return []console.Metric{
		single("millrace_memory_used_bytes", "Bytes of events in memory only that not every sink is done with.", false, r.Bytes),
		single("millrace_memory_max_bytes", "The bound of them; sources are refused, or wait, at nine tenths of it.", false, r.MaxBytes),
		single("millrace_memory_events", "Events in memory only that not every sink is done with.", false, int64(r.Events)),
		single("millrace_memory_max_events", "The bound of them; sources are refused, or wait, at nine tenths of it.", false, int64(r.MaxEvents)),
		single("millrace_memory_dead_letters_forgotten_total", "Dead letters in memory only that made room for newer ones.", true, r.Forgotten),
	}
}

// single is a metric with one sample.
func single(name, help string, counter bool, value int64) console.Metric {
	return console.Metric{Name: name, Help: help, Counter: counter, Samples: []console.Sample{{Value: float64(value)}}}
}

func spaceMetrics(s outbox.Space) []console.Metric {
	return []console.Metric{
		single("millrace_outbox_used_bytes", "Bytes of the outbox's file in use, of max_size.", false, s.Used),
		single("millrace_outbox_max_bytes", "The outbox's max_size; appends are refused at nine tenths of it.", false, s.MaxSize),
		single("millrace_outbox_history_bytes", "Bytes of events that all subscriptions have settled and retention still keeps.", false, s.History),
		single("millrace_events_purged_total", "Settled events that retention took from the outbox.", true, s.Purged),
	}
}

// stats are what the sources count beside the events that were committed.
func (in *intake) stats() []router.Metric {
	var all []router.Metric
	for _, s := range in.sources {
		t, ok := s.value.(*tail.Source)
		if !ok {
			continue
		}
		c := t.Counts()
		for _, m := range [...]struct {
			name, help string
			value      int64
		}{
			{"millrace_tail_long_lines_total", "Lines that were longer than max_line.size.", c.Over},
			{"millrace_tail_losses_total", "Files of which a part was gone before it could be read.", c.Losses},
			{"millrace_tail_lost_bytes_total", "Bytes of those parts, as far as they are known.", c.Lost},
			{"millrace_tail_replaced_total", "Files that were truncated or replaced.", c.Replaced},
			{"millrace_tail_problems_total", "Files and folders that could not be read, as often as that was logged.", c.Problems},
		} {
			all = append(all, router.Metric{Name: m.name, Help: m.help, Kind: router.Counter,
				Labels: []router.Label{{Name: "pipeline", Value: s.pipeline}}, Value: float64(m.value)})
		}
	}
	return all
}

// families gathers the samples of each metric, whatever order they come in.
func families(stats []router.Metric) []console.Metric {
	var out []console.Metric
	at := map[string]int{}
	for _, m := range stats {
		k, ok := at[m.Name]
		if !ok {
			k = len(out)
			at[m.Name] = k
			names := make([]string, len(m.Labels))
			for j, l := range m.Labels {
				names[j] = l.Name
			}
			out = append(out, console.Metric{Name: m.Name, Help: m.Help, Counter: m.Kind == router.Counter, Labels: names})
		}
		values := make([]string, len(m.Labels))
		for j, l := range m.Labels {
			values[j] = l.Value
		}
		out[k].Samples = append(out[k].Samples, console.Sample{Labels: values, Value: m.Value})
	}
	return out
}
