package webhook

import (
	"context"
	"sync"
	"time"
)

// limit is a context that ends at a time. Many requests share one, so that not each of them needs a timer of its own.
type limit struct {
	until time.Time
	over  chan struct{}
}

var _ context.Context = (*limit)(nil)

// Deadline is the time.
func (l *limit) Deadline() (time.Time, bool) { return l.until, true }

// Done is closed at the time.
func (l *limit) Done() <-chan struct{} { return l.over }

// Err is context.DeadlineExceeded from that time on.
func (l *limit) Err() error {
	select {
	case <-l.over:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// Value is always nil.
func (l *limit) Value(any) any { return nil }

// limits makes them. It may be used concurrently.
type limits struct {
	mu      sync.Mutex // guards both
	current *limit
	fresh   time.Time // until when the current one is handed out
}

// next returns a limit that ends within timeout, and not before 19/20 of it have passed.
func (l *limits) next(timeout time.Duration) context.Context {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current == nil || !now.Before(l.fresh) {
		c := &limit{now.Add(timeout), make(chan struct{})}
		time.AfterFunc(timeout, func() { close(c.over) })
		l.current, l.fresh = c, now.Add(timeout/20)
	}
	return l.current
}
