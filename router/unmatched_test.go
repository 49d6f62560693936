package router

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
)

// failsAt is a when that fails at one event and wants some others.
func failsAt(id string, ids ...string) when {
	return func(ev *event.Event) (bool, string, error) {
		if ev.ID == id {
			return false, "", errors.New("broken")
		}
		return slices.Contains(ids, ev.ID), "", nil
	}
}

// What no sink wants is counted, whatever becomes of it; a sink whose when fails has its own dead letter, and the event is not
// unmatched.
func TestUnmatched(t *testing.T) {
	for name, c := range map[string]struct {
		unmatched pipelines.Unmatched
		rest      []string // what the sink of that name gets
		dead      []string
	}{
		"default": {pipelines.Unmatched{}, nil, []string{"a e3 on_error when"}},
		"drop":    {pipelines.Unmatched{Word: pipelines.UnmatchedDrop}, nil, []string{"a e3 on_error when"}},
		"dead_letter": {pipelines.Unmatched{Word: pipelines.UnmatchedDeadLetter}, nil,
			[]string{" e4 unmatched ", " e5 unmatched ", "a e3 on_error when"}},
		"sink": {pipelines.Unmatched{Sink: "rest"}, []string{"e4", "e5"}, []string{"a e3 on_error when"}},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *scene) {
				s.pipeline().Unmatched = c.unmatched
				a, b, rest := newFakeSink(nil), newFakeSink(nil), newFakeSink(nil)
				s.sink("a", a)
				whens := map[string]decider{"a": failsAt("e3", "e1", "e2"), "b": only("e2")}
				if c.unmatched.Sink != "" {
					s.sink("rest", rest)
				}
				s.sink("b", b)
				s.start(whens)
				s.emit(5)
				if !slices.Equal(a.got(), []string{"e1", "e2"}) || !slices.Equal(b.got(), []string{"e2"}) || !slices.Equal(rest.got(), c.rest) {
					t.Errorf("a %v, b %v, rest %v", a.got(), b.got(), rest.got())
				}
				var dead []string
				for _, d := range s.dead() {
					dead = append(dead, fmt.Sprintf("%s %s %s %s", d.Subscription[2:], d.Record.Event.ID, d.Exception.Reason, d.Exception.Stage))
				}
				if slices.Sort(dead); !slices.Equal(dead, c.dead) {
					t.Errorf("dead letters %q", dead)
				}
				if n := s.metric("millrace_events_unmatched_total", "p"); n != 2 {
					t.Errorf("%v unmatched", n)
				}
				if c.unmatched.Word == pipelines.UnmatchedDeadLetter {
					if n := s.metric("millrace_dead_letters_total", "p", "", "unmatched"); n != 2 {
						t.Errorf("%v dead letters told", n)
					}
				}
				s.end()
			})
		})
	}
}

// The sink that takes the rest was down, and a process ended: what it gets later is what it would have got, because it asks all the
// others.
func TestUnmatchedSinkThatLags(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	play(t, func(s *scene) {
		t := s.t
		s.pipeline().Unmatched = pipelines.Unmatched{Sink: "rest"}
		var o toggle
		o.down.Store(true)
		a, rest := newFakeSink(nil), newFakeSink(o.answer)
		s.sink("a", a)
		s.sink("rest", rest).Breaker = breakerDefaults()
		odd := when(func(ev *event.Event) (bool, string, error) { return (ev.ID[len(ev.ID)-1]-'0')%2 == 1, "", nil })
		first := s.live(path, map[string]decider{"a": odd})
		first.append(1, 2000)
		first.pass(time.Minute)
		first.end()
		if len(a.got()) != 1000 || len(rest.got()) != 0 {
			t.Fatalf("a took %d, rest %d", len(a.got()), len(rest.got()))
		}
		o.down.Store(false)
		second := s.live(path, map[string]decider{"a": odd})
		second.pass(time.Hour)
		var want []string
		for i := 2; i <= 2000; i += 2 {
			want = append(want, fmt.Sprint("e", i))
		}
		got := rest.got()
		slices.Sort(got)
		if slices.Sort(want); !slices.Equal(got, want) {
			t.Errorf("rest took %d events, not the %d even ones", len(got), len(want))
		}
		if dead := second.dead(); dead != nil {
			t.Error(dead)
		}
		second.settledAll()
		second.end()
	})
}

// The redrive of an unmatched event asks every sink of today, also one that lags: each that wants it by now gets it once, and what
// nobody wants still is a dead letter again.
func TestRedriveOfUnmatched(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	play(t, func(s *scene) {
		t := s.t
		s.pipeline().Unmatched = pipelines.Unmatched{Word: pipelines.UnmatchedDeadLetter}
		var o toggle
		o.down.Store(true)
		a, late := newFakeSink(nil), newFakeSink(o.answer)
		s.sink("a", a)
		s.sink("late", late).Breaker = breakerDefaults()
		first := s.live(path, map[string]decider{"a": only("e1"), "late": only("e1", "e2")})
		first.append(1, 5)
		first.pass(time.Minute)
		if got := first.dead(); !slices.Equal(got, []string{"p/ e3 unmatched", "p/ e4 unmatched", "p/ e5 unmatched"}) {
			t.Fatal(got)
		}
		first.end()

		// Today both want e3 and one wants e4. Nothing comes by itself: the dead letters have the events.
		second := s.live(path, map[string]decider{"a": only("e1", "e3", "e4"), "late": only("e1", "e2", "e3")})
		second.pass(time.Minute)
		if got := a.got(); !slices.Equal(got, []string{"e1"}) {
			t.Errorf("before the redrive a took %v", got)
		}
		if n, err := second.box.Redrive(t.Context(), event.DeadQuery{}); n != 3 || err != nil {
			t.Fatal(n, err)
		}
		second.pass(time.Minute)
		o.down.Store(false)
		second.pass(time.Hour)
		got := a.got()
		if slices.Sort(got); !slices.Equal(got, []string{"e1", "e3", "e4"}) {
			t.Errorf("a took %v", got)
		}
		got = late.got()
		if slices.Sort(got); !slices.Equal(got, []string{"e1", "e2", "e3"}) {
			t.Errorf("the one that lagged took %v", got)
		}
		if got := second.dead(); !slices.Equal(got, []string{"p/ e5 unmatched"}) {
			t.Error(got)
		}
		second.end()
	})
}

// A redrive under a file that now names a sink for the rest hands it the event.
func TestRedriveToTheSinkOfTheRest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	play(t, func(s *scene) {
		t := s.t
		s.pipeline().Unmatched = pipelines.Unmatched{Word: pipelines.UnmatchedDeadLetter}
		var calls atomic.Int64
		rest := newFakeSink(func(context.Context, event.Delivery) error { calls.Add(1); return nil })
		s.sink("a", newFakeSink(nil))
		s.sink("rest", rest)
		first := s.live(path, map[string]decider{"a": only(), "rest": only()})
		first.append(1, 3)
		first.pass(time.Minute)
		first.end()
		s.pipeline().Unmatched = pipelines.Unmatched{Sink: "rest"}
		second := s.live(path, map[string]decider{"a": only("e2")})
		if n, err := second.box.Redrive(t.Context(), event.DeadQuery{}); n != 3 || err != nil {
			t.Fatal(n, err)
		}
		second.pass(time.Minute)
		got := rest.got()
		if slices.Sort(got); !slices.Equal(got, []string{"e1", "e3"}) || calls.Load() != 2 {
			t.Errorf("rest took %v", got)
		}
		second.settledAll()
		second.end()
	})
}
