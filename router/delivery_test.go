package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
)

// toggle is a sink that is down or up.
type toggle struct{ down atomic.Bool }

func (o *toggle) answer(context.Context, event.Delivery) error {
	if o.down.Load() {
		return errDown
	}
	return nil
}

func TestOutageLeavesNoDeadLetters(t *testing.T) {
	for name, b := range map[string]*pipelines.Breaker{"breaker": breakerDefaults(), "no breaker": nil} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *scene) {
				var o toggle
				o.down.Store(true)
				down, up := newFakeSink(o.answer), newFakeSink(nil)
				k := s.sink("down", down)
				k.Retry.MaxAttempts, k.Breaker = 3, b
				s.sink("up", up)
				s.start(nil)
				for range 30 {
					s.emit(200)
					s.pass(20 * time.Second)
				}
				up.exactly(t, 1, 6000)
				if n := s.metric("millrace_deliveries_waiting", "p", "down"); n == 0 || n > waitingMax+16 {
					t.Errorf("%v events wait in memory", n)
				}
				o.down.Store(false)
				wait := 25 * time.Second
				if b == nil {
					wait = 16 * time.Minute // without a breaker each event has its own backoff
				}
				s.pass(wait)
				down.exactly(t, 1, 6000)
				if dead := s.dead(); len(dead) > 0 {
					t.Errorf("%d dead letters, such as %+v", len(dead), dead[0])
				}
				s.settledAll()
				s.end()
			})
		})
	}
}

// An outage of a sink that was well before, of events with rows: the breaker must not be outlasted by a backoff of minutes.
func TestOutageAfterCountedFailures(t *testing.T) {
	play(t, func(s *scene) {
		var o toggle
		var odd atomic.Bool
		odd.Store(true)
		sink := newFakeSink(func(ctx context.Context, d event.Delivery) error {
			if odd.Load() && d.Event.ID == "e1" {
				return errors.New("odd")
			}
			return o.answer(ctx, d)
		})
		s.sink("a", sink).Breaker = breakerDefaults()
		s.start(nil)
		s.emit(1)
		odd.Store(false)
		o.down.Store(true)
		s.emit(10)
		s.pass(2 * time.Hour)
		o.down.Store(false)
		s.pass(25 * time.Second)
		sink.exactly(t, 1, 11)
		s.settledAll()
		s.end()
	})
}

func TestPermanentFailureIsOneDeadLetter(t *testing.T) {
	play(t, func(s *scene) {
		var refuses atomic.Bool
		refuses.Store(true)
		sink := newFakeSink(func(_ context.Context, d event.Delivery) error {
			if refuses.Load() && d.Event.ID == "e2" {
				f := event.Failure{Class: event.PermanentClass, Status: 422, Answer: make([]byte, 3000), Err: errors.New("422")}
				return fmt.Errorf("post: %w", &f)
			}
			return nil
		})
		s.sink("a", sink).Breaker = breakerDefaults()
		s.start(nil)
		s.emit(3)
		dead := s.dead()
		if len(dead) != 1 {
			t.Fatalf("dead letters: %+v", dead)
		}
		x := dead[0].Exception
		if x.Reason != event.ReasonPermanent || x.Status != 422 || x.Attempts != 1 || len(x.Answer) != 1024 || x.Error != "post: 422" {
			t.Errorf("dead letter %+v", x)
		}
		if got := s.metric("millrace_dead_letters_total", "p", "a", "permanent"); got != 1 {
			t.Errorf("dead letters counted: %v", got)
		}
		refuses.Store(false)
		s.redrive()
		sink.exactly(t, 1, 3)
		if got := sink.attempts("e2"); got[1].Attempt != 2 || got[0].Key != got[1].Key {
			t.Errorf("the redrive is attempt %d with key %s, before %s", got[1].Attempt, got[1].Key, got[0].Key)
		}
		s.settledAll()
		s.end()
	})
}

