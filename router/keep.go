package router

import (
	"cmp"
	"context"
	"crypto/sha256"
	"slices"
	"time"

	"github.com/millrace-run/millrace/event"
)

const (
	probeScan  = 8   // events that wait for others and are passed over for one probe
	orderPiece = 512 // rows that are read at a time when the order is found anew
)

// strict says that the sink gets one event, or one batch, after the other.
func (f *feed) strict() bool { return f.plan.Order != nil && f.plan.Order.Key == nil }

// crowded says that memory has as many events as it may.
func (l *loop) crowded() bool {
	n, bytes := len(l.waiting), l.held
	for _, k := range l.lanes {
		if k.order != nil {
			n, bytes = n+k.order.behind, bytes+k.order.bytes
		}
	}
	return n >= waitingMax || bytes >= heldMax
}

// enter says whether a task that was taken may begin; if not, it waits for an earlier one of its key.
func (l *loop) enter(t *task, now time.Time) bool {
	order := t.lane.order
	if order == nil {
		return true
	}
	key, ok := l.orderKey(t)
	if !ok {
		return true
	}
	t.x.Key = key[:]
	switch order.enter(t, key, l.crowded()) {
	case turnNow:
		return true
	case turnHeld:
		l.hold(t)
	case turnWaits:
		l.moveOn(t.lane)
	}
	return false
}

// hold leaves a task to a row that waits for earlier ones of its key.
func (l *loop) hold(t *task) {
	l.leave(t, t.kept(event.Held, event.ReasonOrder, time.Time{}))
}

// passed notes that an event whose row was handed out is not to be delivered.
func (l *loop) passed(k *lane, o *event.Outcome) {
	if k.order != nil {
		k.order.ended(o.Offset, o.Exception)
		l.moveOn(k)
	}
}

// moveOn does what the order of a lane has come to.
func (l *loop) moveOn(k *lane) {
	if k.order == nil {
		return
	}
	for _, t := range k.order.ready {
		t.waits = true
		l.waiting = append(l.waiting, t)
		l.held += t.item.weight()
	}
	for _, at := range k.order.released {
		k.outcomes = append(k.outcomes, released(at))
	}
	k.order.ready, k.order.released = k.order.ready[:0], k.order.released[:0]
}

func released(at event.Offset) event.Outcome {
	return event.Outcome{Offset: at, Row: true, Exception: &event.Exception{State: event.Released}}
}

// spill gives rows to the events of keys whose first waits, in order, as far as rows may be held: they must not keep others from
// being taken.
func (l *loop) spill(now time.Time) {
	for _, k := range l.lanes {
		if k.order != nil {
			l.spillOf(k, now)
		}
	}
}

func (l *loop) spillOf(k *lane, now time.Time) {
	for c := range k.order.stuck {
		if first := c.links[0].task; first != nil && first.waits && !k.order.full() {
			l.park(first, now)
		}
		for _, t := range c.waiting() {
			if k.order.full() && !t.row {
				return
			}
			l.hold(t)
		}
	}
}

// tellFull tells that others are kept from being taken by what is held.
func (l *lane) tellFull(now time.Time) {
	if l.order == nil || !l.order.full() {
		return
	}
	if hidden, ok := l.folds.held.allow(now, ""); ok {
		l.logger.Warn("max_held events wait for earlier ones with their order_key: nothing new is taken until some are through",
			"held", l.order.held, "folded", hidden)
	}
}

// full says that no more rows may be held.
func (o *orderer) full() bool { return o.held >= o.most }

// orderKey is what the event of a task keeps an order by; false: nothing. A row has the key that it was made with: stages and
// expressions may have changed since. In a strict order all have the same.
func (f *feed) orderKey(t *task) (key orderKey, ok bool) {
	if len(t.x.Key) == len(key) {
		return orderKey(t.x.Key), true
	}
	if f.strict() {
		return key, true
	}
	data, missing, err := evaluate(f.plan.Order.Key, t.item.event)
	if err == nil && data != "null" {
		sum := sha256.Sum256(append(withLength(nil, f.plan.Order.Key.String()), data...))
		return orderKey(sum[:len(key)]), true
	}
	reason := "it is nil"
	switch {
	case err != nil:
		reason = err.Error()
	case missing != "":
		reason = missing + " is missing"
	}
	f.counts.unkeyed.Add(1)
	if hidden, ok := f.folds.unkeyed.allow(f.clock.Now(), reason); ok {
		f.logger.Warn("an event has no order_key, it is delivered in no order", "event_id", t.item.id, "reason", reason, "folded", hidden)
	}
	return key, false
}

// restore finds out at the start which events wait for others. Where no order is kept any more, it lets go of what an earlier
// process held.
func (l *loop) restore(stop, work context.Context) error {
	if l.plan.Order == nil || l.strict() {
		return l.letGoAll(stop, work)
	}
	return l.loadOrders(stop, work, l.moveOn)
}

