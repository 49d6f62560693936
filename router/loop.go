package router

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/millrace-run/millrace/event"
)

const (
	takeMax    = 512      // events passed over in one turn before results are looked at again
	waitingMax = 512      // events that wait in memory for another attempt
	heldMax    = 16 << 20 // bytes of them
	marksMax   = 1 << 16  // rows of which the sink's record is remembered
)

// loop delivers the events of one sink, up to its concurrency at a time. One goroutine owns all of it; workers only
// call the sink and send back what it answered.
type loop struct {
	feed
	breaker *breaker
	results chan *call // has room for every call in flight, so that no worker ever waits
	workers workers

	attempts func(*call) // make, with the context of the work

	waiting  []*task  // failed without counting
	held     int64    // bytes of waiting
	single   [1]*task // what one returns, until it is launched
	partial  *batcher // of a call that waits for more events; nil for none
	marks    map[place]marks
	inFlight int
	epoch    int  // grows with each seek
	filling  bool // a call has its first event and takes more

	accepted, refused int64 // attempts in this process
	turns             int   // of probes, see pickProbe
	again             bool  // a turn stopped before it had nothing to do
}

func newLoop(s *subscriber) *loop {
	b := newBreaker(s.plan.Breaker, s.plan.Retry, s.plan.Concurrency)
	b.each = s.plan.Order != nil
	l := &loop{
		feed: newFeed(s), breaker: b, results: make(chan *call, b.full), workers: workers{calls: make(chan *call, b.full)},
		marks: make(map[place]marks),
	}
	if o := s.plan.Order; o != nil && o.Key != nil {
		for _, k := range s.lanes {
			k.order = newOrderer(o.MaxHeld, o.Hold)
		}
	}
	return l
}

// join waits for the workers. Their attempts end when the context of their work does, at the latest.
func (l *loop) join() { l.workers.end() }

