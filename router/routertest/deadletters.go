package routertest

import (
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/millrace-run/millrace/event"
)

func deadLetters() []testCase {
	return []testCase{
		{"dead letters/list", needs(dead), deadList},
		{"dead letters/page and select", needs(dead), deadSelect},
		{"dead letters/redrive", needs(dead), deadRedrive},
		{"dead letters/redrive some", needs(dead), deadRedriveSome},
		{"dead letters/die again", needs(dead), deadAgain},
		{"dead letters/wake", needs(dead), deadWakes},
		{"dead letters/from retry", needs(dead), deadFromRetry},
		{"dead letters/drop", needs(dead), deadDropped},
	}
}

// deadList: a dead letter names its subscription and topic, and holds event and exception as they were.
func deadList(s *subject) {
	s.configure(topic("a", "a/1"), topic("b", "b/1"))
	if got := s.dead(event.DeadQuery{}); len(got) != 0 {
		s.Fatalf("a new log lists dead letters: %v", got)
	}
	events := unusual()
	s.append("a", events...)
	s.append("b", plain("of b"))
	a, b := s.subscribe("a/1"), s.subscribe("b/1")
	for i, rec := range byOffset(a.take(len(events))) {
		a.settle(failed(rec, buried(i+1), false))
	}
	b.settle(failed(b.take(1)[0], buried(7), false))
	got := s.dead(event.DeadQuery{})
	if len(got) != len(events)+1 {
		s.Fatalf("%d dead letters are listed, want %d", len(got), len(events)+1)
	}
	for i, d := range got[:len(events)] {
		s.isDead(d, "a", "a/1", i+1)
	}
	s.isDead(got[len(events)], "b", "b/1", 7)
	a.onceEach(letters(got[:len(events)]), events)
	if !slices.IsSortedFunc(got, func(x, y event.DeadLetter) int { return int(x.ID - y.ID) }) {
		s.Error("dead letters are not listed in the order of their ids")
	}
	a.dues(at(1000), event.Exception{}.NextAt)
	a.nothing()
	a.position(event.Offset(len(events)), event.Offset(len(events)))
}

func (s *subject) isDead(d event.DeadLetter, topic, subscription string, attempts int) {
	s.Helper()
	if d.Topic != topic || d.Subscription != subscription || d.ID <= 0 {
		s.Errorf("dead letter %d is of %s in %s, want %s in %s", d.ID, d.Subscription, d.Topic, subscription, topic)
	}
	sameException(s.T, d.Record.Event.ID, d.Exception, buried(attempts))
}

