package outbox

import (
	"context"
	"database/sql/driver"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
)

// opened is an outbox with crashLayout that is closed at the end of the test. Without a path it is a new one.
func opened(t *testing.T, o Options) *Outbox {
	t.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(t.TempDir(), "outbox.db")
	}
	b, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	if err := b.Configure(t.Context(), crashLayout); err != nil {
		t.Fatal(err)
	}
	return b
}

func subscribed(t *testing.T, b *Outbox, name string) *subscription {
	t.Helper()
	if _, err := b.Subscribe(name); err != nil {
		t.Fatal(err)
	}
	return b.subscription(name)
}

// put appends events with these ids, each in a commit and segment of its own.
func put(t *testing.T, b *Outbox, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if _, err := b.Commit(t.Context(), appending(event.Event{ID: id, Source: "/a", Type: "t"})); err != nil {
			t.Fatal(err)
		}
	}
}

func appending(events ...event.Event) event.Commit {
	return event.Commit{Appends: []event.Append{{Topic: "t", Events: events}}}
}

// settle commits outcomes and waits for it.
func settle(t *testing.T, b *Outbox, name string, outcomes ...event.Outcome) {
	t.Helper()
	_, err := b.Commit(t.Context(), event.Commit{Settles: []event.Settle{{Subscription: name, Outcomes: outcomes}}})
	if err != nil {
		t.Fatal(err)
	}
}

// retrying is an outcome with a row that is due since long ago.
func retrying(o event.Offset, row bool) event.Outcome {
	return event.Outcome{Offset: o, Row: row, Exception: &event.Exception{
		State: event.Retry, Reason: event.ReasonFailed, Attempts: 1, NextAt: time.Unix(1, 0).UTC(),
	}}
}

// due is which offsets Due hands out.
func due(t *testing.T, s *subscription) string {
	t.Helper()
	rows, _, err := s.Due(t.Context(), time.Now(), 100)
	if err != nil {
		t.Fatal(err)
	}
	var offsets []event.Offset
	for _, x := range rows {
		offsets = append(offsets, x.Record.Offset)
	}
	return fmt.Sprint(offsets)
}

// outside runs statements on a connection that is not the outbox's own.
func outside(t *testing.T, path string, statements ...string) *conn {
	t.Helper()
	c, err := openConn(path, "rwc")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range statements {
		if _, err := c.db.Exec(s, nil); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = c.close() })
	return c
}

// change runs statements on a file that nobody has open.
func change(t *testing.T, path string, statements ...string) {
	t.Helper()
	if err := outside(t, path, statements...).close(); err != nil {
		t.Fatal(err)
	}
}

// sameOnDisk compares what the outbox has in memory with its file.
func sameOnDisk(t *testing.T, b *Outbox) {
	t.Helper()
	c := outside(t, b.path)
	defer func() { _ = c.close() }()
	for name, topic := range b.topics {
		last, err := c.integer("SELECT max(purged, (SELECT coalesce(max(first + n - 1), 0) FROM segments WHERE topic = ?1)) FROM topics WHERE id = ?1",
			topic.id)
		if err != nil || event.Offset(last) != topic.head() {
			t.Errorf("topic %s ends at %d on disk and at %d in memory (%v)", name, last, topic.head(), err)
		}
	}
	for name, s := range b.subscriptions {
		cursor := s.snapshot()
		err := c.each("SELECT cursor, ahead FROM subscriptions WHERE id = ?", func(columns []driver.Value) error {
			ahead, _ := columns[1].([]byte)
			if columns[0] != int64(cursor.at) || string(ahead) != string(cursor.aheadBytes()) {
				t.Errorf("%s is at %v on disk and at %d in memory, or their windows differ", name, columns[0], cursor.at)
			}
			return nil
		}, s.id)
		if err != nil || len(s.changing) > 0 {
			t.Errorf("%s: %v; rows that are said to be changing: %v", name, err, s.changing)
		}
	}
	sameKeysOnDisk(t, b)
	if n, err := c.integer("SELECT commits FROM file"); err != nil || n != b.writer.commits {
		t.Errorf("%d commits on disk, %d in memory (%v)", n, b.writer.commits, err)
	}
}

// files are the contents of a folder by name, without the lock.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, f := range list {
		if filepath.Ext(f.Name()) == ".lock" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[f.Name()] = string(b)
	}
	return all
}

// late is a context whose deadline passes when the test says so.
type late struct {
	context.Context
	done chan struct{}
}

func (l late) Done() <-chan struct{} { return l.done }

func (l late) Err() error {
	select {
	case <-l.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// toVersion3 makes a file as version 3 of the schema has it.
var toVersion3 = []string{
	"ALTER TABLE deliveries DROP COLUMN history", "ALTER TABLE deliveries DROP COLUMN edited", "ALTER TABLE deliveries DROP COLUMN origin",
	"PRAGMA user_version = 3",
}

// toVersion2 makes a file as version 2 of the schema has it.
var toVersion2 = append(toVersion3[:3:3], "DROP INDEX deliveries_by_key", "ALTER TABLE deliveries DROP COLUMN key", "PRAGMA user_version = 2")

// toVersion1 makes a file as version 1 of the schema has it.
var toVersion1 = append(toVersion2[:5:5], "DROP TABLE keys", "DROP TABLE secrets", "DROP TABLE receipts", "DROP TABLE id_blocks", "DROP TABLE ids", "DROP TABLE bodies",
	"ALTER TABLE topics DROP COLUMN purged", "ALTER TABLE topics DROP COLUMN freed",
	"ALTER TABLE segments DROP COLUMN at", "ALTER TABLE segments DROP COLUMN total", "PRAGMA user_version = 1")
