package routertest

import (
	"time"

	"github.com/millrace-run/millrace/event"
)

func restarting() []testCase {
	return []testCase{
		{"restart/events", needs(reopening), restartEvents},
		{"restart/settled", needs(reopening), restartSettled},
		{"restart/exceptions", needs(reopening), restartExceptions},
		{"restart/dead letters", needs(reopening, dead), restartDead},
		{"restart/state", needs(reopening, stateful), restartState},
		{"restart/removed subscription", needs(reopening, shared), restartAway},
		{"restart/offsets go on", needs(reopening, shared), restartOffsets},
	}
}

// restartEvents: what was accepted comes back byte for byte, whether it was read before or not.
func restartEvents(s *subject) {
	layout := topic("a", "a/1", "a/2")
	s.configure(layout)
	events := append(unusual(), large("large", 2<<20))
	s.append("a", events...)
	s.subscribe("a/1").take(3)
	for range 2 {
		s.reopen(layout)
		for _, name := range []string{"a/1", "a/2"} {
			r := s.subscribe(name)
			r.onceEach(r.take(len(events)), events)
			r.nothing()
		}
	}
}

// restartSettled: settled events do not come again, those ahead of the cursor included.
func restartSettled(s *subject) {
	layout := topic("a", "a/1", "a/2")
	s.configure(layout)
	s.append("a", numbered("e", 10)...)
	one, two := s.subscribe("a/1"), s.subscribe("a/2")
	recs := byOffset(one.take(10))
	one.settle(settled(recs[0], recs[1], recs[4], recs[9])...)
	two.settleLazily(settled(two.take(10)...)...) // close commits it
	s.reopen(layout)

	one, two = s.subscribe("a/1"), s.subscribe("a/2")
	left := byOffset(one.take(6))
	one.onceEach(left, eventsOf(recs[2], recs[3], recs[5], recs[6], recs[7], recs[8]))
	one.nothing()
	one.position(2, 10)
	two.nothing()
	two.position(10, 10)
	one.settle(settled(left[0], left[1])...)
	one.position(5, 10)
	s.reopen(layout)
	one = s.subscribe("a/1")
	one.onceEach(one.take(4), eventsOf(recs[5:9]...))
}

// restartExceptions: an event with a row comes by its row, also when it was handed out before; its exception is as it was.
func restartExceptions(s *subject) {
	layout := topic("a", "a/1")
	r, recs := s.oneReader(5)
	x := waiting(at(10))
	r.settle(failed(recs[0], x, false), failed(recs[2], waiting(at(20)), false), event.Outcome{Offset: recs[1].Offset})
	r.dues(at(10), at(20), recs[0])
	s.reopen(layout)

	r = s.subscribe("a/1")
	r.onceEach(r.take(2), eventsOf(recs[3], recs[4]))
	r.nothing()
	r.position(3, 5)
	r.hasRows(recs[0], recs[2])
	r.dues(at(9), at(10))
	got, next := r.due(at(10), 10)
	if len(got) != 1 || !next.Equal(at(20)) {
		s.Fatalf("%d exceptions are due, want 1; the next at %v", len(got), next)
	}
	sameException(s.T, "the first", got[0].Exception, x)
	sameEvent(s.T, got[0].Record.Event, recs[0].Event)
	r.settle(event.Outcome{Offset: recs[0].Offset, Row: true})
	s.reopen(layout)
	r = s.subscribe("a/1")
	r.dues(at(10), at(20))
	r.dues(at(20), time.Time{}, recs[2])
}

func restartDead(s *subject) {
	layout := topic("a", "a/1", "a/2")
	s.bury(3)
	before := s.dead(event.DeadQuery{})
	s.redrive(event.DeadQuery{IDs: []int64{before[0].ID}}, 1)
	s.reopen(layout)
	list := s.dead(event.DeadQuery{})
	if len(list) != 5 {
		s.Fatalf("%d dead letters survived, want 5", len(list))
	}
	for i, d := range list {
		if d.ID != before[i+1].ID || d.Subscription != before[i+1].Subscription {
			s.Errorf("dead letter %d of %s survived as %d of %s", before[i+1].ID, before[i+1].Subscription, d.ID, d.Subscription)
		}
		sameException(s.T, d.Record.Event.ID, d.Exception, before[i+1].Exception)
		sameEvent(s.T, d.Record.Event, before[i+1].Record.Event)
	}
	r := s.subscribe(before[0].Subscription)
	r.nothing()
	got, _ := r.due(tomorrow, 10)
	r.onceEach(records(got), []event.Event{before[0].Record.Event})
}

func restartState(s *subject) {
	s.configure(topic("a", "a/1"))
	s.remember("o", event.Changes{"kept": []byte("1"), "deleted": []byte("2"), "changed": []byte("3")})
	s.remember("o", event.Changes{"deleted": nil, "changed": []byte("4")})
	s.reopen(topic("a", "a/1"))
	s.hasState("o", map[string][]byte{"kept": []byte("1"), "changed": []byte("4")})
}

// restartAway: what a removed subscription is owed does not depend on when the process runs.
func restartAway(s *subject) {
	s.configure(topic("a", "a/1", "a/2"))
	s.append("a", numbered("before", 3)...)
	s.reopen(topic("a", "a/2"))
	s.append("a", numbered("between", 2)...)
	s.reopen(topic("a", "a/2"))
	s.append("a", numbered("more", 2)...)
	s.reopen(topic("a", "a/1", "a/2"))
	s.append("a", numbered("after", 1)...)
	s.reopen(topic("a", "a/1", "a/2"))
	r := s.subscribe("a/1")
	recs := r.take(4)
	r.onceEach(recs, append(numbered("before", 3), numbered("after", 1)...))
	r.nothing()
	r.settle(settled(recs...)...)
	r.position(8, 8)
}

func restartOffsets(s *subject) {
	s.configure(topic("a", "a/1"))
	s.append("a", numbered("e", 3)...)
	s.reopen(topic("a", "a/1"))
	if first := s.append("a", plain("later")); first != 4 {
		s.Errorf("the fourth event has offset %d", first)
	}
	r := s.subscribe("a/1")
	r.onceEach(r.take(4), append(numbered("e", 3), plain("later")))
	r.position(0, 4)
}

func eventsOf(recs ...event.Record) []event.Event {
	out := make([]event.Event, len(recs))
	for i, r := range recs {
		out[i] = r.Event
	}
	return out
}
