package tail

import (
	"testing"

	"github.com/millrace-run/millrace/event"
)

// A few lines between others that are too long must not keep all that was read in memory: the log counts their own bytes only.
func TestFewLinesKeepNoBuffer(t *testing.T) {
	for read, shared := range map[int64]bool{10: true, 1 << 20: false} {
		buffer := []byte("one two ")
		b := &batch{bytes: read}
		b.begin(&file{}, buffer, nil, 0)
		b.add(0, 3)
		b.add(4, 7)
		r := b.records()
		made := event.Batch{Count: 2, Make: r.make, Complete: r.complete}
		events := made.All()
		clear(buffer)
		if got := events[1].Data[0] == 0; got != shared || len(events) != 2 {
			t.Errorf("of %d bytes %d lines are left, shared is %v", read, len(events), got)
		}
	}
}
