package outbox

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-run/millrace/event"
)

// spoilRoot overwrites the first page of a table's tree with what no page can be.
func spoilRoot(t *testing.T, path, table string) {
	t.Helper()
	c := outside(t, path)
	page, err := c.integer("SELECT rootpage FROM sqlite_schema WHERE name = ?", table)
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	if err != nil || page < 2 {
		t.Fatal(page, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{0x77}, 100), (page-1)*pageSize); err != nil {
		t.Fatal(err)
	}
}

// A damaged page of what can be had again or done without stops nobody: events come and are settled, and a look-up that needs the
// page says so.
func TestDamagedPages(t *testing.T) {
	for _, table := range []string{"receipts", "receipts_by_place", "ids", "id_blocks"} {
		t.Run(table, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "outbox.db")
			for round := range 3 {
				b := opened(t, small(path))
				for k := range 2 {
					at := round*1200 + k*600
					putMany(t, b, at+1, at+600)
					var outcomes []event.Outcome
					for o := at + 1; o <= at+600; o++ {
						outcomes = append(outcomes, delivered(event.Offset(o), 1, 200, 0))
					}
					settle(t, b, "t/eager", outcomes...)
				}
				if round == 0 {
					indexed(t, b, 1200/smallBlock)
				}
				if cursor, _ := b.subscription("t/eager").Position(); int(cursor) != round*1200+1200 || b.Err() != nil {
					t.Fatalf("round %d: settled up to %d, %v", round, cursor, b.Err())
				}
				checkDamaged(t, b, table, round)
				if round == 2 { // what a purge does to the index must not fail it
					topic := b.topic("t")
					forget := func(c *conn) (func(), error) { return nil, b.ids.forget(c, topic, 128) }
					if err := b.do(t.Context(), forget); (err == nil) != strings.HasPrefix(table, "receipts") {
						t.Errorf("forgetting: %v", err)
					}
					if err := b.do(t.Context(), forget); err != nil {
						t.Errorf("forgetting again: %v", err)
					}
				}
				if err := b.Close(); err != nil || b.Err() != nil {
					t.Fatal(err, b.Err())
				}
				if round == 0 {
					spoilRoot(t, path, table)
				}
			}
		})
	}
}

func checkDamaged(t *testing.T, b *Outbox, table string, round int) {
	t.Helper()
	receipts, receiptsErr := b.Receipts(t.Context(), "t/eager", 1)
	found, findErr := b.Find(t.Context(), "e1", 0)
	late := fmt.Sprint("e", round*1200+1200)
	if strings.HasPrefix(table, "receipts") {
		if got := places(found); got != "t@1" || findErr != nil {
			t.Errorf("e1 is at %q, %v", got, findErr)
		}
		if round > 0 && receiptsErr == nil || round == 0 && len(receipts) != 1 {
			t.Errorf("receipts in round %d: %v, %v", round, receipts, receiptsErr)
		}
		return
	}
	if len(receipts) != 1 || receiptsErr != nil {
		t.Errorf("receipts in round %d: %v, %v", round, receipts, receiptsErr)
	}
	if round > 0 && (findErr == nil || !strings.Contains(findErr.Error(), "topic t, index of event ids")) || round == 0 && places(found) != "t@1" {
		t.Errorf("e1 in round %d: %v, %v", round, places(found), findErr)
	}
	list, err := b.Find(t.Context(), late, 0)
	if round == 0 && (err != nil || len(list) != 1) {
		t.Errorf("%s: %v, %v", late, list, err)
	}
}

// breakChain makes the overflow pages of the body that consists of this byte point to where no page is.
func breakChain(t *testing.T, path string, fill byte) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found, full := false, bytes.Repeat([]byte{fill}, pageSize-4)
	for at := 0; at+pageSize <= len(content); at += pageSize {
		if bytes.Equal(content[at+4:at+pageSize], full) {
			copy(content[at:], "wwww")
			found = true
		}
	}
	if !found {
		t.Fatal("no page of it")
	}
	write(t, path, string(content))
}

// TestDamagedHistory: a purge that comes to a damaged page leaves that topic as it is and goes on with the others, and nobody else
// notices.
func TestDamagedHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "outbox.db")
		b, _ := keeping(t, Options{Path: path})
		layout := event.Layout{Topics: []event.Topic{{Name: "t"}, {Name: "u"}}}
		if err := b.Configure(t.Context(), layout); err != nil {
			t.Fatal(err)
		}
		for i, topic := range []string{"t", "u", "t"} {
			e := event.Event{ID: fmt.Sprint(i), Received: b.clock.Now(), Data: bytes.Repeat([]byte{byte('a' + i)}, 50_000)}
			if err := commit(t.Context(), b, event.Commit{Appends: []event.Append{{Topic: topic, Events: []event.Event{e}}}}); err != nil {
				t.Fatal(err)
			}
		}
		settle(t, b, "t/eager", all(1, 2)...)
		settle(t, b, "t/lazy", all(1, 2)...)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		breakChain(t, path, 'a')
		for _, age := range []time.Duration{time.Minute, 0} { // alone, and with a commit while room is short
			o := Options{Path: path, Retention: Retention{Age: age}}
			if age == 0 {
				o.MaxSize = 300_000
			}
			b, _ = keeping(t, o)
			if err := b.Configure(t.Context(), layout); err != nil {
				t.Fatal(err)
			}
			pass(time.Hour)
			receive(t, b, "u", 50_000, 1)
			pass(time.Hour)
			if b.Err() != nil {
				t.Fatal(b.Err())
			}
			purgedTo(t, b, "t", 0)
			if n := b.topic("u").purgedTo(); age > 0 && n < 2 {
				t.Errorf("the other topic is purged to %d", n)
			}
			if err := b.Close(); err != nil || b.Err() != nil {
				t.Fatal(err, b.Err())
			}
		}
	})
}

// TestDamagedBodies: rows whose rescued event lies on a damaged page end like others, by an outcome or when they are dropped.
func TestDamagedBodies(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	b := yielding(t, path)
	big := event.Event{ID: "big", Data: bytes.Repeat([]byte{'a'}, 50_000)}
	for range 4 {
		if err := commit(t.Context(), b, appending(big)); err != nil {
			t.Fatal(err)
		}
	}
	settle(t, b, "t/lazy", all(1, 4)...)
	settle(t, b, "t/eager", dead(1, false), retrying(2, false), retrying(3, false), dead(4, false))
	until(t, "purge", func() bool { return b.topic("t").purgedTo() == 4 })
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	breakChain(t, path, 'a')
	b = yielding(t, path)
	settle(t, b, "t/eager", event.Outcome{Offset: 2, Row: true})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = yielding(t, path)
	if n, err := b.Drop(t.Context(), event.DeadQuery{}); err != nil || n != 2 {
		t.Error(n, err)
	}
	settle(t, b, "t/eager", event.Outcome{Offset: 3, Row: true})
	put(t, b, "5")
	if n := bodies(t, b); b.Err() != nil || n != "4" {
		t.Errorf("%v, %s bodies", b.Err(), n)
	}
}