// loadOrders gives the orders of all lanes their rows; moveOn does what a lane's has come to.
func (f *feed) loadOrders(stop, work context.Context, moveOn func(*lane)) error {
	for _, k := range f.lanes {
		if err := k.loadOrder(stop); err != nil {
			return err
		}
		moveOn(k)
	}
	return f.flush(work)
}

// loadOrder gives the order of a lane its rows. Dead letters are read first and held rows last: a redrive moves a row from the first to
// the second state meanwhile, so that none is overlooked.
func (l *lane) loadOrder(ctx context.Context) error {
	l.dropped = l.sub.Dropped()
	for _, s := range []struct {
		state event.ExceptionState
		place linkPlace
	}{{event.Dead, inDeadRow}, {event.Retry, inRow}, {event.Held, inHeldRow}} {
		if s.state == event.Dead && !l.plan.Order.Hold {
			continue
		}
		err := l.eachKeyed(ctx, s.state, func(rows []event.Keyed) error {
			for _, r := range rows {
				if len(r.Key) == len(orderKey{}) {
					l.order.load(r.Offset, orderKey(r.Key), s.place)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	l.order.loaded()
	return nil
}

// eachKeyed calls f with all rows in a state that have a key, in pieces.
func (l *lane) eachKeyed(ctx context.Context, state event.ExceptionState, f func([]event.Keyed) error) error {
	for after := event.Offset(0); ; {
		var rows []event.Keyed
		err := l.guard.do(ctx, "read what is held", func() (err error) {
			rows, err = l.sub.Keyed(ctx, state, after, orderPiece)
			return err
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		after = rows[len(rows)-1].Offset
		if err := f(rows); err != nil {
			return err
		}
	}
}

// letGoAll releases all held rows of a sink that keeps no order by keys.
func (f *feed) letGoAll(stop, work context.Context) error {
	if !f.keyed {
		return nil
	}
	for _, k := range f.lanes {
		err := k.eachKeyed(stop, event.Held, func(rows []event.Keyed) error {
			for _, r := range rows {
				k.outcomes = append(k.outcomes, released(r.Offset))
			}
			return k.flush(work)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// letGo lets go of the keys whose dead letters were dropped.
func (f *feed) letGo(stop, work context.Context, moveOn func(*lane)) error {
	for _, k := range f.lanes {
		if k.order == nil || k.order.dead == 0 || k.sub.Dropped() == k.dropped {
			continue
		}
		if err := k.letGo(stop, work); err != nil {
			return err
		}
		moveOn(k)
	}
	return nil
}

// letGo looks which dead letters have a row still. A new one that is on its way to the disk has none yet, so it gets there first.
func (l *lane) letGo(stop, work context.Context) error {
	n := l.sub.Dropped()
	if err := l.commit(work); err != nil {
		return err
	}
	from, to := l.order.deadSpan()
	var rows []event.Offset
	err := l.guard.do(stop, "read what is dead", func() (err error) {
		rows, err = l.sub.Rows(stop, from, to)
		return err
	})
	if err != nil {
		return err
	}
	l.dropped = n
	slices.Sort(rows)
	l.order.drop(rows)
	return nil
}

// commit puts on disk what is to be settled, and what was before.
func (l *lane) commit(work context.Context) error {
	c := event.Commit{Settles: []event.Settle{{Subscription: l.name, Outcomes: l.outcomes}}}
	l.outcomes = nil
	return l.guard.do(work, "settle", func() error {
		_, err := l.log.Commit(work, c)
		return err
	})
}

// pickHead is what a strict order takes next: the first of those that wait, if ok holds for it, and others only when none waits.
// The first event of a call says when it goes: what failed together with it goes with it again.
func (l *loop) pickHead(stop context.Context, now time.Time, ok func(*task) bool) (t *task, err error) {
	if len(l.waiting) > 0 {
		head := slices.MinFunc(l.waiting, func(a, b *task) int {
			return cmp.Or(cmp.Compare(a.lane.at, b.lane.at), cmp.Compare(a.offset, b.offset))
		})
		if !ok(head) || !l.token(now) {
			return nil, nil
		}
		return l.unwait(slices.Index(l.waiting, head)), nil
	}
	err = l.serve(func(k *lane) (got bool, err error) {
		if t, err = l.takeDue(stop, k, now); t == nil && err == nil {
			t, err = l.takeFresh(stop, k, now)
		}
		return t != nil, err
	})
	return t, err
}

func (f *feed) observeOrder() {
	held, behind := 0, 0
	for _, k := range f.lanes {
		if k.order == nil {
			return
		}
		held, behind = held+k.order.held, behind+k.order.behind
	}
	f.counts.held.Store(int64(held))
	f.counts.behind.Store(int64(behind))
}
