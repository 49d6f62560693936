package router

import (
	"context"
	"slices"
	"time"

	"github.com/millrace-run/millrace/event"
)

const (
	dueBatch = 64
	duePause = 20 * time.Millisecond // between two looks at the log, since every append wakes its subscriptions
)

// dues hands out the exceptions of a subscription whose time has come.
type dues struct {
	sub    Subscription
	guard  *guard
	ready  []event.Exceptional
	look   bool      // the log may have some that are due now
	next   time.Time // when the next one is due; zero: none is known
	looked time.Time
}

func newDues(sub Subscription, g *guard) *dues { return &dues{sub: sub, guard: g, look: true} }

// woken notes that the log has more than before.
func (d *dues) woken() { d.look = true }

// expect notes that a row was written that is due at a time.
func (d *dues) expect(at time.Time) {
	if d.next.IsZero() || at.Before(d.next) {
		d.next = at
	}
}

// alarm is when take is worth calling again; zero: not before the log wakes.
func (d *dues) alarm() time.Time {
	if d.look {
		return d.looked.Add(duePause)
	}
	return d.next
}

// take returns an exception that is due, or nil.
func (d *dues) take(ctx context.Context, now time.Time) (*event.Exceptional, error) {
	if len(d.ready) == 0 {
		if err := d.fill(ctx, now); err != nil {
			return nil, err
		}
	}
	if len(d.ready) == 0 {
		return nil, nil
	}
	x := &d.ready[0]
	d.ready = d.ready[1:]
	return x, nil
}

// withdraw takes an exception back that was read and not yet taken.
func (d *dues) withdraw(o event.Offset) {
	d.ready = slices.DeleteFunc(d.ready, func(x event.Exceptional) bool { return x.Record.Offset == o })
}

func (d *dues) fill(ctx context.Context, now time.Time) error {
	now = now.Round(0) // the time as the log knows it, which may have been set back
	back := now.Before(d.looked)
	if at := d.alarm(); !back && (at.IsZero() || now.Before(at)) {
		return nil
	}
	// The flag and the time are cleared first: what wakes us during the call counts for the next.
	d.look, d.next, d.looked = false, time.Time{}, now
	return d.guard.do(ctx, "read what is due", func() error {
		ready, next, err := d.sub.Due(ctx, now, dueBatch)
		if err != nil {
			return err
		}
		d.ready = ready
		if len(ready) == dueBatch {
			d.look, d.looked = true, time.Time{} // there are more, no need to pause
		}
		if !next.IsZero() {
			d.expect(next)
		}
		return nil
	})
}

// timer returns a channel that receives at a time, never for the zero time, and what releases it.
func timer(clock event.Clock, at time.Time) (<-chan time.Time, func()) {
	if at.IsZero() {
		return nil, func() {}
	}
	return clock.After(max(0, at.Sub(clock.Now())))
}

// earliest is the first of two times, of which the zero time is none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
