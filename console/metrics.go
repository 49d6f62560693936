package console

import (
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metric is a number, or one for each combination of labels, as it is at one moment.
type Metric struct {
	Name    string // in Prometheus' form: millrace_…, base units, _total for what only grows
	Help    string
	Counter bool // only grows; else it is a gauge
	Labels  []string
	Samples []Sample
}

// Sample is one number with the values of its metric's labels, in their order.
type Sample struct {
	Labels []string
	Value  float64
}

// collector hands a snapshot to Prometheus' client at each scrape: numbers are kept where they arise, and nowhere twice.
type collector struct{ snapshot func() []Metric }

// Describe sends nothing, which makes the collector an unchecked one: what there is follows from the configuration.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect takes a snapshot. A sample whose labels do not fit its metric fails the scrape with that reason.
func (c collector) Collect(out chan<- prometheus.Metric) {
	for _, m := range c.snapshot() {
		kind := prometheus.GaugeValue
		if m.Counter {
			kind = prometheus.CounterValue
		}
		desc := prometheus.NewDesc(m.Name, m.Help, m.Labels, nil)
		for _, s := range m.Samples {
			sample, err := prometheus.NewConstMetric(desc, kind, s.Value, s.Labels...)
			if err != nil {
				sample = prometheus.NewInvalidMetric(desc, err)
			}
			out <- sample
		}
	}
}

func metricsHandler(version string, in Instance) http.Handler {
	build := func() []Metric {
		return []Metric{{
			Name: "millrace_build_info", Help: "What runs here; always 1.", Labels: []string{"version", "go"},
			Samples: []Sample{{Labels: []string{version, runtime.Version()}, Value: 1}},
		}}
	}
	r := prometheus.NewRegistry()
	r.MustRegister(collector{build}, collector{in.Metrics}, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}
