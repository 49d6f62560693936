package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
)

// serial delivers the events of one sink by one call at a time, those of a lane in offset order, and commits what the sink answered
// together with the changes of the sink's state. As long as that commit has not succeeded, the sink's work does not count: it
// is opened again with the committed state and gets the same events again.
type serial struct {
	feed
	pace    *breaker // holds back while the sink fails
	tasks   []*task  // of the next call
	partial *batcher // of a call that waits for more events; nil for none
	spare   *task    // taken, but too large for the last call
	stale   bool     // the sink may be ahead of, or behind, its committed state
	again   bool
	rests   time.Time // a sink that is Timely is not tended before that
}

func newSerial(s *subscriber) *serial {
	b := &pipelines.Breaker{After: 1, ProbeMax: s.longestPause()}
	return &serial{feed: newFeed(s), pace: newBreaker(b, s.plan.Retry, 1), stale: true}
}

// join has nothing to wait for: all is done in run.
func (s *serial) join() {}

func (s *serial) run(stop, work context.Context) error {
	s.guard.begin()
	defer s.guard.end()
	defer s.close()
	s.seeks.open()
	defer s.seeks.close()
	if err := s.letGoAll(stop, work); err != nil {
		return clean(stop, work, err)
	}
	for stop.Err() == nil {
		if err := clean(stop, work, s.turn(stop, work)); err != nil {
			return err
		}
		s.show()
		if !s.again {
			s.sleep(stop, s.shedAlarm(s.alarm(s.clock.Now())), nil)
		}
	}
	s.finish(work)
	return nil
}

// turn makes one call, if there is something to call with and the time has come.
func (s *serial) turn(stop, work context.Context) error {
	s.again = false
	if err := s.seek(work); err != nil {
		return err
	}
	now := s.clock.Now().UTC()
	if err := s.shedOver(stop, work, now); err != nil {
		return err
	}
	s.timing.wake()
	if s.pausing.on() || !s.pace.room(0, now) {
		return nil
	}
	if s.stale {
		if err := s.open(stop, work); err != nil {
			if s.again = errors.Is(err, errSeek); s.again {
				return nil
			}
			return err
		}
		s.stale = false
	}
	if len(s.tasks) == 0 {
		if err := s.gather(stop, now); err != nil {
			return err
		}
		if stop.Err() != nil {
			return context.Cause(stop)
		}
	}
	if s.partial != nil {
		return s.flushNear(work)
	}
	s.tasks = slices.DeleteFunc(s.tasks, func(t *task) bool { return !s.passes(t, s.lapse(t, now)) })
	s.again = len(s.tasks) > 0 || s.unsettled()
	if len(s.tasks) == 0 {
		s.sort()
		s.tend(work, now)
		return s.flush(work)
	}
	return s.deliver(work, now)
}

// sort puts what is to be settled in the order of the offsets, in which it takes the cursor along over more than a window.
func (s *serial) sort() {
	for _, l := range s.lanes {
		sortOutcomes(l.outcomes)
	}
}

func sortOutcomes(all []event.Outcome) {
	slices.SortStableFunc(all, func(x, y event.Outcome) int { return cmp.Compare(x.Offset, y.Offset) })
}

// wants is when the sink wants to be tended; zero is never.
func (s *serial) wants() time.Time {
	timely, ok := s.sink.(Timely)
	if !ok {
		return time.Time{}
	}
	at := timely.Due()
	if !at.IsZero() && at.Before(s.rests) {
		return s.rests
	}
	return at
}

// tend gives a sink that is Timely its turn, at most once in a second.
func (s *serial) tend(work context.Context, now time.Time) {
	if at := s.wants(); at.IsZero() || now.Before(at) {
		return
	}
	s.rests = now.Add(time.Second)
	s.rest.call()
	err := recovered(func() error { return s.sink.(Timely).Tend(work) })
	s.rest.called()
	if err == nil {
		return
	}
	s.stale, s.again = true, true
	if work.Err() != nil {
		return
	}
	if hidden, ok := s.folds.opens.allow(now, err.Error()); ok {
		s.logger.Warn("the sink is opened again", "err", err, "folded", hidden)
	}
}

