package router

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/millrace-run/millrace/event"
)

const (
	takeMax    = 512      // events passed over in one turn before results are looked at again
	waitingMax = 512      // events that wait in memory for another attempt
	heldMax    = 16 << 20 // bytes of them
	marksMax   = 1 << 16  // rows of which the sink's record is remembered
)

// loop delivers the events of one subscription, up to its concurrency at a time. One goroutine owns all of it; workers only
// call the sink and send back what it answered.
type loop struct {
	*feed
	breaker *breaker
	results chan *call // has room for every call in flight, so that no worker ever waits
	workers sync.WaitGroup

	running  []*task // by offset: taken from new events and unsettled; the front is what holds the cursor
	waiting  []*task // failed without counting
	held     int64   // bytes of waiting
	marks    map[event.Offset]marks
	outcomes []event.Outcome // of this turn
	inFlight int

	accepted, refused int64 // attempts in this process
	paused            bool  // the destination is gone
	class             int   // which of the three queues is next
	again             bool  // a turn stopped before it had nothing to do
}

func newLoop(s *subscriber) *loop {
	b := newBreaker(s.plan.Breaker, s.plan.Retry, s.plan.Concurrency)
	return &loop{feed: newFeed(s), breaker: b, results: make(chan *call, b.full), marks: make(map[event.Offset]marks)}
}

// join waits for the workers. They end when the context of their work does, at the latest.
func (l *loop) join() { l.workers.Wait() }

func (l *loop) run(stop, work context.Context) error {
	l.guard.begin()
	defer l.guard.end()
	if err := l.open(stop, work); err != nil {
		return clean(stop, work, err)
	}
	for stop.Err() == nil {
		if err := l.turn(stop, work); clean(stop, work, err) != nil {
			return err
		}
	}
	return clean(stop, work, l.drain(work))
}

// turn does all that can be done now, then sleeps.
func (l *loop) turn(stop, work context.Context) error {
	l.again = false
	if err := l.collect(work); err != nil {
		return err
	}
	err := l.handOut(stop, work)
	if flushed := l.flush(work); err == nil {
		err = flushed
	}
	l.observe()
	if err == nil && !l.again {
		l.sleep(stop)
	}
	return err
}

// drain waits for what is in flight. It ends because attempts do: by themselves, or when work ends.
func (l *loop) drain(work context.Context) error {
	for l.inFlight > 0 {
		if err := l.finish(work, <-l.results); err != nil {
			return err
		}
		if err := l.flush(work); err != nil {
			return err
		}
	}
	return l.flush(work)
}

// collect takes the answers that have come.
func (l *loop) collect(work context.Context) error {
	for range cap(l.results) {
		select {
		case c := <-l.results:
			if err := l.finish(work, c); err != nil {
				return err
			}
		default:
			return nil
		}
	}
	return nil
}

// handOut begins attempts while the sink may have more.
func (l *loop) handOut(stop, work context.Context) error {
	for !l.paused {
		now := l.clock.Now().UTC()
		if !l.breaker.room(l.inFlight, now) {
			return nil
		}
		tasks, err := l.gather(stop, now)
		if err != nil || len(tasks) == 0 {
			return err
		}
		l.launch(work, tasks, now)
	}
	return nil
}

// gather picks the tasks of one call. A probe carries one.
func (l *loop) gather(stop context.Context, now time.Time) ([]*task, error) {
	if l.breaker.open {
		t, err := l.pickProbe(stop, now)
		if t == nil {
			return nil, err
		}
		return []*task{t}, err
	}
	var tasks []*task
	var bytes int64
	for len(tasks) < max(l.plan.Batch.Count, 1) {
		t, err := l.pick(stop, now)
		if err != nil {
			return l.putBack(tasks), err
		}
		if t == nil {
			break
		}
		bytes += int64(t.item.event.Size())
		if len(tasks) > 0 && l.plan.Batch.Bytes > 0 && bytes > l.plan.Batch.Bytes {
			l.await(t)
			break
		}
		tasks = append(tasks, t)
	}
	return tasks, nil
}

func (l *loop) putBack(tasks []*task) []*task {
	for _, t := range tasks {
		l.await(t)
	}
	return nil
}

