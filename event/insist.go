package event

import (
	"context"
	"errors"
	"time"
)

const (
	insistFirst = 50 * time.Millisecond // between the first two tries; each later pause is twice as long
	insistMost  = 5 * time.Second
)

// Insist calls try until it is refused no more for want of room or time (ErrFull, ErrBusy) and returns what it gave, or until ctx ends,
// and returns the cause of that. refused, if it is not nil, hears of the refusals once the pauses are at their longest, 5 s.
func Insist(ctx context.Context, clock Clock, try func() error, refused func(err error)) error {
	for pause := insistFirst; ; pause = min(2*pause, insistMost) {
		err := try()
		if !errors.Is(err, ErrFull) && !errors.Is(err, ErrBusy) {
			return err
		}
		if pause == insistMost && refused != nil {
			refused(err)
		}
		again, release := clock.After(pause)
		select {
		case <-again:
		case <-ctx.Done():
			release()
			return context.Cause(ctx)
		}
	}
}
