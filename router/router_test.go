package router

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
)

func TestFanOutByWhen(t *testing.T) {
	play(t, func(s *scene) {
		all, some, none := newFakeSink(nil), newFakeSink(nil), newFakeSink(nil)
		s.sink("all", all)
		s.sink("some", some)
		s.sink("none", none)
		s.start(map[string]decider{"some": only("e2"), "none": only()})
		s.emit(3)
		all.exactly(t, 1, 3)
		some.exactly(t, 2, 2)
		none.exactly(t, 1, 0)
		s.settledAll()
		if err := s.r.Ready(); err != nil {
			t.Errorf("Ready: %v", err)
		}
		if got := s.metric("millrace_deliveries_settled_total", "p", "some", "skipped"); got != 2 {
			t.Errorf("skipped %v, want 2", got)
		}
		s.end()
		if s.r.Ready() == nil {
			t.Error("ready after the end of Run")
		}
	})
}

func TestDeliveriesShareAKeyAcrossAttemptsOnly(t *testing.T) {
	play(t, func(s *scene) {
		first := true
		flaky := newFakeSink(func(context.Context, event.Delivery) error {
			if first {
				first = false
				return errors.New("odd")
			}
			return nil
		})
		other := newFakeSink(nil)
		s.stage(func(ev *event.Event) (bool, string, error) { ev.Subject = "changed"; return true, "", nil }, "")
		s.sink("a", flaky)
		s.sink("b", other)
		s.start(nil)
		s.emit(1)
		s.pass(time.Minute)
		a, b := flaky.attempts("e1"), other.attempts("e1")
		if len(a) != 2 || len(b) != 1 {
			t.Fatalf("%d and %d attempts", len(a), len(b))
		}
		if a[0].Key != a[1].Key || len(a[0].Key) != 32 || a[0].Key == b[0].Key {
			t.Errorf("keys %q %q %q", a[0].Key, a[1].Key, b[0].Key)
		}
		if a[0].Attempt != 1 || a[1].Attempt != 2 || a[0].Event.Subject != "changed" {
			t.Errorf("attempts %d %d, subject %q", a[0].Attempt, a[1].Attempt, a[0].Event.Subject)
		}
		s.settledAll()
		s.end()
	})
}

func TestUnmatchedAndFilteredAreCountedOnce(t *testing.T) {
	play(t, func(s *scene) {
		s.stage(func(ev *event.Event) (bool, string, error) {
			if ev.ID == "e1" {
				return false, "data.total", nil
			}
			return ev.ID != "e2", "", nil
		}, "")
		s.sink("a", newFakeSink(nil))
		s.sink("b", newFakeSink(nil))
		s.start(map[string]decider{"a": only("e4"), "b": only("e4")})
		s.emit(5)
		for _, want := range []struct {
			name   string
			labels []string
			value  float64
		}{
			{"millrace_events_received_total", []string{"p"}, 5},
			{"millrace_events_filtered_total", []string{"p", "stage1"}, 2},
			{"millrace_filtered_missing_total", []string{"p", "stage1", ""}, 1},
			{"millrace_events_unmatched_total", []string{"p"}, 2},
			{"millrace_subscription_lag_events", []string{"p", "a"}, 0},
		} {
			if got := s.metric(want.name, want.labels...); got != want.value {
				t.Errorf("%s = %v, want %v", want.name, got, want.value)
			}
		}
		s.settledAll()
		s.end()
	})
}

