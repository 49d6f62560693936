package outbox

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/event"
)

// TestDueBeforePublish: a row that is on disk, but not yet published, is handed out once, after it was published.
func TestDueBeforePublish(t *testing.T) {
	var f faults
	b := opened(t, Options{fault: f.hook})
	put(t, b, "1")
	first, s := subscribed(t, b, "t/eager"), subscribed(t, b, "t/lazy")
	f.set(func(query string) error {
		if query == "COMMIT" {
			first.mu.Lock() // publishing begins with it
		}
		return nil
	})
	var work sync.WaitGroup
	work.Go(func() {
		err := commit(t.Context(), b, event.Commit{Settles: []event.Settle{
			{Subscription: "t/eager", Outcomes: []event.Outcome{{Offset: 1}}},
			{Subscription: "t/lazy", Outcomes: []event.Outcome{retrying(1, false)}},
		}})
		if err != nil {
			t.Error(err)
		}
	})
	for rows := []event.Offset(nil); len(rows) == 0; {
		var err error
		if rows, err = s.Rows(t.Context(), 1, 1); err != nil {
			t.Fatal(err)
		}
	}
	if got := due(t, s); got != "[]" {
		t.Errorf("handed out %s before it was published", got)
	}
	first.mu.Unlock()
	work.Wait()
	f.set(func(string) error { return nil })
	if got := due(t, s) + due(t, s); got != "[1][]" {
		t.Errorf("handed out %s", got)
	}
}

// TestDueWhileSettled: a row that is settled after Due has read it is not handed out.
func TestDueWhileSettled(t *testing.T) {
	b := opened(t, Options{})
	put(t, b, "1", "2", "3")
	s := subscribed(t, b, "t/lazy")
	settle(t, b, "t/lazy", retrying(1, false), retrying(2, false), retrying(3, false))
	now := time.Now()
	limit, _ := s.beginDue(now, 10)
	rows, later, err := s.readDue(t.Context(), now, 10, limit)
	if err != nil || len(rows) != 3 {
		t.Fatal(rows, err)
	}
	settle(t, b, "t/lazy", event.Outcome{Offset: 1, Row: true}, retrying(2, true))
	rows, _, err = s.endDue(rows, later, nil)
	if err != nil || len(rows) != 1 || rows[0].Record.Offset != 3 {
		t.Errorf("%v, %v", rows, err)
	}
	if got := due(t, s) + due(t, s); got != "[2][]" {
		t.Errorf("handed out %s", got)
	}
}

// TestWindowRow: the row of an event that still runs is not handed out to who runs it, but to the reader that comes after.
func TestWindowRow(t *testing.T) {
	b := opened(t, Options{})
	put(t, b, "1", "2")
	s := subscribed(t, b, "t/lazy")
	if records, err := s.Next(t.Context(), 10, 10); err != nil || len(records) != 2 {
		t.Fatal(records, err)
	}
	runs := func(o event.Offset) event.Outcome {
		x := retrying(o, false)
		x.Exception.Reason = event.ReasonWindow
		return x
	}
	settle(t, b, "t/lazy", runs(1))
	if got := due(t, s); got != "[]" {
		t.Errorf("handed out %s, which runs", got)
	}
	subscribed(t, b, "t/lazy")
	settle(t, b, "t/lazy", runs(2)) // by the reader before
	if got := due(t, s); got != "[1 2]" {
		t.Errorf("handed out %s", got)
	}
}

// TestEnded: a subscription that is no longer named gets what was appended before, and when it is named again, what comes then.
func TestEnded(t *testing.T) {
	b := opened(t, Options{})
	put(t, b, "1", "2")
	s := subscribed(t, b, "t/lazy")
	without := event.Layout{Topics: []event.Topic{{Name: "t", Subscriptions: []string{"t/eager"}}}}
	if err := b.Configure(t.Context(), without); err != nil {
		t.Fatal(err)
	}
	put(t, b, "3")
	next(t, s, 1, 2)
	if _, err := b.Subscribe("t/lazy"); err == nil {
		t.Error("it has ended")
	}
	if err := b.Configure(t.Context(), crashLayout); err != nil {
		t.Fatal(err)
	}
	put(t, b, "4")
	next(t, subscribed(t, b, "t/lazy"), 1, 2, 4)
	settle(t, b, "t/lazy", event.Outcome{Offset: 4}, event.Outcome{Offset: 1}, event.Outcome{Offset: 2})
	if at, _ := s.Position(); at != 4 {
		t.Errorf("at %d", at)
	}
	sameOnDisk(t, b)
}

