package router

import (
	"context"
	"sync"
	"time"
)

// workers are the goroutines that make the calls of one sink. One is started when a call finds all others busy, and stays: a
// new one for each attempt would cost more than what it does. They end when the calls do.
type workers struct {
	calls   chan *call // has room for every call in flight, so that handing out never waits
	started int        // by the loop's goroutine
	group   sync.WaitGroup
	aborts  aborts
	unwatch func() bool   // see watch
	watched chan struct{} // closed when what watch began is over
}

// watch ends the attempts when the work ends.
func (w *workers) watch(work context.Context) {
	w.watched = make(chan struct{})
	w.unwatch = context.AfterFunc(work, func() {
		defer close(w.watched)
		w.aborts.all()
	})
}

// hand gives a call to a worker. inFlight counts it too. do makes the call.
func (w *workers) hand(c *call, inFlight int, do func(*call)) {
	w.calls <- c
	if inFlight <= w.started {
		return
	}
	w.started++
	w.group.Go(func() {
		for c := range w.calls {
			do(c)
		}
	})
}

// end waits for the workers. No call is handed out afterwards.
func (w *workers) end() {
	close(w.calls)
	w.group.Wait()
	if w.unwatch != nil && !w.unwatch() {
		<-w.watched
	}
}

// attemptContext is the context of an attempt: it ends with that of the work, or at its deadline. It is made for attempts that
// are over long before: a timer and a channel come into being when somebody asks for them. Those who wait in a way of their
// own, as a connection with a deadline does, need neither: they take the time from Deadline and the end of the work from Aborted.
type attemptContext struct {
	work     context.Context // not stored beyond the attempt
	deadline time.Time
	aborts   *aborts

	mu     sync.Mutex // guards what follows
	timed  context.Context
	cancel context.CancelFunc
	over   bool
	abort  func() // see Aborted
}

// Deadline implements context.Context.
func (a *attemptContext) Deadline() (time.Time, bool) { return a.deadline, true }

// Done implements context.Context.
func (a *attemptContext) Done() <-chan struct{} { return a.full().Done() }

// full is a context of the package context with the same end.
func (a *attemptContext) full() context.Context {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.timed == nil {
		a.timed, a.cancel = context.WithDeadline(a.work, a.deadline)
		if a.over {
			a.cancel()
		}
	}
	return a.timed
}

// Err implements context.Context.
func (a *attemptContext) Err() error {
	a.mu.Lock()
	timed, over := a.timed, a.over
	a.mu.Unlock()
	switch {
	case timed != nil:
		return timed.Err()
	case a.work.Err() != nil:
		return a.work.Err()
	case over:
		return context.Canceled
	case !time.Now().Before(a.deadline):
		return context.DeadlineExceeded
	}
	return nil
}

// Value implements context.Context. It is how package context finds out that full is one of its own.
func (a *attemptContext) Value(key any) any {
	a.mu.Lock()
	timed := a.timed
	a.mu.Unlock()
	if timed != nil {
		return timed.Value(key)
	}
	return a.work.Value(key)
}

// Aborted makes f be called when the work ends during the attempt, not at the deadline; at once when that has happened. One f is
// kept at a time. stop takes it back and says whether it was not called.
func (a *attemptContext) Aborted(f func()) (stop func() bool) {
	a.mu.Lock()
	a.abort = f
	a.mu.Unlock()
	if a.aborts.begun() {
		a.fire()
	}
	return a.unabort
}

func (a *attemptContext) unabort() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	left := a.abort != nil
	a.abort = nil
	return left
}

// fire calls what Aborted left, once. It holds the lock meanwhile, so that stop returns behind it.
func (a *attemptContext) fire() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f := a.abort; f != nil {
		a.abort = nil
		f()
	}
}

// end releases what the context holds; it is over.
func (a *attemptContext) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	if a.cancel != nil {
		a.cancel()
	}
}

// aborts are the attempts of a sink that are under way, for the moment at which the work ends.
type aborts struct {
	mu   sync.Mutex // guards what follows
	open map[*attemptContext]struct{}
	over bool
}

func (a *aborts) begun() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.over
}

func (a *aborts) add(c *attemptContext) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open == nil {
		a.open = map[*attemptContext]struct{}{}
	}
	a.open[c] = struct{}{}
}

func (a *aborts) remove(c *attemptContext) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.open, c)
}

// all ends every attempt: the work is over.
func (a *aborts) all() {
	a.mu.Lock()
	a.over = true
	open := a.open
	a.open = nil
	a.mu.Unlock()
	for c := range open {
		c.fire()
	}
}

var _ context.Context = (*attemptContext)(nil)
