package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// tune sets what the Go runtime leaves to the program, unless the environment says otherwise. The writer of the outbox is in the
// kernel for most of a commit, and the scheduler keeps a processor for it there: one more lets all cores work meanwhile.
func tune() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
	tuneMalloc()
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		paceFor(0).set(pace{})
	}
}

// Twice the usual heap between two collections takes a tenth off the cost of an event. But with many events in memory that would be
// a large part of what the process takes, and a collection then costs little beside what was made since the last. So the heap grows
// by growth between two, by three quarters of what lives if that is more, and never by more than twice of it. The limit makes the runtime give
// back at once what pieces of different sizes leave between them; it moves with what lives, so that it never makes the program collect
// all the time.
const (
	growth     = 12 << 20 // bytes
	leastLimit = 38 << 20 // of all that the runtime takes
	minPercent = 75
	maxPercent = 200
)

// pace is how much garbage there may be.
type pace struct {
	percent int
	limit   int64
}

func paceFor(live int64) pace {
	return pace{int(max(minPercent, min(maxPercent, 100*growth/max(1, live)))), max(leastLimit, 2*live)}
}

// set makes a pace hold. After every collection, of which it hears by an object that nobody keeps, the next is set: not for a small
// change, because the world stops for each.
func (p pace) set(before pace) {
	if far(int64(p.percent), int64(before.percent)) {
		debug.SetGCPercent(p.percent)
	} else {
		p.percent = before.percent
	}
	if far(p.limit, before.limit) {
		debug.SetMemoryLimit(p.limit)
	} else {
		p.limit = before.limit
	}
	runtime.AddCleanup(&sentinel{}, func(p pace) { paceFor(live()).set(p) }, p)
}

// far says whether two values differ by more than a tenth.
func far(a, b int64) bool { return 10*max(a-b, b-a) > b }

// sentinel is large enough to be a piece of memory of its own.
type sentinel struct{ _ [64]byte }

// live is how many bytes the last collection left.
func live() int64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return int64(sample[0].Value.Uint64())
}
