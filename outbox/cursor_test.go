package outbox

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/millrace-run/millrace/event"
)

// TestCursor compares a cursor, stored and loaded again now and then, with a plain set of settled offsets.
func TestCursor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c cursor
		settled := map[event.Offset]bool{}
		end := event.Offset(rapid.IntRange(0, 3).Draw(t, "gaps")) * 5000
		for from := event.Offset(100); from < end; from += 5000 {
			to := from + event.Offset(rapid.IntRange(0, 4990).Draw(t, "width"))
			c.gaps = append(c.gaps, gap{from, to})
			for o := from; o <= to; o++ {
				settled[o] = true
			}
		}
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			o := c.at + event.Offset(rapid.SampledFrom([]int{-1, 0, 1, 1, 2, 3, 64, 65, 4095, 4096, 4097}).Draw(t, "step"))
			if o < 1 {
				continue
			}
			err := c.settle(o)
			_, passed := c.gap(o)
			if beyond := o > c.at+event.Window && !passed; beyond != (err != nil) && o > c.at {
				t.Fatalf("settle(%d) with the cursor at %d: %v", o, c.at, err)
			}
			if err == nil {
				settled[o] = true
			}
			want := c.at
			for settled[want+1] {
				want++
			}
			if c.at != want || c.at > 0 && !settled[c.at] {
				t.Fatalf("after settle(%d) the cursor is at %d, want %d", o, c.at, want)
			}
			for o := c.at + 1; o <= c.at+event.Window; o += 7 {
				if c.settled(o) != settled[o] {
					t.Fatalf("settled(%d) = %v with the cursor at %d", o, c.settled(o), c.at)
				}
			}
			c = stored(t, c)
		}
	})
}

// stored is c after a round trip through its columns.
func stored(t *rapid.T, c cursor) cursor {
	again := cursor{at: c.at}
	if err := again.setAhead(c.aheadBytes()); err != nil {
		t.Fatal(err)
	}
	if err := again.setGaps(c.gapBytes()); err != nil {
		t.Fatal(err)
	}
	return again
}