func TestOnError(t *testing.T) {
	breaks := func(ev *event.Event) (bool, string, error) {
		ev.Subject = "half done"
		if ev.ID == "e2" {
			return false, "", errors.New("no such thing")
		}
		return true, "", nil
	}
	panics := func(ev *event.Event) (bool, string, error) {
		if ev.ID == "e2" {
			panic("boom")
		}
		return true, "", nil
	}
	lacks := func(ev *event.Event) (bool, string, error) { return ev.ID != "e2", missingIf(ev.ID == "e2"), nil }
	for name, c := range map[string]struct {
		op      func(ev *event.Event) (bool, string, error)
		onError pipelines.OnError
		strict  bool
		took    []string
		dead    string // its error
	}{
		"dead letter":        {op: breaks, onError: pipelines.OnErrorDeadLetter, took: []string{"e1", "e3"}, dead: "no such thing"},
		"default":            {op: breaks, took: []string{"e1", "e3"}, dead: "no such thing"},
		"drop":               {op: breaks, onError: pipelines.OnErrorDrop, took: []string{"e1", "e3"}},
		"pass":               {op: breaks, onError: pipelines.OnErrorPass, took: []string{"e1", "e2", "e3"}},
		"panic":              {op: panics, took: []string{"e1", "e3"}, dead: "panic: boom"},
		"missing":            {op: lacks, took: []string{"e1", "e3"}},
		"missing and strict": {op: lacks, strict: true, took: []string{"e1", "e3"}, dead: "the field data.x is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *scene) {
				sink := newFakeSink(nil)
				s.pipeline().Strict = c.strict
				s.stage(c.op, c.onError)
				s.sink("a", sink)
				s.start(nil)
				s.emit(3)
				got := sink.got()
				slices.Sort(got)
				if !slices.Equal(got, c.took) {
					t.Errorf("took %v, want %v", got, c.took)
				}
				if tries := sink.attempts("e2"); len(tries) > 0 && tries[0].Event.Subject != "" {
					t.Error("a stage that failed left its mark on an event that passes")
				}
				s.oneDead(c.dead, "p/", "stage1")
				s.end()
			})
		})
	}
}

func missingIf(b bool) string {
	if b {
		return "data.x"
	}
	return ""
}

// oneDead demands one dead letter with an error, of on_error, or none if the error is empty.
func (s *scene) oneDead(text, subscription, stage string) {
	s.t.Helper()
	dead := s.dead()
	if text == "" {
		if len(dead) > 0 {
			s.t.Errorf("dead letters: %+v", dead)
		}
		return
	}
	if len(dead) != 1 {
		s.t.Fatalf("%d dead letters, want one: %+v", len(dead), dead)
	}
	x := dead[0].Exception
	if len(x.History) != 1 || x.History[0].Error != text {
		s.t.Errorf("its history is %+v", x.History)
	}
	x.FirstAt, x.LastAt, x.History = time.Time{}, time.Time{}, nil
	want := event.Exception{State: event.Dead, Reason: event.ReasonOnError, Stage: stage, Error: text, Attempts: 1}
	if dead[0].Subscription != subscription || !reflect.DeepEqual(x, want) {
		s.t.Errorf("dead letter %+v", dead[0])
	}
}

func TestWhenThatFailsIsADeadLetterOfItsSink(t *testing.T) {
	play(t, func(s *scene) {
		good, bad := newFakeSink(nil), newFakeSink(nil)
		s.sink("good", good)
		s.sink("bad", bad)
		var broken atomic.Bool
		broken.Store(true)
		s.start(map[string]decider{"bad": when(func(ev *event.Event) (bool, string, error) {
			if ev.ID == "e1" && broken.Load() {
				return false, "", errors.New("cannot compare")
			}
			return true, "", nil
		})})
		s.emit(2)
		good.exactly(t, 1, 2)
		bad.exactly(t, 2, 2)
		s.oneDead("cannot compare", "p/bad", stageWhen)
		broken.Store(false)
		s.redrive()
		good.exactly(t, 1, 2)
		bad.exactly(t, 1, 2)
		s.settledAll()
		s.end()
	})
}

