package router

import (
	"math"
	"time"

	"github.com/millrace-run/millrace/pipelines"
)

// bucket is a rate: events go an interval apart, and after a pause as many at once as burst. Instead of tokens it keeps the time at
// which it would be full of them, so that nothing needs to be refilled. Times are nanoseconds on a clock that does not jump.
type bucket struct {
	interval float64
	slack    float64 // by how much an event may come before full: of a burst all but the first
	full     float64 // when as many as burst may go at once again
}

func newBucket(r *pipelines.Rate) bucket {
	interval := r.Limit.Interval()
	return bucket{interval: interval, slack: float64(r.Burst-1) * interval}
}

// next is when an event may go, now at the earliest.
func (b *bucket) next(now float64) float64 {
	// No event is further ahead than a burst; only a clock that went back makes it look so.
	b.full = min(b.full, now+b.slack+b.interval)
	return turn(b.full, b.slack, now)
}

// take counts an event that goes now.
func (b *bucket) take(now float64) { b.full = max(b.full, now) + b.interval }

// turn is when the next event of a bucket may go.
func turn(full, slack, now float64) float64 { return max(now, max(full, now)-slack) }

const (
	keysMax  = 1 << 17 // keys that have buckets of their own: those that are not full
	rounding = 1000    // what a wait in nanoseconds may be off by
)

// buckets are those of the keys of a sink. An event that finds none left for its key is given a time at which to look again, each
// its own, so that a thousand of them do not come at once for one turn. That time is no promise: who comes late, because the sink
// was down, finds what is there then. A key whose bucket is full and that nobody looks for is like none, and is
// forgotten when there are too many. Where even the others are too many, the keys beyond share one bucket: they may get less than their
// rate, never more.
type buckets struct {
	rate  bucket
	keys  map[uint64]turns // by the hash of the key
	most  int              // of them
	sweep float64          // when there may be one to forget
}

// turns are those of one key: when its bucket is full, and behind whom the next that waits is to look.
type turns struct{ full, last float64 }

// sharedKey stands for the keys beyond the bound.
const sharedKey = 0

func newBuckets(r *pipelines.Rate) *buckets {
	return &buckets{rate: newBucket(r), keys: map[uint64]turns{}, most: keysMax}
}

// take counts an event of a key that goes now, and returns now; or it returns when the event is to look again. An event that looks
// again goes before new ones. One that would have to look at limit or later takes nobody's time.
func (b *buckets) take(key uint64, again bool, now, limit float64) (at float64) {
	if _, known := b.keys[key]; !known && len(b.keys) >= b.most && !b.forget(now) {
		key = sharedKey
	}
	k := b.keys[key]
	at = turn(k.full, b.rate.slack, now)
	if at-now < rounding && (again || k.last <= now) {
		k.full = max(k.full, now) + b.rate.interval
		b.keys[key] = k
		return now
	}
	if at = max(at, k.last); at < limit {
		k.last = at + b.rate.interval
		b.keys[key] = k
	}
	return at
}

// forget drops the keys that need not be known, and says whether there is room then. It looks at all of them only when one of them has
// become such.
func (b *buckets) forget(now float64) bool {
	if now < b.sweep {
		return false
	}
	b.sweep = math.Inf(1)
	for key, k := range b.keys {
		if until := max(k.full, k.last); until <= now {
			delete(b.keys, key)
		} else {
			b.sweep = min(b.sweep, until)
		}
	}
	// Many become full one after the other: to look at all for each of them would take longer than to share for a moment.
	b.sweep = max(b.sweep, now+float64(time.Second))
	return len(b.keys) < b.most
}
