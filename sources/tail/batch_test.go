package tail

import "testing"

// A few lines between others that are too long must not keep all that was read in memory: the log counts their own bytes only.
func TestFewLinesKeepNoBuffer(t *testing.T) {
	for read, shared := range map[int64]bool{100: true, 1 << 20: false} {
		buffer := []byte("one two ")
		b := &batch{bytes: read}
		b.add(&file{}, 0, buffer[:3])
		b.add(&file{}, 4, buffer[4:7])
		events := b.named()
		clear(buffer)
		if got := events[1].Data[0] == 0; got != shared || len(events) != 2 {
			t.Errorf("of %d bytes %d lines are left, shared is %v", read, len(events), got)
		}
	}
}