func TestRedriveOfTheRunnersDeadLetter(t *testing.T) {
	play(t, func(s *scene) {
		a, b := newFakeSink(nil), newFakeSink(nil)
		var broken atomic.Bool
		broken.Store(true)
		s.stage(func(ev *event.Event) (bool, string, error) {
			if broken.Load() && ev.ID != "e2" {
				return false, "", errors.New("broken")
			}
			return ev.ID != "e3", "", nil
		}, "")
		s.sink("a", a)
		s.sink("b", b)
		s.start(map[string]decider{"b": only("e2")})
		s.emit(3)
		s.redrive()
		if dead := s.dead(); len(dead) != 2 || dead[0].Exception.Attempts != 2 {
			t.Fatalf("after a redrive with the same stages: %+v", dead)
		}
		broken.Store(false)
		s.redrive()
		a.exactly(t, 1, 2)
		b.exactly(t, 2, 2)
		s.settledAll()
		s.end()
	})
}

// A runner's dead letter from an earlier process belongs to nobody else, even when the stages have been corrected since and a
// sink comes to it only now.
func TestLaggingSinkLeavesTheDeadLetterToItsRedrive(t *testing.T) {
	for name, early := range map[string]bool{"the sink comes before the redrive": false, "the redrive comes before the sink": true} {
		t.Run(name, func(t *testing.T) { lagBehindADeadLetter(t, early) })
	}
}

func lagBehindADeadLetter(t *testing.T, early bool) {
	play(t, func(s *scene) {
		var broken atomic.Bool
		broken.Store(true)
		s.stage(func(ev *event.Event) (bool, string, error) {
			if broken.Load() && ev.ID == "e30" {
				return false, "", errors.New("broken")
			}
			return true, "", nil
		}, "")
		var o toggle
		o.down.Store(true)
		sink := newFakeSink(o.answer)
		k := s.sink("a", sink)
		k.Concurrency = 1
		k.Breaker = &pipelines.Breaker{After: 1, ProbeMax: 10 * time.Second}
		s.start(nil)
		s.emit(40)
		s.end()
		broken.Store(false)
		s.start(nil)
		if early {
			s.redrive()
		}
		o.down.Store(false)
		s.pass(time.Minute)
		if !early {
			if sink.count("e30") > 0 || len(s.dead()) != 1 {
				t.Errorf("without a redrive the sink got %v, dead letters %+v", sink.calls(), s.dead())
			}
			s.redrive()
		}
		sink.exactly(t, 1, 40)
		s.settledAll()
		s.end()
	})
}

// The mirror case: the runner let an event pass, and a stage that was changed since fails at it in a sink that lags.
func TestLaggingSinkKeepsWhatFailsOnlyToday(t *testing.T) {
	play(t, func(s *scene) {
		var broken atomic.Bool
		s.stage(func(ev *event.Event) (bool, string, error) {
			if broken.Load() && ev.ID == "e3" {
				return false, "", errors.New("broken")
			}
			return true, "", nil
		}, "")
		var o toggle
		o.down.Store(true)
		sink := newFakeSink(o.answer)
		k := s.sink("a", sink)
		k.Breaker = breakerDefaults()
		k.Concurrency = 1
		s.start(nil)
		s.emit(4)
		s.end()
		broken.Store(true)
		o.down.Store(false)
		s.start(nil)
		s.pass(time.Minute)
		s.oneDead("broken", "p/a", "stage1")
		broken.Store(false)
		s.redrive()
		sink.exactly(t, 1, 4)
		s.settledAll()
		s.end()
	})
}