// finish tells a sink that is a Finisher of its end, unless it has answered what is not committed.
func (s *serial) finish(work context.Context) {
	f, ok := s.sink.(Finisher)
	if !ok || s.stale || work.Err() != nil {
		return
	}
	if err := recovered(func() error { return f.Finish(work) }); err != nil {
		s.logger.Warn("the sink does not end in order", "err", err)
	}
}

func recovered(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return do()
}

// close ends what the sink does beside its deliveries.
func (s *serial) close() {
	if c, ok := s.sink.(io.Closer); ok {
		if err := c.Close(); err != nil {
			s.logger.Warn("the sink cannot be closed", "err", err)
		}
	}
}

// unsettled says whether a lane has something to settle that is not delivered.
func (s *serial) unsettled() bool {
	return slices.ContainsFunc(s.lanes, func(l *lane) bool { return len(l.outcomes) > 0 })
}

// gather takes what waits, up to a batch: of each lane first what is due, then what is new. The call gets it lane by lane, by
// offset. A batch that is not full may wait for more.
func (s *serial) gather(stop context.Context, now time.Time) (err error) {
	b := s.partial
	s.partial = nil
	if b == nil {
		b = s.newBatch()
	}
	if s.spare != nil {
		b.add(s.spare)
		s.spare = nil
	}
	for got := true; got && err == nil && !b.full() && s.spare == nil; {
		got = false
		err = s.serve(func(l *lane) (bool, error) {
			t, err := s.next(stop, l, b, now)
			if got = t != nil; got {
				b.add(t)
			}
			return got, err
		})
	}
	if err == nil && s.waits(b, now) {
		s.partial = b
		return nil
	}
	s.tasks = b.tasks
	sortTasks(s.tasks)
	return err
}

// sortTasks puts tasks in the order in which a call gets them.
func sortTasks(tasks []*task) {
	slices.SortStableFunc(tasks, func(x, y *task) int {
		return cmp.Or(cmp.Compare(x.lane.at, y.lane.at), cmp.Compare(x.offset, y.offset))
	})
}

// next takes an event of a lane that fits into the call, or nil.
func (s *serial) next(stop context.Context, l *lane, b *batcher, now time.Time) (*task, error) {
	for n := 0; n < Window && s.spare == nil; n++ {
		if !s.token(now) {
			return s.nextFresh(stop, l, b, now)
		}
		t, o, err := l.due(stop, now)
		switch {
		case err != nil:
			return nil, err
		case o != nil:
			l.outcomes = append(l.outcomes, *o)
		case t == nil:
			return s.nextFresh(stop, l, b, now)
		case !s.passes(t, s.screen(t, now)):
		case b.fits(t.item):
			return t, nil
		default:
			s.spare, b.close = t, s.plan.Batch.Wait > 0
		}
	}
	return nil, nil
}

func (s *serial) nextFresh(stop context.Context, l *lane, b *batcher, now time.Time) (*task, error) {
	for len(b.tasks) > 0 || len(l.outcomes) < Window {
		in, err := l.peek(stop)
		if in == nil || err != nil {
			return nil, err
		}
		if l.first == 0 {
			l.first = in.offset
		}
		if in.last()-l.first >= s.span(l) || in.shaped != nil && !b.fits(in.shaped) {
			b.close = s.plan.Batch.Wait > 0
			return nil, nil
		}
		if !s.ripe(l, now) {
			return nil, nil
		}
		t, o, err := l.take(stop, now)
		if o != nil {
			l.outcomes = append(l.outcomes, *o)
		}
		if err != nil || t != nil && s.passes(t, s.screen(t, now)) {
			return t, err
		}
	}
	return nil, nil
}

// passes notes what becomes of an event that is not delivered now, and says that there is nothing.
func (s *serial) passes(t *task, o *event.Outcome) bool {
	if o != nil {
		t.lane.outcomes = append(t.lane.outcomes, *o)
	}
	return o == nil
}

