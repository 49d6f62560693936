package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/millrace-run/millrace/event"
)

// seeks are the wishes to move a subscription that its goroutine has not taken up. It moves it itself, between two turns: then nothing
// else reads or settles.
//
//	asked ──▶ what was delivered is settled ──▶ one commit: cursors moved, rows ended ──▶ memory is as after a start ──▶ answered
//
//	crash before the commit   the subscription is where it was
//	crash after it            the next process begins at the new place
//
// An attempt that is under way meanwhile goes on. Its answer is counted and tells the breaker how the destination is, and settles
// nothing. Where the sink keeps an order its end is waited for.
type seeks struct {
	mu     sync.Mutex // guards all below
	asked  []*seekRequest
	closed bool
	signal chan struct{} // has a value when there are new ones

	some atomic.Bool // asked is not empty; read without mu, as each turn does
}

type seekRequest struct {
	to    event.Start
	reply chan sought // has room for the one answer
}

type sought struct {
	all []event.Sought
	err error
}

// errSeek ends a wait of the sink's goroutine for its destination.
var errSeek = errors.New("the subscription is to move")

// ErrManyTopics refuses a seek by offset.
var ErrManyTopics = fmt.Errorf(
	"%w: the sink reads a topic for each priority, and an offset is a place in one of them; name a time", event.ErrNoPlace)

func newSeeks() *seeks { return &seeks{signal: make(chan struct{}, 1), closed: true} }

func (k *seeks) add(q *seekRequest) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		q.reply <- sought{err: event.ErrClosed}
		return
	}
	k.asked = append(k.asked, q)
	k.some.Store(true)
	select {
	case k.signal <- struct{}{}:
	default:
	}
}

// withdraw takes a wish back; false: somebody is at it.
func (k *seeks) withdraw(q *seekRequest) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := slices.Index(k.asked, q)
	if i >= 0 {
		k.asked = slices.Delete(k.asked, i, i+1)
		k.some.Store(len(k.asked) > 0)
	}
	return i >= 0
}

func (k *seeks) take() []*seekRequest {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := k.asked
	k.asked = nil
	k.some.Store(false)
	select {
	case <-k.signal:
	default:
	}
	return all
}

func (k *seeks) waiting() bool { return k.some.Load() }

func (k *seeks) open() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = false
}

// close answers who still waits.
func (k *seeks) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	for _, q := range k.asked {
		q.reply <- sought{err: event.ErrClosed}
	}
	k.asked = nil
	k.some.Store(false)
}

// Seek moves the subscription of a sink, in all priorities at once, and says what that means to each; it is durable when it returns
// nil. A preview changes nothing. An offset is a place in one topic: it is refused where the sink reads several.
func (r *Router) Seek(ctx context.Context, pipeline, sink string, to event.Start, preview bool) ([]event.Sought, error) {
	s, err := r.sink(pipeline, sink)
	if err != nil {
		return nil, err
	}
	if err := s.mayBegin(to); err != nil {
		return nil, err
	}
	if preview {
		return s.log.(History).Seek(ctx, event.Seek{Subscriptions: s.subscriptions(), To: to, Preview: true})
	}
	q := &seekRequest{to: to, reply: make(chan sought, 1)}
	s.seeks.add(q)
	s.lanes[0].fed.Ring()
	select {
	case got := <-q.reply:
		return got.all, got.err
	case <-ctx.Done():
	}
	if s.seeks.withdraw(q) {
		return nil, context.Cause(ctx)
	}
	got := <-q.reply // it may have been done
	return got.all, got.err
}

// mayBegin says why a subscription cannot begin at a place; nil: it can.
func (s *subscriber) mayBegin(at event.Start) error {
	if !s.history {
		return fmt.Errorf("%s: this outbox keeps no history: %w", s.name, errors.ErrUnsupported)
	}
	if at.Offset != 0 && len(s.lanes) > 1 {
		return ErrManyTopics
	}
	return nil
}

