package router

import (
	"context"
	"slices"
	"time"

	"github.com/millrace-run/millrace/event"
)

// maxSpan is over how many offsets of a lane a batch may reach that waits for more events. It is more than a window because such a
// batch is settled as a whole: in the order of the offsets, which takes the cursor along.
const maxSpan = 16 * Window

// newBatch begins a batch.
func (s *serial) newBatch() *batcher {
	for _, l := range s.lanes {
		l.first = 0
	}
	return newBatcher(s.plan.Batch)
}

// waits says whether a batch waits for more events, and begins its time.
func (s *serial) waits(b *batcher, now time.Time) bool {
	if b.full() || len(b.tasks) == 0 || s.plan.Batch.Wait <= 0 {
		return false
	}
	if b.until.IsZero() {
		b.until = now.Add(s.plan.Batch.Wait)
	}
	return now.Before(b.until)
}

// span is over how many offsets of a lane the batch may reach with the lane's next event. What is or was a dead letter of the
// runner is taken within a window only: a redrive gives what was taken a row, and a row must be within the window.
func (s *serial) span(l *lane) event.Offset {
	if s.plan.Batch.Wait <= 0 || l.fresh[0].disputed != nil {
		return Window
	}
	return maxSpan
}

// flushNear settles what the sink did not want while a batch waits, as far as a window reaches: a redrive must not find it
// unsettled for long.
func (s *serial) flushNear(work context.Context) error {
	for _, l := range s.lanes {
		near := func(o event.Outcome) bool { return l.first == 0 || o.Offset < l.first+Window }
		if !slices.ContainsFunc(l.outcomes, near) {
			continue
		}
		far := slices.DeleteFunc(slices.Clone(l.outcomes), near)
		l.outcomes = slices.DeleteFunc(l.outcomes, func(o event.Outcome) bool { return !near(o) })
		err := l.flush(work)
		if l.outcomes = append(l.outcomes, far...); err != nil {
			return err
		}
	}
	return nil
}