func (l *loop) run(stop, work context.Context) error {
	l.guard.begin()
	defer l.guard.end()
	l.seeks.open()
	defer l.seeks.close()
	l.workers.watch(work)
	l.attempts = func(c *call) { l.make(work, c) }
	err := l.open(stop, work)
	for errors.Is(err, errSeek) {
		if err = l.feed.seek(work, func() error { return nil }); err == nil {
			err = l.open(stop, work)
		}
	}
	if err != nil {
		return clean(stop, work, err)
	}
	if err := l.restore(stop, work); err != nil {
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
	if err := l.seek(stop, work); err != nil {
		return err
	}
	now := l.clock.Now().UTC()
	if err := l.shedOver(stop, work, now); err != nil {
		return err
	}
	err := l.letGo(stop, work, l.moveOn)
	if err == nil {
		err = l.handOut(stop, work, now)
	}
	if flushed := l.flush(work); err == nil {
		err = flushed
	}
	l.counts.inFlight.Store(int64(l.inFlight))
	l.observe(l.oldest(), l.breaker, len(l.waiting)+l.partial.len())
	l.observeOrder()
	if err == nil && !l.again {
		// The time of this turn: what became due since then must wake it.
		l.sleep(stop, l.shedAlarm(l.alarm(now)), l.results)
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
func (l *loop) handOut(stop, work context.Context, now time.Time) error {
	l.timing.wake()
	for !l.pausing.on() && !l.seeks.waiting() {
		if !l.breaker.room(l.inFlight, now) {
			return nil
		}
		tasks, err := l.gather(stop, now)
		if err == nil && stop.Err() != nil {
			err = context.Cause(stop)
		}
		if err != nil || len(tasks) == 0 {
			l.putBack(tasks)
			return err
		}
		l.launch(work, tasks, now)
	}
	return nil
}

// gather picks the tasks of one call; none when there is nothing to do, or when the call is not full and its first event may wait
// for others. A probe carries one.
func (l *loop) gather(stop context.Context, now time.Time) ([]*task, error) {
	if l.breaker.open {
		l.breakUp()
		t, err := l.next(stop, now, true)
		if t == nil {
			return nil, err
		}
		return []*task{t}, err
	}
	b := l.partial
	l.partial, l.filling = nil, false
	if b == nil {
		if l.plan.Batch.Count <= 1 {
			return l.one(stop, now)
		}
		b = newBatcher(l.plan.Batch)
	}
	if err := l.load(stop, b, now); err != nil || b.full() || len(b.tasks) == 0 {
		return b.tasks, err
	}
	if b.until.IsZero() {
		b.until = now.Add(l.plan.Batch.Wait)
	}
	if now.Before(b.until) {
		l.partial = b
		return nil, nil
	}
	return slices.DeleteFunc(b.tasks, func(t *task) bool { return !l.passes(t, l.lapse(t, now)) }), nil
}

// next picks the next task whose attempt may begin, for a probe or not, and ends what has expired or has to wait with a row.
func (l *loop) next(stop context.Context, now time.Time, probe bool) (t *task, err error) {
	for range takeMax {
		if probe {
			t, err = l.pickProbe(stop, now)
		} else {
			t, err = l.pick(stop, now)
		}
		if t == nil || err != nil || l.passes(t, l.screen(t, now)) {
			return t, err
		}
	}
	return nil, nil
}

// passes ends a task with an outcome, and says that there is none.
func (l *loop) passes(t *task, o *event.Outcome) bool {
	if o != nil {
		l.leave(t, *o)
		l.again = true
	}
	return o == nil
}

// one picks the task of a call that carries no more than one.
func (l *loop) one(stop context.Context, now time.Time) ([]*task, error) {
	t, err := l.next(stop, now, false)
	if t == nil {
		return nil, err
	}
	l.single[0] = t
	return l.single[:], err
}

// load adds what there is to a call.
func (l *loop) load(stop context.Context, b *batcher, now time.Time) error {
	for !b.full() {
		l.filling = len(b.tasks) > 0
		t, err := l.next(stop, now, false)
		if t == nil || err != nil {
			return err
		}
		if b.fits(t.item) {
			b.add(t)
			continue
		}
		l.await(t)
		b.close = true
	}
	return nil
}

// breakUp gives the events of a call that waits for more back to memory, each to be tried by itself.
func (l *loop) breakUp() {
	if b := l.partial; b != nil {
		l.partial = nil
		l.putBack(b.tasks)
	}
}

func (l *loop) putBack(tasks []*task) {
	for _, t := range tasks {
		l.await(t)
	}
}

func (l *loop) launch(work context.Context, tasks []*task, now time.Time) {
	c := newCall(tasks)
	c.probe, c.begun, c.epoch = l.breaker.began(), now, l.epoch
	for i, t := range tasks {
		c.batch[i] = t.delivery(now)
	}
	l.inFlight++
	l.workers.hand(c, l.inFlight, l.attempts)
}

// make makes a call, in a worker.
func (l *loop) make(work context.Context, c *call) {
	if l.plan.Timeout > 0 {
		ctx := &attemptContext{work: work, deadline: time.Now().Add(l.plan.Timeout), aborts: &l.workers.aborts}
		l.workers.aborts.add(ctx)
		c.settling = complete(ctx, safeDeliver(ctx, l.sink, c.batch), len(c.batch))
		l.workers.aborts.remove(ctx)
		ctx.end()
	} else {
		c.settling = complete(work, safeDeliver(work, l.sink, c.batch), len(c.batch))
	}
	c.took = l.clock.Now().Sub(c.begun)
	l.results <- c
}

// pick takes the next event of the lane whose turn it is.
func (l *loop) pick(stop context.Context, now time.Time) (t *task, err error) {
	if l.strict() {
		return l.pickHead(stop, now, func(t *task) bool { return l.filling || !now.Before(t.nextAt) })
	}
	err = l.serve(func(k *lane) (got bool, err error) {
		t, err = l.pickOf(stop, k, now)
		return t != nil, err
	})
	return t, err
}

// pickOf takes the next event of the three queues of a lane in turn: new ones, rows that are due, those that wait in memory.
func (l *loop) pickOf(stop context.Context, k *lane, now time.Time) (*task, error) {
	for range 3 {
		k.class = (k.class + 1) % 3
		t, err := l.takeFrom(stop, k, now)
		if t != nil || err != nil {
			return t, err
		}
	}
	return nil, nil
}

func (l *loop) takeFrom(stop context.Context, k *lane, now time.Time) (*task, error) {
	switch k.class {
	case 0:
		return l.takeFresh(stop, k, now)
	case 1:
		return l.takeDue(stop, k, now)
	}
	if !l.token(now) {
		return nil, nil
	}
	return l.takeWaiting(func(t *task) bool { return t.lane == k && !now.Before(t.nextAt) }), nil
}

// pickProbe takes an event to look with whether the sink is back: by turns one that waits and one that was not tried yet, so
// that events which fail for reasons of their own cannot keep the breaker open. The one whose probe failed last goes only when
// there is no other. A backoff is no obstacle here, a time that the destination asked for is.
func (l *loop) pickProbe(stop context.Context, now time.Time) (*task, error) {
	if !l.token(now) {
		return nil, nil
	}
	if l.strict() {
		return l.pickHead(stop, now, func(t *task) bool { return t.mayProbe(now) })
	}
	tried := func() (*task, error) {
		return l.takeOldest(func(t *task) bool { return t.place != l.breaker.failed && t.mayProbe(now) }), nil
	}
	untried := func() (*task, error) { return l.pickUntried(stop, now) }
	order := []func() (*task, error){tried, untried}
	if l.turns++; l.turns%2 == 0 {
		slices.Reverse(order)
	}
	for _, take := range order {
		if t, err := take(); t != nil || err != nil {
			return t, err
		}
	}
	return l.takeOldest(func(t *task) bool { return t.mayProbe(now) }), nil
}

// pickUntried takes an event of which this process has no attempt, the one whose probe failed last only when there is no other.
func (l *loop) pickUntried(stop context.Context, now time.Time) (t *task, err error) {
	for _, k := range l.lanes {
		if t, err = l.takeFresh(stop, k, now); t != nil || err != nil {
			return t, err
		}
		if t, err = l.takeDue(stop, k, now); t != nil && t.place == l.breaker.failed {
			l.await(t)
			t, err = l.takeDue(stop, k, now)
		}
		if t != nil || err != nil {
			return t, err
		}
	}
	return nil, nil
}

func (t *task) mayProbe(now time.Time) bool { return !t.deferred || !now.Before(t.nextAt) }

// takeFresh takes the next new event that the sink wants, and settles those before it that it does not want.
func (l *loop) takeFresh(stop context.Context, k *lane, now time.Time) (*task, error) {
	behind := 0
	for range takeMax {
		in, err := k.peek(stop)
		if in == nil || err != nil {
			return nil, err
		}
		if !l.ripe(k, now) || !l.admit(k, in.last(), now) || !l.makeRoom(k, now) {
			return nil, nil
		}
		t, o, err := k.take(stop, now)
		if err != nil {
			return nil, err
		}
		if o != nil {
			k.outcomes = append(k.outcomes, *o)
		}
		if t == nil {
			continue
		}
		k.running = append(k.running, t)
		if l.enter(t, now) {
			return t, nil
		}
		if behind++; behind == probeScan && l.breaker.open {
			break
		}
	}
	l.again = true
	return nil, nil
}

func (l *loop) takeDue(stop context.Context, k *lane, now time.Time) (*task, error) {
	if !l.token(now) {
		return nil, nil
	}
	for range takeMax {
		t, o, err := k.due(stop, now)
		if err != nil || t == nil && o == nil {
			return nil, err
		}
		if o != nil {
			delete(l.marks, place{k, o.Offset})
			k.outcomes = append(k.outcomes, *o)
			l.passed(k, o)
			continue
		}
		t.marks = l.marks[t.place]
		t.tries = max(t.tries, t.marks.tries)
		if l.enter(t, now) {
			return t, nil
		}
	}
	l.again = true
	return nil, nil
}

// takeWaiting takes the first of those that wait in memory for which ok holds.
func (l *loop) takeWaiting(ok func(*task) bool) *task {
	return l.begin(slices.IndexFunc(l.waiting, func(t *task) bool { return ok(t) && t.lane.order.mayGo(t) }))
}

// takeOldest takes the one whose last attempt is longest ago.
func (l *loop) takeOldest(ok func(*task) bool) *task {
	at := -1
	for i, t := range l.waiting {
		if ok(t) && t.lane.order.mayGo(t) && (at < 0 || t.x.LastAt.Before(l.waiting[at].x.LastAt)) {
			at = i
		}
	}
	return l.begin(at)
}

// begin takes one that waits, for an attempt.
func (l *loop) begin(i int) *task {
	t := l.unwait(i)
	if t != nil {
		t.lane.order.begin(t)
	}
	return t
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
	t.lane.order.pause(t)
	l.moveOn(t.lane)
}

// admit says whether an event of a lane may be taken, by the window: nothing is settled further than that ahead of the lowest unsettled
// event. What is still running at the end of the window gets a row and no longer holds the cursor; not while the breaker is
// open, when it is the sink that everything waits for.
func (l *loop) admit(k *lane, o event.Offset, now time.Time) bool {
	for {
		low := k.lowest()
		if low == nil || o-low.offset < Window {
			return true
		}
		if l.breaker.open || l.strict() || low.behind && k.order.full() {
			return false
		}
		l.park(low, now)
	}
}

// makeRoom says whether memory may take an event more. While too many wait nothing new begins; but an open breaker must be able
// to probe with an event that was not tried yet, and for that the one that waits longest gets a row. So does one of a lower priority
// that waits where one of a higher is to go.
func (l *loop) makeRoom(k *lane, now time.Time) bool {
	if l.strict() || !l.crowded() {
		return true
	}
	if l.spill(now); !l.crowded() {
		return true
	}
	k.tellFull(now)
	i := slices.IndexFunc(l.waiting, func(t *task) bool { return l.breaker.open || t.lane.at > k.at })
	if i < 0 {
		return false
	}
	l.park(l.waiting[i], now)
	return true
}

// park gives a row to a task that still runs. In flight it stays ours until its attempt ends, since the log does not hand out a
// row with this reason; one that waits leaves memory.
func (l *loop) park(t *task, now time.Time) {
	l.counts.parked.Add(1)
	if t.behind {
		l.hold(t)
		return
	}
	if !t.waits {
		t.lane.outcomes = append(t.lane.outcomes, t.kept(event.Retry, event.ReasonWindow, now))
		return
	}
	l.unwait(slices.Index(l.waiting, t))
	next := t.nextAt
	if next.IsZero() {
		next = now
	}
	l.leaveToRow(t, next, now)
}

// leave ends a task in memory with its outcome, which may be a row that is due later.
func (l *loop) leave(t *task, o event.Outcome) {
	t.lane.outcomes = append(t.lane.outcomes, o)
	t.lane.order.end(t, o.Exception, l.crowded())
	if x := o.Exception; x != nil && x.State != event.Dead {
		l.remember(t)
		if x.State == event.Retry {
			t.lane.dues.expect(x.NextAt)
		}
	} else if t.row {
		delete(l.marks, t.place)
	}
	t.done, t.item = true, nil
	l.moveOn(t.lane)
}

// remember keeps how the sink stood at a row's last attempt. What is forgotten because there is too much of it does not count
// at its next failure.
func (l *loop) remember(t *task) {
	if len(l.marks) < marksMax && t.marks.known {
		m := t.marks
		m.tries = t.tries
		l.marks[t.place] = m
	}
}

// oldest is when the oldest event that holds a cursor was received; zero for none.
func (l *loop) oldest() (at time.Time) {
	for _, k := range l.lanes {
		at = earliest(at, k.oldest(k.lowest()))
	}
	return at
}

// alarm is the next time at which there may be something to do by itself; zero: none. Each wait names only what could then be
// used: a full sink waits for answers alone.
func (l *loop) alarm(now time.Time) time.Time {
	if l.pausing.on() {
		return time.Time{}
	}
	if !l.breaker.room(l.inFlight, now) {
		return l.breaker.alarm()
	}
	var at time.Time
	if !l.strict() || len(l.waiting) == 0 { // else a row has to wait for what is in memory
		at = l.dueAlarm()
	}
	for _, t := range l.waiting {
		if now.Before(t.nextAt) {
			at = earliest(at, t.nextAt)
		}
	}
	at = l.timing.alarm(at)
	if l.partial != nil {
		at = earliest(at, l.partial.until)
	}
	return at
}
