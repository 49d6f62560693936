package routertest

import (
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/router"
)

func seeking() []testCase {
	return []testCase{
		{"seek/back and on", needs(history, reopening), seekBackAndOn},
		{"seek/rows", needs(history, dead), seekRows},
		{"seek/all or none", needs(history), seekAllOrNone},
		{"seek/new subscription", needs(history), seekNew},
	}
}

// seek moves subscriptions, which must succeed.
func (s *subject) seek(to event.Start, names ...string) []event.Sought {
	s.Helper()
	got, err := s.log.(router.History).Seek(s.Context(), event.Seek{Subscriptions: names, To: to})
	if err != nil || len(got) != len(names) {
		s.Fatalf("seek to %+v: %+v, %v", to, got, err)
	}
	return got
}

// seekBackAndOn: a reader goes on at the new place, and so does the next process.
func seekBackAndOn(s *subject) {
	s.configure(topic("a", "a/1"))
	s.append("a", numbered("e", 5)...)
	r := s.subscribe("a/1")
	r.settle(settled(r.take(5)...)...)
	s.flush()
	if k := s.seek(event.Start{Offset: 3}, "a/1")[0]; k.Cursor != 5 || k.Next != 3 || k.Again != 3 || k.Skipped != 0 {
		s.Errorf("%+v", k)
	}
	r.onceEach(r.take(3), numbered("e", 5)[2:])
	r.nothing()
	s.reopen(topic("a", "a/1"))
	r = s.subscribe("a/1")
	r.onceEach(r.take(3), numbered("e", 5)[2:])
	s.append("a", plain("six"))
	if k := s.seek(event.Start{}, "a/1")[0]; k.Next != 7 || k.Skipped != 4 || k.Again != 0 {
		s.Errorf("%+v", k)
	}
	r.nothing()
	s.append("a", plain("seven"))
	r.onceEach(r.take(1), []event.Event{plain("seven")})
	s.seek(event.Start{Beginning: true}, "a/1")
	if recs := r.take(7); recs[0].Offset != 1 {
		s.Errorf("the beginning is at %d", recs[0].Offset)
	}
}

// seekRows: rows at or behind the target end and their events come again, rows before it stay, and dead letters stay with their events.
func seekRows(s *subject) {
	s.configure(topic("a", "a/1"))
	s.append("a", numbered("e", 6)...)
	r := s.subscribe("a/1")
	recs := r.take(6)
	at := time.Unix(1, 0).UTC()
	row := func(i int, state event.ExceptionState) event.Outcome {
		x := event.Exception{State: state, Reason: event.ReasonFailed, NextAt: at, FirstAt: at, LastAt: at}
		return event.Outcome{Offset: recs[i].Offset, Exception: &x}
	}
	r.settle(row(0, event.Retry), row(1, event.Dead), row(3, event.Retry), row(4, event.Dead))
	r.settle(settled(recs[2], recs[5])...)
	s.flush()
	if k := s.seek(event.Start{Offset: 3}, "a/1")[0]; k.Again != 2 || k.Waiting != 1 || k.Dead != 1 || k.Skipped != 0 {
		s.Errorf("%+v", k)
	}
	again := r.take(3)
	r.onceEach(again, []event.Event{numbered("e", 6)[2], numbered("e", 6)[3], numbered("e", 6)[5]})
	due, _, err := r.sub.Due(s.Context(), tomorrow, 10)
	if err != nil || len(due) != 1 || due[0].Record.Offset != recs[0].Offset {
		s.Errorf("due: %+v, %v", due, err)
	}
	if letters := s.dead(event.DeadQuery{}); len(letters) != 2 {
		s.Errorf("%d dead letters", len(letters))
	}
	s.redrive(event.DeadQuery{}, 2)
	due, _, err = r.sub.Due(s.Context(), tomorrow, 10)
	if err != nil || len(due) != 2 {
		s.Errorf("redriven: %+v, %v", due, err)
	}
	for _, x := range due {
		r.settle(event.Outcome{Offset: x.Record.Offset, Row: true})
	}
	r.settle(settled(again...)...)
	s.flush()
	r.position(6, 6)
}

// seekAllOrNone: a seek of several subscriptions moves none when one cannot go there.
func seekAllOrNone(s *subject) {
	s.configure(topic("a", "a/1"), topic("b", "b/1"))
	s.append("a", numbered("e", 5)...)
	s.append("b", numbered("e", 2)...)
	a, b := s.subscribe("a/1"), s.subscribe("b/1")
	_, err := s.log.(router.History).Seek(s.Context(), event.Seek{Subscriptions: []string{"a/1", "b/1"}, To: event.Start{Offset: 5}})
	if err == nil {
		s.Error("an offset beyond the end is taken")
	}
	a.take(5)
	b.take(2)
	if _, err := s.log.(router.History).Seek(s.Context(), event.Seek{Subscriptions: []string{"a/2"}}); err == nil {
		s.Error("a subscription is moved that there is not")
	}
}

// seekNew: a subscription that is new begins where the layout says, and one that is not stays where it is.
func seekNew(s *subject) {
	s.configure(topic("a", "a/1"))
	s.append("a", numbered("e", 4)...)
	r := s.subscribe("a/1")
	r.settle(settled(r.take(4)...)...)
	from := topic("a", "a/1", "a/2", "a/3")
	from.From = map[string]event.Start{"a/1": {Beginning: true}, "a/2": {Beginning: true}, "a/3": {Offset: 4}}
	s.configure(from)
	r.nothing()
	two, three := s.subscribe("a/2"), s.subscribe("a/3")
	two.onceEach(two.take(4), numbered("e", 4))
	three.onceEach(three.take(1), numbered("e", 4)[3:])
}