// An event that gets 503 while others pass is at fault itself, and ends as a dead letter.
func TestUnavailableForOneEventOnly(t *testing.T) {
	play(t, func(s *scene) {
		sink := newFakeSink(func(_ context.Context, d event.Delivery) error {
			if d.Event.ID == "e1" {
				return errDown
			}
			return nil
		})
		k := s.sink("a", sink)
		k.Retry.MaxAttempts, k.Breaker = 3, breakerDefaults()
		s.start(nil)
		for range 60 {
			s.emit(2)
			s.pass(time.Second)
		}
		sink.exactly(t, 2, 120)
		dead := s.dead()
		if len(dead) != 1 {
			t.Fatalf("dead letters: %+v", dead)
		}
		// The first attempt does not count: nothing is known about the sink then. Nor does the second, if it is first in its second.
		x := dead[0].Exception
		if x.Reason != event.ReasonAttempts || x.Attempts < 4 || x.Attempts > 5 || x.Counted != 3 || x.Status != 503 {
			t.Errorf("dead letter %+v", x)
		}
		s.end()
	})
}

func TestMaxAge(t *testing.T) {
	play(t, func(s *scene) {
		sink := newFakeSink(func(context.Context, event.Delivery) error { return errDown })
		s.sink("a", sink).Retry.MaxAge = time.Hour
		s.start(nil)
		s.emit(1)
		s.pass(2 * time.Hour)
		dead := s.dead()
		if len(dead) != 1 || dead[0].Exception.Reason != event.ReasonAge || dead[0].Exception.Counted != 0 {
			t.Errorf("dead letters: %+v", dead)
		}
		s.end()
	})
}

func TestRetryAfter(t *testing.T) {
	play(t, func(s *scene) {
		sink := newFakeSink(func(_ context.Context, d event.Delivery) error {
			if d.Attempt < 4 {
				return event.RetryAfter(errors.New("429"), time.Minute)
			}
			return nil
		})
		s.sink("a", sink).Retry.MaxAttempts = 2
		s.start(nil)
		s.emit(1)
		s.pass(4 * time.Minute)
		at := sink.times("e1")
		if len(at) != 4 || len(s.dead()) > 0 {
			t.Fatalf("%d attempts, dead letters %+v", len(at), s.dead())
		}
		for i := 1; i < len(at); i++ {
			if d := at[i].Sub(at[i-1]); d < time.Minute {
				t.Errorf("attempt %d came after %v", i+1, d)
			}
		}
		s.settledAll()
		s.end()
	})
}

func TestWindowOverflowParksTheSlowHead(t *testing.T) {
	play(t, func(s *scene) {
		release := make(chan struct{})
		sink := newFakeSink(func(ctx context.Context, d event.Delivery) error {
			if d.Event.ID == "e1" {
				<-release
			}
			return nil
		})
		k := s.sink("a", sink)
		k.Timeout = 0
		s.start(nil)
		s.emit(3 * Window)
		if x, ok := s.rows("p/a")[1]; !ok || x.Reason != event.ReasonWindow || x.State != event.Retry {
			t.Errorf("rows %+v, want one for the window", s.rows("p/a"))
		}
		sink.exactly(t, 2, 3*Window)
		close(release)
		s.pass(time.Minute)
		sink.exactly(t, 1, 3*Window)
		if n := sink.count("e1"); n != 1 {
			t.Errorf("%d attempts of what was in flight all the time", n)
		}
		s.settledAll()
		s.end()
	})
}

func TestWindowOverflowParksWhatWaits(t *testing.T) {
	play(t, func(s *scene) {
		sink := newFakeSink(func(_ context.Context, d event.Delivery) error {
			if d.Event.ID == "e1" && d.Attempt < 3 {
				return event.RetryAfter(errors.New("429"), 10*time.Minute)
			}
			return nil
		})
		s.sink("a", sink)
		s.start(nil)
		s.emit(2 * Window)
		if x := s.rows("p/a")[1]; x.Reason != event.ReasonFailed || x.Attempts != 1 {
			t.Errorf("rows %+v", s.rows("p/a"))
		}
		s.pass(time.Minute)
		if n := sink.count("e1"); n != 1 {
			t.Errorf("%d attempts before the time that the destination asked for", n)
		}
		s.pass(time.Hour)
		sink.exactly(t, 1, 2*Window)
		s.settledAll()
		s.end()
	})
}

