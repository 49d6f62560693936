package router

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
)

// call is one call of a sink's Deliver: an attempt for each of its tasks.
type call struct {
	tasks    []*task
	batch    []event.Delivery
	begun    time.Time
	epoch    int // of the loop
	probe    int // which opening of the breaker it probes, 0 for none
	took     time.Duration
	settling event.Settling
	told     [answers]bool
}

// newCall returns a call with room for a delivery of each task. That of one event, which is the usual one, is a single piece of
// memory.
func newCall(tasks []*task) *call {
	if len(tasks) == 1 {
		c := &call1{task: [1]*task{tasks[0]}}
		c.tasks, c.batch = c.task[:], c.delivery[:]
		return &c.call
	}
	return &call{tasks: tasks, batch: make([]event.Delivery, len(tasks))}
}

// answers are what the breaker hears of a call. It hears each once, however many events the call carried: the breaker is about the
// destination, and that was asked once.
const (
	accepted = iota
	judgedIt
	refused
	answers
)

// first says whether a call has not brought such an answer before.
func (c *call) first(answer int) bool {
	told := c.told[answer]
	c.told[answer] = true
	return !told
}

// batcher fills one call.
type batcher struct {
	count int
	bytes int64 // 0 is no limit
	size  int64
	tasks []*task
	close bool      // the next event did not fit
	until time.Time // when a call that is not full goes as it is
}

func newBatcher(b pipelines.Batch) *batcher { return &batcher{count: max(b.Count, 1), bytes: b.Bytes} }

func (b *batcher) full() bool { return b.close || len(b.tasks) >= b.count }

// len is how many tasks it has; a nil batcher has none.
func (b *batcher) len() int {
	if b == nil {
		return 0
	}
	return len(b.tasks)
}

// fits says whether an item may still be added; the first always may.
func (b *batcher) fits(item *shaped) bool {
	return len(b.tasks) == 0 || !b.full() && (b.bytes == 0 || b.size+item.bytes() <= b.bytes)
}

func (b *batcher) add(t *task) {
	b.tasks = append(b.tasks, t)
	b.size += t.item.bytes()
}

// attempt calls the sink within the time of one attempt. A panic fails the attempt, not the process. The settling has a verdict
// for each delivery.
func (s *subscriber) attempt(ctx context.Context, batch []event.Delivery) event.Settling {
	if s.plan.Timeout > 0 {
		limited, cancel := context.WithTimeout(ctx, s.plan.Timeout)
		defer cancel()
		return complete(limited, safeDeliver(limited, s.sink, batch), len(batch))
	}
	return complete(ctx, safeDeliver(ctx, s.sink, batch), len(batch))
}

func safeDeliver(ctx context.Context, sink Sink, batch []event.Delivery) (settling event.Settling) {
	defer func() {
		if p := recover(); p != nil {
			settling = event.Settled(len(batch), fmt.Errorf("panic: %v", p))
		}
	}()
	return sink.Deliver(ctx, batch)
}

// complete makes n verdicts of whatever a sink answered. A bare timeout is the destination's: it says nothing about the event.
func complete(ctx context.Context, s event.Settling, n int) event.Settling {
	if got := len(s.Verdicts); got < n {
		verdicts := event.Settled(n, fmt.Errorf("the sink answered %d verdicts for %d events", got, n)).Verdicts
		copy(verdicts, s.Verdicts)
		s.Verdicts = verdicts
	}
	for i, v := range s.Verdicts {
		if v != nil && isBareTimeout(ctx, v) {
			s.Verdicts[i] = event.Unavailable(v)
		}
	}
	return s
}

// call1 is a call of one event with all that it needs.
type call1 struct {
	call
	task     [1]*task
	delivery [1]event.Delivery
}

func isBareTimeout(ctx context.Context, v error) bool {
	var f *event.Failure
	return errors.Is(ctx.Err(), context.DeadlineExceeded) && errors.Is(v, context.DeadlineExceeded) && !errors.As(v, &f)
}
