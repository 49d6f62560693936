package router

import (
	"slices"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
)

const (
	breakerSample = 20 // attempts
	breakerSpan   = 10 * time.Second
)

// breaker decides when a sink may be tried, and by how many at once. It opens after enough Unavailable in a row of different
// events, when half of the last 20 attempts within 10 s were Unavailable, or at one refused connection. While it is open one
// probe at a time may go, and the first success closes it. Its methods belong to one goroutine; it has no clock of its own.
type breaker struct {
	off         bool
	after       int
	first, most time.Duration // waits between probes
	full        int           // configured concurrency
	each        bool          // failures of one event in a row count too: where an order is kept, no other may be tried

	open    bool
	limit   int       // concurrency now: full, unless the destination failed
	slowed  time.Time // when the limit was last halved
	streak  []place   // different events of the present run of Unavailable
	recent  [breakerSample]sample
	samples int // taken since the breaker closed

	openings int // so far; a probe of an earlier one says no more than any other attempt
	wait     time.Duration
	probeAt  time.Time
	probing  bool
	failed   place // whose probe failed last; zero for none
}

type sample struct {
	at          time.Time
	unavailable bool
}

// newBreaker makes a closed breaker. A nil b is one that never opens.
func newBreaker(b *pipelines.Breaker, r pipelines.Retry, concurrency int) *breaker {
	full := max(concurrency, 1)
	if b == nil {
		return &breaker{off: true, full: full, limit: full}
	}
	most := b.ProbeMax
	if r.Max > 0 {
		most = min(most, r.Max)
	}
	return &breaker{after: max(b.After, 1), first: min(r.Initial, most), most: most, full: full, limit: full}
}

// room says whether another attempt may begin while so many run.
func (b *breaker) room(running int, now time.Time) bool {
	if b.open {
		return !b.probing && !now.Before(b.probeAt)
	}
	return running < b.limit
}

// alarm is when a probe may begin; zero: there is nothing to wait for.
func (b *breaker) alarm() time.Time {
	if !b.open || b.probing {
		return time.Time{}
	}
	return b.probeAt
}

// succeeded takes a success and says whether it closed the breaker.
func (b *breaker) succeeded(now time.Time) (closed bool) {
	b.streak = b.streak[:0]
	if b.open {
		full := b.full
		b.reset()
		b.limit = min(1, full)
		return true
	}
	b.limit = min(b.limit+1, b.full)
	b.sampled(now, false)
	return false
}

func (b *breaker) reset() {
	b.open, b.probing, b.failed, b.samples, b.wait = false, false, place{}, 0, 0
}

// judged takes a failure that says something about the event: the destination is there. A probe that ends so does not close the
// breaker, but the next one may go at once.
func (b *breaker) judged(probe int, now time.Time) {
	b.streak = b.streak[:0]
	if !b.open {
		b.sampled(now, false)
	}
	if b.open && probe == b.openings {
		b.probing, b.probeAt, b.wait, b.failed = false, now, b.first, place{}
	}
}

// unavailable takes a failure of the destination and says whether it opened the breaker.
func (b *breaker) unavailable(p place, f *event.Failure, probe int, now time.Time) (opened bool) {
	if b.off {
		return false
	}
	after := min(f.After, retryAfterMax)
	if b.open {
		if probe == b.openings {
			b.probing, b.failed = false, p
			b.wait = min(2*b.wait, b.most)
			b.probeAt = now.Add(max(b.wait, after))
		}
		return false
	}
	if (b.each || !slices.Contains(b.streak, p)) && len(b.streak) < b.after {
		b.streak = append(b.streak, p)
	}
	b.sampled(now, true)
	if !f.Refused && len(b.streak) < b.after && !b.halfFailed(now) {
		return false
	}
	b.openings++
	b.open, b.wait, b.failed = true, b.first, p
	b.probeAt = now.Add(max(b.wait, after))
	return true
}

func (b *breaker) sampled(now time.Time, unavailable bool) {
	if b.off {
		return
	}
	b.recent[b.samples%breakerSample] = sample{now, unavailable}
	b.samples++
}

func (b *breaker) halfFailed(now time.Time) bool {
	if b.samples < breakerSample {
		return false
	}
	n := 0
	for _, s := range b.recent {
		if now.Sub(s.at) > breakerSpan {
			return false
		}
		if s.unavailable {
			n++
		}
	}
	return 2*n >= breakerSample
}

// slow takes a failure of the destination in an attempt that began at a time: half as many may run at once. What began before the
// last such step says nothing about it. Each success allows one more again, so that the limit doubles while as many succeed as run.
func (b *breaker) slow(begun, now time.Time) {
	if !b.open && begun.After(b.slowed) {
		b.limit, b.slowed = max(1, b.limit/2), now
	}
}

// began notes that an attempt begins, and returns what to say at its end: which opening it probes, 0 for none.
func (b *breaker) began() (probe int) {
	if !b.open {
		return 0
	}
	b.probing = true
	return b.openings
}
