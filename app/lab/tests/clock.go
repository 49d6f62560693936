package tests

import (
	"slices"
	"sync"
	"time"
)

// beginning is the time at which every test begins.
var beginning = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// Clock is an event.Clock that stands still until Advance. Its methods may be called concurrently. Whoever waits on a timer
// must release it when the wait is over, because Pending counts on that.
type Clock struct {
	mu      sync.Mutex // guards everything below
	now     time.Time
	timers  []*timer // not fired, by time, of equal ones the older first
	pending int      // fired and not released
}

type timer struct {
	at    time.Time
	c     chan time.Time
	fired bool
	over  bool // released
}

// NewClock returns a clock that stands at a time.
func NewClock(now time.Time) *Clock { return &Clock{now: now} }

// Now is the time that Advance has set last.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// After returns a timer. Even one of no time at all fires at the next Advance and not before.
func (c *Clock) After(d time.Duration) (<-chan time.Time, func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &timer{at: c.now.Add(max(d, 0)), c: make(chan time.Time, 1)}
	i, _ := slices.BinarySearchFunc(c.timers, t, func(x, t *timer) int {
		if x.at.After(t.at) {
			return 1
		}
		return -1
	})
	c.timers = slices.Insert(c.timers, i, t)
	return t.c, func() { c.release(t) }
}

func (c *Clock) release(t *timer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case t.over:
	case t.fired:
		c.pending--
	default:
		c.timers = slices.DeleteFunc(c.timers, func(x *timer) bool { return x == t })
	}
	t.over = true
}

// Pending is how many timers have fired whose waits are not over.
func (c *Clock) Pending() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pending
}

// Next is when the first timer fires; false: there is none.
func (c *Clock) Next() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.timers) == 0 {
		return time.Time{}, false
	}
	return c.timers[0].at, true
}

// Advance moves the time to a later one, never back, and fires every timer whose time has come.
func (c *Clock) Advance(to time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if to.After(c.now) {
		c.now = to
	}
	n := 0
	for n < len(c.timers) && !c.timers[n].at.After(c.now) {
		t := c.timers[n]
		t.fired = true
		t.c <- c.now
		n++
	}
	c.pending += n
	c.timers = slices.Delete(c.timers, 0, n)
}
