package outbox

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/millrace-run/millrace/event"
)

// jumping is a clock that somebody sets: it jumps by what is added.
type jumping struct {
	event.SystemClock
	by atomic.Int64
}

func (j *jumping) Now() time.Time { return time.Now().Add(time.Duration(j.by.Load())).Round(0) }

// keeping is an outbox in a bubble whose time passes when the test sleeps.
func keeping(t *testing.T, o Options) (*Outbox, *jumping) {
	t.Helper()
	clock := &jumping{}
	o.Clock = clock
	return opened(t, o), clock
}

// pass lets time pass, and the writer do what is due.
func pass(d time.Duration) {
	<-time.After(d) // in a bubble, where nothing is waited for
	synctest.Wait()
}

// receive appends events of one segment that are received now.
func receive(t *testing.T, b *Outbox, topic string, size, n int) {
	t.Helper()
	var events []event.Event
	for i := range n {
		events = append(events, event.Event{
			ID: fmt.Sprint(b.topic(topic).head() + event.Offset(i) + 1), Received: b.clock.Now(), Data: bytes.Repeat([]byte{'x'}, size),
		})
	}
	if err := commit(t.Context(), b, event.Commit{Appends: []event.Append{{Topic: topic, Events: events}}}); err != nil {
		t.Fatal(err)
	}
}

// all are outcomes that settle a range.
func all(from, to event.Offset) (outcomes []event.Outcome) {
	for o := from; o <= to; o++ {
		outcomes = append(outcomes, event.Outcome{Offset: o})
	}
	return outcomes
}

func purgedTo(t *testing.T, b *Outbox, topic string, want event.Offset) {
	t.Helper()
	if got := b.topic(topic).purgedTo(); got != want {
		t.Errorf("topic %s is purged to %d, want %d", topic, got, want)
	}
	sameOnDisk(t, b)
}

