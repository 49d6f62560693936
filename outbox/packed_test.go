package outbox

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/millrace-run/millrace/event"
)

// Packed events are those that were given, in segments of the form that a commit writes.
func TestPack(t *testing.T) {
	b := opened(t, Options{})
	rapid.Check(t, func(t *rapid.T) {
		var want []event.Record
		for i := range rapid.IntRange(1, 20).Draw(t, "n") {
			want = append(want, event.Record{Offset: 7 + event.Offset(i), Event: drawEvent(t)})
		}
		packed, err := b.Pack(len(want), func(i int, e *event.Event) { *e = want[i].Event })
		if err != nil || len(packed) != 1 {
			t.Fatal(err, len(packed))
		}
		got, err := decodeSegment(packed[0].Body, 7, packed[0].Count)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Fatal(err, diff)
		}
	})
}

// lines packs n events from a number on, of some bytes each.
func lines(t *testing.T, b *Outbox, from, n, size int) []event.Packed {
	t.Helper()
	packed, err := b.Pack(n, func(i int, e *event.Event) {
		*e = event.Event{ID: fmt.Sprint(from + i), Source: "/a", Type: "t", Data: make([]byte, size)}
	})
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

// putLines commits the first n of them.
func putLines(t *testing.T, b *Outbox, n int) {
	t.Helper()
	c := event.Commit{Appends: []event.Append{{Topic: "t", Packed: lines(t, b, 1, n, 1)}}}
	if _, err := b.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

// TestPackedAppends mixes packed events with others, in one commit too, and reads them from memory, in any steps, from disk, by id
// and after a start.
func TestPackedAppends(t *testing.T) {
	o := Options{Path: t.TempDir() + "/o.db"}
	b := opened(t, o)
	early := subscribed(t, b, "t/lazy")
	early.Reuse()
	put(t, b, "1")
	ordinary := event.Append{Topic: "t", Events: []event.Event{{ID: "5002"}, {ID: "5003"}}}
	got, err := b.Commit(t.Context(), event.Commit{Appends: []event.Append{
		{Topic: "t", Packed: lines(t, b, 2, 5000, 10)}, ordinary, {Topic: "t", Packed: lines(t, b, 5004, 10, 200<<10)},
	}})
	if err != nil || got[0].First != 2 || got[1].First != 5002 || got[2].First != 5004 {
		t.Fatal(got, err)
	}
	demand := func(s *subscription, from, most int) {
		t.Helper()
		for n := from; n <= 5013; {
			records, err := s.Next(t.Context(), 1<<40, most)
			if err != nil || len(records) == 0 || len(records) > most {
				t.Fatal(n, len(records), err)
			}
			for _, r := range records {
				if r.Offset != event.Offset(n) || r.Event.ID != fmt.Sprint(n) {
					t.Fatalf("%d is %q, want %d", r.Offset, r.Event.ID, n)
				}
				n++
			}
		}
	}
	demand(early, 1, 300)
	demand(subscribed(t, b, "t/lazy"), 1, 7)
	for _, id := range []string{"2", "4097", "4098", "5001", "5002", "5013"} {
		found, err := b.Find(t.Context(), id, 2)
		if err != nil || len(found) != 1 || fmt.Sprint(found[0].Record.Offset) != id {
			t.Errorf("find %s: %v, %v", id, found, err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = opened(t, o)
	demand(subscribed(t, b, "t/lazy"), 1, 300)
}

// TestSkip goes on behind what a reader has from elsewhere, and settles that by few outcomes.
func TestSkip(t *testing.T) {
	b := opened(t, Options{})
	s := subscribed(t, b, "t/lazy")
	putLines(t, b, 10_000)
	if s.Skip(10_001) {
		t.Error("it went beyond the end")
	}
	next := func(want event.Offset) {
		t.Helper()
		if records, err := s.Next(t.Context(), 1<<40, 5); err != nil || len(records) == 0 || records[0].Offset != want {
			t.Fatalf("%v, %v, want %d", records, err, want)
		}
	}
	next(1)
	if !s.Skip(9000) || !s.Skip(3) {
		t.Error("it did not go")
	}
	next(9001)
	settle(t, b, "t/lazy", event.Outcome{Offset: 1, Through: 9000}, event.Outcome{Offset: 9003, Through: 9100})
	if at, _ := s.Position(); at != 9000 {
		t.Errorf("the cursor is at %d", at)
	}
	settle(t, b, "t/lazy", event.Outcome{Offset: 9001}, event.Outcome{Offset: 9002})
	if at, _ := s.Position(); at != 9100 {
		t.Errorf("the cursor is at %d", at)
	}
	beyond := event.Settle{Subscription: "t/lazy", Outcomes: []event.Outcome{{Offset: 9990, Through: 10_001}}}
	if _, err := b.Commit(t.Context(), event.Commit{Settles: []event.Settle{beyond}}); err == nil {
		t.Error("what is still to come was settled")
	}
	next(9101)
}

// The reader of a subscription that does not lend keeps what it was given.
func TestUnpackedRecordsStay(t *testing.T) {
	b := opened(t, Options{})
	s := subscribed(t, b, "t/lazy")
	putLines(t, b, 600)
	var all [][]event.Record
	for range 3 {
		records, err := s.Next(t.Context(), 1<<40, 200)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, records)
	}
	for i, r := range slices.Concat(all...) {
		if r.Offset != event.Offset(i+1) {
			t.Fatalf("%d is %d", i+1, r.Offset)
		}
	}
}
