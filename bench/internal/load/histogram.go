package load

import (
	"math/bits"
	"time"
)

// Histogram counts durations in buckets that are 1/64 as wide as the value they hold, so that a quantile is right within 1.6 %.
// The zero value is empty. It is not safe for concurrent use: each worker has its own, and they are merged.
type Histogram struct {
	counts [58 * 64]uint32
	n      uint64
	max    time.Duration
}

// Add counts d; a negative one counts as 0.
func (h *Histogram) Add(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(uint64(d))]++
	h.n++
	h.max = max(h.max, d)
}

// bucket is exact below 128; above it the top seven bits and their place choose.
func bucket(v uint64) int {
	shift := max(bits.Len64(v)-7, 0)
	return shift*64 + int(v>>shift)
}

// floorOf is the least value of a bucket.
func floorOf(i int) uint64 {
	if i < 128 {
		return uint64(i)
	}
	shift := i/64 - 1
	return uint64(i-shift*64) << shift
}

// Merge adds what o counted.
func (h *Histogram) Merge(o *Histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.max = max(h.max, o.max)
}

// Count is how many durations were added.
func (h *Histogram) Count() uint64 { return h.n }

// Max is the longest of them.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile is the duration that a share q of all (0 to 1) did not exceed, by the least value of its bucket; 0 if there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.n))
	var seen uint64
	for i, c := range h.counts {
		if seen += uint64(c); seen > rank {
			return time.Duration(floorOf(i))
		}
	}
	return h.max
}
