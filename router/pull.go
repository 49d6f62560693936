package router

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/millrace-run/millrace/event"
)

// puller hands the events of one sink to workers that come for them. Whoever has an event has a lease: a row with the reason lease,
// which is due when the lease ends. It is committed before the worker hears of the event, so that nobody else gets it, not after a
// restart either. The row is all that is known of a lease: nothing of it is kept in memory.
//
//	pending, retry ──Receive──▶ leased    row: attempts + 1, next_at = end of the lease
//	leased ──Acked────────────▶ settled   row deleted
//	leased ──Nacked───────────▶ retry     row: counted + 1, next_at = delay; at max_attempts or max_age: dead
//	leased ──Rejected─────────▶ dead      row: permanent
//	leased ──Extended─────────▶ leased    row: next_at = later
//	leased ──end of the lease─▶ retry     in memory only: counted when it is leased again; at max_attempts or max_age: dead
//
//	crash before the commit of a lease   nobody has the event; it is pending as before
//	crash after it, before the answer    the event waits for the end of the lease, as if its worker had died
//	crash before the commit of a return  the worker heard nothing, and asks again after the start: the receipt is still good
//	crash after it                       the same; a second Acked finds the event gone, which is what it wanted
type puller struct {
	feed
	desk  *desk
	asks  []*request
	ready []*task // due and in nobody's hands
	again bool
}

// readyMax is how many events that are due again wait in memory.
const readyMax = 512

var errLeaseOver = errors.New("the lease ended and nothing was heard from the worker")

func newPuller(s *subscriber) *puller {
	if o := s.plan.Order; o != nil {
		for _, k := range s.lanes {
			k.order = newOrderer(o.MaxHeld, o.Hold)
		}
	}
	return &puller{feed: newFeed(s), desk: s.desk}
}

// join has nothing to wait for: all is done in run.
func (p *puller) join() {}

func (p *puller) run(stop, work context.Context) error {
	p.guard.begin()
	defer p.guard.end()
	p.desk.open()
	defer p.close()
	p.seeks.open()
	defer p.seeks.close()
	if err := p.restore(stop, work); err != nil {
		return clean(stop, work, err)
	}
	for stop.Err() == nil {
		if err := p.turn(stop, work); err != nil {
			return clean(stop, work, err)
		}
		if !p.again {
			p.sleep(stop, p.shedAlarm(p.alarm()), nil)
		}
	}
	return nil
}

// close lets everybody go who waits for an event.
func (p *puller) close() {
	for _, r := range append(p.asks, p.desk.close()...) {
		r.answer(reply{err: event.ErrClosed})
	}
	p.asks = nil
}

func (p *puller) turn(stop, work context.Context) error {
	p.again = false
	now := p.clock.Now().UTC()
	if err := p.letGo(stop, work, p.moveOn); err != nil {
		return err
	}
	if err := p.hear(stop, work, now); err != nil {
		return err
	}
	if err := p.seek(stop, work); err != nil {
		return err
	}
	if err := p.shedOver(stop, work, now); err != nil {
		return err
	}
	if err := p.takeDue(stop, now); err != nil {
		return err
	}
	err := p.handOut(stop, work, now)
	if flushed := p.flush(work); err == nil {
		err = flushed
	}
	p.dismiss(func(r *request) bool { return !now.Before(r.until) })
	p.show()
	return err
}

// hear takes what workers have said since the last turn.
func (p *puller) hear(stop, work context.Context, now time.Time) error {
	requests := p.desk.take()
	for i, r := range requests {
		if r.receipts == nil {
			p.asks = append(p.asks, r)
			continue
		}
		if err := p.takeBack(stop, work, r, now); err != nil {
			for _, left := range requests[i:] {
				left.answer(reply{err: err})
			}
			return err
		}
	}
	p.dismiss(func(r *request) bool { return r.gone.Load() })
	return nil
}

