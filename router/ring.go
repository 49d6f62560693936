package router

import (
	"sync"

	"github.com/millrace-run/millrace/event"
)

const (
	ringEntries  = 8192    // a power of two
	ringBudget   = 8 << 20 // bytes for all topics of the process
	ringOverhead = 512     // about what an entry costs beside its text and data
)

// ring keeps what a runner shaped last, for the sinks that read at the head of the topic. It forgets the oldest when it is full:
// whoever misses an entry shapes the event again. The runner puts, any goroutine gets.
type ring struct {
	budget int64

	mu        sync.Mutex // guards everything below; held for one batch at a time
	slots     []*shaped  // by offset modulo its length; made at the first put, so that an idle pipeline costs nothing
	low, high event.Offset
	bytes     int64
}

func newRing(budget int64) *ring { return &ring{budget: budget} }

// put adds entries whose offsets are higher than all before.
func (r *ring) put(batch []*shaped) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.slots == nil {
		r.slots = make([]*shaped, ringEntries)
		r.low = batch[0].offset
	}
	for _, s := range batch {
		if s.weight() > r.budget {
			continue
		}
		r.evictLocked(s.offset-ringEntries, r.budget-s.weight())
		r.slots[s.offset%ringEntries] = s
		r.high = s.offset
		r.bytes += s.weight()
	}
}

// evictLocked drops entries up to an offset, and further until no more than so many bytes are left.
func (r *ring) evictLocked(upTo event.Offset, bytes int64) {
	if upTo >= r.high {
		clear(r.slots)
		r.low, r.bytes = upTo+1, 0
		return
	}
	for ; r.low <= r.high && (r.low <= upTo || r.bytes > bytes); r.low++ {
		slot := &r.slots[r.low%ringEntries]
		if *slot != nil && (*slot).offset == r.low {
			r.bytes -= (*slot).weight()
			*slot = nil
		}
	}
}

// get looks up records by their offsets; what the ring no longer has is nil.
func (r *ring) get(records []event.Record) []*shaped {
	found := make([]*shaped, len(records))
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.slots == nil {
		return found
	}
	for i := range records {
		if s := r.slots[records[i].Offset%ringEntries]; s != nil && s.offset == records[i].Offset {
			found[i] = s
		}
	}
	return found
}
