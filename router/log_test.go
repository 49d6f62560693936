package router

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
)

// fakeLog is a Log in memory that commits at once and complains about everything that a real one would have to trust.
type fakeLog struct {
	t   testing.TB
	can event.Capabilities

	mu      sync.Mutex // guards everything below
	topics  map[string][]event.Event
	subs    map[string]*fakeSub
	states  map[string]map[string][]byte
	onWrite func(event.Commit) error // refuses a commit or a settling
	onRead  func(sub string) error   // fails a Next, after it has moved on
	commits int
}

type fakeSub struct {
	log     *fakeLog
	name    string
	topic   string
	read    event.Offset
	cursor  event.Offset
	settled map[event.Offset]bool
	rows    map[event.Offset]event.Exception
	handed  map[event.Offset]bool
	mine    map[event.Offset]bool // rows of the window, not handed out in this process
	wake    chan struct{}
	reads   int
	dropped int64
	given   int // records that Next returned
}

func newFakeLog(t testing.TB) *fakeLog {
	return &fakeLog{
		t: t,
		can: event.Capabilities{
			Durable: true, Atomic: true, Shared: true, Ordered: true, Stateful: true, Dead: true, Reopening: true, Keyed: true,
		},
		topics: map[string][]event.Event{}, subs: map[string]*fakeSub{}, states: map[string]map[string][]byte{},
	}
}

func (l *fakeLog) Can() event.Capabilities { return l.can }

func (l *fakeLog) Configure(_ context.Context, layout event.Layout) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range layout.Topics {
		if l.topics[t.Name] == nil {
			l.topics[t.Name] = []event.Event{}
		}
		for _, name := range t.Subscriptions {
			if l.subs[name] == nil {
				l.subs[name] = &fakeSub{
					log: l, name: name, topic: t.Name, settled: map[event.Offset]bool{},
					rows: map[event.Offset]event.Exception{}, wake: make(chan struct{}, 1),
				}
			}
			// A new process reads from the cursor on and has been handed nothing.
			s := l.subs[name]
			s.mine = map[event.Offset]bool{}
			s.handed, s.read = map[event.Offset]bool{}, s.cursorLocked()
			s.wakeLocked()
		}
	}
	return nil
}

func (l *fakeLog) Commit(ctx context.Context, c event.Commit) ([]event.Appended, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.commitLocked(c)
}

func (l *fakeLog) commitLocked(c event.Commit) ([]event.Appended, error) {
	if l.onWrite != nil {
		if err := l.onWrite(c); err != nil {
			return nil, err
		}
	}
	l.commits++
	var all []event.Appended
	for _, a := range c.Appends {
		all = append(all, event.Appended{First: event.Offset(len(l.topics[a.Topic]) + 1)})
		l.topics[a.Topic] = append(l.topics[a.Topic], a.Events...)
		for _, s := range l.subs {
			if s.topic == a.Topic {
				s.wakeLocked()
			}
		}
	}
	c.Settles = slices.Clone(c.Settles)
	for i := range c.Settles {
		c.Settles[i].Outcomes = single(c.Settles[i].Outcomes)
	}
	for _, s := range c.Settles {
		if err := l.subs[s.Subscription].refusesLocked(s.Outcomes); err != nil {
			return nil, err
		}
	}
	for _, s := range c.Settles {
		l.subs[s.Subscription].applyLocked(s.Outcomes)
	}
	for _, s := range c.States {
		if l.states[s.Owner] == nil {
			l.states[s.Owner] = map[string][]byte{}
		}
		maps.Copy(l.states[s.Owner], s.Changes)
	}
	return all, nil
}

func (l *fakeLog) Subscribe(name string) (Subscription, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.subs[name], nil
}

func (l *fakeLog) State(_ context.Context, owner string) (map[string][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.states[owner]), nil
}

func (l *fakeLog) DeadLetters(context.Context, event.DeadQuery) ([]event.DeadLetter, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var dead []event.DeadLetter
	for _, s := range l.subs {
		for o, x := range s.rows {
			if x.State == event.Dead {
				of := event.Exceptional{Record: s.recordLocked(o), Exception: x}
				dead = append(dead, event.DeadLetter{Subscription: s.name, Topic: s.topic, Exceptional: of})
			}
		}
	}
	slices.SortFunc(dead, func(a, b event.DeadLetter) int {
		return cmp.Or(cmp.Compare(a.Subscription, b.Subscription), cmp.Compare(a.Record.Offset, b.Record.Offset))
	})
	return dead, nil
}

func (l *fakeLog) Drop(context.Context, event.DeadQuery) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, s := range l.subs {
		before := len(s.rows)
		for o, x := range s.rows {
			if x.State == event.Dead {
				delete(s.rows, o)
				s.settled[o] = true
			}
		}
		s.dropped += int64(before - len(s.rows))
		n += before - len(s.rows)
		s.wakeLocked()
	}
	return n, nil
}

func (l *fakeLog) Redrive(context.Context, event.DeadQuery) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, s := range l.subs {
		for o, x := range s.rows {
			if x.State == event.Dead {
				x.State, x.Reason, x.Counted, x.FirstAt, x.NextAt = event.Retry, event.ReasonRedrive, 0, time.Time{}, time.Time{}
				s.rows[o] = x
				n++
			}
		}
		s.wakeLocked()
	}
	return n, nil
}

func (s *fakeSub) recordLocked(o event.Offset) event.Record {
	return event.Record{Offset: o, Event: s.log.topics[s.topic][o-1]}
}

func (s *fakeSub) wakeLocked() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *fakeSub) cursorLocked() event.Offset {
	for int(s.cursor) < len(s.log.topics[s.topic]) && !s.openLocked(s.cursor+1) {
		s.cursor++
	}
	return s.cursor
}

