package engine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-run/millrace/event"
)

// maxRead bounds what one Next returns, in bytes.
const maxRead = 1 << 20

// subscription is one reader of a topic. What it holds is guarded by the engine's mutex.
type subscription struct {
	engine  *Engine
	name    string
	topic   *topic
	named   bool
	end     func() error // ends receiving; nil while it is not connected. Used by Configure and Close only
	entries []*entry     // received and not settled (and, behind the first of these, settled), in the order of their offsets
	read    event.Offset // of the record that Next returned last
	last    event.Offset // that was received
	rows    map[event.Offset]*row
	waiting queue
	wake    chan struct{}
	dropped int64 // dead letters

	bytes  int64 // over a broker: what it holds unacknowledged
	events int
}

// entry is a received event until it is settled or has a row.
type entry struct {
	record  event.Record
	message *message.Message // over a broker: not acknowledged yet
	done    bool
}

func newSubscription(e *Engine, name string, t *topic) *subscription {
	return &subscription{engine: e, name: name, topic: t, rows: map[event.Offset]*row{}, wake: make(chan struct{}, 1)}
}

// Subscribe returns the reader of a subscription. A later call begins anew: what is not settled is handed out again.
func (e *Engine) Subscribe(name string) (event.Subscription, error) {
	if e.isClosed() {
		return nil, event.ErrClosed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.subs[name]
	if s == nil || !s.named {
		return nil, fmt.Errorf("there is no subscription %q", name)
	}
	s.read = 0
	for _, r := range s.rows {
		if r.x.State == event.Retry {
			s.waiting.add(r)
		}
	}
	s.signal()
	return s, nil
}

// signal tells the reader that there may be more.
func (s *subscription) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Wake implements event.Subscription.
func (s *subscription) Wake() <-chan struct{} { return s.wake }

// find returns the index of the first entry at or behind an offset.
func (s *subscription) find(o event.Offset) int {
	i, _ := slices.BinarySearchFunc(s.entries, o, func(e *entry, o event.Offset) int { return cmp.Compare(e.record.Offset, o) })
	return i
}

// Next implements event.Subscription.
func (s *subscription) Next(ctx context.Context, upTo event.Offset, limit int) ([]event.Record, error) {
	if err := s.engine.enter(ctx); err != nil {
		return nil, err
	}
	defer s.engine.mu.Unlock()
	var recs []event.Record
	size := 0
	for _, e := range s.entries[s.find(s.read+1):] {
		if e.record.Offset > upTo || len(recs) >= limit {
			break
		}
		if !e.done {
			if size += e.record.Event.Size(); size > maxRead && len(recs) > 0 {
				break
			}
			recs = append(recs, e.record)
		}
		s.read = e.record.Offset
	}
	return recs, nil
}

// Due implements event.Subscription. What is due longest comes first.
func (s *subscription) Due(ctx context.Context, now time.Time, limit int) ([]event.Exceptional, time.Time, error) {
	if err := s.engine.enter(ctx); err != nil {
		return nil, time.Time{}, err
	}
	defer s.engine.mu.Unlock()
	var due []event.Exceptional
	for len(due) < limit {
		r := s.waiting.due(now)
		if r == nil {
			break
		}
		due = append(due, event.Exceptional{Record: r.record, Exception: r.x})
	}
	return due, s.waiting.next(), nil
}

// Settle implements event.Subscription. It takes effect at once and never waits.
func (s *subscription) Settle(ctx context.Context, outcomes []event.Outcome) error {
	if err := s.engine.enter(ctx); err != nil {
		return err
	}
	defer s.engine.mu.Unlock()
	s.settle(outcomes)
	return nil
}

// settle applies outcomes. What is settled already, or was left to the broker when the subscription was removed, is passed over.
func (s *subscription) settle(outcomes []event.Outcome) {
	for _, o := range outcomes {
		r := s.rows[o.Offset]
		if o.Exception != nil && o.Exception.State == event.Released {
			s.release(r)
			continue
		}
		if r == nil {
			r = s.leaveQueue(o.Offset)
		}
		if r == nil {
			continue
		}
		s.waiting.remove(r)
		wasDead := r.id != 0
		if wasDead {
			s.engine.cemetery.exhume(r)
		}
		if o.Exception == nil {
			s.finish(r, wasDead)
			continue
		}
		s.keep(r, *o.Exception, wasDead)
	}
	for len(s.entries) > 0 && s.entries[0].done {
		s.entries[0] = nil
		s.entries = s.entries[1:]
	}
}

// release makes a held row due at once.
func (s *subscription) release(r *row) {
	if r == nil || r.x.State != event.Held {
		return
	}
	r.x.State, r.x.NextAt = event.Retry, event.AtOnce
	s.waiting.add(r)
	s.signal()
}

// leaveQueue takes an event out of those that wait to be handed out or settled; nil if it is not among them. Its entry stays for
// the order of the offsets until everything before it is settled.
func (s *subscription) leaveQueue(o event.Offset) *row {
	i := s.find(o)
	if i == len(s.entries) || s.entries[i].record.Offset != o || s.entries[i].done {
		return nil
	}
	e := s.entries[i]
	r := &row{sub: s, record: e.record, message: e.message}
	*e = entry{record: event.Record{Offset: o}, done: true}
	return r
}

// finish settles an event for good.
func (s *subscription) finish(r *row, wasDead bool) {
	delete(s.rows, r.record.Offset)
	if !s.engine.broker.private {
		s.forgo(r)
		r.message.Ack()
		return
	}
	if !wasDead {
		s.engine.release(s.topic, r.record.Offset)
	}
}

// forgo counts a message of a broker as no longer held.
func (s *subscription) forgo(r *row) {
	s.bytes -= cost(&r.record.Event)
	s.events--
	s.engine.flight.freed()
}

// keep makes or replaces the row of an event. In memory a dead letter is not in flight; it has a bound of its own.
func (s *subscription) keep(r *row, x event.Exception, wasDead bool) {
	r.x = x
	r.x.Answer, r.x.Progress, r.x.Key = slices.Clone(x.Answer), slices.Clone(x.Progress), slices.Clone(x.Key)
	s.rows[r.record.Offset] = r
	isDead, private := x.State == event.Dead, s.engine.broker.private
	switch {
	case private && isDead && !wasDead:
		s.engine.release(s.topic, r.record.Offset)
	case private && !isDead && wasDead:
		s.engine.hold(s.topic, r.record.Offset, cost(&r.record.Event), 1)
	}
	switch {
	case isDead:
		s.engine.cemetery.bury(r)
	case x.State == event.Retry:
		s.waiting.add(r)
		s.signal()
		return
	default:
		return
	}
	if private {
		s.engine.forget()
	}
}

// Rows implements event.Subscription.
func (s *subscription) Rows(ctx context.Context, from, to event.Offset) ([]event.Offset, error) {
	if err := s.engine.enter(ctx); err != nil {
		return nil, err
	}
	defer s.engine.mu.Unlock()
	offsets := slices.Collect(maps.Keys(s.rows))
	offsets = slices.DeleteFunc(offsets, func(o event.Offset) bool { return o < from || o > to })
	slices.Sort(offsets)
	return offsets, nil
}

// Keyed implements event.Subscription.
func (s *subscription) Keyed(ctx context.Context, state event.ExceptionState, after event.Offset, limit int) ([]event.Keyed, error) {
	if err := s.engine.enter(ctx); err != nil {
		return nil, err
	}
	defer s.engine.mu.Unlock()
	var keyed []event.Keyed
	for o, r := range s.rows {
		if r.x.State == state && r.x.Key != nil && o > after {
			keyed = append(keyed, event.Keyed{Offset: o, Key: r.x.Key})
		}
	}
	slices.SortFunc(keyed, func(a, b event.Keyed) int { return cmp.Compare(a.Offset, b.Offset) })
	return keyed[:min(limit, len(keyed))], nil
}

// Dropped implements event.Subscription. A dead letter that was forgotten counts too.
func (s *subscription) Dropped() int64 {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	return s.dropped
}

// robbed counts a dead letter that is no more and that nobody took back.
func (s *subscription) robbed() {
	s.dropped++
	s.signal()
}

// Row implements event.Subscription.
func (s *subscription) Row(ctx context.Context, o event.Offset) (*event.Exception, error) {
	if err := s.engine.enter(ctx); err != nil {
		return nil, err
	}
	defer s.engine.mu.Unlock()
	r := s.rows[o]
	if r == nil {
		return nil, nil
	}
	x := r.x
	return &x, nil
}

// Position implements event.Subscription. Over a broker the head is what this process received last.
func (s *subscription) Position() (cursor, head event.Offset) {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	head = s.last
	if s.engine.broker.private {
		head = max(head, s.topic.head)
	}
	if len(s.entries) > 0 {
		return s.entries[0].record.Offset - 1, head
	}
	return head, head
}
