package routertest

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/millrace-run/millrace/event"
)

func exceptions() []testCase {
	return []testCase{
		{"exceptions/due at their time", nil, dueAtTime},
		{"exceptions/once until settled", nil, dueOnce},
		{"exceptions/oldest first", nil, dueOldestFirst},
		{"exceptions/verbatim", nil, dueVerbatim},
		{"exceptions/free the cursor", nil, dueFreesCursor},
		{"exceptions/wake", nil, dueWakes},
		{"exceptions/without an attempt", nil, dueWithoutAttempt},
		{"exceptions/beside each other", needs(shared), dueOfTwo},
	}
}

// at is a moment of the tests; the clock of the log is not asked, Due is told.
func at(seconds int) time.Time { return tomorrow.Add(time.Duration(seconds) * time.Second) }

func dueAtTime(s *subject) {
	r, recs := s.oneReader(3)
	r.settle(failed(recs[0], waiting(at(10)), false), failed(recs[1], waiting(at(20)), false))
	r.dues(at(9), at(10))
	r.dues(at(10), at(20), recs[0])
	r.dues(at(19), at(20))
	r.dues(at(25), time.Time{}, recs[1])
	r.nothing()
}

// dueOnce: handed out, an exception is the reader's until it is settled again; then it waits anew, or is gone.
func dueOnce(s *subject) {
	r, recs := s.oneReader(2)
	r.settle(failed(recs[0], waiting(at(1)), false))
	r.dues(at(1), time.Time{}, recs[0])
	r.dues(at(100), time.Time{})
	r.settle(failed(recs[0], waiting(at(5)), true))
	r.dues(at(4), at(5))
	r.dues(at(5), time.Time{}, recs[0])
	r.settle(event.Outcome{Offset: recs[0].Offset, Row: true})
	r.dues(at(1000), time.Time{})
	r.hasRows()
	r.nothing()
}

func dueOldestFirst(s *subject) {
	r, recs := s.oneReader(6)
	for i, seconds := range []int{40, 10, 60, 20, 50, 30} {
		r.settleLazily(failed(recs[i], waiting(at(seconds)), false))
	}
	r.flush()
	x, next := r.due(at(45), 2)
	sameIDs(s.T, records(x), recs[1].Event.ID, recs[3].Event.ID)
	if !next.Equal(at(30)) {
		s.Errorf("next is due at %v, want %v", next, at(30))
	}
	x, next = r.due(at(45), 10)
	sameIDs(s.T, records(x), recs[5].Event.ID, recs[0].Event.ID)
	if !next.Equal(at(50)) {
		s.Errorf("next is due at %v, want %v", next, at(50))
	}
}

// dueVerbatim: the event and everything that its exception says come back as they were.
func dueVerbatim(s *subject) {
	s.configure(topic("a", "a/1"))
	events := append(unusual(), large("large", 2<<20))
	s.append("a", events...)
	r := s.subscribe("a/1")
	want := map[string]event.Exception{}
	for i, rec := range r.take(len(events)) {
		x := waiting(at(i).Add(time.Duration(i)))
		x.Attempts, x.Counted, x.Status = 1000+i, i, 100*i
		x.Reason = []event.Reason{event.ReasonFailed, event.ReasonRedrive, event.ReasonAttempts}[i%3]
		x.Stage = []string{"", "filter", "map 2"}[i%3]
		x.Error = fmt.Sprint("ünusual \x00 error ", i)
		if i%4 == 3 { // nothing but what must be
			x = event.Exception{State: event.Retry, Reason: event.ReasonFailed, NextAt: at(i)}
		}
		want[rec.Event.ID] = x
		r.settleLazily(failed(rec, x, false))
	}
	r.flush()
	var got []event.Record
	for len(got) < len(events) {
		some, _ := r.due(at(3600), 5)
		if len(some) == 0 {
			s.Fatalf("%d of %d exceptions came back", len(got), len(events))
		}
		for _, x := range some {
			got = append(got, x.Record)
			sameException(s.T, x.Record.Event.ID, x.Exception, want[x.Record.Event.ID])
		}
	}
	r.onceEach(got, events)
}

