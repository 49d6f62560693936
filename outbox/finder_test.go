package outbox

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
)

// TestRowsOfOneSegment: rows that are due in any order read each of their segments once.
func TestRowsOfOneSegment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	b := opened(t, Options{Path: path})
	const n = 200
	for _, from := range []int{0, n / 2} {
		var events []event.Event
		for i := range n / 2 {
			events = append(events, event.Event{ID: fmt.Sprint(from + i + 1)})
		}
		if err := commit(t.Context(), b, appending(events...)); err != nil {
			t.Fatal(err)
		}
	}
	for o := event.Offset(1); o <= n; o++ {
		x := retrying(o, false)
		x.Exception.NextAt = time.Unix(int64(o*7919%n)+1, 0) // neither segment's rows are due together
		settle(t, b, "t/eager", x)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = opened(t, Options{Path: path})                        // without its ring
	if _, err := b.Find(t.Context(), "none", 0); err != nil { // the index of ids has read all that it wants to
		t.Fatal(err)
	}
	reads := countSegmentReads(t, b)
	rows, _, err := subscribed(t, b, "t/eager").Due(t.Context(), time.Now(), n)
	if err != nil || len(rows) != n || reads.Load() != 2 {
		t.Errorf("%d rows with %d reads, %v", len(rows), reads.Load(), err)
	}
	for i := range rows {
		if rows[i].Record.Event.ID != fmt.Sprint(rows[i].Record.Offset) || i > 0 && rows[i].Exception.NextAt.Before(rows[i-1].Exception.NextAt) {
			t.Errorf("row %d: %+v", i, rows[i])
		}
	}
}

// countSegmentReads counts the segments that are read from now on.
func countSegmentReads(t *testing.T, b *Outbox) *atomic.Int64 {
	t.Helper()
	var reads atomic.Int64
	b.readers.mu.Lock()
	defer b.readers.mu.Unlock()
	for range maxReaders {
		c, err := openReader(b.path)
		if err != nil {
			t.Fatal(err)
		}
		c.fault = func(query string) error {
			if strings.Contains(query, "body FROM segments") {
				reads.Add(1)
			}
			return nil
		}
		b.readers.idle = append(b.readers.idle, c)
	}
	return &reads
}
