package app

import (
	"github.com/millrace-run/millrace/brokers/engine"
	"github.com/millrace-run/millrace/router"
)

// Tally is what a run did for a pipeline, or for one of its sinks.
type Tally struct {
	Pipeline, Sink string // an empty sink is the pipeline itself
	Received       int    // events; of the pipeline only
	Duplicates     int    // events that were left out; of the pipeline only
	Delivered      int    // events; of a sink only
	Lost           int    // events that were in memory only and not settled at the end; of the pipeline only
	DeadLetters    int    // that were made; of the pipeline, those of its stages
}

// tally adds up the routers' counters, in the order of the plan, with what was lost of each pipeline.
func tally(stats []router.Metric, lost map[string]engine.Held) []Tally {
	var all []Tally
	at := map[SinkName]int{}
	for _, m := range stats {
		labels := map[string]string{}
		for _, l := range m.Labels {
			labels[l.Name] = l.Value
		}
		name := SinkName{Pipeline: labels["pipeline"], Sink: labels["sink"]}
		k, ok := at[name]
		if !ok {
			k = len(all)
			at[name] = k
			all = append(all, Tally{Pipeline: name.Pipeline, Sink: name.Sink})
			if name.Sink == "" {
				all[k].Lost = lost[name.Pipeline].Events
			}
		}
		switch {
		case m.Name == "millrace_events_received_total":
			all[k].Received += int(m.Value)
		case m.Name == "millrace_events_duplicate_total":
			all[k].Duplicates += int(m.Value)
		case m.Name == "millrace_deliveries_settled_total" && labels["result"] == "delivered":
			all[k].Delivered += int(m.Value)
		case m.Name == "millrace_dead_letters_total":
			all[k].DeadLetters += int(m.Value)
		}
	}
	return all
}
