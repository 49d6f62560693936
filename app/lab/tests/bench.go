package tests

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
)

// bench holds the sinks of one test. A call of a sink waits there until it is answered, one at a time and in an order that does
// not depend on which goroutine came first.
type bench struct {
	clock *Clock
	asked chan struct{} // receives, at most one, when a call has begun to wait
	over  chan struct{} // closed at the end: nobody waits any longer

	mu      sync.Mutex // guards everything below
	waiting []*question
	given   map[identity]int // which of the given events it is
	latest  int              // the event that was given last
	keys    map[string]int   // which event a delivery is of, by its idempotency key
	sinks   map[string]*record
}

// identity tells events apart.
type identity struct{ source, id string }

// record is what a sink has seen.
type record struct {
	attempts int
	accepted []taken
	refused  string // the last refusal, in words
}

// taken is an event that a sink accepted.
type taken struct {
	order int
	event event.Event
}

// question is one call of a sink.
type question struct {
	sink   *mock
	batch  []event.Delivery
	at     time.Time // of its answer
	order  int
	answer chan event.Settling
}

func newBench(clock *Clock) *bench {
	return &bench{clock: clock, asked: make(chan struct{}, 1), over: make(chan struct{}),
		given: map[identity]int{}, keys: map[string]int{}, sinks: map[string]*record{}}
}

// give notes that an event goes in.
func (b *bench) give(e *event.Event, order int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.given[identity{e.Source, e.ID}] = order
	b.latest = order
}

// orderOf is the place of an event, as it went in, among the given ones.
func (b *bench) orderOf(e *event.Event) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.given[identity{e.Source, e.ID}]
}

// mock is a sink that answers as the test says.
type mock struct {
	bench *bench
	plan  *pipelines.Sink
	index int
	says  pipelines.Mock
}

// mock returns the sink of a plan as it is in the test: the same settings, another destination. The time of an attempt is kept
// by the bench, because the router measures it with the machine's clock.
func (b *bench) mock(plan *pipelines.Sink, index int, says pipelines.Mock) *pipelines.Sink {
	b.sinks[plan.Name] = &record{}
	mocked := *plan
	mocked.Value = &mock{bench: b, plan: plan, index: index, says: says}
	mocked.Timeout, mocked.Pull = 0, false // the mock is its one worker
	return &mocked
}

// Deliver waits for its turn.
func (m *mock) Deliver(ctx context.Context, batch []event.Delivery) event.Settling {
	q := m.bench.ask(m, batch)
	select {
	case s := <-q.answer:
		return s
	case <-ctx.Done():
		return event.Settled(len(batch), event.Unavailable(context.Cause(ctx)))
	case <-m.bench.over:
		return event.Settled(len(batch), event.Unavailable(errors.New("the test is over")))
	}
}

func (b *bench) ask(m *mock, batch []event.Delivery) *question {
	q := &question{sink: m, batch: batch, at: b.clock.Now().Add(m.lasts()), answer: make(chan event.Settling, 1)}
	b.mu.Lock()
	defer b.mu.Unlock()
	q.order = b.orderLocked(&batch[0])
	b.waiting = append(b.waiting, q)
	select {
	case b.asked <- struct{}{}:
	default:
	}
	return q
}

// orderLocked is the place of a delivery's event among the given ones. A stage may have changed the identity of the event; then it
// is the one that went in last when it first came.
func (b *bench) orderLocked(d *event.Delivery) int {
	if known, ok := b.keys[d.Key]; ok {
		return known
	}
	order, ok := b.given[identity{d.Event.Source, d.Event.ID}]
	if !ok {
		order = b.latest
	}
	b.keys[d.Key] = order
	return order
}

// unanswered are the events of the calls that wait, in words.
func (b *bench) unanswered() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	slices.SortFunc(b.waiting, before)
	var all []string
	for _, q := range b.waiting {
		for i := range q.batch {
			all = append(all, stillWaiting(q.sink.plan.Name, q.batch[i].Event.ID))
		}
	}
	return all
}

// count is how many calls wait.
func (b *bench) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}

// next is when the first of the calls that wait is answered; false: none waits.
func (b *bench) next() (time.Time, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) == 0 {
		return time.Time{}, false
	}
	return slices.MinFunc(b.waiting, before).at, true
}

func before(x, y *question) int {
	return cmp.Or(x.at.Compare(y.at), cmp.Compare(x.sink.index, y.sink.index), cmp.Compare(x.order, y.order),
		cmp.Compare(x.batch[0].Key, y.batch[0].Key))
}

// answer answers the first of the calls whose time has come, and says whether there was one.
func (b *bench) answer() bool {
	now := b.clock.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) == 0 {
		return false
	}
	q := slices.MinFunc(b.waiting, before)
	if q.at.After(now) {
		return false
	}
	b.waiting = slices.DeleteFunc(b.waiting, func(x *question) bool { return x == q })
	q.answer <- b.settleLocked(q)
	return true
}

func (b *bench) settleLocked(q *question) event.Settling {
	r := b.sinks[q.sink.plan.Name]
	s := event.Settled(len(q.batch), nil)
	for i := range q.batch {
		d := &q.batch[i]
		r.attempts++
		err := q.sink.judge(d.Attempt)
		if s.Verdicts[i] = err; err != nil {
			r.refused = err.Error()
			continue
		}
		r.accepted = append(r.accepted, taken{b.orderLocked(d), *d.Event})
	}
	return s
}

// lasts is how long an attempt takes: until its answer, or until nobody waits for it any more.
func (m *mock) lasts() time.Duration {
	if m.plan.Timeout > 0 {
		return min(m.says.Delay, m.plan.Timeout)
	}
	return m.says.Delay
}

// judge is the verdict of the n-th attempt of an event.
func (m *mock) judge(n int) error {
	if m.plan.Timeout > 0 && m.says.Delay >= m.plan.Timeout {
		return event.Unavailable(fmt.Errorf("no answer within %s", m.plan.Timeout))
	}
	failing := n <= m.says.Fail
	switch {
	case len(m.says.Status) > 0 && (failing || m.says.Fail == 0):
		return m.plan.Verdict(m.says.Status[min(n, len(m.says.Status))-1])
	case failing:
		return event.Unavailable(errors.New("the sink is down, as the test says"))
	}
	return nil
}
