package outbox

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
)

// version1 makes a file as the first version left it: three segments of two events, of which the second is damaged if asked for,
// cursors, and a dead letter.
func version1(t *testing.T, path string, damaged bool) {
	t.Helper()
	script, err := os.ReadFile("schema/1.sql")
	if err != nil {
		t.Fatal(err)
	}
	c := outside(t, path, "PRAGMA page_size = 8192", "PRAGMA journal_mode = WAL", string(script),
		fmt.Sprintf("PRAGMA application_id = %d", applicationID), "PRAGMA user_version = 1",
		"INSERT INTO file (one, id, commits) VALUES (1, x'000102030405060708090a0b0c0d0e0f', 7)",
		"INSERT INTO topics (id, name) VALUES (3, 't'), (5, 'u')",
		"INSERT INTO subscriptions (id, name, topic, cursor) VALUES (1, 't/eager', 3, 4), (2, 't/lazy', 3, 2)",
		`INSERT INTO deliveries (subscription, offset, state, reason, stage, status, attempts, counted, next_at, first_at, last_at, error)
			VALUES (1, 2, 2, 'permanent', '', 0, 1, 1, 0, 0, 0, '')`)
	var encoder segmentEncoder
	for _, topic := range []int64{5, 3} {
		for i := range 3 {
			var records []event.Record
			for k := range 2 {
				at := time.Unix(int64(1000+10*i-k), 0) // the newest need not be the last
				records = append(records, event.Record{Event: event.Event{ID: fmt.Sprint(2*i + k + 1), Received: at, Data: make([]byte, 3000*i)}})
			}
			body := append([]byte(nil), encoder.encode(records)...)
			if damaged && i == 1 {
				body[len(body)-1] ^= 1
			}
			if err := c.exec("INSERT INTO segments (topic, first, n, body) VALUES (?, ?, ?, ?)", topic, int64(2*i+1), int64(2), body); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
}

// TestMigrate: a file of the first version has its events, cursors and rows after the start, and times and totals as if this version
// had written it.
func TestMigrate(t *testing.T) {
	for _, damaged := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "outbox.db")
		version1(t, path, damaged)
		b := opened(t, Options{Path: path})
		topic := b.topic("t")
		if topic.head() != 6 || b.topic("u").head() != 6 || topic.purgedTo() != 0 {
			t.Errorf("heads %d and %d", topic.head(), b.topic("u").head())
		}
		var total int64
		c := outside(t, path)
		for i := range int64(3) {
			size, err := c.integer("SELECT length(body) FROM segments WHERE topic = 3 AND first = ?", 2*i+1)
			if err != nil || size == 0 {
				t.Fatal(size, err)
			}
			total += size
			want := 1000 + 10*i
			if damaged && i == 1 {
				want -= 10
			}
			at, err := c.integer("SELECT at FROM segments WHERE topic = 3 AND first = ? AND total = ?", 2*i+1, total)
			if err != nil || at != want*1e9 {
				t.Errorf("segment %d: at %d, want %d s (%v)", i, at, want, err)
			}
		}
		if err := c.close(); err != nil {
			t.Fatal(err)
		}
		if topic.total.Load() != total {
			t.Errorf("total %d, want %d", topic.total.Load(), total)
		}
		records, err := subscribed(t, b, "t/lazy").Next(t.Context(), 100, 100)
		if damaged && err == nil || !damaged && (err != nil || len(records) != 4 || records[0].Event.ID != "3") {
			t.Errorf("%v, %v", records, err)
		}
		letters, err := b.DeadLetters(t.Context(), event.DeadQuery{})
		if err != nil || len(letters) != 1 || letters[0].Record.Event.ID != "2" {
			t.Errorf("%+v, %v", letters, err)
		}
		put(t, b, "7")
		sameOnDisk(t, b)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		put(t, opened(t, Options{Path: path}), "8")
	}
}

// TestMigrateFrom2: rows of a file of version 2 have no key, and new ones may have.
func TestMigrateFrom2(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	b := opened(t, Options{Path: path})
	put(t, b, "1", "2")
	if err := settleNow(t, b, "t/eager", retrying(1, false)); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	change(t, path, toVersion2...)
	b = opened(t, Options{Path: path})
	s := subscribed(t, b, "t/eager")
	due, _, err := s.Due(t.Context(), time.Now(), 10)
	if err != nil || len(due) != 1 || due[0].Record.Event.ID != "1" || due[0].Exception.Key != nil {
		t.Errorf("%+v, %v", due, err)
	}
	x := event.Exception{State: event.Held, Reason: event.ReasonOrder, Key: []byte("k")}
	if err := settleNow(t, b, "t/eager", event.Outcome{Offset: 2, Exception: &x}); err != nil {
		t.Fatal(err)
	}
	if held, err := s.Keyed(t.Context(), event.Held, 0, 10); err != nil || len(held) != 1 || held[0].Offset != 2 || string(held[0].Key) != "k" {
		t.Errorf("%+v, %v", held, err)
	}
	sameOnDisk(t, b)
}

// settleNow commits outcomes.
func settleNow(t *testing.T, b *Outbox, name string, outcomes ...event.Outcome) error {
	t.Helper()
	_, err := b.Commit(t.Context(), event.Commit{Settles: []event.Settle{{Subscription: name, Outcomes: outcomes}}})
	return err
}

// TestMigrateAtEveryStatement: a migration that fails leaves the file as it was.
func TestMigrateAtEveryStatement(t *testing.T) {
	for n := 1; ; n++ {
		path := filepath.Join(t.TempDir(), "outbox.db")
		version1(t, path, false)
		c, err := openConn(path, "rw")
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		c.fault = func(string) error {
			if seen++; seen == n {
				return errDamaged
			}
			return nil
		}
		failed := migrate(c)
		c.fault = nil
		version, err := c.integer("PRAGMA user_version")
		if err == nil {
			err = c.close()
		}
		if seen < n {
			if failed != nil || err != nil || n < 10 {
				t.Fatal(n, failed, err)
			}
			return
		}
		if failed == nil || err != nil || version == 0 {
			t.Fatalf("statement %d: %v, version %d, %v", n, failed, version, err)
		}
		b := opened(t, Options{Path: path})
		if b.topic("t").head() != 6 {
			t.Errorf("statement %d: events are gone", n)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMigrateFrom3: dead letters of a file of version 3 have no history, and go on as others do.
func TestMigrateFrom3(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	b := opened(t, Options{Path: path})
	put(t, b, "1")
	settle(t, b, "t/eager", dead(1, false))
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	change(t, path, toVersion3...)
	b = opened(t, Options{Path: path})
	l := letters(t, b)
	if len(l) != 1 || l[0].Record.Event.ID != "1" || l[0].Exception.History != nil || l[0].Edited != nil || l[0].Exception.From != "" {
		t.Fatalf("%+v", l)
	}
	mend(t, b, done, event.Redrive{ID: l[0].ID, Event: &event.Event{ID: "1", Source: "/a", Type: "u"}})
	subscribed(t, b, "t/eager")
	x := dueNow(t, b, "t/eager")
	x.Exception.State = event.Dead
	x.Exception.Failed(event.Attempt{At: time.Unix(1, 0).UTC(), Status: 422, Error: "no"})
	settle(t, b, "t/eager", event.Outcome{Offset: 1, Row: true, Exception: &x.Exception})
	if l = letters(t, b); len(l) != 1 || len(l[0].Exception.History) != 1 || l[0].Edited == nil {
		t.Errorf("%+v", l)
	}
	sameOnDisk(t, b)
}
