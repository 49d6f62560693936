package router

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/millrace-run/millrace/event"
)

const (
	ringBudget   = 4 << 20 // bytes for all topics of the process
	ringOverhead = 512     // about what an event costs beside its text and data
	runOverhead  = 128     // about what a run costs beside its events
)

// run is what a runner made of the events that it read at once: all from one offset to another. Those that were dropped are those
// that are not kept, so they cost nothing. It does not change once it is in the ring.
type run struct {
	from, to event.Offset
	received time.Time // of the first
	kept     []shaped  // by offset
	bytes    int64
}

func newRun(from, to event.Offset, received time.Time, kept []shaped) run {
	r := run{from: from, to: to, received: received, kept: kept, bytes: runOverhead}
	for i := range kept {
		r.bytes += kept[i].weight()
	}
	return r
}

// find is the place of the first event kept that does not lie before an offset.
func (r *run) find(o event.Offset) int {
	i, _ := slices.BinarySearchFunc(r.kept, o, func(s shaped, o event.Offset) int { return cmp.Compare(s.offset, o) })
	return i
}

// split divides a run into two, each with one of its events at least.
func (r *run) split() (first, second run) {
	half := len(r.kept) / 2
	at := r.kept[half].offset
	return newRun(r.from, at-1, r.received, r.kept[:half:half]), newRun(at, r.to, r.kept[half].received, r.kept[half:])
}

// ring keeps what a runner shaped last, for the sinks that read behind it. It forgets the oldest when it is full: whoever misses
// an event shapes it again. The runner puts, any goroutine gets.
type ring struct {
	budget int64

	mu    sync.Mutex // guards everything below; held for a few runs at a time
	runs  []run      // ascending
	bytes int64
}

func newRing(budget int64) *ring { return &ring{budget: budget} }

// put adds a run whose offsets are higher than all before, in pieces that are small beside the budget.
func (r *ring) put(x run) {
	if x.bytes > r.budget/4 && len(x.kept) > 1 {
		first, second := x.split()
		r.put(first)
		r.put(second)
		return
	}
	if x.bytes > r.budget {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.runs = append(r.runs, x)
	n := 0
	for r.bytes += x.bytes; r.bytes > r.budget; n++ {
		r.bytes -= r.runs[n].bytes
		r.runs[n] = run{}
	}
	r.runs = r.runs[n:]
}

// runsAtOnce is how many runs a look returns at most.
const runsAtOnce = 8

// after adds to runs the first ones of which some offsets lie behind o, up to runsAtOnce.
func (r *ring) after(o event.Offset, runs []run) []run {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, _ := slices.BinarySearchFunc(r.runs, o, func(x run, o event.Offset) int {
		if x.to <= o {
			return -1
		}
		return 1
	})
	return append(runs, r.runs[i:min(len(r.runs), i+runsAtOnce)]...)
}