// dueFreesCursor: a row keeps what the event needs, so the cursor goes on; Rows tells which offsets have one.
func dueFreesCursor(s *subject) {
	r, recs := s.oneReader(6)
	r.settle(failed(recs[0], waiting(at(1)), false), failed(recs[3], waiting(at(2)), false))
	r.position(1, 6)
	r.hasRows(recs[0], recs[3])
	r.settle(settled(recs[1], recs[2])...)
	r.position(4, 6)
	r.settle(settled(recs[4], recs[5])...)
	r.position(6, 6)
	if got := r.rows(recs[1].Offset, recs[3].Offset); !slices.Equal(got, []event.Offset{recs[3].Offset}) {
		s.Errorf("rows of a part are %v", got)
	}
	r.settle(event.Outcome{Offset: recs[3].Offset, Row: true})
	r.hasRows(recs[0])
	r.position(6, 6)
}

func dueWakes(s *subject) {
	r, recs := s.oneReader(1)
	r.nothing()
	r.calm()
	r.settleLazily(failed(recs[0], waiting(at(1)), false))
	r.await("after an exception was settled, at the latest 10 ms later")
	for {
		if x, _ := r.due(at(2), 10); len(x) == 1 {
			break
		}
		r.await("although an exception is due")
	}
}

// dueOfTwo: the exception of one subscription says nothing about the other.
func dueOfTwo(s *subject) {
	s.configure(topic("a", "a/1", "a/2"))
	s.append("a", numbered("e", 2)...)
	one, two := s.subscribe("a/1"), s.subscribe("a/2")
	recs := byOffset(one.take(2))
	one.settle(failed(recs[0], waiting(at(1)), false))
	two.dues(at(10), time.Time{})
	two.hasRows()
	two.settle(settled(two.take(2)...)...)
	two.position(2, 2)
	one.dues(at(10), time.Time{}, recs[0])
}

// oneReader appends n events and takes them for the only subscription.
func (s *subject) oneReader(n int) (*reader, []event.Record) {
	s.Helper()
	s.configure(topic("a", "a/1"))
	s.append("a", numbered("e", n)...)
	r := s.subscribe("a/1")
	return r, byOffset(r.take(n))
}

// dues fails the test unless exactly these records are due at now, and the next one at next.
func (r *reader) dues(now, next time.Time, want ...event.Record) {
	r.Helper()
	x, got := r.due(now, 100)
	sameIDs(r.T, records(x), ids(want)...)
	if !got.Equal(next) || got.IsZero() != next.IsZero() {
		r.Errorf("%s: the next exception is due at %v, want %v", r.name, got, next)
	}
}

// hasRows fails the test unless exactly these records have rows.
func (r *reader) hasRows(want ...event.Record) {
	r.Helper()
	var offsets []event.Offset
	for _, rec := range want {
		offsets = append(offsets, rec.Offset)
	}
	_, head := r.sub.Position()
	if got := r.rows(1, head); !slices.Equal(got, offsets) {
		r.Errorf("%s: rows (-want +got):\n%s", r.name, cmp.Diff(offsets, got))
	}
}

func records(x []event.Exceptional) []event.Record {
	out := make([]event.Record, len(x))
	for i := range x {
		out[i] = x[i].Record
	}
	return out
}

// dueWithoutAttempt: a row may be made for an event that was never tried. Its time may lie as far ahead as a log counts, and holds back
// no other.
func dueWithoutAttempt(s *subject) {
	r, recs := s.oneReader(3)
	far := time.Unix(1<<33, 0).UTC()
	later := event.Exception{State: event.Retry, Reason: event.ReasonDelayed, NextAt: far}
	paced := event.Exception{State: event.Retry, Reason: event.ReasonRate, NextAt: at(10), LastAt: at(1)}
	soon := event.Exception{State: event.Retry, Reason: event.ReasonDelayed, NextAt: at(5)}
	r.settle(failed(recs[0], later, false), failed(recs[1], paced, false), failed(recs[2], soon, false))
	r.nothing()
	r.position(recs[2].Offset, recs[2].Offset)
	r.dues(at(4), at(5))
	r.dues(at(5), at(10), recs[2])
	got, next := r.due(at(10), 10)
	if len(got) != 1 || !next.Equal(far) {
		s.Fatalf("%d are due, the next at %v", len(got), next)
	}
	if diff := cmp.Diff(paced, got[0].Exception, cmpopts.EquateEmpty()); diff != "" {
		s.Errorf("the row that is due (-want +got):\n%s", diff)
	}
}
