package router

import (
	"sync"
	"time"
)

// fold decides which of many log lines are worth writing: an equal one at most every 10 s, a different one at most every second.
// The zero fold is ready.
type fold struct {
	mu     sync.Mutex // guards all below
	last   string
	at     time.Time
	hidden int
}

const (
	foldEqual     = 10 * time.Second
	foldDifferent = time.Second
)

// allow says whether to write a line, and how many were hidden before it.
func (f *fold) allow(now time.Time, line string) (hidden int, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	pause := foldEqual
	if line != f.last {
		pause = foldDifferent
	}
	if !f.at.IsZero() && now.Sub(f.at) < pause {
		f.hidden++
		return 0, false
	}
	hidden = f.hidden
	f.last, f.at, f.hidden = line, now, 0
	return hidden, true
}