func TestProbesAlternate(t *testing.T) {
	play(t, func(s *scene) {
		var o toggle
		o.down.Store(true)
		sink := newFakeSink(o.answer)
		k := s.sink("a", sink)
		k.Breaker, k.Concurrency = breakerDefaults(), 4
		s.start(nil)
		s.emit(50)
		s.pass(0)
		opened := s.metric("millrace_breaker_open", "p", "a")
		before := len(sink.calls())
		s.pass(10 * time.Minute)
		asked := sink.calls()
		probes := asked[before:]
		if opened != 1 || len(probes) < 60 || len(probes) > 65 {
			t.Errorf("breaker %v, %d probes in ten minutes", opened, len(probes))
		}
		for i := 1; i < len(asked); i++ {
			if asked[i] == asked[i-1] {
				t.Fatalf("event %s probed twice in a row while others wait", asked[i])
			}
		}
		if rows := s.rows("p/a"); len(rows) > 0 {
			t.Errorf("an open breaker made rows: %v", rows)
		}
		o.down.Store(false)
		s.pass(10 * time.Second)
		sink.exactly(t, 1, 50)
		s.end()
	})
}

// An open breaker holds the cursor: it makes no rows for the window, however little of what follows is for the sink.
func TestOpenBreakerHoldsTheCursor(t *testing.T) {
	play(t, func(s *scene) {
		var o toggle
		o.down.Store(true)
		sink := newFakeSink(o.answer)
		s.sink("a", sink).Breaker = &pipelines.Breaker{After: 1, ProbeMax: 10 * time.Second}
		s.start(map[string]decider{"a": only("e1", "e2", "e9000")})
		s.emit(2) // the breaker is open before the rest is read
		s.emit(3 * Window)
		s.pass(10 * time.Minute)
		if cursor, _ := s.log.subs["p/a"].Position(); cursor != 0 || len(s.rows("p/a")) > 0 {
			t.Errorf("cursor %d, rows %v", cursor, s.rows("p/a"))
		}
		o.down.Store(false)
		s.pass(25 * time.Second)
		if got := sink.got(); len(got) != 3 {
			t.Errorf("the sink took %v", got)
		}
		s.settledAll()
		s.end()
	})
}

// Events that always get 503 open the breaker, and must not keep it open for those that would pass.
func TestPoisonCannotHoldTheBreakerOpen(t *testing.T) {
	play(t, func(s *scene) {
		sink := newFakeSink(func(_ context.Context, d event.Delivery) error {
			if len(d.Event.ID) == 2 { // e1 … e9
				return errDown
			}
			return nil
		})
		k := s.sink("a", sink)
		k.Breaker, k.Retry.MaxAttempts = breakerDefaults(), 3
		s.start(nil)
		s.emit(9)
		s.emit(200)
		s.pass(time.Minute)
		sink.exactly(t, 10, 209)
		for range 100 {
			s.emit(50)
			s.pass(10 * time.Second)
		}
		if n := len(s.dead()); n != 9 {
			t.Errorf("%d dead letters, want those that always fail", n)
		}
		s.end()
	})
}

func TestConcurrencyAndItsRamp(t *testing.T) {
	play(t, func(s *scene) {
		var o toggle
		o.down.Store(true)
		sink := newFakeSink(func(context.Context, event.Delivery) error {
			<-time.After(time.Second)
			if o.down.Load() {
				return &event.Failure{Class: event.UnavailableClass, Refused: true, Err: errors.New("refused")}
			}
			return nil
		})
		k := s.sink("a", sink)
		k.Breaker, k.Concurrency = breakerDefaults(), 8
		s.start(nil)
		s.emit(100)
		if most := sink.resetMost(); most != 8 {
			t.Errorf("%d at a time, want 8", most)
		}
		s.pass(5 * time.Second)
		o.down.Store(false)
		sink.resetMost()
		for s.metric("millrace_breaker_open", "p", "a") == 1 {
			s.pass(time.Second)
		}
		if got := s.metric("millrace_concurrency_limit", "p", "a"); got != 1 {
			t.Errorf("limit %v behind the first success, want 1", got)
		}
		s.pass(20 * time.Second)
		if got := s.metric("millrace_concurrency_limit", "p", "a"); got != 8 || sink.resetMost() != 8 {
			t.Errorf("limit %v, or not as many at a time, want 8", got)
		}
		sink.exactly(t, 1, 100)
		s.end()
	})
}

