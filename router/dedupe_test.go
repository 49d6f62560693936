package router

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/outbox"
	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/rules"
)

// deduped is a router whose only pipeline leaves out duplicates by a key; an empty one is the default.
func deduped(t *testing.T, key string, log Log, logger *slog.Logger) *Router {
	t.Helper()
	d := &pipelines.Dedupe{Window: time.Hour, MaxKeys: 1000}
	if key != "" {
		var err error
		if d.Key, err = rules.Compile(key, rules.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	r := New(&pipelines.Plan{Pipelines: []*pipelines.Pipeline{{Name: "p", Dedupe: d}}}, log, Options{Logger: logger})
	if err := r.Configure(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

func newBox(t *testing.T) *outbox.Outbox {
	t.Helper()
	box, err := outbox.Open(t.Context(), outbox.Options{Path: filepath.Join(t.TempDir(), "o.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = box.Close() })
	return box
}

func metricOf(r *Router, name string) float64 {
	for _, m := range r.Stats() {
		if m.Name == name {
			return m.Value
		}
	}
	return -1
}

func ordered(id, data string) event.Event {
	return event.Event{ID: id, Source: "/s", Type: "t", DataContentType: "application/json", Data: []byte(data)}
}

func TestDedupeKeys(t *testing.T) {
	for _, c := range []struct {
		name, key  string
		events     []event.Event
		want       []string
		duplicates float64
		unkeyed    float64
		says       string
	}{
		{"source and id", "", []event.Event{ordered("1", ""), ordered("2", ""), ordered("1", "x")}, []string{"1", "2", "1"}, 1, 0, ""},
		{"joins do not collide", "", []event.Event{{ID: "c", Source: "ab"}, {ID: "bc", Source: "a"}, {ID: "abc"}},
			[]string{"c", "bc", "abc"}, 0, 0, ""},
		{"the id", "id", []event.Event{{ID: "1", Source: "/a"}, {ID: "1", Source: "/b"}}, []string{"1", "1"}, 1, 0, ""},
		{"data", "data.order", []event.Event{ordered("1", `{"order":7}`), ordered("2", `{"order":7}`), ordered("3", `{"order":"7"}`)},
			[]string{"1", "1", "3"}, 1, 0, ""},
		{"several", "[data.a, data.b]",
			[]event.Event{ordered("1", `{"a":1,"b":2}`), ordered("2", `{"a":12}`), ordered("3", `{"b":2,"a":1}`)}, []string{"1", "2", "1"}, 1, 0, ""},
		{"missing", "data.order", []event.Event{ordered("1", `{}`), ordered("2", `{}`)},
			[]string{"1", "2"}, 0, 2, "data.order is missing"},
		{"null", "data.order", []event.Event{ordered("1", `{"order":null}`), ordered("2", `{"order":null}`)},
			[]string{"1", "2"}, 0, 2, "it is nil"},
		{"failing", "int(data.order)", []event.Event{ordered("1", `{"order":"x"}`), ordered("2", `{"order":"x"}`)},
			[]string{"1", "2"}, 0, 2, "event_id=1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var said bytes.Buffer
			r := deduped(t, c.key, newBox(t), slog.New(slog.NewTextHandler(&said, nil)))
			var got []string
			for _, e := range c.events {
				ids, err := r.Emit("p")(t.Context(), event.Batch{Events: []event.Event{e}})
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, ids...)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("ids %q, want %q", got, c.want)
			}
			received, duplicates, unkeyed := metricOf(r, "millrace_events_received_total"), metricOf(r, "millrace_events_duplicate_total"),
				metricOf(r, "millrace_events_unkeyed_total")
			if received != float64(len(c.events))-c.duplicates || duplicates != c.duplicates || unkeyed != c.unkeyed {
				t.Errorf("%v received, %v duplicates, %v without a key", received, duplicates, unkeyed)
			}
			if !strings.Contains(said.String(), c.says) || strings.Count(said.String(), "\n") > 1 {
				t.Errorf("said %q", &said)
			}
		})
	}
}

// TestDedupeConflict: a body is compared where the key says the id, and nowhere else; the state of a refused batch does not move.
func TestDedupeConflict(t *testing.T) {
	refused := event.ErrConflict
	for key, want := range map[string]error{"": refused, "id": refused, " id ": refused, "data.order": nil} {
		log := newBox(t)
		r := deduped(t, key, log, nil)
		for i, body := range []string{`{"order":1}`, `{"order":1, "more":2}`} {
			_, err := r.Emit("p")(t.Context(), event.Batch{Events: []event.Event{ordered("1", body)}, Body: []byte(body),
				State: event.Changes{"at": []byte(body)}})
			if i == 0 && err != nil || i == 1 && !errors.Is(err, want) {
				t.Errorf("%q, body %d: %v", key, i, err)
			}
		}
		state, err := log.State(t.Context(), "source:p")
		if moved := strings.Contains(string(state["at"]), "more"); err != nil || moved != (want == nil) {
			t.Errorf("%q: the state is %s, %v", key, state["at"], err)
		}
	}
}

func TestDedupeTellsWhatIsForgotten(t *testing.T) {
	var said bytes.Buffer
	k := newKeyer(&pipelines.Dedupe{Window: time.Hour, MaxKeys: 1}, event.SystemClock{}, slog.New(slog.NewTextHandler(&said, nil)))
	for range 3 {
		k.answer([]string{"1"}, &event.Append{}, &event.Appended{Forgotten: 2})
	}
	if k.forgotten.Load() != 6 || strings.Count(said.String(), "max_keys is too small") != 1 {
		t.Errorf("%d forgotten, said %q", k.forgotten.Load(), &said)
	}
}

// refusing is a log that is full for a while.
type refusing struct {
	Log
	left int
}

func (l *refusing) Commit(ctx context.Context, c event.Commit) ([]event.Appended, error) {
	if l.left > 0 {
		l.left--
		return nil, event.ErrFull
	}
	return l.Log.Commit(ctx, c)
}

// TestDedupeCountsWhatIsAccepted: a source that emits a batch again because the log was full does not make more of it.
func TestDedupeCountsWhatIsAccepted(t *testing.T) {
	r := deduped(t, "data.order", &refusing{newBox(t), 3}, nil)
	emit := r.Emit("p")
	b := event.Batch{Events: []event.Event{ordered("1", `{}`), ordered("2", `{"order":1}`), ordered("3", `{"order":1}`)}}
	for errors.Is(func() error { _, err := emit(t.Context(), b); return err }(), event.ErrFull) {
	}
	if unkeyed, duplicates := metricOf(r, "millrace_events_unkeyed_total"), metricOf(r, "millrace_events_duplicate_total"); unkeyed != 1 || duplicates != 1 {
		t.Errorf("%v without a key, %v duplicates", unkeyed, duplicates)
	}
}

// unable is a log that does not leave out duplicates.
type unable struct{ Log }

func (unable) Can() event.Capabilities { return event.Capabilities{} }

func TestDedupeNeedsALogThatCan(t *testing.T) {
	plan := &pipelines.Plan{Pipelines: []*pipelines.Pipeline{{Name: "p", Dedupe: &pipelines.Dedupe{Window: time.Hour, MaxKeys: 1}}}}
	err := New(plan, unable{newBox(t)}, Options{}).Configure(t.Context())
	if err == nil || !strings.Contains(err.Error(), `pipeline "p": this outbox does not leave out duplicates`) {
		t.Errorf("%v", err)
	}
}