// takeDue takes the rows whose time has come, which ends leases, and makes dead letters of those that may not come again.
func (p *puller) takeDue(stop context.Context, now time.Time) error {
	for _, k := range p.lanes {
		for len(p.ready) < readyMax {
			t, o, err := k.due(stop, now)
			if err != nil {
				return err
			}
			if t == nil && o == nil {
				break
			}
			if t != nil && t.x.Reason == event.ReasonLease {
				p.counts.attempts[outcomeExpired].Add(1)
				o = p.judge(t, event.Failure{Err: errLeaseOver}, now)
			}
			if o != nil {
				p.settle(k, o)
			} else if p.enter(t) {
				p.await(t)
			}
		}
	}
	return nil
}

// judge notes a failed attempt of a task; an outcome says that it was the last.
func (p *puller) judge(t *task, f event.Failure, now time.Time) *event.Outcome {
	j := t.judge(&f, 0, 0, p.plan.Retry, now)
	if j.action != giveUp {
		return nil
	}
	o := t.kept(event.Dead, j.reason, time.Time{})
	p.dead(t.id(), o.Exception)
	return &o
}

// handOut leases events to those who ask, in the order in which they came, in one commit.
func (p *puller) handOut(stop, work context.Context, now time.Time) error {
	p.timing.wake()
	var served []*request
	for _, r := range p.asks {
		if err := p.gather(stop, r, now); err != nil {
			return err
		}
		if len(r.leased) == 0 {
			break
		}
		served = append(served, r)
	}
	if len(served) == 0 {
		return nil
	}
	p.asks = p.asks[len(served):]
	err := p.commit(work, "lease")
	for _, r := range served {
		r.answer(reply{events: r.leased, err: err})
	}
	return err
}

// gather leases events to one who asks. Each has its row at once: what comes behind it in its key sees that it is gone for long.
func (p *puller) gather(stop context.Context, r *request, now time.Time) error {
	for len(r.leased) < r.ask.Max {
		t, err := p.pick(stop, now)
		if t == nil || err != nil {
			return err
		}
		r.leased = append(r.leased, p.lease(t, r.ask.Lease, now))
	}
	return nil
}

// pick takes the next event that may be handed out, and ends what has expired or has to wait with a row.
func (p *puller) pick(stop context.Context, now time.Time) (t *task, err error) {
	for range takeMax {
		if p.pausing.on() {
			return nil, nil
		}
		t = nil
		err = p.serve(func(k *lane) (bool, error) {
			t, err = p.pickOf(stop, k, now)
			return t != nil, err
		})
		if t == nil || err != nil || p.passes(t, p.screen(t, now)) {
			return t, err
		}
	}
	p.again = true
	return nil, nil
}

// passes ends a task with an outcome, and says that there is none.
func (p *puller) passes(t *task, o *event.Outcome) bool {
	if o != nil {
		p.leave(t, *o)
	}
	return o == nil
}

// pickOf takes what comes again before what is new.
func (p *puller) pickOf(stop context.Context, k *lane, now time.Time) (*task, error) {
	if !p.token(now) {
		return nil, nil
	}
	if i := slices.IndexFunc(p.ready, func(t *task) bool { return t.lane == k && k.order.mayGo(t) }); i >= 0 {
		t := p.ready[i]
		p.ready = slices.Delete(p.ready, i, i+1)
		k.order.begin(t)
		return t, nil
	}
	return p.pickFresh(stop, k, now)
}

// pickFresh takes the next new event that the sink wants, and settles those before it that it does not want.
func (p *puller) pickFresh(stop context.Context, k *lane, now time.Time) (*task, error) {
	for range takeMax {
		in, err := k.peek(stop)
		if in == nil || err != nil || !p.ripe(k, now) || !p.room(k, now) {
			return nil, err
		}
		t, o, err := k.take(stop, now)
		if err != nil || t != nil && p.enter(t) {
			return t, err
		}
		if o != nil {
			k.outcomes = append(k.outcomes, *o)
		}
	}
	p.again = true
	return nil, nil
}

