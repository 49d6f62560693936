package routertest

import (
	"fmt"
	"time"

	"github.com/millrace-run/millrace/event"
)

func holding() []testCase {
	return []testCase{
		{"holding/until released", needs(holds), heldUntilReleased},
		{"holding/in one commit", needs(holds), heldInOneCommit},
		{"holding/listed by state", needs(holds), heldListed},
		{"holding/again", needs(holds), heldAgain},
		{"holding/dead letters keep their keys", needs(holds, dead), heldDead},
		{"holding/drops are told", needs(dead), heldDropped},
		{"holding/survives a restart", needs(holds, reopening), heldReopened},
	}
}

func heldBehind(n int) event.Exception {
	return event.Exception{State: event.Held, Reason: event.ReasonOrder, Attempts: n % 2, Key: fmt.Appendf(nil, "key %d", n%3)}
}

func released(o event.Offset) event.Outcome {
	return event.Outcome{Offset: o, Row: true, Exception: &event.Exception{State: event.Released}}
}

// heldUntilReleased: a held event frees the cursor, is never due, and is due at once when it is released, as it was.
func heldUntilReleased(s *subject) {
	r, recs := s.oneReader(3)
	r.settle(failed(recs[0], heldBehind(1), false), failed(recs[1], waiting(at(10)), false), settled(recs[2])[0])
	r.position(3, 3)
	r.hasRows(recs[0], recs[1])
	r.dues(at(5), at(10))
	r.settle(released(recs[0].Offset))
	x, next := r.due(at(5), 10)
	sameIDs(s.T, records(x), recs[0].Event.ID)
	want := heldBehind(1)
	want.State, want.NextAt = event.Retry, event.AtOnce
	sameException(s.T, "released", x[0].Exception, want)
	if !next.Equal(at(10)) {
		s.Errorf("next is due at %v, want %v", next, at(10))
	}
	r.settle(released(recs[0].Offset), released(recs[1].Offset)) // what is not held stays as it is
	r.dues(at(5), at(10))
	r.settle(event.Outcome{Offset: recs[0].Offset, Row: true})
	r.hasRows(recs[1])
}

// heldInOneCommit: an event may be held and released by outcomes of one commit, and what it waited for may end there.
func heldInOneCommit(s *subject) {
	r, recs := s.oneReader(2)
	r.settleLazily(failed(recs[1], heldBehind(1), false))
	r.settleLazily(append(settled(recs[0]), released(recs[1].Offset))...)
	r.flush()
	r.position(2, 2)
	r.dues(at(0), time.Time{}, recs[1])
}

func heldListed(s *subject) {
	r, recs := s.oneReader(8)
	for i, state := range []event.ExceptionState{event.Held, event.Retry, event.Held, event.Held, event.Retry} {
		x := heldBehind(i)
		if x.State = state; state == event.Retry {
			x.NextAt = at(i)
		}
		r.settleLazily(failed(recs[i], x, false))
	}
	r.settle(failed(recs[5], waiting(at(5)), false)) // has no key
	r.lists(event.Held, 0, 10, 1, 3, 4)
	r.lists(event.Held, 0, 2, 1, 3)
	r.lists(event.Held, 3, 10, 4)
	r.lists(event.Retry, 0, 10, 2, 5)
	r.lists(event.Dead, 0, 10)
	if got := r.keyed(event.Held, 3, 1); string(got[0].Key) != "key 0" {
		s.Errorf("key %q", got[0].Key)
	}
	r.settle(released(recs[2].Offset))
	r.lists(event.Held, 0, 10, 1, 4)
	r.lists(event.Retry, 0, 10, 2, 3, 5)
}

// heldAgain: an event that was handed out can be held again.
func heldAgain(s *subject) {
	r, recs := s.oneReader(1)
	r.settle(failed(recs[0], waiting(at(1)), false))
	r.dues(at(1), time.Time{}, recs[0])
	r.settle(failed(recs[0], heldBehind(3), true))
	r.dues(at(1000), time.Time{})
	r.settle(released(recs[0].Offset))
	r.dues(at(1000), time.Time{}, recs[0])
}

func heldDead(s *subject) {
	r, recs := s.oneReader(2)
	x := buried(1)
	x.Key = []byte("k")
	r.settle(failed(recs[0], x, false))
	r.lists(event.Dead, 0, 10, 1)
	s.redrive(event.DeadQuery{}, 1)
	r.lists(event.Dead, 0, 10)
	r.lists(event.Retry, 0, 10, 1)
	if got, _ := r.due(tomorrow, 1); len(got) != 1 || string(got[0].Exception.Key) != "k" {
		s.Errorf("redriven: %+v", got)
	}
}

// heldDropped: who holds a key for a dead letter hears that it is no more.
func heldDropped(s *subject) {
	r, recs := s.oneReader(3)
	r.settle(failed(recs[0], buried(1), false), failed(recs[1], buried(2), false))
	r.calm()
	before := r.sub.Dropped()
	s.drop(event.DeadQuery{}, 2)
	r.await("after dead letters were dropped")
	if n := r.sub.Dropped() - before; n != 2 {
		s.Errorf("%d dead letters are said to be dropped, want 2", n)
	}
	r.hasRows()
}

func heldReopened(s *subject) {
	r, recs := s.oneReader(2)
	r.settle(failed(recs[0], heldBehind(1), false))
	s.reopen(topic("a", "a/1"))
	r = s.subscribe("a/1")
	r.dues(at(1000), time.Time{})
	r.lists(event.Held, 0, 10, 1)
	r.settle(released(recs[0].Offset))
	s.reopen(topic("a", "a/1"))
	r = s.subscribe("a/1")
	r.dues(at(1000), time.Time{}, recs[0])
}

func (r *reader) keyed(state event.ExceptionState, after event.Offset, limit int) []event.Keyed {
	r.Helper()
	got, err := r.sub.Keyed(r.Context(), state, after, limit)
	if err != nil {
		r.Fatalf("%s: keyed: %v", r.name, err)
	}
	return got
}

// lists fails the test unless exactly these offsets are in a state and have a key.
func (r *reader) lists(state event.ExceptionState, after event.Offset, limit int, want ...event.Offset) {
	r.Helper()
	var got []event.Offset
	for _, k := range r.keyed(state, after, limit) {
		got = append(got, k.Offset)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		r.Errorf("%s: in state %d with a key are %v, want %v", r.name, state, got, want)
	}
}