func TestGonePauses(t *testing.T) {
	play(t, func(s *scene) {
		var gone atomic.Bool
		gone.Store(true)
		sink := newFakeSink(func(context.Context, event.Delivery) error {
			if gone.Load() {
				return &event.Failure{Class: event.GoneClass, Status: 410, Err: errors.New("410 Gone")}
			}
			return nil
		})
		s.sink("a", sink).Concurrency = 1
		s.start(nil)
		s.emit(5)
		s.pass(time.Hour)
		if len(sink.calls()) != 1 || len(s.dead()) > 0 || s.metric("millrace_subscription_paused", "p", "a") != 1 {
			t.Errorf("%d attempts, dead letters %+v", len(sink.calls()), s.dead())
		}
		s.end()
		gone.Store(false)
		s.start(nil)
		s.pass(time.Hour)
		if p := s.r.Paused()["p/a"]; len(sink.got()) > 0 || !strings.Contains(p.Reason, "410 Gone") || p.At.IsZero() {
			t.Errorf("after a restart the sink took %v, paused %+v", sink.got(), p)
		}
		if err := s.r.Resume(s.t.Context(), "p", "a"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		sink.exactly(t, 1, 5)
		s.settledAll()
		s.end()
	})
}

func TestSlowSinkDelaysNoOther(t *testing.T) {
	play(t, func(s *scene) {
		slow := newFakeSink(func(ctx context.Context, _ event.Delivery) error {
			<-ctx.Done()
			return ctx.Err()
		})
		fast := newFakeSink(nil)
		k := s.sink("slow", slow)
		k.Breaker, k.Retry.MaxAttempts = breakerDefaults(), 1
		s.sink("fast", fast)
		s.start(nil)
		began := time.Now()
		s.emit(3000)
		fast.exactly(t, 1, 3000)
		if d := time.Since(began); d > 0 {
			t.Errorf("the fast sink took %v", d)
		}
		s.pass(time.Minute)
		if len(s.dead()) > 0 {
			t.Error("a timeout counted although it says nothing about the event")
		}
		s.end()
	})
}

func TestShutdown(t *testing.T) {
	for name, c := range map[string]struct {
		takes   time.Duration
		settled bool
	}{
		"in time":   {takes: 4 * time.Second, settled: true},
		"abandoned": {takes: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *scene) {
				sink := newFakeSink(func(ctx context.Context, _ event.Delivery) error {
					select {
					case <-time.After(c.takes):
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				})
				k := s.sink("a", sink)
				k.Timeout, k.Concurrency = 0, 2
				s.start(nil)
				s.emit(5)
				began := time.Now()
				s.end()
				if d := time.Since(began); d != min(c.takes, s.plan.ShutdownTimeout) {
					t.Errorf("the end took %v", d)
				}
				if len(sink.calls()) != 2 {
					t.Errorf("%d attempts: new ones began behind the end", len(sink.calls()))
				}
				want := event.Offset(0)
				if c.settled {
					want = 2
				}
				if cursor, _ := s.log.subs["p/a"].Position(); cursor != want || len(s.rows("p/a")) > 0 {
					t.Errorf("cursor %d, want %d; rows %v", cursor, want, s.rows("p/a"))
				}
			})
		})
	}
}

func TestPanicInASink(t *testing.T) {
	play(t, func(s *scene) {
		sink := newFakeSink(func(_ context.Context, d event.Delivery) error {
			if d.Event.ID == "e1" {
				panic("boom")
			}
			return nil
		})
		s.sink("a", sink).Retry.MaxAttempts = 1
		s.start(nil)
		s.emit(3)
		if dead := s.dead(); len(dead) != 1 || dead[0].Exception.Error != "panic: boom" {
			t.Errorf("dead letters: %+v", dead)
		}
		sink.exactly(t, 2, 3)
		s.end()
	})
}