// openLocked says that an offset is neither settled nor kept by a row.
func (s *fakeSub) openLocked(o event.Offset) bool {
	_, row := s.rows[o]
	return !row && !s.settled[o]
}

// applyLocked holds the router to the contract: nothing twice, nothing beyond the window, and Row told truly.
func (s *fakeSub) applyLocked(outcomes []event.Outcome) {
	for _, o := range outcomes {
		x, row := s.rows[o.Offset]
		redriven := o.Exception != nil && o.Exception.Reason == event.ReasonRedrive
		if o.Exception != nil && o.Exception.State == event.Released {
			if !row || x.State != event.Held {
				s.log.t.Errorf("%s: offset %d is released and not held (%v)", s.name, o.Offset, x.State)
			}
			x.State, x.NextAt = event.Retry, event.AtOnce
			s.rows[o.Offset] = x
			continue
		}
		switch {
		case o.Row != row && !redriven:
			s.log.t.Errorf("%s: offset %d: Row is %v, the log has %v (%+v)", s.name, o.Offset, o.Row, row, x)
		case !o.Row && !redriven && s.settled[o.Offset]:
			s.log.t.Errorf("%s: offset %d was settled twice", s.name, o.Offset)
		}
		delete(s.rows, o.Offset)
		delete(s.handed, o.Offset)
		if o.Exception == nil {
			s.settled[o.Offset] = true
		} else {
			delete(s.settled, o.Offset)
			s.rows[o.Offset] = *o.Exception
			s.mine[o.Offset] = o.Exception.Reason == event.ReasonWindow
		}
	}
	s.wakeLocked()
}

// refusesLocked holds the window, as a real log must: a redrive beyond it is an error that the router has to live with.
func (s *fakeSub) refusesLocked(outcomes []event.Outcome) error {
	at := s.cursorLocked()
	ahead := map[event.Offset]bool{}
	for _, o := range outcomes {
		ahead[o.Offset] = true
		for ahead[at+1] || !s.openLocked(at+1) && int(at) < len(s.log.topics[s.topic]) {
			at++
		}
		if o.Offset > at+Window {
			if o.Exception == nil || o.Exception.Reason != event.ReasonRedrive {
				s.log.t.Errorf("%s: offset %d is settled beyond the window of %d", s.name, o.Offset, at)
			}
			return errors.New("beyond the window")
		}
	}
	return nil
}

// single makes one outcome for each offset.
func single(outcomes []event.Outcome) (all []event.Outcome) {
	for _, o := range outcomes {
		for to := max(o.Offset, o.Through); o.Offset <= to; o.Offset++ {
			o.Through = 0
			all = append(all, o)
		}
	}
	return all
}

func (s *fakeSub) Skip(upTo event.Offset) bool {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	if s.log.onRead != nil && s.log.onRead(s.name) != nil {
		return false
	}
	for o := s.read + 1; o <= upTo; o++ {
		if !s.openLocked(o) {
			s.log.t.Errorf("%s: %d is skipped, which Next would not return", s.name, o)
		}
	}
	s.read = max(s.read, upTo)
	return true
}

func (s *fakeSub) Next(_ context.Context, upTo event.Offset, limit int) ([]event.Record, error) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.reads++
	var records []event.Record
	for o := s.read + 1; o <= upTo && int(o) <= len(s.log.topics[s.topic]) && len(records) < limit; o++ {
		s.read = o
		if s.openLocked(o) {
			records = append(records, s.recordLocked(o))
		}
	}
	s.given += len(records)
	if s.log.onRead != nil {
		return records, s.log.onRead(s.name)
	}
	return records, nil
}

func (s *fakeSub) Due(_ context.Context, now time.Time, limit int) (due []event.Exceptional, next time.Time, err error) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	for _, o := range slices.Sorted(maps.Keys(s.rows)) {
		x := s.rows[o]
		switch {
		case x.State != event.Retry || s.handed[o] || s.mine[o]:
		case x.NextAt.After(now):
			next = earliest(next, x.NextAt)
		case len(due) < limit:
			s.handed[o] = true
			due = append(due, event.Exceptional{Record: s.recordLocked(o), Exception: x})
		}
	}
	return due, next, nil
}

// Settle does not wait, hence it need not hear its context.
func (s *fakeSub) Settle(_ context.Context, outcomes []event.Outcome) error {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	_, err := s.log.commitLocked(event.Commit{Settles: []event.Settle{{Subscription: s.name, Outcomes: outcomes}}})
	return err
}

func (s *fakeSub) Row(_ context.Context, o event.Offset) (*event.Exception, error) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	if x, ok := s.rows[o]; ok {
		return &x, nil
	}
	return nil, nil
}

func (s *fakeSub) Rows(_ context.Context, from, to event.Offset) ([]event.Offset, error) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	var rows []event.Offset
	for o := range s.rows {
		if o >= from && o <= to {
			rows = append(rows, o)
		}
	}
	return rows, nil
}

func (s *fakeSub) Keyed(_ context.Context, state event.ExceptionState, after event.Offset, limit int) (keyed []event.Keyed, err error) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	for _, o := range slices.Sorted(maps.Keys(s.rows)) {
		if x := s.rows[o]; x.State == state && x.Key != nil && o > after && len(keyed) < limit {
			keyed = append(keyed, event.Keyed{Offset: o, Key: x.Key})
		}
	}
	return keyed, nil
}

func (s *fakeSub) Dropped() int64 {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.dropped
}

func (s *fakeSub) Wake() <-chan struct{} { return s.wake }

func (s *fakeSub) Position() (cursor, head event.Offset) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.cursorLocked(), event.Offset(len(s.log.topics[s.topic]))
}
