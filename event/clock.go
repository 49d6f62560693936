package event

import "time"

// Clock tells the time and wakes at it. Everything that waits takes one, so that tests need not sleep.
type Clock interface {
	// Now is the current time.
	Now() time.Time
	// After returns a channel that receives once, d from now, and a function that releases the timer early.
	After(d time.Duration) (<-chan time.Time, func())
}

// SystemClock is the machine's clock.
type SystemClock struct{}

// Now is time.Now.
func (SystemClock) Now() time.Time { return time.Now() }

// After starts a timer of the machine.
func (SystemClock) After(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}