func (l *loop) launch(work context.Context, tasks []*task, now time.Time) {
	c := &call{tasks: tasks, batch: make([]event.Delivery, len(tasks)), began: now, probe: l.breaker.began()}
	for i, t := range tasks {
		c.batch[i] = t.delivery(now)
	}
	l.inFlight++
	l.workers.Go(func() {
		c.settling = l.attempt(work, c.batch)
		l.results <- c
	})
}

// pick takes the next event of the three queues in turn: new ones, rows that are due, those that wait in memory.
func (l *loop) pick(stop context.Context, now time.Time) (*task, error) {
	for range 3 {
		l.class = (l.class + 1) % 3
		t, err := l.takeFrom(stop, l.class, now)
		if t != nil || err != nil {
			return t, err
		}
	}
	return nil, nil
}

func (l *loop) takeFrom(stop context.Context, class int, now time.Time) (*task, error) {
	switch class {
	case 0:
		return l.takeFresh(stop, now)
	case 1:
		return l.takeDue(stop, now)
	}
	return l.takeWaiting(func(t *task) bool { return !now.Before(t.nextAt) }), nil
}

// pickProbe takes an event to look with whether the sink is back: by turns one that waits and one that was not tried yet, so
// that events which fail for reasons of their own cannot keep the breaker open. The one whose probe failed last goes only when
// there is no other. A backoff is no obstacle here, a time that the destination asked for is.
func (l *loop) pickProbe(stop context.Context, now time.Time) (*task, error) {
	tried := func() (*task, error) {
		return l.takeOldest(func(t *task) bool { return t.offset != l.breaker.failed && t.mayProbe(now) }), nil
	}
	untried := func() (*task, error) {
		t, err := l.takeFresh(stop, now)
		if t != nil || err != nil {
			return t, err
		}
		if t, err = l.takeDue(stop, now); t != nil && t.offset == l.breaker.failed {
			l.await(t)
			t, err = l.takeDue(stop, now)
		}
		return t, err
	}
	order := []func() (*task, error){tried, untried}
	if l.class++; l.class%2 == 0 {
		slices.Reverse(order)
	}
	for _, take := range order {
		if t, err := take(); t != nil || err != nil {
			return t, err
		}
	}
	return l.takeOldest(func(t *task) bool { return t.mayProbe(now) }), nil
}

func (t *task) mayProbe(now time.Time) bool { return !t.deferred || !now.Before(t.nextAt) }

// takeFresh takes the next new event that the sink wants, and settles those before it that it does not want.
func (l *loop) takeFresh(stop context.Context, now time.Time) (*task, error) {
	if len(l.waiting) >= waitingMax || l.held >= heldMax {
		return nil, nil
	}
	for range takeMax {
		s, err := l.peek(stop)
		if s == nil || err != nil {
			return nil, err
		}
		if !l.admit(s.offset, now) {
			return nil, nil
		}
		t, o, err := l.take(stop, now)
		if err != nil {
			return nil, err
		}
		if o != nil {
			l.outcomes = append(l.outcomes, *o)
		}
		if t != nil {
			l.running = append(l.running, t)
			return t, nil
		}
	}
	l.again = true
	return nil, nil
}

func (l *loop) takeDue(stop context.Context, now time.Time) (*task, error) {
	for range takeMax {
		t, o, err := l.due(stop, now)
		if err != nil || t == nil && o == nil {
			return nil, err
		}
		if o != nil {
			delete(l.marks, o.Offset)
			l.outcomes = append(l.outcomes, *o)
			continue
		}
		t.marks = l.marks[t.offset]
		t.tries = max(t.tries, t.marks.tries)
		return t, nil
	}
	l.again = true
	return nil, nil
}

// takeWaiting takes the first of those that wait in memory for which ok holds.
func (l *loop) takeWaiting(ok func(*task) bool) *task {
	return l.unwait(slices.IndexFunc(l.waiting, ok))
}

// takeOldest takes the one whose last attempt is longest ago.
func (l *loop) takeOldest(ok func(*task) bool) *task {
	at := -1
	for i, t := range l.waiting {
		if ok(t) && (at < 0 || t.x.LastAt.Before(l.waiting[at].x.LastAt)) {
			at = i
		}
	}
	return l.unwait(at)
}

func (l *loop) unwait(i int) *task {
	if i < 0 {
		return nil
	}
	t := l.waiting[i]
	l.waiting = slices.Delete(l.waiting, i, i+1)
	l.held -= t.item.weight()
	t.waits = false
	return t
}

