package router

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-run/millrace/event"
)

type attemptKey struct{}

// The context of an attempt is what package context would have made of the work and the timeout.
func TestAttemptContext(t *testing.T) {
	for name, test := range map[string]func(t *testing.T, a *attemptContext, work context.CancelFunc){
		"runs": func(t *testing.T, a *attemptContext, _ context.CancelFunc) {
			at, ok := a.Deadline()
			if !ok || time.Until(at) != time.Second || a.Err() != nil || a.Value(attemptKey{}) != "v" || a.Value(0) != nil {
				t.Errorf("deadline %v %v, err %v", at, ok, a.Err())
			}
			<-time.After(time.Second)
			if !errors.Is(a.Err(), context.DeadlineExceeded) {
				t.Errorf("err %v behind the deadline", a.Err())
			}
			<-a.Done()
		},
		"is waited for": func(t *testing.T, a *attemptContext, _ context.CancelFunc) {
			begun := time.Now()
			<-a.Done()
			if d := time.Since(begun); d != time.Second || !errors.Is(a.Err(), context.DeadlineExceeded) {
				t.Errorf("done after %v: %v", d, a.Err())
			}
		},
		"has a child with a shorter time": func(t *testing.T, a *attemptContext, _ context.CancelFunc) {
			child, cancel := context.WithTimeout(a, time.Millisecond)
			defer cancel()
			<-child.Done()
			if a.Err() != nil || child.Value(attemptKey{}) != "v" {
				t.Errorf("err %v", a.Err())
			}
		},
		"has children that hear of the work": func(t *testing.T, a *attemptContext, work context.CancelFunc) {
			child, cancel := context.WithCancel(a)
			defer cancel()
			called := make(chan struct{})
			context.AfterFunc(child, func() { close(called) })
			work()
			<-called
			if !errors.Is(a.Err(), context.Canceled) || !errors.Is(child.Err(), context.Canceled) {
				t.Errorf("err %v, of the child %v", a.Err(), child.Err())
			}
		},
		"is over": func(t *testing.T, a *attemptContext, _ context.CancelFunc) {
			child, cancel := context.WithCancel(a)
			defer cancel()
			a.end()
			<-child.Done()
			if !errors.Is(a.Err(), context.Canceled) {
				t.Errorf("err %v", a.Err())
			}
		},
		"is over before anybody waits": func(t *testing.T, a *attemptContext, _ context.CancelFunc) {
			a.end()
			if !errors.Is(a.Err(), context.Canceled) {
				t.Errorf("err %v", a.Err())
			}
			<-a.Done()
		},
		"is aborted with the work": func(t *testing.T, a *attemptContext, work context.CancelFunc) {
			called := make(chan struct{})
			stop := a.Aborted(func() { close(called) })
			work()
			<-called
			if stop() || !errors.Is(a.Err(), context.Canceled) {
				t.Errorf("err %v", a.Err())
			}
		},
		"is aborted before it asks": func(t *testing.T, a *attemptContext, work context.CancelFunc) {
			work()
			synctest.Wait()
			called := false
			if stop := a.Aborted(func() { called = true }); !called || stop() {
				t.Error("not called")
			}
		},
		"takes back what it asked": func(t *testing.T, a *attemptContext, work context.CancelFunc) {
			stop := a.Aborted(func() { t.Error("called") })
			if !stop() || stop() {
				t.Error("stop does not know")
			}
			work()
			synctest.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				work, cancel := context.WithCancel(context.WithValue(t.Context(), attemptKey{}, "v"))
				w := &workers{calls: make(chan *call, 1)}
				w.watch(work)
				a := &attemptContext{work: work, deadline: time.Now().Add(time.Second), aborts: &w.aborts}
				w.aborts.add(a)
				test(t, a, cancel)
				w.aborts.remove(a)
				a.end()
				w.end()
				cancel()
			})
		})
	}
}

// As many workers as were ever busy at once, whatever the number of calls.
func TestWorkersStay(t *testing.T) {
	w := &workers{calls: make(chan *call, 4)}
	done := make(chan *call)
	do := func(c *call) { done <- c }
	for range 3 {
		for n := range 4 {
			w.hand(&call{probe: n}, n+1, do)
		}
		for range 4 {
			<-done
		}
	}
	if w.started != 4 {
		t.Errorf("%d workers", w.started)
	}
	w.end()
}

// sleeper waits as sinks do that know nothing but their context.
type sleeper struct{ sinkFunc }

type sinkFunc func(ctx context.Context, batch []event.Delivery) event.Settling

func (f sinkFunc) Deliver(ctx context.Context, batch []event.Delivery) event.Settling {
	return f(ctx, batch)
}

func TestTimeoutOfAnAttempt(t *testing.T) {
	play(t, func(s *scene) {
		var took []time.Duration
		s.sink("a", &sleeper{func(ctx context.Context, _ []event.Delivery) event.Settling {
			begun := time.Now()
			<-ctx.Done()
			took = append(took, time.Since(begun))
			return event.Settled(1, context.Cause(ctx))
		}}).Timeout = 3 * time.Second
		s.start(nil)
		s.emit(1)
		s.pass(3 * time.Second)
		if len(took) != 1 || took[0] != 3*time.Second {
			t.Errorf("attempts took %v", took)
		}
		if n := s.metric("millrace_delivery_attempts_total", "p", "a", "unavailable"); n != 1 {
			t.Errorf("%v attempts met an unavailable sink", n)
		}
		s.end()
	})
}
