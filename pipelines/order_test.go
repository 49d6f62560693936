package pipelines

import (
	"fmt"
	"strings"
	"testing"
)

func TestOrder(t *testing.T) {
	const http, storage = `http: { url: "http://127.0.0.1:1/" }`, "storage: { path: a }"
	for _, c := range []struct{ pipeline, sink, want string }{
		{"", http, "none"},
		{"", http + ", order_key: data.id", "data.id release 10000 at 16"},
		{"", http + ", order_key: data.id, on_dead: hold, max_held: 5", "data.id hold 5 at 16"},
		{"", http + ", order_key: data.id, concurrency: 1", "data.id release 10000 at 1"},
		{"", http + ", order: strict", "strict at 1"},
		{"", http + ", order: strict, concurrency: 1", "strict at 1"},
		{"", http + ", order: none", "none"},
		{"order_key: data.id", http, "data.id release 10000 at 16"},
		{"order_key: data.id", http + ", on_dead: hold", "data.id hold 10000 at 16"},
		{"order_key: data.id", http + ", order_key: data.other", "data.other release 10000 at 16"},
		{"order_key: data.id", http + ", order: strict", "strict at 1"},
		{"order_key: data.id", http + ", order: none", "none"},
		{"order_key: data.id", storage, "none"},
		{"order: strict", http, "strict at 1"},
		{"order: strict", http + ", order_key: data.id", "data.id release 10000 at 16"},
		{"order: strict", storage, "none"},

		{"", http + ", order_key: data.id, order: strict",
			`x.yaml:5:79  error  E0135  order: sink "out" says something else with order_key, at x.yaml:5:59`},
		{"order_key: data.id, order: strict", http,
			`x.yaml:4:5  error  E0135  order: pipeline "a" says something else with order_key, at x.yaml:3:5`},
		{"", http + ", order: strict, concurrency: 4", `x.yaml:5:74  error  E0135  concurrency: order: strict, at x.yaml:5:59,`},
		{"order: strict", http + ", concurrency: 4", `x.yaml:5:59  error  E0135  concurrency: order: strict, at x.yaml:3:5,`},
		{"", http + ", order: strict, delay: { until: data.at }", "E0135  until: order: strict, at x.yaml:5:59, lets no event wait"},
		{"order: strict", http + ", rate: { limit: 5/s, key: data.k }", "E0135  key: order: strict, at x.yaml:3:5, lets no event wait"},
		{"", http + ", order: strict, rate: 5/s, delay: 1s", "strict at 1"},
		{"", http + ", on_dead: hold", "x.yaml:5:59  error  E0135  on_dead: it is about events with one order_key"},
		{"", http + ", max_held: 7", "x.yaml:5:59  error  E0135  max_held: it is about events with one order_key"},
		{"order: strict", http + ", max_held: 7", "x.yaml:5:59  error  E0135  max_held: it is about events with one order_key"},
		{"", http + ", order_key: 7", "E0114  order_key: this is the same for every event"},
		{"", http + ", order_key: data.id, max_held: 0", "E0113"},
		{"", http + ", order: loose", "valid here: none, strict"},
		{"", http + ", order_key: 'data.'", "E0103"},
		{"priority: data.p, order_key: data.id", http, "x.yaml:4:5  error  E0135  order_key: the priority, at x.yaml:3:5, lets later events"},
		{"priority: data.p, order: strict", http, "x.yaml:4:5  error  E0135  order: the priority, at x.yaml:3:5,"},
		{"priority: data.p", http + ", order_key: data.id", "x.yaml:5:59  error  E0135  order_key: the priority, at x.yaml:3:5,"},
		{"priority: data.p", http + ", order: none", "none"},
		{"", storage + ", order_key: data.id", "E0135  order_key: a sink of type storage writes one event after the other anyway"},
		{"", storage + ", order: strict", "E0135  order: a sink of type storage writes one event after the other anyway"},
		{"", storage + ", on_dead: hold", "E0135  on_dead: a sink of type storage"},
	} {
		text := "pipelines:\n  a:\n    " + strings.ReplaceAll(c.pipeline, ", ", "\n    ") +
			"\n    source: { tick: {} }\n    sinks: { out: { " + c.sink + " } }\n"
		plan, faults := Parse([]File{{Name: "x.yaml", Data: []byte(text)}}, Options{Types: rereadables(), Env: testEnv})
		got := Format(faults)
		if plan != nil {
			got = orderText(plan.Pipelines[0].Sinks[0])
		} else if len(faults) != 1 {
			t.Errorf("%s: %d faults", text, len(faults))
		}
		if plan != nil && got != c.want || plan == nil && !strings.Contains(got, c.want) {
			t.Errorf("%s%s\nwant %s", text, got, c.want)
		}
	}
}

func orderText(s *Sink) string {
	switch o := s.Order; {
	case o == nil:
		return "none"
	case o.Key == nil:
		return fmt.Sprint("strict at ", s.Concurrency)
	case o.Hold:
		return fmt.Sprint(o.Key, " hold ", o.MaxHeld, " at ", s.Concurrency)
	default:
		return fmt.Sprint(o.Key, " release ", o.MaxHeld, " at ", s.Concurrency)
	}
}
