package pubsub

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/millrace-run/millrace/event"
)

const (
	fetchSize = 128         // messages that a reader takes from the outbox at once
	faultWait = time.Second // until it tries again what it could not read
)

// reader is the one reader of a topic for a group. Its goroutine hands messages to whichever consumer is free, keeps those that
// come back, and settles those that are done.
type reader struct {
	name   string
	config Config
	log    *slog.Logger
	from   event.Subscription

	ready chan delivery // unbuffered: a consumer that receives one has it and must send it to done
	done  chan delivery
	ended chan struct{} // closed when run has ended

	// What follows belongs to run.
	records  []event.Record // fetched, not handed out yet
	more     bool           // there may be something to fetch
	open     []event.Offset // handed out once and not settled, ascending; at most config.MaxInFlight
	again    []delivery     // those of open that no consumer has, in the order in which they are due
	resume   time.Time      // when to fetch again after a fault; zero: there was none
	fault    string         // the last fault, which is told once
	outcomes [1]event.Outcome
}

// delivery is a message on its way to a consumer and back.
type delivery struct {
	record event.Record
	due    time.Time // not before; zero for a message that did not wait
	end    ending    // set by the consumer
}

// ending is what became of a delivery.
type ending uint8

const (
	acked    ending = iota + 1 // settled
	nacked                     // to be handed out again, after a while
	returned                   // its consumer ended: to be handed out again
	void                       // no delivery, see heard
)

func newReader(name string, from event.Subscription, c Config) *reader {
	return &reader{
		name: name, config: c, log: c.Logger, from: from, more: true,
		ready: make(chan delivery), done: make(chan delivery), ended: make(chan struct{}),
	}
}

// run hands out messages until ctx ends or the outbox does. All consumers end with ctx too, so it takes back what they have.
func (r *reader) run(ctx context.Context, failed <-chan struct{}) {
	defer close(r.ended)
	for ctx.Err() == nil {
		if err := r.step(ctx, failed); err != nil && ctx.Err() == nil {
			r.log.Error("messages are no longer handed out", "subscription", r.name, "err", err)
			return
		}
	}
	for len(r.open) > len(r.again) {
		if err := r.take(ctx, <-r.done); errors.Is(err, event.ErrClosed) {
			return
		}
	}
}

// step does whatever can be done next, or waits until something can. Its error is final.
func (r *reader) step(ctx context.Context, failed <-chan struct{}) error {
	now := r.config.Clock.Now()
	if err := r.fetch(ctx, now); err != nil {
		return err
	}
	d, ready := r.next(now)
	alarm, stop := r.alarm(now)
	defer stop()
	select {
	case ready <- d:
		r.handed(d)
	case d := <-r.done:
		return r.take(ctx, d)
	case <-r.from.Wake():
		r.more = true
	case <-alarm:
	case <-failed:
		return event.ErrClosed
	case <-ctx.Done():
	}
	return nil
}

// fetch gets the next records if the last ones are used up. What can't be read is told and tried again later: the messages behind
// damage must not be skipped silently.
func (r *reader) fetch(ctx context.Context, now time.Time) error {
	if len(r.records) > 0 || !r.more || len(r.open) == r.config.MaxInFlight || now.Before(r.resume) {
		return nil
	}
	records, err := r.from.Next(ctx, math.MaxInt64, fetchSize)
	if errors.Is(err, event.ErrClosed) {
		return err
	}
	if err != nil {
		r.resume = now.Add(faultWait)
		if text := err.Error(); text != r.fault && ctx.Err() == nil {
			r.fault = text
			r.log.Error("messages cannot be read", "subscription", r.name, "err", err)
		}
		return nil
	}
	r.records, r.more, r.resume, r.fault = records, len(records) > 0, time.Time{}, ""
	return nil
}

// next is what may be handed out now, and the channel to do it by: nil if there is nothing. What comes back goes first, so that
// with one message in flight none overtakes it.
func (r *reader) next(now time.Time) (delivery, chan<- delivery) {
	if len(r.again) > 0 && !now.Before(r.again[0].due) {
		return r.again[0], r.ready
	}
	if len(r.records) == 0 || len(r.open) == r.config.MaxInFlight || r.beyondWindow(r.records[0].Offset) {
		return delivery{}, nil
	}
	return delivery{record: r.records[0]}, r.ready
}

// beyondWindow says whether a message is so far ahead of the first one that is not settled that the outbox could not settle it.
func (r *reader) beyondWindow(o event.Offset) bool {
	return len(r.open) > 0 && o >= r.open[0]+event.Window
}

// handed notes that a consumer has what next returned.
func (r *reader) handed(d delivery) {
	if len(r.again) > 0 && r.again[0].record.Offset == d.record.Offset {
		r.again = slices.Delete(r.again, 0, 1)
		return
	}
	r.records = r.records[1:]
	r.open = append(r.open, d.record.Offset)
}

// alarm fires when a time comes that next or fetch waits for.
func (r *reader) alarm(now time.Time) (<-chan time.Time, func()) {
	var at time.Time
	if len(r.again) > 0 && now.Before(r.again[0].due) {
		at = r.again[0].due
	}
	if now.Before(r.resume) && (at.IsZero() || r.resume.Before(at)) {
		at = r.resume
	}
	if at.IsZero() {
		return nil, func() {}
	}
	return r.config.Clock.After(at.Sub(now))
}

// take takes back a message from a consumer.
func (r *reader) take(ctx context.Context, d delivery) error {
	switch d.end {
	case acked:
		return r.settle(ctx, d.record.Offset)
	case nacked:
		d.due = time.Time{}
		if r.config.NackDelay > 0 {
			d.due = r.config.Clock.Now().Add(r.config.NackDelay)
		}
	case returned:
		d.due = time.Time{}
	case void:
		return nil
	}
	i, _ := slices.BinarySearchFunc(r.again, d, func(a, b delivery) int {
		return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.record.Offset, b.record.Offset))
	})
	r.again = slices.Insert(r.again, i, d)
	return nil
}

// heard returns when the reader has done with all that was sent to done before: who flushes then finds it settled.
func (r *reader) heard() {
	select {
	case r.done <- delivery{end: void}:
	case <-r.ended:
	}
}

// settle gives an acknowledgment to the outbox. It waits only while a window of them is not on disk.
func (r *reader) settle(ctx context.Context, o event.Offset) error {
	if i, ok := slices.BinarySearch(r.open, o); ok {
		r.open = slices.Delete(r.open, i, i+1)
	}
	r.outcomes[0] = event.Outcome{Offset: o}
	return r.from.Settle(ctx, r.outcomes[:])
}
