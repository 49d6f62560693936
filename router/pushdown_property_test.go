package router

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/rules"
)

// made is a stage that the property draws.
type made struct {
	text string
	make func(t *testing.T) (rules.Op, bool)
}

func expression(t *testing.T, text string) *rules.Expr {
	t.Helper()
	x, err := rules.Compile(text, rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func byExpression(text string, op func(*rules.Expr) rules.Op) made {
	return made{text, func(t *testing.T) (rules.Op, bool) {
		x := expression(t, text)
		return op(x), x.DataOnly()
	}}
}

func parses(o rules.ParseOptions) made {
	return made{"parse " + o.Format + " " + o.From + " " + o.Into, func(t *testing.T) (rules.Op, bool) {
		op, err := rules.Parse(o)
		if err != nil {
			t.Fatal(err)
		}
		return op, true
	}}
}

func sets(path, value string) made {
	return made{path + "=" + value, func(t *testing.T) (rules.Op, bool) {
		op, err := rules.Set([]rules.Assignment{{Path: "data.first", Value: expression(t, `"x"`)}, {Path: path, Value: expression(t, value)}})
		if err != nil {
			t.Fatal(err)
		}
		return op, false
	}}
}

func removes(paths ...string) made {
	return made{"remove " + strings.Join(paths, " "), func(t *testing.T) (rules.Op, bool) {
		op, err := rules.Remove(paths)
		if err != nil {
			t.Fatal(err)
		}
		return op, false
	}}
}

var drawn = []made{
	byExpression("data.n > 1", rules.Filter),
	byExpression("data.status >= 500 || data.n != 2", rules.Filter),
	byExpression(`data.a == "1" || id != "e3"`, rules.Filter),
	byExpression("int(data.word) > 0", rules.Filter),
	byExpression("data.gone.deep", rules.Drop),
	byExpression(`subject == "a"`, rules.Drop),
	byExpression("data.n == 3", rules.Drop),
	byExpression(`{"n": data.n, "all": data}`, rules.Map),
	byExpression(`{"n": data.missing}`, rules.Map),
	byExpression("int(data.word)", rules.Map),
	sets("subject", "data.word"),
	sets("ext.agent", `len(split(data.agent, "\ufffd"))`),
	byExpression(`data.agent contains "\ufffd"`, rules.Filter),
	sets("data.twice", "data.n * 2"),
	sets("data.bad", "int(data.word)"),
	sets("ext.tag", `data.word ?? "none"`),
	sets("datacontenttype", `"text/plain"`),
	removes("data.word", "subject"),
	removes("data"),
	parses(rules.ParseOptions{Format: "json"}),
	parses(rules.ParseOptions{Format: "logfmt"}),
	parses(rules.ParseOptions{Format: "logfmt", Types: map[string]string{"n": "int"}}),
	parses(rules.ParseOptions{Format: "combined"}),
	parses(rules.ParseOptions{Format: "syslog", From: "data.line", Into: "data"}),
	parses(rules.ParseOptions{Format: "logfmt", From: "data.line", Into: "data.inner"}),
}

var texts = []string{
	`{"n":1,"word":"x"}`, `{"n":2,"word":"7","line":"a=1 n=2"}`, `{"n":3}`, `n=4 word=abc`, `n=x word=1`, `not { json`, `a=1 a=2 n=5`,
	`127.0.0.1 - - [02/Jan/2026:15:04:05 +0000] "GET / HTTP/1.1" 502 0 "-" "x\xe4\xff"`, ``, `[1,2]`, `"text"`, `{"line":"<34>Oct 11 22:14:15 host app: hi"}`,
}

// trial is what came of the events.
type trial struct {
	delivered, dead []string
	counts          map[string]float64
}

// try runs events through stages, of which the first so many run before the log.
func try(t *testing.T, seed uint64, before bool) (out trial, what string) {
	play(t, func(s *scene) {
		r := rand.New(rand.NewPCG(seed, 7))
		p := s.pipeline()
		p.Strict = r.IntN(2) == 0
		what = fmt.Sprintf("seed %d, strict %v:", seed, p.Strict)
		for i := range 1 + r.IntN(5) {
			d := drawn[r.IntN(len(drawn))]
			on := []pipelines.OnError{"", pipelines.OnErrorDeadLetter, pipelines.OnErrorDrop, pipelines.OnErrorPass}[r.IntN(4)]
			op, dataOnly := d.make(t)
			p.Stages = append(p.Stages, pipelines.Stage{Name: fmt.Sprint("s", i), Op: op, DataOnly: dataOnly, OnError: on})
			what += fmt.Sprintf(" [%s %s]", d.text, on)
		}
		if before {
			p.PushDown = len(p.Stages)
		}
		all, some := newFakeSink(nil), newFakeSink(nil)
		s.sink("all", all)
		s.sink("some", some).When = expression(t, "data.n > 1")
		s.start(nil)
		b := event.Batch{Complete: func(i int, e *event.Event) { e.ID = fmt.Sprint("e", i) }}
		for i := range 24 {
			kind := []string{"text/plain", "application/json"}[i%2]
			b.Events = append(b.Events, event.Event{Source: "/s", Type: "t", Subject: "a", DataContentType: kind, Data: []byte(texts[i/2])})
		}
		if _, err := s.r.Emit("p")(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		out = s.trial(all, some)
		s.end()
	})
	return out, what
}

func (s *scene) trial(sinks ...*fakeSink) trial {
	out := trial{counts: map[string]float64{}}
	for i, k := range sinks {
		for id, tries := range k.tries {
			e := *tries[0].Event
			out.delivered = append(out.delivered, fmt.Sprintf("sink %d: %s %q key %s: %s", i, id, e, tries[0].Key, e.Data))
		}
	}
	for _, d := range s.dead() {
		x := d.Exception
		out.dead = append(out.dead, fmt.Sprintf("%s %s %s %s: %s", d.Subscription, d.Record.Event.ID, x.Reason, x.Stage, x.Error))
	}
	slices.Sort(out.delivered)
	slices.Sort(out.dead)
	for _, m := range s.r.Stats() {
		switch m.Name {
		case "millrace_events_filtered_total", "millrace_filtered_missing_total", "millrace_stage_errors_total", "millrace_dead_letters_total",
			"millrace_events_unmatched_total":
			out.counts[fmt.Sprint(m.Name, m.Labels)] += m.Value
		}
	}
	return out
}

// TestPushDownChangesNothing holds that stages give the same before the log as behind it: deliveries and their keys, dead letters and
// counts.
func TestPushDownChangesNothing(t *testing.T) {
	for seed := range uint64(330) {
		behind, what := try(t, seed, false)
		before, _ := try(t, seed, true)
		if !slices.Equal(behind.delivered, before.delivered) {
			t.Errorf("%s\ndelivered %s\nwant      %s", what, strings.Join(before.delivered, "\n"), strings.Join(behind.delivered, "\n"))
		}
		if !slices.Equal(behind.dead, before.dead) {
			t.Errorf("%s\ndead %s\nwant %s", what, strings.Join(before.dead, "\n"), strings.Join(behind.dead, "\n"))
		}
		for name := range behind.counts {
			if behind.counts[name] != before.counts[name] {
				t.Errorf("%s\n%s is %v, want %v", what, name, before.counts[name], behind.counts[name])
			}
		}
		if t.Failed() {
			return
		}
	}
}
