package app

import "testing"

// TestPushDown holds which stages run before an event is stored: all of a source that can be read again, up to one that could change
// what a delivery or a duplicate is known by.
func TestPushDown(t *testing.T) {
	for _, c := range []struct {
		name, source, stages, more string
		want                       int
	}{
		{"all", "tail: { path: a.log }", "[ parse: json, filter: data.n > 1, set: { subject: data.s, ext.x: data.x, data.id: '1' } ]", "", 3},
		{"no stages", "tail: { path: a.log }", "[]", "", 0},
		{"store all", "tail: { path: a.log }", "[ parse: json ]", "store: all", 0},
		{"a webhook", "webhook: { path: /a }", "[ filter: data.n > 1 ]", "", 0},
		{"id", "tail: { path: a.log }", "[ parse: json, set: { id: data.id }, filter: data.n > 1 ]", "", 1},
		{"source, beside others", "tail: { path: a.log }", "[ parse: json, filter: data.n > 1, set: { subject: data.a, source: data.host } ]", "", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			plan, report := load(t, "pipelines:\n  p:\n    source: { "+c.source+" }\n    stages: "+c.stages+
				"\n    sinks: { out: { storage: { path: out.ndjson } } }\n    "+c.more+"\n")
			if plan == nil {
				t.Fatal(report.Text())
			}
			if got := plan.Pipelines[0].PushDown; got != c.want {
				t.Errorf("%d stages run before the log, want %d", got, c.want)
			}
		})
	}
}