func (s *serial) deliver(work context.Context, now time.Time) error {
	call, rest := s.reach()
	batch := make([]event.Delivery, len(call))
	for i, t := range call {
		batch[i] = t.delivery(now)
	}
	s.counts.inFlight.Store(int64(len(batch)))
	s.stale = true // until what it answers is committed
	s.rest.call()
	answer := make(chan event.Settling, 1)
	go func() { answer <- s.attempt(work, batch) }()
	ahead := s.readAhead(work)
	settling := <-answer
	s.rest.called()
	ended := s.clock.Now().UTC()
	s.counts.nanos.Add(int64(ended.Sub(now)))
	if work.Err() != nil && settledNone(settling) {
		s.counts.attempts[outcomeAbandoned].Add(int64(len(batch)))
		return context.Cause(work)
	}
	e := s.conclude(call, settling, ended.Sub(now), ended)
	e.keep(rest)
	if e.torn() {
		s.stale = true
		s.hold(e.failure, e.worst, ended)
		return nil
	}
	if len(e.settles) > 0 {
		if err := s.commit(work, e, settling.Changes); err != nil {
			return s.uncommitted(work, err, ended)
		}
	}
	s.apply(e, ended)
	return ahead
}

// readAhead reads what the next call may get, while the sink is at the one before.
func (s *serial) readAhead(work context.Context) error {
	for _, l := range s.lanes {
		if err := l.readAhead(work); err != nil {
			return err
		}
	}
	return nil
}

func settledNone(s event.Settling) bool {
	return !slices.ContainsFunc(s.Verdicts, func(v error) bool { return v == nil })
}

// ending is what a call comes to. Nothing of it holds before it is committed.
type ending struct {
	settles map[*lane][]event.Outcome
	kept    []*task                // to be delivered again
	lowest  map[*lane]event.Offset // of those kept, the first that holds the cursor
	dead    []*task
	counts  [outcomes]int64
	failure *event.Failure // the first of those that keep a task
	worst   place          // whose it is
	gone    bool
}

func (e *ending) settle(t *task, o event.Outcome) { e.settles[t.lane] = append(e.settles[t.lane], o) }

// keep adds tasks to those that are kept.
func (e *ending) keep(tasks []*task) {
	e.kept = append(e.kept, tasks...)
	sortTasks(e.kept)
	for _, t := range e.kept {
		if e.lowest[t.lane] == 0 && !t.row {
			e.lowest[t.lane] = t.offset
		}
	}
}

// near says whether an outcome of a lane can be committed while others are kept: it must lie within the window.
func (e *ending) near(l *lane, o *event.Outcome) bool {
	return e.lowest[l] == 0 || o.Last() < e.lowest[l]+Window
}

// torn says that the sink settled events which cannot be settled beside those that are kept. The changes of its state are of both, so
// nothing of it can be committed.
func (e *ending) torn() bool {
	for l, outcomes := range e.settles {
		if slices.ContainsFunc(outcomes, func(o event.Outcome) bool { return !e.near(l, &o) }) {
			return true
		}
	}
	return false
}

func (s *serial) conclude(call []*task, settling event.Settling, took time.Duration, now time.Time) *ending {
	e := &ending{settles: make(map[*lane][]event.Outcome, len(s.lanes)), lowest: map[*lane]event.Offset{}}
	for i, t := range call {
		if v := settling.Verdicts[i]; v == nil {
			e.counts[outcomeDelivered]++
			e.settle(t, t.settled(settling.Status(i), took))
		} else {
			s.judgeOne(e, t, s.verdict(v), now)
		}
	}
	return e
}

// judgeOne works on a copy of the task: when the commit fails the same events are judged again. What makes the destination
// unavailable never counts here and makes no row, since one writer in offset order has nothing to go on with.
func (s *serial) judgeOne(e *ending, t *task, f event.Failure, now time.Time) {
	e.counts[outcomeOf(&f)]++
	again := *t
	j := judgement{action: tryAgain}
	if f.Class != event.UnavailableClass {
		j = again.judge(&f, 0, 0, s.plan.Retry, now)
	}
	switch j.action {
	case giveUp:
		e.settle(t, again.kept(event.Dead, j.reason, time.Time{}))
		e.dead = append(e.dead, &again)
	case countIt:
		next := s.before(t, now.Add(backoff(s.plan.Retry, again.tries, f.After, s.rand())))
		e.settle(t, again.kept(event.Retry, j.reason, next))
		t.lane.dues.expect(next)
	default:
		t.x.Progress = f.Progress
		e.kept = append(e.kept, t)
		e.gone = e.gone || j.action == pauseAll
		if e.failure == nil {
			e.failure, e.worst = &f, t.place
		}
	}
}

