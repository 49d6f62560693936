package pipelines

import (
	"errors"
	"strings"
	"testing"

	"github.com/millrace-run/millrace/event"
)

// follower is a source that can be read again, and begins anew only where it is told to.
type follower struct{ start string }

func (f *follower) Forgets() error {
	if f.start != "end" {
		return &event.KeyError{Key: "start", Err: errors.New("write start: end")}
	}
	return nil
}

type followerConfig struct {
	Start string `yaml:"start,oneof=beginning|end" doc:"Where it begins."`
}

// rereadables are the types of the tests, with two more sources.
func rereadables() Types {
	all := testTypes()
	all.Sources = append(all.Sources,
		Type{Name: "follow", Doc: "A log.", Rereadable: true, Once: AlwaysOnce, Config: &followerConfig{Start: "beginning"}, Build: func(d Decode) (any, error) {
			c := followerConfig{Start: "beginning"}
			err := d(&c)
			return &follower{c.Start}, err
		}},
		Type{Name: "queue", Doc: "A queue.", Rereadable: true, Build: func(Decode) (any, error) { return new(int), nil }})
	return all
}

func TestDelivery(t *testing.T) {
	const needs = `x.yaml:4:15  error  E0131  queue of the source of pipeline "a": a source of type queue needs the outbox`
	for _, c := range []struct {
		delivery, source string
		want             Delivery
		fault            string
	}{
		{"", "tick: {}", AtLeastOnce, ""},
		{"delivery: at_least_once", "follow: {}", AtLeastOnce, ""},
		{"delivery: at_least_once", "queue: {}", AtLeastOnce, ""},
		{"delivery: at_most_once", "tick: {}", AtMostOnce, ""},
		{"delivery: '${GUARANTEE:-at_most_once}'", "follow: { start: end }", AtMostOnce, ""},
		{"delivery: at_most_once", "follow: { start: end }", AtMostOnce, ""},
		{"delivery: at_most_once", "follow: {}", "", "x.yaml:4:15  error  E0131  follow of the source of pipeline \"a\": start: write start: end"},
		{"delivery: at_most_once", "follow: { start: beginning }", "", "x.yaml:4:32  error  E0131  start: write start: end"},
		{"delivery: at_most_once", "follow: { start: midst }", "", `x.yaml:4:32  error  E0114  start: "midst" is not valid`},
		{"delivery: at_most_once", "queue: {}", "", needs},
		{"delivery: exactly_once", "follow: {}", ExactlyOnce, ""},
		{"delivery: exactly_once\n    dedupe: {}", "webhook: { path: / }", ExactlyOnce, ""},
		{"delivery: exactly_once", "tick: {}", "",
			"x.yaml:4:15  error  E0135  delivery: exactly_once, at x.yaml:3:5, cannot be kept: a source of type tick forgets\n"},
		{"delivery: exactly_once\n    dedupe: {}", "tick: {}", "", "a source of type tick forgets\n"},
		{"delivery: exactly_once", "webhook: { path: / }", "", "a source of type webhook is posted some events again\n"},
		{"delivery: exactly_twice", "tick: {}", "", "valid here: at_least_once, at_most_once, exactly_once"},
		{"delivery: at_moist_once", "tick: {}", "", `did you mean "at_most_once"?`},
	} {
		text := "pipelines:\n  a:\n    " + c.delivery + "\n    source: { " + c.source + " }\n    sinks: { out: { storage: { path: a } } }\n"
		plan, faults := Parse([]File{{Name: "x.yaml", Data: []byte(text)}}, Options{Types: rereadables(), Env: testEnv})
		switch got := Format(faults); {
		case c.fault != "":
			if plan != nil || !strings.Contains(got, c.fault) || len(faults) != 1 {
				t.Errorf("%s, %s: %s", c.delivery, c.source, got)
			}
		case plan == nil:
			t.Errorf("%s, %s: %s", c.delivery, c.source, got)
		case plan.Pipelines[0].Delivery != c.want:
			t.Errorf("%s, %s: %s", c.delivery, c.source, plan.Pipelines[0].Delivery)
		}
	}
}