// lease gives an event away until a time.
func (p *puller) lease(t *task, d time.Duration, now time.Time) event.Leased {
	l := event.Leased{Delivery: t.delivery(now), Until: now.Add(d), Receipt: receiptOf(t.lane, t.offset, t.x.Attempts, now)}
	t.x.LastAt = now
	p.leave(t, p.left(t, event.ReasonLease, l.Until))
	return l
}

// commit waits until what the lanes have to settle is on disk.
func (p *puller) commit(work context.Context, what string) error {
	var c event.Commit
	for _, k := range p.lanes {
		if len(k.outcomes) > 0 {
			c.Settles = append(c.Settles, event.Settle{Subscription: k.name, Outcomes: k.outcomes})
			k.outcomes = nil
		}
	}
	if c.Settles == nil {
		return nil
	}
	return p.guard.do(work, what, func() error {
		_, err := p.log.Commit(work, c)
		return err
	})
}

// takeBack does what a worker says about events that it has, in one commit.
func (p *puller) takeBack(stop, work context.Context, r *request, now time.Time) error {
	var gone []string
	for i, receipt := range r.receipts {
		t, err := p.find(stop, r.places[i])
		if err != nil {
			return err
		}
		if t == nil {
			gone = append(gone, receipt)
			continue
		}
		p.leave(t, p.returned(t, r.back, now))
	}
	err := p.commit(work, "take back")
	r.answer(reply{gone: gone, err: err})
	return err
}

// find returns the event that a receipt names, if it is still the worker's or nobody's; nil if not.
func (p *puller) find(stop context.Context, c claim) (*task, error) {
	for i, t := range p.ready {
		if t.place == c.place && c.names(&t.x) {
			p.ready = slices.Delete(p.ready, i, i+1)
			return t, nil
		}
	}
	c.lane.dues.withdraw(c.offset)
	var x *event.Exception
	err := p.guard.do(stop, "read a lease", func() (err error) {
		x, err = c.lane.sub.Row(stop, c.offset)
		return err
	})
	if err != nil || x == nil || x.Reason != event.ReasonLease || x.State != event.Retry || !c.names(x) {
		return nil, err
	}
	return &task{place: c.place, row: true, x: *x, tries: x.Counted}, nil
}

// returned is what becomes of an event that a worker has.
func (p *puller) returned(t *task, back event.Return, now time.Time) event.Outcome {
	took := now.Sub(t.x.LastAt)
	switch back.Action {
	case event.Extended:
		return p.left(t, event.ReasonLease, now.Add(back.Delay))
	case notGiven:
		t.x.Attempts--
		return p.left(t, event.ReasonReturned, now)
	case event.Acked:
		p.counts.attempts[outcomeDelivered].Add(1)
		p.counts.delivered.Add(1)
		p.counts.nanos.Add(int64(took))
		p.counts.lastSuccess.Store(now.UnixNano())
		return t.settled(0, took)
	}
	f := event.Failure{Err: errors.New("the worker gave no reason")}
	if back.Problem != "" {
		f.Err = errors.New(back.Problem)
	}
	if back.Action == event.Rejected {
		f.Class = event.PermanentClass
	}
	p.counts.attempts[outcomeOf(&f)].Add(1)
	p.counts.nanos.Add(int64(took))
	if o := p.judge(t, f, now); o != nil {
		return *o
	}
	delay := back.Delay
	if delay < 0 {
		delay = backoff(p.plan.Retry, t.tries, 0, p.rand())
	}
	return p.left(t, event.ReasonFailed, now.Add(delay))
}

// restore finds out at the start which events wait for others of their key. Where no order is kept any more, it lets go of what an
// earlier process held.
func (p *puller) restore(stop, work context.Context) error {
	if p.plan.Order == nil {
		return p.letGoAll(stop, work)
	}
	return p.loadOrders(stop, work, p.moveOn)
}

