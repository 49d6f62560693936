package router

import (
	"math"
	"time"

	"github.com/millrace-run/millrace/pipelines"
)

// retryAfterMax bounds what a destination may ask for with Retry-After.
const retryAfterMax = time.Hour

// backoff is the delay after the n-th failed attempt, n from 1: min(Max, Initial·Factor^(n-1)), of which jitter in [0,1) takes
// a part between half and all. With the defaults 1s, 2, 15m it is at most 1s 2s 4s 8s … 512s 900s 900s. What the
// destination asked for, up to an hour, is the least.
//
// A schedule is taken as it stands: whoever writes one means its times. Failures that do not count may be more than it has; they go on
// with the last.
func backoff(r pipelines.Retry, n int, after time.Duration, jitter float64) time.Duration {
	if k := len(r.Schedule); k > 0 {
		return max(r.Schedule[min(max(n, 1), k)-1], min(after, retryAfterMax))
	}
	// A float holds what a Duration cannot: at a high n the power is beyond any limit, or +Inf.
	full := float64(r.Initial) * math.Pow(max(r.Factor, 1), float64(max(n, 1)-1))
	if r.Max > 0 {
		full = min(full, float64(r.Max))
	}
	full = min(full, float64(math.MaxInt64/2))
	d := time.Duration(full/2 + full/2*jitter)
	return max(d, min(after, retryAfterMax))
}
