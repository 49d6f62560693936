package routertest

import (
	"fmt"
	"time"

	"github.com/millrace-run/millrace/event"
)

func reading() []testCase {
	return []testCase{
		{"read/each once", nil, readOnce},
		{"read/in order", needs(ordered), readInOrder},
		{"read/shared offsets", needs(shared), readSharedOffsets},
		{"read/up to", needs(shared, ordered), readUpTo},
		{"read/at most", nil, readAtMost},
		{"read/a MiB at a time", nil, readBounded},
		{"read/wake", nil, readWake},
		{"read/unknown subscription", nil, readUnknown},
		{"read/subscribe again", nil, readAgain},
	}
}

// readOnce: every subscription gets each event once, whenever it begins to read.
func readOnce(s *subject) {
	s.configure(topic("a", "a/1", "a/2", "a/3"))
	early := s.subscribe("a/1")
	var want []event.Event
	for i := range 20 {
		events := numbered(fmt.Sprint("part ", i), 1+i%4)
		want = append(want, events...)
		s.append("a", events...)
	}
	for _, r := range []*reader{early, s.subscribe("a/2"), s.subscribe("a/3")} {
		recs := r.take(len(want))
		r.onceEach(recs, want)
		r.nothing()
		r.settle(settled(recs...)...)
		r.nothing()
	}
}

func readInOrder(s *subject) {
	s.configure(topic("a", "a/1", "a/2"))
	events := numbered("e", 300)
	for i := 0; i < len(events); i += 3 {
		s.append("a", events[i:i+3]...)
	}
	for _, name := range []string{"a/1", "a/2"} {
		last := event.Offset(0)
		for i, rec := range s.subscribe(name).take(len(events)) {
			if rec.Event.ID != events[i].ID || rec.Offset <= last {
				s.Fatalf("%s: record %d is %s at offset %d after offset %d, want %s", name, i, rec.Event.ID, rec.Offset, last, events[i].ID)
			}
			last = rec.Offset
		}
	}
}

// readSharedOffsets: an event has the offset that its commit returned, for everybody.
func readSharedOffsets(s *subject) {
	s.configure(topic("a", "a/1", "a/2"))
	want := map[string]event.Offset{}
	for i := range 30 {
		events := numbered(fmt.Sprint("part ", i), 1+i%3)
		first := s.append("a", events...)
		for j, e := range events {
			want[e.ID] = first + event.Offset(j)
		}
	}
	for _, name := range []string{"a/1", "a/2"} {
		for _, rec := range s.subscribe(name).take(len(want)) {
			if rec.Offset != want[rec.Event.ID] {
				s.Errorf("%s: event %s has offset %d, its commit said %d", name, rec.Event.ID, rec.Offset, want[rec.Event.ID])
			}
		}
	}
}

// readUpTo: nothing beyond upTo, and what was beyond it comes later.
func readUpTo(s *subject) {
	s.configure(topic("a", "a/1"))
	s.append("a", numbered("e", 10)...)
	r := s.subscribe("a/1")
	for _, c := range []struct {
		upTo event.Offset
		want []string
	}{
		{0, nil},
		{3, []string{"e-00000", "e-00001", "e-00002"}},
		{3, nil},
		{2, nil},
		{4, []string{"e-00003"}},
		{10, []string{"e-00004", "e-00005", "e-00006", "e-00007", "e-00008", "e-00009"}},
		{everything, nil},
	} {
		var got []event.Record
		for recs := r.next(c.upTo, 100); len(recs) > 0; recs = r.next(c.upTo, 100) {
			got = append(got, recs...)
		}
		sameIDs(s.T, got, c.want...)
	}
}

// readAtMost: never more than max, and the rest afterwards. reader.next looks at the number.
func readAtMost(s *subject) {
	s.configure(topic("a", "a/1"))
	events := numbered("e", 100)
	s.append("a", events...)
	r := s.subscribe("a/1")
	var got []event.Record
	for _, limit := range []int{1, 2, 3, 5, 8} {
		for n := 0; n == 0; {
			recs := r.next(everything, limit)
			n = len(recs)
			got = append(got, recs...)
			if n == 0 {
				r.await("although events wait")
			}
		}
	}
	got = append(got, r.take(len(events)-len(got))...)
	r.onceEach(got, events)
}

// readBounded: about 1 MiB at a time; an event larger than that comes alone.
func readBounded(s *subject) {
	s.configure(topic("a", "a/1"))
	var events []event.Event
	for i := range 12 {
		events = append(events, large(fmt.Sprintf("quarter-%02d", i), 256<<10))
	}
	events = append(events, large("larger", 3<<20), plain("last"))
	s.append("a", events...)
	r := s.subscribe("a/1")
	var got []event.Record
	for len(got) < len(events) {
		recs := r.next(everything, 100)
		if len(recs) == 0 {
			r.await("although events wait")
		}
		size := 0
		for _, rec := range recs {
			size += len(rec.Event.Data)
		}
		if size > 1<<20+256<<10 && len(recs) > 1 {
			s.Errorf("next returned %d records of %d bytes at once", len(recs), size)
		}
		got = append(got, recs...)
	}
	r.onceEach(got, events)
}

// readWake: a reader that found nothing is told when there is something.
func readWake(s *subject) {
	s.configure(topic("a", "a/1"), topic("b", "b/1"))
	r := s.subscribe("a/1")
	for i := range 3 {
		r.nothing()
		r.calm()
		s.append("a", plain(fmt.Sprint("e-", i)))
		r.await("after an append")
		r.settle(settled(r.take(1)...)...)
	}
}

func readUnknown(s *subject) {
	s.configure(topic("a", "a/1"))
	if _, err := s.log.Subscribe("a/2"); err == nil {
		s.Error("subscribe to a subscription that Configure did not name succeeded")
	}
}

// readAgain: a second reader, as after a reload, is handed what the first one did not settle.
func readAgain(s *subject) {
	r, recs := s.oneReader(6)
	r.settle(settled(recs[0], recs[2])...)
	r.settle(failed(recs[3], waiting(at(1)), false))
	r.dues(at(1), time.Time{}, recs[3])
	r.nothing()
	r = s.subscribe("a/1")
	r.onceEach(r.take(3), eventsOf(recs[1], recs[4], recs[5]))
	r.nothing()
	r.dues(at(1), time.Time{}, recs[3])
}