// A redrive does not wait for a sink that has not come to the event yet, nor does that sink miss it or get it twice.
func TestRedriveAheadOfALaggingSink(t *testing.T) {
	const at = 2 * Window
	for name, early := range map[string]bool{"the sink comes before the redrive": false, "the redrive comes before the sink": true} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *scene) {
				var broken atomic.Bool
				broken.Store(true)
				s.stage(func(ev *event.Event) (bool, string, error) {
					if broken.Load() && ev.ID == fmt.Sprint("e", at) {
						return false, "", errors.New("broken")
					}
					return true, "", nil
				}, "")
				var o toggle
				o.down.Store(true)
				lagging, ahead := newFakeSink(o.answer), newFakeSink(nil)
				s.sink("lagging", lagging).Breaker = breakerDefaults()
				s.sink("ahead", ahead)
				s.start(nil)
				s.emit(3 * Window)
				s.end()
				broken.Store(false)
				s.start(nil)
				if early {
					s.redrive()
					ahead.exactly(t, 1, 3*Window)
				}
				o.down.Store(false)
				s.pass(time.Minute)
				if !early {
					if n := lagging.count(fmt.Sprint("e", at)); n > 0 {
						t.Error("the lagging sink got the event of a dead letter without a redrive")
					}
					s.redrive()
				}
				ahead.exactly(t, 1, 3*Window)
				lagging.exactly(t, 1, 3*Window)
				s.settledAll()
				s.end()
			})
		})
	}
}

func TestRedriveWhereRowsCannotBeGiven(t *testing.T) {
	for name, can := range map[string]event.Capabilities{
		"offsets are not shared":           {Ordered: true, Dead: true},
		"settled events are not kept":      {Ordered: true, Dead: true, Shared: true, Atomic: true},
		"offsets of a log that is durable": {Ordered: true, Dead: true, Durable: true, Reopening: true},
	} {
		t.Run(name, func(t *testing.T) { redriveAnew(t, can) })
	}
}

func redriveAnew(t *testing.T, can event.Capabilities) {
	play(t, func(s *scene) {
		s.log.can = can
		var broken atomic.Bool
		broken.Store(true)
		s.stage(func(ev *event.Event) (bool, string, error) {
			if broken.Load() && ev.ID == "e2" {
				return false, "", errors.New("broken")
			}
			return true, "", nil
		}, "")
		a := newFakeSink(nil)
		s.sink("a", a)
		s.start(nil)
		s.emit(3)
		s.oneDead("broken", "p/", "stage1")
		broken.Store(false)
		s.redrive()
		a.exactly(t, 1, 3)
		s.settledAll()
		s.end()
	})
}

func TestEmit(t *testing.T) {
	play(t, func(s *scene) {
		s.sink("a", newFakeSink(nil))
		s.start(nil)
		ids, err := s.r.Emit("p")(t.Context(), event.Batch{
			Events: []event.Event{{ID: "x", Source: "/s", Type: "t"}}, State: event.Changes{"pos": []byte("7")},
		})
		if err != nil || !slices.Equal(ids, []string{"x"}) {
			t.Errorf("ids %v, err %v", ids, err)
		}
		if got := string(s.log.states["source:p"]["pos"]); got != "7" {
			t.Errorf("state %q", got)
		}
		if s.log.topics["p"][0].Received.IsZero() {
			t.Error("no time of receipt")
		}
		s.log.mu.Lock()
		s.log.onWrite = func(event.Commit) error { return event.ErrFull }
		s.log.mu.Unlock()
		if _, err := s.r.Emit("p")(t.Context(), event.Batch{Events: make([]event.Event, 1)}); !errors.Is(err, event.ErrFull) {
			t.Errorf("full: %v", err)
		}
		if _, err := s.r.Emit("q")(t.Context(), event.Batch{}); err == nil {
			t.Error("an unknown pipeline took a batch")
		}
		if got := s.metric("millrace_events_received_total", "p"); got != 1 {
			t.Errorf("received %v", got)
		}
		s.end()
	})
}

func TestRunReportsALogThatIsOver(t *testing.T) {
	play(t, func(s *scene) {
		s.sink("a", newFakeSink(nil))
		s.start(nil)
		fail := func(c event.Commit) error {
			if len(c.Settles) > 0 {
				return event.ErrUnknown
			}
			return nil
		}
		s.log.mu.Lock()
		s.log.onWrite = fail
		s.log.mu.Unlock()
		s.emit(1)
		if err := <-s.runs; !errors.Is(err, event.ErrUnknown) {
			t.Errorf("Run: %v", err)
		}
		s.stop()
	})
}

