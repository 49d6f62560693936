package router

import (
	"context"
	"slices"
	"time"

	"github.com/millrace-run/millrace/event"
)

// maxSpan is over how many offsets of a lane a batch may reach. It is more than a window because a batch is settled as a whole: in
// the order of the offsets, which takes the cursor along. See reach for one of which a part may fail.
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

// span is over how many offsets of a lane the batch may reach with the lane's next event. What is, was or may be a dead letter of
// the runner is taken within a window only: a redrive gives what was taken a row, and a row must be within the window.
func (s *serial) span(l *lane) event.Offset {
	in := &l.fresh[0]
	if in.disputed != nil || in.shaped != nil && in.stray && l.topic.shaper.bury {
		return Window
	}
	return maxSpan
}

// reach divides the tasks into those of the next call and the rest, which waits for another. While the sink fails, a call reaches over
// no more than a window of each lane, so that what it settles can be committed beside what it does not.
func (s *serial) reach() (call, rest []*task) {
	if !s.pace.open {
		return s.tasks, nil
	}
	first := map[*lane]event.Offset{}
	for _, t := range s.tasks {
		if first[t.lane] == 0 && !t.row {
			first[t.lane] = t.offset
		}
		if t.row || t.offset < first[t.lane]+Window {
			call = append(call, t)
		} else {
			rest = append(rest, t)
		}
	}
	return call, rest
}

// flushNear settles what the sink did not want while a batch waits, as far as a window reaches: a redrive must not find it
// unsettled for long.
func (s *serial) flushNear(work context.Context) error {
	for _, l := range s.lanes {
		near := func(o event.Outcome) bool { return l.first == 0 || o.Last() < l.first+Window }
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