// room says whether a new event may be taken: in a strict order only when none before it is left, in another while what waits for
// others fits.
func (p *puller) room(k *lane, now time.Time) bool {
	switch {
	case k.order == nil:
		return true
	case p.strict():
		return len(k.order.chains) == 0
	case k.order.full() || p.crowded():
		k.tellFull(now)
		return false
	}
	return true
}

func (p *puller) crowded() bool {
	n := len(p.ready)
	for _, k := range p.lanes {
		if k.order != nil {
			n += k.order.behind
		}
	}
	return n >= 2*readyMax
}

// enter says whether a task that was taken may go to a worker; if not, it waits for an earlier one of its key.
func (p *puller) enter(t *task) bool {
	order := t.lane.order
	if order == nil {
		return true
	}
	key, ok := p.orderKey(t)
	if !ok {
		return true
	}
	t.x.Key = key[:]
	switch order.enter(t, key, p.crowded()) {
	case turnNow:
		return true
	case turnHeld:
		p.leave(t, t.kept(event.Held, event.ReasonOrder, time.Time{}))
	case turnWaits:
		p.moveOn(t.lane)
	}
	return false
}

// await keeps a task in memory until a worker comes.
func (p *puller) await(t *task) {
	p.ready = append(p.ready, t)
	t.lane.order.pause(t)
	p.moveOn(t.lane)
}

// leave ends a task in memory with its outcome. One that was known by its row alone has no place in memory to leave.
func (p *puller) leave(t *task, o event.Outcome) {
	if t.chain == nil {
		p.settle(t.lane, &o)
		return
	}
	t.lane.outcomes = append(t.lane.outcomes, o)
	t.lane.order.end(t, o.Exception, p.crowded())
	p.moveOn(t.lane)
}

// settle takes the outcome of a row.
func (p *puller) settle(k *lane, o *event.Outcome) {
	k.outcomes = append(k.outcomes, *o)
	if k.order != nil {
		k.order.ended(o.Offset, o.Exception)
		p.moveOn(k)
	}
}

// moveOn does what the order of a lane has come to.
func (p *puller) moveOn(k *lane) {
	if k.order == nil {
		return
	}
	p.ready = append(p.ready, k.order.ready...)
	for _, at := range k.order.released {
		k.outcomes = append(k.outcomes, released(at))
	}
	k.order.ready, k.order.released = k.order.ready[:0], k.order.released[:0]
}

// left leaves an event to its row.
func (p *puller) left(t *task, reason event.Reason, next time.Time) event.Outcome {
	t.lane.dues.expect(next)
	return t.kept(event.Retry, reason, next)
}

// alarm is the next time at which there is something to do by itself; zero: none.
func (p *puller) alarm() time.Time {
	at := p.dueAlarm()
	if len(p.ready) >= readyMax {
		at = time.Time{} // there is no room for more
	}
	for _, r := range p.asks {
		at = earliest(at, r.until)
	}
	if len(p.asks) > 0 {
		at = earliest(at, p.timing.alarm(at))
	}
	return at
}

// dismiss lets those go without an event for whom it is over.
func (p *puller) dismiss(over func(*request) bool) {
	p.asks = slices.DeleteFunc(p.asks, func(r *request) bool {
		if !over(r) {
			return false
		}
		r.answer(reply{})
		return true
	})
}

// show tells those who look.
func (p *puller) show() {
	c := &p.counts
	c.waiting.Store(int64(len(p.ready)))
	p.observeOrder()
	c.workers.Store(int64(len(p.asks)))
	var oldest time.Time
	for _, k := range p.lanes {
		oldest = earliest(oldest, k.oldest(nil))
	}
	c.oldest.Store(0)
	if !oldest.IsZero() {
		c.oldest.Store(oldest.UnixNano())
	}
}