// next checks which offsets Next hands out.
func next(t *testing.T, s *subscription, want ...event.Offset) {
	t.Helper()
	records, err := s.Next(t.Context(), math.MaxInt64, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var got []event.Offset
	for _, r := range records {
		got = append(got, r.Offset)
	}
	if !cmp.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestDamagedSegment: reading it says which events are lost; nothing else is.
func TestDamagedSegment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	b := opened(t, Options{Path: path})
	put(t, b, "1", "2", "3", "4")
	dead := func(o event.Offset) event.Outcome {
		x := retrying(o, false)
		x.Exception.State = event.Dead
		return x
	}
	settle(t, b, "t/eager", retrying(1, false), retrying(3, false), retrying(4, false))
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	change(t, path, "UPDATE segments SET body = zeroblob(100) WHERE first = 3")

	b = opened(t, Options{Path: path})
	s := subscribed(t, b, "t/lazy")
	next(t, s, 1, 2)
	for range 2 {
		records, err := s.Next(t.Context(), math.MaxInt64, 10)
		if !errors.Is(err, errDamaged) || len(records) > 0 || !strings.Contains(err.Error(), "topic t, events 3 to 3") {
			t.Errorf("%v, %v", records, err)
		}
	}
	if got := due(t, subscribed(t, b, "t/eager")); got != "[1 4]" {
		t.Errorf("due: %s", got)
	}
	settle(t, b, "t/lazy", dead(3), dead(2), dead(1))
	next(t, s, 4)
	letters, err := b.DeadLetters(t.Context(), event.DeadQuery{})
	var got []string
	for _, l := range letters {
		got = append(got, fmt.Sprint(l.Record.Offset, ":", l.Record.Event.ID))
	}
	if want := []string{"3:", "2:2", "1:1"}; err != nil || !cmp.Equal(got, want) {
		t.Errorf("dead letters %v, %v", got, err)
	}
	put(t, b, "5")
}

// TestTimes: what a time says does not depend on where the event is read from, and none comes round.
func TestTimes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	b := opened(t, Options{Path: path})
	times := []time.Time{{}, time.Unix(0, 0).UTC(), time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)}
	for _, at := range times {
		c := appending(event.Event{ID: "x", Received: at}, event.Event{ID: "y", Received: times[2]})
		if err := commit(t.Context(), b, c); err != nil {
			t.Fatal(err)
		}
	}
	far := retrying(1, false)
	far.Exception.NextAt = time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)
	settle(t, b, "t/lazy", far)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = opened(t, Options{Path: path})
	for i, at := range times {
		r, err := b.record(t.Context(), b.topic("t"), event.Offset(2*i+1))
		if err != nil || !r.Event.Received.Equal(at) || r.Event.Received.IsZero() != at.IsZero() {
			t.Errorf("%v became %v (%v)", at, r.Event.Received, err)
		}
	}
	rows, at, err := subscribed(t, b, "t/lazy").Due(t.Context(), time.Now(), 10)
	if err != nil || len(rows) > 0 || at.Year() < 2200 {
		t.Errorf("%v, next at %v, %v", rows, at, err)
	}
}

// TestManyDeadLetters: a list of more than a piece is whole and in order, and a limit holds across pieces.
func TestManyDeadLetters(t *testing.T) {
	const n = 2*bulkRows + 3
	b := opened(t, Options{})
	if err := commit(t.Context(), b, appending(make([]event.Event, n)...)); err != nil {
		t.Fatal(err)
	}
	var outcomes []event.Outcome
	for o := event.Offset(1); o <= n; o++ {
		outcomes = append(outcomes, event.Outcome{Offset: o, Exception: &event.Exception{State: event.Dead}})
	}
	settle(t, b, "t/lazy", outcomes...)
	for limit, want := range map[int]int{0: n, 1: 1, bulkRows: bulkRows, bulkRows + 1: bulkRows + 1, n + 10: n} {
		letters, err := b.DeadLetters(t.Context(), event.DeadQuery{Limit: limit})
		if err != nil || len(letters) != want {
			t.Errorf("limit %d: %d, %v", limit, len(letters), err)
		}
		for i := range letters {
			if letters[i].Record.Offset != event.Offset(i+1) {
				t.Fatalf("limit %d: letter %d is event %d", limit, i, letters[i].Record.Offset)
			}
		}
	}
	if redriven, err := b.Redrive(t.Context(), event.DeadQuery{}); redriven != n || err != nil {
		t.Errorf("%d, %v", redriven, err)
	}
}
