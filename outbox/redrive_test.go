package outbox

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/event"
)

// letters are the dead letters, by id.
func letters(t *testing.T, b *Outbox) []event.DeadLetter {
	t.Helper()
	all, err := b.DeadLetters(t.Context(), event.DeadQuery{})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// mend redrives each dead letter as asked for, and demands these results.
func mend(t *testing.T, b *Outbox, want []event.RedriveResult, all ...event.Redrive) {
	t.Helper()
	got, err := b.RedriveEach(t.Context(), all)
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("%v, want %v (%v)", got, want, err)
	}
}

var (
	done  = []event.RedriveResult{event.RedriveDone}
	stays = []event.RedriveResult{event.RedriveStays}
	gone  = []event.RedriveResult{event.RedriveGone}
)

// dueNow is the one row that is due.
func dueNow(t *testing.T, b *Outbox, name string) event.Exceptional {
	t.Helper()
	rows, _, err := b.subscription(name).Due(t.Context(), time.Now(), 10)
	if err != nil || len(rows) != 1 {
		t.Fatalf("%s: %+v, %v", name, rows, err)
	}
	return rows[0]
}

// TestRedriveEdited: the edited event is handed out in place of the stored one, which stays what it was, for as long as the row is
// there: over failures, starts and the purge of its segment.
func TestRedriveEdited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{Path: filepath.Join(t.TempDir(), "outbox.db"), Retention: Retention{Age: time.Minute}}
		b, _ := keeping(t, o)
		receive(t, b, "t", 100, 2)
		settle(t, b, "t/lazy", all(1, 2)...)
		settle(t, b, "t/eager", dead(1, false), event.Outcome{Offset: 2})
		stored := letters(t, b)[0]
		edited := stored.Record.Event
		edited.Data = []byte(`{"total":2}`)
		mend(t, b, done, event.Redrive{ID: stored.ID, Event: &edited})
		mend(t, b, gone, event.Redrive{ID: stored.ID, Event: &edited})
		subscribed(t, b, "t/eager")
		first := dueNow(t, b, "t/eager")
		if first.Record.Offset != 1 || string(first.Record.Event.Data) != `{"total":2}` || len(first.Exception.Edit) != 16 ||
			first.Exception.Reason != event.ReasonRedrive || first.Exception.Attempts != 1 {
			t.Errorf("%+v", first)
		}
		settle(t, b, "t/eager", dead(1, true))
		pass(time.Hour)
		purgedTo(t, b, "t", 2)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		b, _ = keeping(t, o)
		again := letters(t, b)[0]
		if d := cmp.Diff(stored.Record, again.Record); d != "" || again.Edited == nil || string(again.Edited.Data) != `{"total":2}` || again.ID != stored.ID {
			t.Errorf("%s%+v", d, again)
		}
		other := edited
		other.Data = []byte(`{"total":3}`)
		subscribed(t, b, "t/eager")
		for _, c := range []struct {
			r    event.Redrive
			data string
			same bool
		}{
			{event.Redrive{ID: stored.ID}, `{"total":2}`, true}, // as it was delivered last
			{event.Redrive{ID: stored.ID, Event: &other}, `{"total":3}`, false},
			{event.Redrive{ID: stored.ID, Event: &edited}, `{"total":2}`, true},
		} {
			mend(t, b, done, c.r)
			x := dueNow(t, b, "t/eager")
			if string(x.Record.Event.Data) != c.data || slices.Equal(x.Exception.Edit, first.Exception.Edit) != c.same {
				t.Errorf("%+v, want %s", x, c.data)
			}
			settle(t, b, "t/eager", dead(1, true))
		}
		mend(t, b, done, event.Redrive{ID: stored.ID, Plain: true})
		if x := dueNow(t, b, "t/eager"); x.Exception.Edit != nil || !cmp.Equal(x.Record, stored.Record) {
			t.Errorf("as it was stored: %+v", x)
		}
		settle(t, b, "t/eager", event.Outcome{Offset: 1, Row: true})
		if n := bodies(t, b); n != "0" {
			t.Errorf("%s bodies are left", n)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestRedriveToAnother: the row is there in place of here, unless the other one has the event before it or has a row for it.
func TestRedriveToAnother(t *testing.T) {
	b := opened(t, Options{})
	put(t, b, "1", "2", "3")
	settle(t, b, "t/eager", dead(1, false), dead(2, false), dead(3, false))
	settle(t, b, "t/lazy", event.Outcome{Offset: 1}, retrying(2, false))
	subscribed(t, b, "t/eager")
	lazy := subscribed(t, b, "t/lazy")
	all := letters(t, b)
	to := func(i int) event.Redrive { return event.Redrive{ID: all[i].ID, To: "t/lazy"} }
	mend(t, b, []event.RedriveResult{event.RedriveDone, event.RedriveStays, event.RedriveStays}, to(0), to(1), to(2))
	if left := letters(t, b); len(left) != 2 || left[0].ID != all[1].ID {
		t.Errorf("%+v", left)
	}
	if n := b.subscription("t/eager").Dropped(); n != 1 {
		t.Errorf("the reader hears of %d that are gone", n)
	}
	rows, _, err := lazy.Due(t.Context(), time.Now(), 10)
	i := slices.IndexFunc(rows, func(x event.Exceptional) bool { return x.Record.Offset == 1 })
	if err != nil || len(rows) != 2 || rows[i].Exception.From != "t/eager" || rows[i].Exception.Attempts != 0 || rows[i].Record.Event.ID != "1" {
		t.Errorf("%+v, %v", rows, err)
	}
	settle(t, b, "t/lazy", dead(1, true), event.Outcome{Offset: 2, Row: true}, event.Outcome{Offset: 3})
	if x := letters(t, b)[2]; x.Subscription != "t/lazy" || x.Exception.From != "t/eager" {
		t.Errorf("dead there too: %+v", x)
	}
	mend(t, b, done, to(1))
	if _, err := b.RedriveEach(t.Context(), []event.Redrive{{ID: all[2].ID, To: "t/nobody"}}); err == nil {
		t.Error("a subscription that is not there took it")
	}
	sameOnDisk(t, b)
}

// TestRedriveOfTheLast: it stays as long as another one has not come to the event.
func TestRedriveOfTheLast(t *testing.T) {
	b := opened(t, Options{})
	put(t, b, "1")
	settle(t, b, "t/eager", dead(1, false))
	r := event.Redrive{ID: letters(t, b)[0].ID, Last: true, Event: &event.Event{ID: "1", Source: "/a", Type: "u"}}
	mend(t, b, stays, r)
	settle(t, b, "t/lazy", retrying(1, false))
	mend(t, b, done, r)
}

// TestRedriveWithoutRoom: an edit needs room, and what goes back as it was does not.
func TestRedriveWithoutRoom(t *testing.T) {
	b := opened(t, Options{})
	put(t, b, "1")
	settle(t, b, "t/eager", dead(1, false))
	id := letters(t, b)[0].ID
	b.writer.brim.Store(true)
	_, err := b.RedriveEach(t.Context(), []event.Redrive{{ID: id, Event: &event.Event{ID: "1", Source: "/a", Type: "u"}}})
	if !errors.Is(err, event.ErrFull) {
		t.Errorf("an edit: %v", err)
	}
	mend(t, b, done, event.Redrive{ID: id})
}

// TestRedriveEachAtEveryStatement: whichever statement fails, an event has its row in one subscription, and the next call does it.
func TestRedriveEachAtEveryStatement(t *testing.T) {
	for n := 1; ; n++ {
		seen, failing := 0, false
		o := Options{Path: filepath.Join(t.TempDir(), "outbox.db"), fault: func(string) error {
			if !failing {
				return nil
			}
			if seen++; seen == n {
				return errors.New("broken")
			}
			return nil
		}}
		b := opened(t, o)
		put(t, b, "1", "2")
		settle(t, b, "t/eager", dead(1, false), dead(2, false))
		settle(t, b, "t/lazy", all(1, 2)...)
		l := letters(t, b)
		both := []event.Redrive{{ID: l[0].ID, To: "t/lazy"}, {ID: l[1].ID, Event: &event.Event{ID: "2", Source: "/a", Type: "u"}}}
		failing = true
		_, err := b.RedriveEach(t.Context(), both)
		failing = false
		if seen < n {
			if err != nil || n < 5 {
				t.Fatal(n, err)
			}
			return
		}
		if err == nil {
			t.Fatalf("statement %d of it failed, and nobody heard", n)
		}
		_ = b.Close()
		b = opened(t, Options{Path: o.Path})
		rows := func() (left, right []event.Offset) {
			for name, into := range map[string]*[]event.Offset{"t/eager": &left, "t/lazy": &right} {
				if *into, err = b.subscription(name).Rows(t.Context(), 0, 9); err != nil {
					t.Fatal(err)
				}
			}
			return left, right
		}
		if left, right := rows(); len(left)+len(right) != 2 {
			t.Fatalf("statement %d: rows of %v and %v", n, left, right)
		}
		if _, err := b.RedriveEach(t.Context(), both); err != nil {
			t.Fatal(err)
		}
		if left, right := rows(); !slices.Equal(left, []event.Offset{2}) || !slices.Equal(right, []event.Offset{1}) {
			t.Fatalf("statement %d: rows of %v and %v in the end", n, left, right)
		}
	}
}

// TestHistory: what is kept comes back, and what was damaged ends it.
func TestHistory(t *testing.T) {
	b := opened(t, Options{})
	put(t, b, "1")
	x := event.Exception{State: event.Dead, Reason: event.ReasonPermanent, Attempts: 3}
	for i := range 3 {
		x.Failed(event.Attempt{At: time.Unix(int64(i), 5).UTC(), Status: 400 + i, Error: "no", Answer: []byte("because")[:7*(i%2)]})
	}
	settle(t, b, "t/eager", event.Outcome{Offset: 1, Exception: &x})
	got := letters(t, b)[0].Exception.History
	x.History[0].Answer, x.History[2].Answer = nil, nil
	if d := cmp.Diff(x.History, got); d != "" {
		t.Error(d)
	}
	whole := encodeHistory(got)
	for n := range whole {
		if some := decodeHistory(whole[:n]); len(some) >= 3 {
			t.Errorf("%d of %d bytes are %d attempts", n, len(whole), len(some))
		}
	}
}