// batchSink notes the sizes of its calls and answers too few verdicts when told to.
type batchSink struct {
	mu    sync.Mutex // guards what follows
	sizes []int
	short bool
}

func (b *batchSink) Deliver(_ context.Context, batch []event.Delivery) event.Settling {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sizes = append(b.sizes, len(batch))
	if b.short {
		return event.Settling{Verdicts: []error{nil}}
	}
	return event.Settled(len(batch), nil)
}

func TestBatches(t *testing.T) {
	play(t, func(s *scene) {
		sink := &batchSink{short: true}
		k := s.sink("a", sink)
		k.Batch, k.Concurrency, k.Retry.MaxAttempts = pipelines.Batch{Count: 4, Bytes: 1 << 20}, 1, 1
		s.start(nil)
		s.emit(10)
		if !slices.Equal(sink.sizes, []int{4, 4, 2}) {
			t.Errorf("calls of %v events", sink.sizes)
		}
		if dead := s.dead(); len(dead) != 7 {
			t.Errorf("%d dead letters, want one for each missing verdict", len(dead))
		}
		s.end()
	})
}

// A batch that is not full waits for others, by the clock of the router; a full one goes at once.
func TestBatchWaits(t *testing.T) {
	play(t, func(s *scene) {
		sink := newFakeSink(nil)
		k := s.sink("a", sink)
		k.Batch = pipelines.Batch{Count: 4, Bytes: 1 << 20, Wait: 2 * time.Second}
		s.start(nil)
		begun := time.Now()
		s.emit(1)
		s.pass(time.Second)
		s.emit(1)
		s.pass(900 * time.Millisecond)
		if calls := sink.calls(); len(calls) > 0 {
			t.Errorf("%v went before their time", calls)
		}
		if n := s.metric("millrace_deliveries_waiting", "p", "a"); n != 2 {
			t.Errorf("%v events are said to wait", n)
		}
		s.pass(200 * time.Millisecond)
		if at := sink.times("e2"); len(at) != 1 || at[0].Sub(begun) != 2*time.Second {
			t.Errorf("e2 went at %v", at)
		}
		s.emit(5)
		if calls := sink.calls(); len(calls) != 6 {
			t.Errorf("%d events went, want the full batch at once and one that waits", len(calls))
		}
		s.pass(2 * time.Second)
		sink.exactly(t, 1, 7)
		s.settledAll()
		s.end()
	})
}

// What waits in a batch when the end comes stays pending: no attempt begins, and nothing is lost.
func TestBatchThatWaitsAtTheEnd(t *testing.T) {
	play(t, func(s *scene) {
		sink := newFakeSink(nil)
		s.sink("a", sink).Batch = pipelines.Batch{Count: 4, Bytes: 1 << 20, Wait: time.Hour}
		s.start(nil)
		s.emit(3)
		s.end()
		if calls := sink.calls(); len(calls) > 0 {
			t.Errorf("attempts of %v", calls)
		}
		if n := s.metric("millrace_subscription_lag_events", "p", "a"); n != 3 {
			t.Errorf("%v events are pending, want 3", n)
		}
	})
}

// An open breaker probes with one event, also when a batch was being filled; behind it batches go on.
func TestBatchAndBreaker(t *testing.T) {
	play(t, func(s *scene) {
		var down toggle
		sink := &sizesSink{fakeSink: newFakeSink(down.answer)}
		k := s.sink("a", sink)
		k.Batch, k.Concurrency = pipelines.Batch{Count: 4, Bytes: 1 << 20, Wait: 10 * time.Second}, 1
		k.Breaker = &pipelines.Breaker{After: 2, ProbeMax: 4 * time.Second}
		down.down.Store(true)
		s.start(nil)
		s.emit(4) // one call of four: one failure for the breaker
		if n := s.metric("millrace_breaker_open", "p", "a"); n != 0 {
			t.Error("one answer opened the breaker")
		}
		s.emit(1)
		s.pass(30 * time.Second)
		if n := s.metric("millrace_breaker_open", "p", "a"); n != 1 {
			t.Error("the breaker is closed")
		}
		sink.mu.Lock()
		sink.sizes = nil
		sink.mu.Unlock()
		s.pass(20 * time.Second)
		sink.mu.Lock()
		if len(sink.sizes) == 0 || slices.Max(sink.sizes) != 1 {
			t.Errorf("probes of %v events", sink.sizes)
		}
		sink.mu.Unlock()
		down.down.Store(false)
		s.pass(time.Minute)
		sink.exactly(t, 1, 5)
		s.settledAll()
		s.end()
	})
}