// await keeps a task in memory until its time.
func (l *loop) await(t *task) {
	t.waits = true
	l.waiting = append(l.waiting, t)
	l.held += t.item.weight()
}

// admit says whether an event may be taken, by the window: nothing is settled further than that ahead of the lowest unsettled
// event. What is still running at the end of the window gets a row and no longer holds the cursor; not while the breaker is
// open, when it is the sink that everything waits for.
func (l *loop) admit(o event.Offset, now time.Time) bool {
	for {
		low := l.lowest()
		if low == nil || o-low.offset < Window {
			return true
		}
		if l.breaker.open {
			return false
		}
		l.park(low, now)
	}
}

func (l *loop) lowest() *task {
	for len(l.running) > 0 && (l.running[0].done || l.running[0].row) {
		l.running[0] = nil
		l.running = l.running[1:]
	}
	if len(l.running) == 0 {
		return nil
	}
	return l.running[0]
}

// park gives a row to a task that still runs. In flight it stays ours until its attempt ends, since the log does not hand out a
// row with this reason; one that waits leaves memory.
func (l *loop) park(t *task, now time.Time) {
	l.counts.parked.Add(1)
	if !t.waits {
		l.outcomes = append(l.outcomes, t.kept(event.Retry, event.ReasonWindow, now))
		return
	}
	l.unwait(slices.Index(l.waiting, t))
	next := t.nextAt
	if next.IsZero() {
		next = now
	}
	l.leave(t, t.kept(event.Retry, event.ReasonFailed, next))
}

// leave ends a task in memory with its outcome, which may be a row that is due later.
func (l *loop) leave(t *task, o event.Outcome) {
	l.outcomes = append(l.outcomes, o)
	if x := o.Exception; x != nil && x.State == event.Retry {
		l.remember(t)
		l.dues.expect(x.NextAt)
	} else if t.row {
		delete(l.marks, t.offset)
	}
	t.done, t.item = true, nil
}

// remember keeps how the sink stood at a row's last attempt. What is forgotten because there is too much of it does not count
// at its next failure.
func (l *loop) remember(t *task) {
	if len(l.marks) < marksMax {
		m := t.marks
		m.tries = t.tries
		l.marks[t.offset] = m
	}
}

// flush hands the outcomes of a turn to the log.
func (l *loop) flush(work context.Context) error {
	if len(l.outcomes) == 0 {
		return nil
	}
	outcomes := l.outcomes
	// The log keeps what it is given until it is on disk.
	l.outcomes = make([]event.Outcome, 0, len(outcomes))
	return l.guard.do(work, "settle", func() error { return l.sub.Settle(work, outcomes) })
}

// sleep waits until something can be done. Each wait names only what could then be used: a full sink waits for answers alone.
func (l *loop) sleep(stop context.Context) {
	alarm, release := timer(l.clock, l.alarm(l.clock.Now()))
	defer release()
	select {
	case <-stop.Done():
	case c := <-l.results:
		l.results <- c // back in its place: the turn takes all that have come, and this goroutine is the only one that receives
	case <-alarm:
	case <-l.fed:
		l.more = true
	case <-l.sub.Wake():
		l.woken()
	}
}

// alarm is the next time at which there may be something to do by itself; zero: none.
func (l *loop) alarm(now time.Time) time.Time {
	if l.paused {
		return time.Time{}
	}
	if !l.breaker.room(l.inFlight, now) {
		return l.breaker.alarm()
	}
	at := l.dues.alarm()
	for _, t := range l.waiting {
		if now.Before(t.nextAt) {
			at = earliest(at, t.nextAt)
		}
	}
	return at
}

// observe shows the state to those who look.
func (l *loop) observe() {
	c := &l.counts
	c.inFlight.Store(int64(l.inFlight))
	c.waiting.Store(int64(len(l.waiting)))
	c.limit.Store(int64(l.breaker.limit))
	c.open.Store(flag(l.breaker.open))
	c.paused.Store(flag(l.paused))
	c.oldest.Store(0)
	if low := l.lowest(); low != nil {
		c.oldest.Store(low.item.received.UnixNano())
	} else if len(l.fresh) > 0 && !l.fresh[0].received.IsZero() {
		c.oldest.Store(l.fresh[0].received.UnixNano())
	}
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