// subscriptions are the names of those that a sink reads, one for each priority.
func (s *subscriber) subscriptions() []string {
	names := make([]string, len(s.lanes))
	for i, l := range s.lanes {
		names[i] = l.name
	}
	return names
}

// seek does what was asked for. anew makes the sink's goroutine begin anew once the lanes have.
func (f *feed) seek(work context.Context, anew func() error) error {
	for _, q := range f.seeks.take() {
		err := f.flush(work)
		if err != nil {
			q.reply <- sought{err: err}
			return err
		}
		all, err := f.move(work, q.to)
		if err == nil {
			f.tellSought(all)
			err = anew()
		}
		q.reply <- sought{all, err}
		if work.Err() != nil || errors.Is(err, event.ErrClosed) || errors.Is(err, event.ErrUnknown) {
			return err
		}
	}
	return nil
}

// move moves the cursors, and the lanes with them. No redrive of the runner happens meanwhile: it must not take what comes again for
// what the sink has had.
func (f *feed) move(work context.Context, to event.Start) ([]event.Sought, error) {
	for _, l := range f.lanes {
		l.topic.redriving.RLock()
		defer l.topic.redriving.RUnlock()
	}
	all, err := f.log.(History).Seek(work, event.Seek{Subscriptions: f.subscriptions(), To: to})
	if err != nil {
		return nil, err
	}
	for _, l := range f.lanes {
		l.restart()
	}
	return all, nil
}

func (f *feed) tellSought(all []event.Sought) {
	for _, k := range all {
		f.logger.Info("subscription moved", "subscription", k.Subscription, "cursor", int64(k.Cursor), "next", int64(k.Next),
			"again", k.Again, "skipped", k.Skipped, "gone", k.Gone)
	}
}

// restart makes a lane as it is after Configure.
func (l *lane) restart() {
	var cursor event.Offset
	cursor, l.head = l.sub.Position() // the ring has nothing to say of what comes again
	l.taken.Store(int64(cursor + Window))
	l.fresh, l.more, l.asked, l.read, l.first = nil, true, 0, 0, 0
	l.dues, l.outcomes, l.running = newDues(l.sub, l.guard), nil, nil
	if l.order != nil {
		l.order = newOrderer(l.order.most, l.order.hold)
	}
}

// seek moves the sink, once the attempts have ended that an order waits for.
func (l *loop) seek(stop, work context.Context) error {
	if !l.seeks.waiting() || l.plan.Order != nil && l.inFlight > 0 {
		return nil
	}
	return l.feed.seek(work, func() error {
		l.epoch++
		l.waiting, l.held, l.partial, l.filling = nil, 0, nil, false
		clear(l.marks)
		return l.restore(stop, work)
	})
}

// overtaken takes the answer of a call that was made before a seek: it says how the destination is, and settles nothing.
func (l *loop) overtaken(work context.Context, c *call) error {
	now := l.clock.Now().UTC()
	for i, t := range c.tasks {
		v := c.settling.Verdicts[i]
		if v == nil {
			l.accept(c, now)
			continue
		}
		f := l.verdict(v)
		l.counts.attempts[outcomeOf(&f)].Add(1)
		t.x.Error = words(&f)
		l.account(t, &f, c, now)
	}
	if len(c.settling.Changes) == 0 {
		return nil
	}
	return l.commitChanges(work, c.settling.Changes)
}

// seek moves the sink. What it was given and has not settled does not count: it is opened again.
func (s *serial) seek(work context.Context) error {
	if !s.seeks.waiting() {
		return nil
	}
	for _, l := range s.lanes {
		l.outcomes = nil // what the sink did not want; where it still matters that is found out again
	}
	return s.feed.seek(work, func() error {
		s.tasks, s.partial, s.spare, s.stale = nil, nil, nil, true
		return nil
	})
}

// seek moves the queue. Leases of events at or behind the target are over: what their workers say of them comes to nothing.
func (p *puller) seek(stop, work context.Context) error {
	if !p.seeks.waiting() {
		return nil
	}
	return p.feed.seek(work, func() error {
		p.ready = nil
		return p.restore(stop, work)
	})
}
