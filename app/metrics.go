package app

import (
	"github.com/millrace-run/millrace/console"
	"github.com/millrace-run/millrace/router"
)

// Metrics is what the router counts, in the console's form.
func (i *instance) Metrics() []console.Metric { return families(i.router.Stats()) }

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