func TestLogThatFailsForAWhile(t *testing.T) {
	play(t, func(s *scene) {
		sink := newFakeSink(nil)
		s.sink("a", sink)
		s.start(nil)
		s.log.mu.Lock()
		s.log.onWrite = func(c event.Commit) error {
			if len(c.Settles) > 0 {
				return errors.New("not now")
			}
			return nil
		}
		s.log.mu.Unlock()
		s.emit(2)
		if s.r.Ready() == nil {
			t.Error("ready although the log does not answer")
		}
		s.log.mu.Lock()
		s.log.onWrite = nil
		s.log.mu.Unlock()
		s.pass(time.Minute)
		sink.exactly(t, 1, 2)
		s.settledAll()
		if err := s.r.Ready(); err != nil {
			t.Errorf("Ready: %v", err)
		}
		s.end()
	})
}

func TestConfigureRefusesWhatIsNoSink(t *testing.T) {
	sink := &pipelines.Sink{Name: "a", Component: pipelines.Component{Value: 7}}
	plan := &pipelines.Plan{Pipelines: []*pipelines.Pipeline{{Name: "p", Sinks: []*pipelines.Sink{sink}}}}
	r := New(plan, newFakeLog(t), Options{})
	if r.Configure(t.Context()) == nil || r.Run(t.Context()) == nil {
		t.Error("an int passed for a sink")
	}
}

// A read that fails half way has moved on: what it returned beside its error must not be lost.
func TestReadThatFailsHalfWay(t *testing.T) {
	for _, sub := range []string{"p/", "p/a"} {
		t.Run(sub, func(t *testing.T) {
			play(t, func(s *scene) {
				sink := newFakeSink(nil)
				s.sink("a", sink)
				failures := 0
				s.log.onRead = func(name string) error {
					if name != sub || len(s.log.topics["p"]) == 0 || failures == 2 {
						return nil
					}
					failures++
					return errors.New("not now")
				}
				s.start(nil)
				s.emit(3)
				s.pass(time.Minute)
				sink.exactly(t, 1, 3)
				if failures != 2 {
					t.Errorf("%d reads failed", failures)
				}
				s.settledAll()
				s.end()
			})
		})
	}
}

// A log without rows takes redriven events one by one, as it took them first: together they might never fit.
func TestRedriveAnewIsOneByOne(t *testing.T) {
	play(t, func(s *scene) {
		s.log.can = event.Capabilities{Ordered: true, Dead: true, Shared: true, Atomic: true}
		broken := true
		s.stage(func(*event.Event) (bool, string, error) {
			if broken {
				return false, "", errors.New("broken")
			}
			return true, "", nil
		}, "")
		sink := newFakeSink(nil)
		s.sink("a", sink)
		s.start(nil)
		s.emit(100)
		broken = false
		s.log.onWrite = func(c event.Commit) error {
			if len(c.Appends) > 0 && len(c.Appends[0].Events) > 1 {
				return event.ErrFull
			}
			return nil
		}
		s.redrive()
		sink.exactly(t, 1, 100)
		s.settledAll()
		s.end()
	})
}

// When all is done every goroutine sleeps; while an answer is missing, its call is known.
func TestAllSleepWhenAllIsDone(t *testing.T) {
	play(t, func(s *scene) {
		s.sink("a", newFakeSink(func(_ context.Context, d event.Delivery) error {
			if d.Event.ID == "e3" {
				<-time.After(time.Second)
			}
			return nil
		}))
		s.file(&file{})
		s.start(nil)
		s.emit(2)
		s.pass(time.Second)
		if calls, idle := s.r.Idle(); calls != 0 || !idle {
			t.Errorf("%d calls, idle %v", calls, idle)
		}
		s.emit(1)
		s.pass(100 * time.Millisecond)
		if calls, idle := s.r.Idle(); calls != 1 || !idle {
			t.Errorf("%d calls, idle %v while the sink has not answered", calls, idle)
		}
		s.pass(time.Minute)
		s.settledAll()
		s.end()
	})
}
