package routertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/millrace-run/millrace/event"
)

func appending() []testCase {
	return []testCase{
		{"append/offsets", nil, appendReturnsOffsets},
		{"append/sizes", nil, appendSizes},
		{"append/verbatim", nil, appendVerbatim},
		{"append/large data", nil, appendLarge},
		{"append/topics do not mix", nil, appendTwoTopics},
		{"append/concurrent", nil, appendConcurrently},
		{"append/canceled", nil, appendCanceled},
		{"append/deadline while waiting", nil, appendUnderDeadline},
	}
}

// appendReturnsOffsets: the first offset of each append, without holes, from 1 on.
func appendReturnsOffsets(s *subject) {
	s.configure(topic("a", "a/1"), topic("b", "b/1"))
	want := event.Offset(1)
	for _, n := range []int{1, 2, 7, 1, 100} {
		if first := s.append("a", numbered(fmt.Sprint(n), n)...); first != want {
			s.Fatalf("append of %d events returned %d, want %d", n, first, want)
		}
		want += event.Offset(n)
	}
	first := s.commit(event.Commit{Appends: []event.Append{
		{Topic: "a", Events: numbered("x", 3)}, {Topic: "b", Events: numbered("y", 2)}, {Topic: "a", Events: numbered("z", 1)},
	}})
	if first[0].First != want || first[1].First != 1 || first[2].First != want+3 {
		s.Errorf("three appends in one commit returned %v, want [%d 1 %d]", first, want, want+3)
	}
}

func appendSizes(s *subject) {
	s.configure(topic("a", "a/1"))
	r := s.subscribe("a/1")
	for _, n := range []int{1, 4096, 10000} {
		events := numbered(fmt.Sprint("batch of ", n), n)
		s.append("a", events...)
		recs := r.take(n)
		r.onceEach(recs, events)
		for len(recs) > 0 { // a reader may not settle more than a window at once
			part := min(len(recs), event.Window)
			r.settle(settled(recs[:part]...)...)
			recs = recs[part:]
		}
		r.nothing()
	}
}

// appendVerbatim: what was accepted comes back byte for byte.
func appendVerbatim(s *subject) {
	s.configure(topic("a", "a/1", "a/2"))
	events := unusual()
	readers := []*reader{s.subscribe("a/1"), s.subscribe("a/2")}
	s.append("a", events...)
	for _, e := range events { // and alone in its commit
		e.ID = "alone: " + e.ID
		events = append(events, e)
		s.append("a", e)
	}
	for _, r := range readers {
		r.onceEach(r.take(len(events)), events)
	}
}

func appendLarge(s *subject) {
	s.configure(topic("a", "a/1"))
	r := s.subscribe("a/1")
	events := []event.Event{
		plain("before"), large("1 MiB", 1<<20), large("1 MiB and one", 1<<20+1), large("5 MiB", 5<<20), plain("after"),
	}
	s.append("a", events...)
	r.onceEach(r.take(len(events)), events)
}

func appendTwoTopics(s *subject) {
	s.configure(topic("a", "a/1"), topic("b", "b/1"))
	a, b := numbered("a", 20), numbered("b", 30)
	for i := range 10 {
		s.commit(event.Commit{Appends: []event.Append{
			{Topic: "a", Events: a[2*i : 2*i+2]}, {Topic: "b", Events: b[3*i : 3*i+3]},
		}})
	}
	for name, events := range map[string][]event.Event{"a/1": a, "b/1": b} {
		r := s.subscribe(name)
		r.onceEach(r.take(len(events)), events)
		r.nothing()
	}
}