// deadSelect: by ids, by subscriptions, in pages, and all of these together.
func deadSelect(s *subject) {
	s.bury(5)
	all := s.dead(event.DeadQuery{})
	if len(all) != 10 {
		s.Fatalf("%d dead letters are listed, want 10", len(all))
	}
	one := ofSubscription(all, "a/1")
	id := func(i int) int64 { return all[i].ID }
	for name, c := range map[string]struct {
		q    event.DeadQuery
		want []event.DeadLetter
	}{
		"first page":         {event.DeadQuery{Limit: 3}, all[:3]},
		"second page":        {event.DeadQuery{Limit: 3, After: id(2)}, all[3:6]},
		"last page":          {event.DeadQuery{Limit: 3, After: id(8)}, all[9:]},
		"after the last":     {event.DeadQuery{After: id(9)}, nil},
		"ids":                {event.DeadQuery{IDs: []int64{id(7), id(1)}}, []event.DeadLetter{all[1], all[7]}},
		"an unknown id":      {event.DeadQuery{IDs: []int64{id(9) + 1000}}, nil},
		"one subscription":   {event.DeadQuery{Subscriptions: []string{"a/1"}}, one},
		"both subscriptions": {event.DeadQuery{Subscriptions: []string{"a/2", "a/1"}}, all},
		"unknown":            {event.DeadQuery{Subscriptions: []string{"a/3"}}, nil},
		"its second page":    {event.DeadQuery{Subscriptions: []string{"a/1"}, After: one[1].ID, Limit: 2}, one[2:4]},
		"a status":           {event.DeadQuery{Statuses: []int{buried(3).Status}, Limit: 1}, all[:1]},
		"no such status":     {event.DeadQuery{Statuses: []int{999}}, nil},
		"a text":             {event.DeadQuery{Text: buried(3).Error, Limit: 1}, all[:1]},
		"no such text":       {event.DeadQuery{Text: "no such text"}, nil},
		"since":              {event.DeadQuery{Since: all[0].Exception.LastAt}, all},
		"since later":        {event.DeadQuery{Since: all[0].Exception.LastAt.Add(time.Nanosecond)}, nil},
		"until":              {event.DeadQuery{Until: all[0].Exception.LastAt}, nil},
		"until later":        {event.DeadQuery{Until: all[0].Exception.LastAt.Add(time.Nanosecond)}, all},
		"ids of another":     {event.DeadQuery{Subscriptions: []string{"a/2"}, IDs: []int64{one[0].ID}}, nil},
	} {
		if d := cmp.Diff(c.want, s.dead(c.q), cmpopts.EquateEmpty()); d != "" {
			s.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

// bury makes n dead letters of each of two subscriptions.
func (s *subject) bury(n int) (one, two *reader) {
	s.Helper()
	s.configure(topic("a", "a/1", "a/2"))
	s.append("a", numbered("e", n)...)
	one, two = s.subscribe("a/1"), s.subscribe("a/2")
	first, second := byOffset(one.take(n)), byOffset(two.take(n))
	for i := range n {
		one.settle(failed(first[i], buried(3), false))
		two.settle(failed(second[i], buried(4), false))
	}
	return one, two
}

// deadRedrive: it comes back as an exception that is due, with its attempts and nothing counted, and settled it is gone.
func deadRedrive(s *subject) {
	one, two := s.bury(3)
	before := s.dead(event.DeadQuery{Subscriptions: []string{"a/1"}})
	s.redrive(event.DeadQuery{Subscriptions: []string{"a/1"}}, 3)
	s.redrive(event.DeadQuery{Subscriptions: []string{"a/1"}}, 0)
	if got := s.dead(event.DeadQuery{}); len(got) != 3 || got[0].Subscription != "a/2" {
		s.Errorf("after the redrive %d dead letters are listed, want those of a/2", len(got))
	}
	two.dues(tomorrow, event.Exception{}.NextAt)
	got, next := one.due(tomorrow, 10)
	if len(got) != 3 || !next.IsZero() {
		s.Fatalf("%d redriven events came, want 3; the next at %v", len(got), next)
	}
	one.onceEach(records(got), numbered("e", 3))
	for _, g := range got {
		x := g.Exception
		if x.State != event.Retry || x.Reason != event.ReasonRedrive || x.Attempts != 3 || x.Counted != 0 || !x.FirstAt.IsZero() {
			s.Errorf("redriven as %+v", x)
		}
		one.settleLazily(event.Outcome{Offset: g.Record.Offset, Row: true})
	}
	one.flush()
	one.hasRows()
	one.nothing()
	one.dues(tomorrow, event.Exception{}.NextAt)
	one.position(3, 3)
	for _, d := range before {
		if left := s.dead(event.DeadQuery{IDs: []int64{d.ID}}); len(left) != 0 {
			s.Errorf("dead letter %d is still listed", d.ID)
		}
	}
}

func deadRedriveSome(s *subject) {
	one, two := s.bury(5)
	all := s.dead(event.DeadQuery{})
	mine := ofSubscription(all, "a/1")
	s.redrive(event.DeadQuery{IDs: []int64{mine[1].ID, mine[3].ID}}, 2)
	got, _ := one.due(tomorrow, 10)
	one.onceEach(records(got), []event.Event{mine[1].Record.Event, mine[3].Record.Event})
	s.redrive(event.DeadQuery{Subscriptions: []string{"a/2"}, Limit: 2}, 2)
	got, _ = two.due(tomorrow, 10)
	two.onceEach(records(got), numbered("e", 2))
	s.redrive(event.DeadQuery{}, 6)
	if left := s.dead(event.DeadQuery{}); len(left) != 0 {
		s.Errorf("%d dead letters are left", len(left))
	}
}

// deadAgain: a redriven event may die again, and is then listed with its new exception.
func deadAgain(s *subject) {
	one, _ := s.bury(1)
	s.redrive(event.DeadQuery{Subscriptions: []string{"a/1"}}, 1)
	got, _ := one.due(tomorrow, 10)
	if len(got) != 1 {
		s.Fatalf("%d redriven events came, want 1", len(got))
	}
	one.settle(failed(got[0].Record, buried(9), true))
	list := s.dead(event.DeadQuery{Subscriptions: []string{"a/1"}})
	if len(list) != 1 {
		s.Fatalf("%d dead letters are listed, want 1", len(list))
	}
	s.isDead(list[0], "a", "a/1", 9)
	one.dues(tomorrow, event.Exception{}.NextAt)
}

func deadWakes(s *subject) {
	one, _ := s.bury(1)
	one.calm()
	s.redrive(event.DeadQuery{}, 2)
	one.await("after a redrive")
	for {
		if got, _ := one.due(tomorrow, 10); len(got) == 1 {
			return
		}
		one.await("although a redriven event waits")
	}
}

// deadFromRetry: a row that waited becomes a dead letter, and stops waiting.
func deadFromRetry(s *subject) {
	r, recs := s.oneReader(2)
	r.settle(failed(recs[0], waiting(at(1)), false), failed(recs[1], waiting(at(2)), false))
	r.dues(at(1), at(2), recs[0])
	r.settle(failed(recs[0], buried(4), true))
	r.dues(at(1), at(2))
	r.hasRows(recs[0], recs[1])
	list := s.dead(event.DeadQuery{})
	if len(list) != 1 || list[0].Record.Offset != recs[0].Offset {
		s.Errorf("dead letters are %v", list)
	}
}

// deadDropped: a dead letter may be settled as it is, or get another exception; it is never listed twice.
func deadDropped(s *subject) {
	r, recs := s.oneReader(3)
	for _, rec := range recs {
		r.settleLazily(failed(rec, buried(1), false))
	}
	r.settle(
		event.Outcome{Offset: recs[0].Offset, Row: true}, failed(recs[1], buried(2), true), failed(recs[2], waiting(at(1)), true),
	)
	list := s.dead(event.DeadQuery{})
	if len(list) != 1 {
		s.Fatalf("%d dead letters are listed, want 1", len(list))
	}
	s.isDead(list[0], "a", "a/1", 2)
	r.hasRows(recs[1], recs[2])
	r.dues(at(1), event.Exception{}.NextAt, recs[2])
	r.nothing()
	r.position(3, 3)
}

func letters(list []event.DeadLetter) []event.Record {
	out := make([]event.Record, len(list))
	for i := range list {
		out[i] = list[i].Record
	}
	return out
}

func ofSubscription(list []event.DeadLetter, name string) []event.DeadLetter {
	return slices.DeleteFunc(slices.Clone(list), func(d event.DeadLetter) bool { return d.Subscription != name })
}