// sizesSink notes how many events each call carried.
type sizesSink struct {
	*fakeSink
	sizes []int // guarded by its mu
}

func (k *sizesSink) Deliver(ctx context.Context, batch []event.Delivery) event.Settling {
	k.mu.Lock()
	k.sizes = append(k.sizes, len(batch))
	k.mu.Unlock()
	return k.fakeSink.Deliver(ctx, batch)
}

// What the end of the context meets while an event is fetched does not become an attempt.
func TestNoAttemptBeginsBehindTheEnd(t *testing.T) {
	for _, serial := range []bool{false, true} {
		play(t, func(s *scene) {
			sink := newFakeSink(nil)
			s.sink("a", sink).Serial = serial
			s.log.onRead = func(name string) error {
				if name == "p/a" && len(s.log.topics["p"]) > 0 {
					s.stop()
				}
				return nil
			}
			s.start(nil)
			s.emit(5)
			s.end()
			if calls := sink.calls(); len(calls) > 0 {
				t.Errorf("serial %v: attempts of %v", serial, calls)
			}
		})
	}
}

// More events than memory holds fail for reasons of their own. Those behind them are served.
func TestPoisonThatFillsTheMemory(t *testing.T) {
	play(t, func(s *scene) {
		sink := newFakeSink(func(_ context.Context, d event.Delivery) error {
			if len(d.Event.ID) < 5 { // e1 … e999
				return errDown
			}
			return nil
		})
		k := s.sink("a", sink)
		k.Breaker = breakerDefaults()
		s.start(nil)
		s.emit(999)
		s.emit(100)
		s.pass(8 * time.Hour)
		sink.exactly(t, 1000, 1099)
		if n := s.metric("millrace_deliveries_waiting", "p", "a"); n > waitingMax+16 {
			t.Errorf("%v events wait in memory", n)
		}
		s.end()
	})
}

// The line about a dead letter is not folded into the lines about other things.
func TestDeadLettersAreTold(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		most int
		text string
	}{
		"permanent": {event.Permanent(errors.New("bad")), 20, "reason=permanent"},
		"attempts":  {errors.New("no verdict"), 1, "reason=attempts"},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *scene) {
				var told bytes.Buffer
				s.told = slog.New(slog.NewTextHandler(&told, nil))
				s.sink("a", newFakeSink(func(context.Context, event.Delivery) error { return c.err })).Retry.MaxAttempts = c.most
				s.start(nil)
				s.emit(3)
				s.end()
				if got := told.String(); strings.Count(got, "dead letter") != 1 || !strings.Contains(got, c.text) {
					t.Errorf("the log says\n%s", got)
				}
			})
		})
	}
}

// The time of a call ends with the answer, not when the log has taken what came before.
func TestTimeOfCallsIsTheSinks(t *testing.T) {
	play(t, func(s *scene) {
		s.sink("a", newFakeSink(func(_ context.Context, d event.Delivery) error {
			if d.Event.ID == "e2" {
				<-time.After(time.Second)
			}
			return nil
		}))
		s.start(nil)
		began := time.Now()
		s.log.onWrite = func(c event.Commit) error {
			if len(c.Settles) > 0 && c.Settles[0].Subscription == "p/a" && time.Since(began) < time.Minute {
				return errors.New("not now")
			}
			return nil
		}
		s.emit(2)
		s.pass(2 * time.Minute)
		if got := s.metric("millrace_delivery_seconds_total", "p", "a"); got != 1 {
			t.Errorf("%v seconds", got)
		}
		s.settledAll()
		s.end()
	})
}