// commit makes the ending hold, in one commit with the sink's state.
func (s *serial) commit(work context.Context, e *ending, changes event.Changes) error {
	var c event.Commit
	for _, l := range s.lanes {
		all := slices.Concat(l.outcomes, e.settles[l])
		all = slices.DeleteFunc(all, func(o event.Outcome) bool { return !e.near(l, &o) })
		if len(all) > 0 {
			sortOutcomes(all)
			c.Settles = append(c.Settles, event.Settle{Subscription: l.name, Outcomes: all})
		}
	}
	if len(changes) > 0 {
		c.States = []event.State{{Owner: s.owner, Changes: changes}}
	}
	_, err := s.log.Commit(work, c)
	return err
}

// uncommitted keeps everything as it was before the call.
func (s *serial) uncommitted(work context.Context, err error, now time.Time) error {
	if work.Err() != nil {
		return context.Cause(work)
	}
	if errors.Is(err, event.ErrClosed) || errors.Is(err, event.ErrUnknown) {
		return fmt.Errorf("settle with state: %w", err)
	}
	s.hold(&event.Failure{Class: event.UnavailableClass, Err: err}, s.tasks[0].place, now)
	return nil
}

// hold waits before the next call.
func (s *serial) hold(f *event.Failure, p place, now time.Time) {
	if s.pace.unavailable(p, f, s.pace.began(), now) {
		s.logger.Info("breaker opened", "err", words(f), "probe_at", s.pace.probeAt)
	} else if hidden, ok := s.folds.failures.allow(now, words(f)); ok {
		s.logger.Warn("delivery failed", "status", f.Status, "err", words(f), "folded", hidden)
	}
}

// apply goes on behind an ending that is committed, or that had nothing to commit.
func (s *serial) apply(e *ending, now time.Time) {
	for i, n := range e.counts {
		s.counts.attempts[i].Add(n)
	}
	s.counts.delivered.Add(e.counts[outcomeDelivered])
	for _, t := range e.dead {
		s.dead(t.item.id, &t.x)
	}
	if len(e.settles) > 0 {
		for _, l := range s.lanes {
			l.outcomes = slices.DeleteFunc(l.outcomes, func(o event.Outcome) bool { return e.near(l, &o) })
		}
	}
	if e.counts[outcomeDelivered] > 0 {
		s.counts.lastSuccess.Store(now.UnixNano())
	}
	s.tasks = e.kept
	s.stale = e.failure != nil
	switch {
	case e.gone:
		s.gone(e.failure, now)
		s.logger.Error(goneText, "status", e.failure.Status)
	case e.failure != nil:
		s.hold(e.failure, e.worst, now)
	case s.pace.open && s.pace.succeeded(now):
		s.logger.Info("breaker closed")
	}
}

func (s *serial) alarm(now time.Time) time.Time {
	switch {
	case s.pausing.on():
		return time.Time{}
	case !s.pace.room(0, now):
		return s.pace.alarm()
	case len(s.tasks) > 0:
		return now
	case s.partial != nil:
		return earliest(s.partial.until, s.timing.alarm(s.dueAlarm()))
	}
	return earliest(s.timing.alarm(s.dueAlarm()), s.wants())
}

func (s *serial) show() {
	var oldest time.Time
	tasks := s.tasks
	if s.partial != nil {
		tasks = s.partial.tasks
	}
	for _, l := range s.lanes {
		var first *task
		if i := slices.IndexFunc(tasks, func(t *task) bool { return t.lane == l }); i >= 0 {
			first = tasks[i]
		}
		oldest = earliest(oldest, l.oldest(first))
	}
	s.counts.inFlight.Store(0)
	s.observe(oldest, s.pace, len(tasks))
}
