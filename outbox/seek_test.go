package outbox

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-run/millrace/event"
)

func seek(t *testing.T, b *Outbox, to event.Start) event.Sought {
	t.Helper()
	got, err := b.Seek(t.Context(), event.Seek{Subscriptions: []string{"t/eager"}, To: to})
	if err != nil {
		t.Fatal(err)
	}
	sameOnDisk(t, b)
	return got[0]
}

// fresh is which offsets Next hands out.
func fresh(t *testing.T, s *subscription) string {
	t.Helper()
	var offsets []event.Offset
	for {
		records, err := s.Next(t.Context(), 1<<40, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(records) == 0 {
			return fmt.Sprint(offsets)
		}
		for _, r := range records {
			offsets = append(offsets, r.Offset)
		}
	}
}

func dying(offsets ...event.Offset) (all []event.Outcome) {
	for _, o := range offsets {
		all = append(all, event.Outcome{Offset: o, Exception: &event.Exception{State: event.Dead, Reason: event.ReasonPermanent}})
	}
	return all
}

// TestSeekPassesDeadLetters: dead letters far beyond a window behind the new cursor stay, also over a restart, are redriven and dropped as
// ever, and the cursor comes over all of them.
func TestSeekPassesDeadLetters(t *testing.T) {
	o := Options{Path: filepath.Join(t.TempDir(), "outbox.db")}
	b := opened(t, o)
	const n = 3 * event.Window
	events := make([]event.Event, n)
	for i := range events {
		events[i] = event.Event{ID: fmt.Sprint(i + 1), Source: "/a", Type: "t"}
	}
	if _, err := b.Commit(t.Context(), appending(events...)); err != nil {
		t.Fatal(err)
	}
	dead := []event.Offset{1, 2, 3, 4000, n - 7, n - 6, n - 5}
	var outcomes []event.Outcome
	for at := event.Offset(1); at <= n; at++ {
		if slices.Contains(dead, at) {
			outcomes = append(outcomes, dying(at)...)
		} else {
			outcomes = append(outcomes, event.Outcome{Offset: at})
		}
	}
	settle(t, b, "t/eager", outcomes...)
	if k := seek(t, b, event.Start{Offset: 2}); k.Dead != 6 || k.Again != n-1-6 || k.Next != 2 {
		t.Errorf("%+v", k)
	}
	if _, err := b.Redrive(t.Context(), event.DeadQuery{IDs: []int64{5}}); err != nil {
		t.Fatal(err)
	}
	s := subscribed(t, b, "t/eager")
	if got := due(t, s); got != fmt.Sprint([]event.Offset{n - 7}) {
		t.Errorf("redriven: %s", got)
	}
	settle(t, b, "t/eager", event.Outcome{Offset: n - 7, Row: true}) // far ahead of the window
	if _, err := b.Drop(t.Context(), event.DeadQuery{IDs: []int64{6}}); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = opened(t, o)
	s = subscribed(t, b, "t/eager")
	if x, err := b.Standings(t.Context(), "t", 4000); err != nil || x[0].State != event.StandsDead {
		t.Errorf("%+v, %v", x, err)
	}
	got := 0
	for {
		records, err := s.Next(t.Context(), n, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(records) == 0 {
			break
		}
		outcomes = nil
		for _, r := range records {
			if got++; slices.Contains(dead, r.Offset) {
				t.Errorf("%d comes again", r.Offset)
			}
			outcomes = append(outcomes, event.Outcome{Offset: r.Offset})
		}
		settle(t, b, "t/eager", outcomes...)
	}
	if at, head := s.Position(); got != n-7 || at != head {
		t.Errorf("%d events, cursor %d of %d", got, at, head)
	}
	sameOnDisk(t, b)
}

// TestSeekKeepsWhatWasMended: a row that was edited, or came from another sink, is not undone by a seek, and comes once.
func TestSeekKeepsWhatWasMended(t *testing.T) {
	o := Options{Path: filepath.Join(t.TempDir(), "outbox.db")}
	b := opened(t, o)
	put(t, b, "1", "2", "3")
	settle(t, b, "t/eager", event.Outcome{Offset: 1}, retrying(2, false), retrying(3, false))
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	change(t, o.Path, "UPDATE deliveries SET origin = 't/lazy' WHERE offset = 2")
	b = opened(t, o)
	s := subscribed(t, b, "t/eager")
	seek(t, b, event.Start{Beginning: true})
	if at, rows := fresh(t, s), due(t, s); at+rows != "[1 3][2]" {
		t.Errorf("new %s, due %s", at, rows)
	}
}

// TestSeekWithinTheWindow: a short way on keeps what is settled there.
func TestSeekWithinTheWindow(t *testing.T) {
	b := opened(t, Options{})
	put(t, b, "1", "2", "3", "4", "5", "6", "7")
	settle(t, b, "t/eager", event.Outcome{Offset: 2}, event.Outcome{Offset: 5}, retrying(6, false))
	s := subscribed(t, b, "t/eager")
	if k := seek(t, b, event.Start{Offset: 4}); k.Skipped != 2 || k.Again != 0 || k.Waiting != 1 {
		t.Errorf("%+v", k)
	}
	if got := fresh(t, s); got != "[4 6 7]" {
		t.Error(got)
	}
	if got := due(t, s); got != "[]" {
		t.Error(got)
	}
}

// TestSeekForgetsOutcomes: what a reader settled lazily before counts, and nothing of it is left over for what comes again.
func TestSeekForgetsOutcomes(t *testing.T) {
	b := opened(t, Options{})
	put(t, b, "1", "2", "3")
	s := subscribed(t, b, "t/eager")
	fresh(t, s)
	if err := s.Settle(t.Context(), []event.Outcome{{Offset: 1}, {Offset: 2}, {Offset: 3}}); err != nil {
		t.Fatal(err)
	}
	if k := seek(t, b, event.Start{Beginning: true}); k.Cursor != 3 || k.Again != 3 {
		t.Errorf("%+v", k)
	}
	put(t, b, "4")
	if got := fresh(t, s); got != "[1 2 3 4]" {
		t.Error(got)
	}
}

// TestSeekGone: what retention has taken is counted, by place and by time, and a preview says the same and changes nothing.
func TestSeekGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := keeping(t, Options{Retention: Retention{Age: time.Hour}})
		var times []time.Time
		for range 4 {
			times = append(times, time.Now())
			receive(t, b, "t", 10, 2)
			pass(20 * time.Minute)
		}
		settle(t, b, "t/eager", all(1, 8)...)
		settle(t, b, "t/lazy", all(1, 8)...)
		pass(time.Minute)
		purgedTo(t, b, "t", 4)
		for _, c := range []struct {
			to   event.Start
			next event.Offset
			gone int64
		}{
			{event.Start{Beginning: true}, 5, 4}, {event.Start{Offset: 3}, 5, 2}, {event.Start{Offset: 6}, 6, 0}, {event.Start{Offset: 9}, 9, 0},
			{event.Start{}, 9, 0}, {event.Start{Time: times[0]}, 5, 4}, {event.Start{Time: times[3]}, 7, 0},
			{event.Start{Time: times[3].Add(time.Second)}, 9, 0}, {event.Start{Time: time.Now().Add(time.Hour)}, 9, 0},
		} {
			preview, err := b.Seek(t.Context(), event.Seek{Subscriptions: []string{"t/eager"}, To: c.to, Preview: true})
			if err != nil || preview[0].Next != c.next || preview[0].Gone != c.gone || (c.gone > 0) != preview[0].Oldest.Equal(times[2]) {
				t.Errorf("%+v: %+v, %v", c.to, preview, err)
			}
		}
		if at, _ := b.subscription("t/eager").Position(); at != 8 {
			t.Errorf("the previews moved it to %d", at)
		}
		if k := seek(t, b, event.Start{Beginning: true}); k.Next != 5 {
			t.Errorf("%+v", k)
		}
		pass(24 * time.Hour)
		purgedTo(t, b, "t", 4) // what comes again is needed again
		for _, to := range []event.Start{{Offset: 10}, {Offset: -1}} {
			if _, err := b.Seek(t.Context(), event.Seek{Subscriptions: []string{"t/eager"}, To: to}); !errors.Is(err, event.ErrNoPlace) {
				t.Errorf("%+v: %v", to, err)
			}
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestSeekFails: at whichever statement a seek ends, the next process finds all of it or nothing.
func TestSeekFails(t *testing.T) {
	for n := int64(1); ; n++ {
		var f faults
		o := Options{Path: filepath.Join(t.TempDir(), "outbox.db"), fault: f.hook}
		b := opened(t, o)
		put(t, b, "1", "2", "3", "4")
		settle(t, b, "t/eager", event.Outcome{Offset: 1}, event.Outcome{Offset: 2}, retrying(3, false), event.Outcome{Offset: 4})
		_, failed := f.failAt(n, errors.New("the cable"))
		_, err := b.Seek(t.Context(), event.Seek{Subscriptions: []string{"t/eager"}, To: event.Start{Offset: 2}})
		f.set(func(string) error { return nil })
		_ = b.Close()
		again := opened(t, Options{Path: o.Path})
		s := subscribed(t, again, "t/eager")
		at, rows := fresh(t, s), due(t, s)
		if before, after := at+rows == "[][3]", at+rows == "[2 3 4][]"; !before && !after || err == nil && !after {
			t.Errorf("failing at %d (%v): %v, then new %s and due %s", n, failed.Load(), err, at, rows)
		}
		sameOnDisk(t, again)
		if failed.Load() == nil {
			if n < 5 || err != nil {
				t.Errorf("only %d statements, %v", n, err)
			}
			return
		}
	}
}
