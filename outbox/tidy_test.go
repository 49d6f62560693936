package outbox

import (
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
)

// yielding is an outbox that keeps no history, with small blocks of ids.
func yielding(t *testing.T, path string) *Outbox {
	t.Helper()
	o := small(path)
	o.Retention = Retention{Size: 1}
	return opened(t, o)
}

// forgetRing makes readers go to the disk.
func forgetRing(b *Outbox) {
	b.ring.mu.Lock()
	defer b.ring.mu.Unlock()
	b.ring.byname, b.ring.blocks, b.ring.bytes = nil, nil, 0
}

// settleAll settles a range for both readers but for the events that are to be dead.
func settleAll(t *testing.T, b *Outbox, from, to event.Offset, kept ...event.Offset) {
	t.Helper()
	for o := from; o <= to; o += event.Window {
		end := min(to, o+event.Window-1)
		settle(t, b, "t/lazy", all(o, end)...)
		outcomes := all(o, end)
		for _, k := range kept {
			if o <= k && k <= end {
				outcomes[k-o] = dead(k, false)
			}
		}
		settle(t, b, "t/eager", outcomes...)
	}
}

// until waits for what another goroutine does.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func idRows(t *testing.T, b *Outbox) (blocks, rows int64) {
	t.Helper()
	c := outside(t, b.path)
	defer func() { _ = c.close() }()
	blocks, err := c.integer("SELECT count(*) FROM id_blocks")
	if err != nil {
		t.Fatal(err)
	}
	if rows, err = c.integer("SELECT count(*) FROM ids"); err != nil {
		t.Fatal(err)
	}
	return blocks, rows
}

// TestPurgeAndFind: what was purged leaves the index too, is not found and fails no look-up; what a dead letter names is found
// wherever it is; so also after a start, and when a topic has nothing left.
func TestPurgeAndFind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	b := yielding(t, path)
	for at := 1; at <= 1000; at += 10 {
		putMany(t, b, at, at+9)
	}
	indexed(t, b, 15)
	check := func(purged event.Offset, head int, kept ...int) {
		t.Helper()
		until(t, "purge", func() bool { return b.topic("t").purgedTo() == purged })
		until(t, "tidy", func() bool {
			blocks, rows := idRows(t, b)
			whole := int64(head/smallBlock) - int64(purged/smallBlock)
			return blocks == whole && rows == whole*idBuckets
		})
		forgetRing(b)
		for i := 1; i <= head; i++ {
			want := ""
			if event.Offset(i) > purged || slices.Contains(kept, i) {
				want = fmt.Sprint("t@", i)
			}
			if got := found(t, b, fmt.Sprint("e", i), 0); got != want {
				t.Fatalf("purged up to %d: e%d is at %q, want %q", purged, i, got, want)
			}
		}
	}
	settleAll(t, b, 1, 505, 77, 499)
	check(500, 1000, 77, 499)
	settleAll(t, b, 506, 1000)
	check(1000, 1000, 77, 499)
	for range 2 {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		b = yielding(t, path)
		check(1000, 1000, 77, 499)
	}
	putMany(t, b, 1001, 1100)
	check(1000, 1100, 77, 499)
	if got := found(t, b, "e77", 1); got != "t@77" {
		t.Error(got)
	}
	if n, err := b.Drop(t.Context(), event.DeadQuery{}); err != nil || n != 2 {
		t.Fatal(n, err)
	}
	check(1000, 1100)
}

// TestFindWhileItIsPurged: a look-up finds what is there from its beginning to its end, while the index grows and history goes.
func TestFindWhileItIsPurged(t *testing.T) {
	b := yielding(t, filepath.Join(t.TempDir(), "outbox.db"))
	putMany(t, b, 1, 10)
	settleAll(t, b, 1, 10, 5)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for at := 11; at <= 3000; at += 30 {
			events := make([]event.Event, 30)
			for i := range events {
				events[i].ID = fmt.Sprint("e", at+i)
			}
			c := appending(events...)
			if at > 11 {
				for _, s := range []string{"t/eager", "t/lazy"} {
					c.Settles = append(c.Settles, event.Settle{Subscription: s, Outcomes: all(event.Offset(at-30), event.Offset(at-1))})
				}
			}
			if _, err := b.Commit(t.Context(), c); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		forgetRing(b)
		if got := found(t, b, "e5", 0); got != "t@5" {
			t.Fatalf("the dead letter is at %q", got)
		}
		last := b.topic("t").head()
		if got := found(t, b, fmt.Sprint("e", last), 0); got != fmt.Sprint("t@", last) && got != "" {
			t.Fatalf("e%d is at %q", last, got)
		}
	}
}

// TestFindForgetsDamageThatWasPurged: what could not be read and is gone is no reason to complain of.
func TestFindForgetsDamageThatWasPurged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	b := opened(t, small(path))
	putMany(t, b, 1, 10)
	putMany(t, b, 11, 20)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	change(t, path, "UPDATE segments SET body = zeroblob(100) WHERE first = 1")
	b = yielding(t, path)
	if list, err := b.Find(t.Context(), "e11", 0); places(list) != "t@11" || err == nil || !strings.Contains(err.Error(), "events 1 to 10") {
		t.Errorf("%v, %v", list, err)
	}
	settleAll(t, b, 1, 10)
	until(t, "purge", func() bool { return b.topic("t").purgedTo() == 10 })
	if got := found(t, b, "e11", 0); got != "t@11" {
		t.Error(got)
	}
}