// appendConcurrently: sixteen at once lose nothing, double nothing and get offsets of their own, while others read and settle.
func appendConcurrently(s *subject) {
	const appenders, commits, batch = 16, 25, 4
	s.configure(topic("a", "a/1", "a/2"))
	readers := []*reader{s.subscribe("a/1"), s.subscribe("a/2")}
	var want []event.Event
	var mu sync.Mutex // guards seen
	seen := map[event.Offset]bool{}
	var wg sync.WaitGroup
	for i := range appenders {
		events := numbered(fmt.Sprint("appender ", i), commits*batch)
		want = append(want, events...)
		wg.Go(func() {
			for j := range commits {
				first, err := s.log.Commit(s.Context(), event.Commit{Appends: []event.Append{{Topic: "a", Events: events[j*batch:][:batch]}}})
				if err != nil {
					s.Errorf("commit: %v", err)
					return
				}
				mu.Lock()
				for k := range batch {
					seen[first[0].First+event.Offset(k)] = true
				}
				mu.Unlock()
			}
		})
	}
	got := make([][]event.Record, len(readers))
	for i, r := range readers {
		wg.Go(func() { got[i] = r.drain(len(want)) })
	}
	wg.Wait()
	for i, r := range readers {
		r.onceEach(got[i], want)
		r.nothing()
		r.flush()
		r.position(event.Offset(len(want)), event.Offset(len(want)))
	}
	if len(seen) != len(want) || !seen[1] || !seen[event.Offset(len(want))] {
		s.Errorf("%d events got %d offsets, want 1 to %d", len(want), len(seen), len(want))
	}
}

// drain takes and settles n records, each piece in a goroutine of its own as deliveries do. It may run beside the test's goroutine.
func (r *reader) drain(n int) []event.Record {
	var got []event.Record
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	for len(got) < n {
		recs, err := r.sub.Next(ctx, everything, 10)
		if err != nil {
			r.Errorf("%s: next after %d of %d: %v", r.name, len(got), n, err)
			return got
		}
		if len(recs) == 0 {
			select {
			case <-r.sub.Wake():
			case <-ctx.Done():
				r.Errorf("%s: no signal after %d of %d records", r.name, len(got), n)
				return got
			}
			continue
		}
		got = append(got, recs...)
		wg.Go(func() {
			if err := r.sub.Settle(r.Context(), settled(recs...)); err != nil {
				r.Errorf("%s: settle: %v", r.name, err)
			}
		})
	}
	return got
}

// onceEach fails the test when the records are not these events, each once and unchanged, in any order.
func (r *reader) onceEach(got []event.Record, want []event.Event) {
	r.Helper()
	byID := map[string]event.Record{}
	offsets := map[event.Offset]bool{}
	for _, rec := range got {
		if _, twice := byID[rec.Event.ID]; twice {
			r.Errorf("%s: event %s came twice", r.name, rec.Event.ID)
		}
		if offsets[rec.Offset] {
			r.Errorf("%s: offset %d came twice", r.name, rec.Offset)
		}
		byID[rec.Event.ID], offsets[rec.Offset] = rec, true
	}
	for _, e := range want {
		rec, ok := byID[e.ID]
		if !ok {
			r.Errorf("%s: event %s did not come", r.name, e.ID)
			continue
		}
		sameEvent(r.T, rec.Event, e)
	}
	if len(got) != len(want) {
		r.Errorf("%s: got %d records, want %d", r.name, len(got), len(want))
	}
}

// appendCanceled: a caller that went away before the writer took its commit gets an error, and nothing is stored.
func appendCanceled(s *subject) {
	s.configure(topic("a", "a/1"))
	ctx, cancel := context.WithCancelCause(s.Context())
	gone := errors.New("the client went away")
	cancel(gone)
	for range 50 {
		_, err := s.log.Commit(ctx, event.Commit{Appends: []event.Append{{Topic: "a", Events: numbered("canceled", 1)}}})
		if !errors.Is(err, event.ErrBusy) && !errors.Is(err, gone) && !errors.Is(err, context.Canceled) {
			s.Fatalf("commit with a canceled context returned %v; want ErrBusy or the cause", err)
		}
	}
	s.append("a", plain("kept"))
	r := s.subscribe("a/1")
	sameIDs(s.T, r.take(1), "kept")
	r.nothing()
}

// appendUnderDeadline: whatever a commit whose context ends at some moment answers is the truth.
func appendUnderDeadline(s *subject) {
	s.configure(topic("a", "a/1"))
	var want []event.Event
	for i := range 40 {
		ctx, cancel := context.WithTimeout(s.Context(), time.Duration(i*i)*time.Microsecond)
		e := plain(fmt.Sprintf("e-%02d", i))
		if _, err := s.log.Commit(ctx, event.Commit{Appends: []event.Append{{Topic: "a", Events: []event.Event{e}}}}); err == nil {
			want = append(want, e)
		}
		cancel()
	}
	last := plain("last")
	s.append("a", last)
	want = append(want, last)
	r := s.subscribe("a/1")
	r.onceEach(r.take(len(want)), want)
	r.nothing()
}