// TestAge: a segment goes when it is too old and everybody is past it, also in an outbox where nothing happens, and what is left
// behind it has its offsets and totals again after a start.
func TestAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{Path: filepath.Join(t.TempDir(), "outbox.db"), Retention: Retention{Age: time.Hour}}
		b, _ := keeping(t, o)
		for range 3 {
			receive(t, b, "t", 10, 2)
			pass(20 * time.Minute)
		}
		settle(t, b, "t/eager", all(1, 6)...)
		settle(t, b, "t/lazy", all(1, 3)...)
		pass(time.Minute)
		purgedTo(t, b, "t", 2)
		pass(24 * time.Hour)
		purgedTo(t, b, "t", 2) // the third is needed
		settle(t, b, "t/lazy", all(4, 5)...)
		pass(time.Minute)
		purgedTo(t, b, "t", 4)
		total := b.topic("t").total.Load()
		settle(t, b, "t/lazy", all(6, 6)...)
		pass(time.Minute)
		purgedTo(t, b, "t", 6)
		if s := b.Space(); s.Purged != 6 || s.History != 0 {
			t.Errorf("%+v", s)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		b, _ = keeping(t, o)
		if b.topic("t").head() != 6 || b.topic("t").total.Load() != total || b.topic("t").freed.Load() != total {
			t.Errorf("after the start: head %d, total %d of %d", b.topic("t").head(), b.topic("t").total.Load(), total)
		}
		receive(t, b, "t", 10, 1)
		s := subscribed(t, b, "t/lazy")
		if records, err := s.Next(t.Context(), 100, 100); err != nil || len(records) != 1 || records[0].Offset != 7 {
			t.Errorf("%v, %v", records, err)
		}
		status, err := b.Status(t.Context())
		if err != nil || status[1].Pinned == 0 || status[1].Oldest.IsZero() || status[1].Lag != 1 {
			t.Errorf("%+v, %v", status, err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestIdleWriterSleeps: nothing is looked at while nothing can be due.
func TestIdleWriterSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f faults
		b, _ := keeping(t, Options{Retention: Retention{Age: time.Hour, Size: 1 << 30}, fault: f.hook})
		receive(t, b, "t", 10, 1)
		pass(time.Minute)
		var looks atomic.Int64
		f.set(func(string) error { looks.Add(1); return nil })
		pass(1000 * time.Hour)
		if n := looks.Load(); n > 0 {
			t.Errorf("%d statements while the only event is needed", n)
		}
		settle(t, b, "t/eager", all(1, 1)...)
		settle(t, b, "t/lazy", all(1, 1)...)
		pass(time.Hour)
		purgedTo(t, b, "t", 1)
		looks.Store(0)
		pass(1000 * time.Hour)
		if n := looks.Load(); n > 0 {
			t.Errorf("%d statements while there is nothing", n)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestSize: beyond its size the oldest history of all topics goes.
func TestSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := keeping(t, Options{Retention: Retention{Size: 100 << 10}})
		layout := event.Layout{Topics: []event.Topic{
			{Name: "t", Subscriptions: []string{"t/eager", "t/lazy"}}, {Name: "u", Subscriptions: []string{"u/a"}}, {Name: "v"},
		}}
		if err := b.Configure(t.Context(), layout); err != nil {
			t.Fatal(err)
		}
		for range 4 { // 40 KiB each
			for _, topic := range []string{"t", "u", "v"} {
				receive(t, b, topic, 40<<10, 1)
				pass(time.Minute)
			}
		}
		purgedTo(t, b, "t", 0)
		purgedTo(t, b, "u", 0)
		purgedTo(t, b, "v", 2) // nobody reads it
		settle(t, b, "u/a", all(1, 3)...)
		pass(time.Minute)
		purgedTo(t, b, "t", 0)
		purgedTo(t, b, "u", 3) // all are older than what is left of v
		purgedTo(t, b, "v", 2)
		if s := b.Space(); s.History > 100<<10 || s.History < 80<<10 {
			t.Errorf("%+v", s)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestRemovedSubscription: what it is owed is needed until it has it; one that is made later begins at the head.
func TestRemovedSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := keeping(t, Options{Retention: Retention{Age: time.Minute}})
		receive(t, b, "t", 10, 1)
		layout := event.Layout{Topics: []event.Topic{{Name: "t", Subscriptions: []string{"t/eager", "t/new"}}}}
		if err := b.Configure(t.Context(), layout); err != nil {
			t.Fatal(err)
		}
		receive(t, b, "t", 10, 1)
		settle(t, b, "t/eager", all(1, 2)...)
		settle(t, b, "t/new", all(2, 2)...)
		pass(time.Hour)
		purgedTo(t, b, "t", 0)
		settle(t, b, "t/lazy", all(1, 1)...)
		pass(time.Hour)
		purgedTo(t, b, "t", 2)
		layout.Topics[0].Subscriptions = []string{"t/eager", "t/new", "t/lazy"}
		if err := b.Configure(t.Context(), layout); err != nil {
			t.Fatal(err)
		}
		receive(t, b, "t", 10, 1)
		records, err := subscribed(t, b, "t/lazy").Next(t.Context(), 100, 100)
		if err != nil || len(records) != 1 || records[0].Offset != 3 {
			t.Errorf("%v, %v", records, err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func dead(o event.Offset, row bool) event.Outcome {
	return event.Outcome{Offset: o, Row: row, Exception: &event.Exception{State: event.Dead, Reason: event.ReasonPermanent, Attempts: 1}}
}

func bodies(t *testing.T, b *Outbox) (offsets string) {
	t.Helper()
	c := outside(t, b.path)
	defer func() { _ = c.close() }()
	n, err := c.integer("SELECT count(*) FROM bodies")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(n)
}

// TestRescue: what rows name outlives its segment, once, until the last row ends.
func TestRescue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{Path: filepath.Join(t.TempDir(), "outbox.db"), Retention: Retention{Age: time.Minute}}
		b, _ := keeping(t, o)
		receive(t, b, "t", 100, 5)
		settle(t, b, "t/eager", append(all(3, 5), dead(1, false), retrying(2, false))...)
		settle(t, b, "t/lazy", append(all(1, 3), dead(5, false), retrying(4, false))...)
		settle(t, b, "t/lazy", retrying(5, true))
		pass(time.Hour)
		purgedTo(t, b, "t", 5)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		b, _ = keeping(t, o) // without its ring
		if n := bodies(t, b); n != "4" {
			t.Errorf("%s bodies", n)
		}
		rowsReadable(t, b)
		if got := due(t, subscribed(t, b, "t/lazy")); got != "[4 5]" {
			t.Error(got)
		}
		letters, err := b.DeadLetters(t.Context(), event.DeadQuery{})
		if err != nil || len(letters) != 1 || letters[0].Record.Event.ID != "1" || len(letters[0].Record.Event.Data) != 100 {
			t.Fatalf("%+v, %v", letters, err)
		}
		status, err := b.Status(t.Context())
		if err != nil || status[0].Oldest.IsZero() || status[0].Dead != 1 || status[0].Retrying != 1 || status[0].Pinned != 0 {
			t.Errorf("%+v, %v", status, err)
		}
		// The row moves from one subscription to another in one commit, and the event stays.
		err = commit(t.Context(), b, event.Commit{Settles: []event.Settle{
			{Subscription: "t/eager", Outcomes: []event.Outcome{{Offset: 2, Row: true}}},
			{Subscription: "t/lazy", Outcomes: []event.Outcome{retrying(2, false), {Offset: 4, Row: true}}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		rowsReadable(t, b)
		if n := bodies(t, b); n != "3" {
			t.Errorf("%s bodies", n)
		}
		if n, err := b.Drop(t.Context(), event.DeadQuery{}); err != nil || n != 1 {
			t.Error(n, err)
		}
		settle(t, b, "t/lazy", event.Outcome{Offset: 2, Row: true}, event.Outcome{Offset: 5, Row: true})
		if n := bodies(t, b); n != "0" {
			t.Errorf("%s bodies are left", n)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestHistoryYields: with history there is always room below MaxSize; without it, appends are refused, what drains is not.
func TestHistoryYields(t *testing.T) {
	const size = 16 << 20
	b := opened(t, Options{MaxSize: size})
	last := func() event.Offset { return b.topic("t").head() }
	big := event.Event{ID: "x", Data: make([]byte, 300<<10)}
	settled := event.Offset(0)
	settleTo := func(to event.Offset) {
		settle(t, b, "t/eager", all(settled+1, to)...)
		settle(t, b, "t/lazy", all(settled+1, to)...)
		settled = to
	}
	for last() < 200 {
		if err := commit(t.Context(), b, appending(big)); err != nil {
			t.Fatalf("after %d: %v", last(), err)
		}
		settleTo(last())
		if b.Space().Used > size {
			t.Fatalf("%+v", b.Space())
		}
	}
	if n := b.Space().Purged; n < 100 || n > 190 {
		t.Errorf("%d of 200 purged", n)
	}
	for {
		err := commit(t.Context(), b, appending(big))
		if errors.Is(err, event.ErrFull) {
			break
		}
		if err != nil || b.Space().Used > size {
			t.Fatal(err, b.Space())
		}
	}
	if s := b.Space(); s.History != 0 || s.Used < size/10*8 {
		t.Errorf("refused too early: %+v", s)
	}
	from := settled
	for {
		c := appending(big)
		c.Settles = []event.Settle{{Subscription: "t/eager", Outcomes: all(settled+1, settled+1)}}
		err := commit(t.Context(), b, c)
		if errors.Is(err, event.ErrFull) {
			break
		}
		settled++
		if err != nil || settled > from+30 {
			t.Fatal(err, settled, b.Space())
		}
	}
	if s := b.Space(); settled == from || s.Used < size {
		t.Errorf("%d drained, %+v", settled-from, s)
	}
	settle(t, b, "t/lazy", all(from+1, settled)...)
	settle(t, b, "t/lazy") // the writer measures after it has answered: this answer comes after that
	if err := commit(t.Context(), b, appending(big)); err != nil {
		t.Errorf("there is history again: %v", err)
	}
	sameOnDisk(t, b)
}

// TestHistoryYieldsToFullDisk: a disk without room costs history first, not events.
func TestHistoryYieldsToFullDisk(t *testing.T) {
	var f faults
	b := opened(t, Options{fault: f.hook, Clock: hasty{}})
	put(t, b, "1", "2", "3")
	settle(t, b, "t/eager", all(1, 3)...)
	settle(t, b, "t/lazy", all(1, 2)...)
	gone := false
	f.set(func(query string) error {
		gone = gone || query == "DELETE FROM segments WHERE topic = ? AND first BETWEEN ? AND ?"
		if query == "COMMIT" && !gone {
			return sqlite3.Error{Code: sqlite3.ErrFull}
		}
		return nil
	})
	put(t, b, "4")
	if b.Full() {
		t.Error("the disk had room")
	}
	purgedTo(t, b, "t", 2)
	f.set(func(query string) error {
		if query == "COMMIT" {
			return sqlite3.Error{Code: sqlite3.ErrFull}
		}
		return nil
	})
	if err := commit(t.Context(), b, appending(event.Event{ID: "5"})); !errors.Is(err, event.ErrFull) {
		t.Error(err)
	}
	f.set(func(string) error { return nil })
	settle(t, b, "t/lazy", all(3, 4)...)
	sameOnDisk(t, b)
}
