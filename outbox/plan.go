package outbox

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/millrace-run/millrace/event"
)

// plan is what one commit will do, worked out in memory before any SQL, so that a member's own fault excludes that member only
// and nothing in memory changes before the commit is on disk.
type plan struct {
	batch   batch
	appends []planned
	cursors []*moved
	rows    []row
	states  []event.State
	keyed   []*keyed   // topics with dedupe that are appended to
	freed   int        // rows of keys that the commit deletes
	work    func()     // publish of a work
	all     []*request // as they were taken, those with a fault of their own included

	purges   []*purge // history that goes, at most one for each topic
	retiming *retiming
	receipts receiptsPlan
}

// planned is what a commit appends to one topic.
type planned struct {
	topic   *topic
	first   event.Offset
	records []event.Record
	packed  []event.Packed // in place of records
	count   int            // of events
	bytes   int64
	total   int64 // of the last segment, once applied
}

// last is the offset of the last event.
func (a *planned) last() event.Offset { return a.first + event.Offset(a.count) - 1 }

// moved is a subscription whose cursor the commit writes.
type moved struct {
	subscription *subscription
	cursor       cursor
}

// row is a change to an exception row; a nil exception deletes it.
type row struct {
	subscription *subscription
	offset       event.Offset
	exception    *event.Exception
}

// newPlan works out a batch. Requests with a fault of their own are answered and left out.
func (w *writer) newPlan(b batch) *plan {
	p := &plan{batch: batch{settles: b.settles}, all: b.requests}
	for _, s := range b.settles {
		if err := p.settle(s.subscription, s.outcomes); err != nil {
			w.log.Error("settling refused", "subscription", s.subscription.name, "err", err)
		}
	}
	for _, r := range b.requests {
		if r.refusal = p.request(r, w.clock); r.refusal != nil && !errors.Is(r.refusal, event.ErrConflict) {
			r.done <- r.refusal
			continue
		}
		p.batch.requests = append(p.batch.requests, r)
	}
	return p
}

// change tells the subscriptions which rows the commit changes, before it does.
func (p *plan) change() {
	for _, r := range p.rows {
		r.subscription.change(r.offset)
	}
}

func (p *plan) unchange() {
	for _, r := range p.rows {
		r.subscription.unchange(r.offset)
	}
}

// request plans a request. One that is refused with ErrConflict is a member all the same: what it conflicts with may be in this
// very commit, so it is answered when that is on disk.
func (p *plan) request(r *request, clock event.Clock) error {
	for _, t := range r.topics {
		if !t.named.Load() { // a Configure came between
			return fmt.Errorf("outbox has no topic %q", t.name)
		}
	}
	for i, s := range r.commit.Settles {
		if err := p.check(r.subscriptions[i], s.Outcomes); err != nil {
			return err
		}
	}
	if err := p.decide(r, clock); err != nil {
		return err
	}
	for i, s := range r.commit.Settles {
		if err := p.settle(r.subscriptions[i], s.Outcomes); err != nil {
			r.undecide(len(r.keys))
			return err
		}
	}
	for i, a := range r.commit.Appends {
		if a.Packed != nil {
			r.appended[i].First = p.appendPacked(r.topics[i], a.Packed)
			continue
		}
		r.appended[i].First = p.append(r.topics[i], a.Events, r.appended[i].Duplicates)
	}
	p.states = append(p.states, r.commit.States...)
	return nil
}

func (p *plan) cursor(s *subscription) *cursor {
	for _, m := range p.cursors {
		if m.subscription == s {
			return &m.cursor
		}
	}
	m := &moved{subscription: s, cursor: s.snapshot()}
	p.cursors = append(p.cursors, m)
	return &m.cursor
}

// check says whether all outcomes are of events that exist and lie within the window, on a copy.
func (p *plan) check(s *subscription, outcomes []event.Outcome) error {
	c := *p.cursor(s)
	for i := range outcomes {
		if err := settleOne(s, &c, &outcomes[i]); err != nil {
			return err
		}
	}
	return nil
}

// settleOne marks the offsets of an outcome in a copy of the cursor of s. An event that is still to come must not be found settled.
func settleOne(s *subscription, c *cursor, o *event.Outcome) error {
	to := o.Last()
	if o.Offset <= 0 || to > s.topic.head() {
		return fmt.Errorf("topic %s has no event %d that could be settled", s.topic.name, to)
	}
	for at := o.Offset; at <= to; at++ {
		if err := c.settle(at); err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) settle(s *subscription, outcomes []event.Outcome) error {
	c := p.cursor(s)
	var errs []error
	for i := range outcomes {
		o := &outcomes[i]
		if err := settleOne(s, c, o); err != nil {
			errs = append(errs, err)
			continue
		}
		if o.Exception != nil || o.Row {
			p.rows = append(p.rows, row{s, o.Offset, o.Exception})
		}
		p.receipt(s, o)
	}
	return errors.Join(errs...)
}

// append adds the events that are no duplicates.
func (p *plan) append(t *topic, events []event.Event, duplicates map[int]string) (first event.Offset) {
	if len(events) == len(duplicates) {
		return t.head() + p.added(t) + 1
	}
	a := p.topic(t)
	first = a.last() + 1
	for i := range events {
		if _, left := duplicates[i]; left {
			continue
		}
		a.records = append(a.records, event.Record{Offset: a.last() + 1, Event: events[i]})
		a.count++
		a.bytes += int64(events[i].Size()) + recordOverhead
	}
	return first
}

// appendPacked adds events that are packed.
func (p *plan) appendPacked(t *topic, packed []event.Packed) (first event.Offset) {
	a := planned{topic: t, first: t.head() + p.added(t) + 1, packed: packed}
	for i := range packed {
		a.count += packed[i].Count
		a.bytes += int64(len(packed[i].Body))
	}
	p.appends = append(p.appends, a)
	return a.first
}

// added is how many events the plan appends to a topic so far.
func (p *plan) added(t *topic) event.Offset {
	if a := p.lastOf(t); a != nil {
		return a.last() - t.head()
	}
	return 0
}

// lastOf is what the plan appends last to a topic so far; nil for nothing.
func (p *plan) lastOf(t *topic) *planned {
	for i := len(p.appends) - 1; i >= 0; i-- {
		if p.appends[i].topic == t {
			return &p.appends[i]
		}
	}
	return nil
}

// topic is where records of a topic are added.
func (p *plan) topic(t *topic) *planned {
	if a := p.lastOf(t); a != nil && a.packed == nil {
		return a
	}
	first := t.head() + p.added(t) + 1
	p.appends = append(p.appends, planned{topic: t, first: first, records: make([]event.Record, 0, p.events(t))})
	return &p.appends[len(p.appends)-1]
}

// events counts what the requests of the batch append to a topic.
func (p *plan) events(t *topic) (n int) {
	for _, r := range p.all {
		for i := range r.topics {
			if r.topics[i] == t {
				n += len(r.commit.Appends[i].Events)
			}
		}
	}
	return n
}

// apply runs the plan's statements inside a transaction. Rows go before the purge, which rescues what they name, and the purge
// before the appends, which use its room.
func (w *writer) apply(p *plan) error {
	for _, r := range p.rows {
		if err := w.applyRow(r); err != nil {
			return err
		}
	}
	if err := w.applyRetention(p); err != nil {
		return err
	}
	if err := w.applyKeys(p); err != nil {
		return err
	}
	for i := range p.appends {
		a := &p.appends[i]
		a.total = a.topic.total.Load()
		for j := range i {
			if p.appends[j].topic == a.topic {
				a.total = p.appends[j].total
			}
		}
		if err := w.applyAppend(a); err != nil {
			return err
		}
	}
	for _, m := range p.cursors {
		err := w.conn.exec("UPDATE subscriptions SET cursor = ?, ahead = ?, gaps = ? WHERE id = ?",
			int64(m.cursor.at), m.cursor.aheadBytes(), m.cursor.gapBytes(), m.subscription.id)
		if err != nil {
			return err
		}
		w.written += event.Window / 8
	}
	for _, s := range p.states {
		if err := w.applyState(s); err != nil {
			return err
		}
	}
	if err := w.applyReceipts(p); err != nil {
		return err
	}
	return w.leaveBodies(p)
}

// applyAppend writes records as segments of at most maxSegmentEvents events and maxSegmentBytes; a larger event alone.
func (w *writer) applyAppend(a *planned) error {
	now := w.clock.Now().UnixNano()
	first := a.first
	for i := range a.packed {
		x := &a.packed[i]
		at := stamp(x.Newest)
		if at == noTime {
			at = now
		}
		if err := w.insert(a, first, x.Count, at, x.Body); err != nil {
			return err
		}
		first += event.Offset(x.Count)
	}
	for rest := a.records; len(rest) > 0; {
		n, bytes := 1, rest[0].Event.Size()
		for n < len(rest) && n < maxSegmentEvents && bytes+rest[n].Event.Size() <= maxSegmentBytes {
			bytes += rest[n].Event.Size()
			n++
		}
		if err := w.insert(a, rest[0].Offset, n, newest(rest[:n], now), w.encoder.encode(rest[:n])); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// insert writes a segment.
func (w *writer) insert(a *planned, first event.Offset, n int, at int64, body []byte) error {
	a.total += int64(len(body))
	err := w.conn.exec("INSERT INTO segments (topic, first, n, at, total, body) VALUES (?, ?, ?, ?, ?, ?)",
		a.topic.id, int64(first), int64(n), at, a.total, body)
	w.written += int64(len(body)) + pageSize
	return err
}

// newest is when the newest of records was received; the other time if none says when.
func newest(records []event.Record, other int64) int64 {
	at := int64(noTime)
	for i := range records {
		at = max(at, stamp(records[i].Event.Received))
	}
	if at == noTime {
		return other
	}
	return at
}

func (w *writer) applyRow(r row) error {
	if r.exception == nil {
		return w.conn.exec("DELETE FROM deliveries WHERE subscription = ? AND offset = ?", r.subscription.id, int64(r.offset))
	}
	x := r.exception
	w.written += pageSize
	if x.State == event.Released {
		return w.conn.exec("UPDATE deliveries SET state = 1, next_at = 1 WHERE subscription = ? AND offset = ? AND state = 3",
			r.subscription.id, int64(r.offset))
	}
	return w.conn.exec(`INSERT INTO deliveries (subscription, offset, state, reason, stage, status, attempts, counted, next_at,
			first_at, last_at, error, answer, progress, key, history)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
		ON CONFLICT (subscription, offset) DO UPDATE SET state = ?3, reason = ?4, stage = ?5, status = ?6, attempts = ?7,
			counted = ?8, next_at = ?9, first_at = ?10, last_at = ?11, error = ?12, answer = ?13, progress = ?14, key = ?15,
			history = ?16`,
		r.subscription.id, int64(r.offset), int64(x.State), string(x.Reason), x.Stage, int64(x.Status), int64(x.Attempts),
		int64(x.Counted), nanos(x.NextAt), nanos(x.FirstAt), nanos(x.LastAt), x.Error, x.Answer, x.Progress, x.Key,
		encodeHistory(x.History))
}

func (w *writer) applyState(s event.State) error {
	for key, value := range s.Changes {
		var err error
		if value == nil {
			err = w.conn.exec("DELETE FROM states WHERE owner = ? AND key = ?", s.Owner, key)
		} else {
			err = w.conn.exec("INSERT INTO states (owner, key, value) VALUES (?1, ?2, ?3) ON CONFLICT (owner, key) DO UPDATE SET value = ?3",
				s.Owner, key, value)
		}
		if err != nil {
			return err
		}
		w.written += int64(len(value)) + pageSize
	}
	return nil
}

// lastTime is the last that can be stored.
var lastTime = time.Unix(0, math.MaxInt64)

// nanos is a time as it is stored; the zero time is 0. One that is too far away to be stored must not come round to the past.
func nanos(t time.Time) driver.Value {
	switch {
	case t.IsZero():
		return int64(0)
	case t.After(lastTime):
		return int64(math.MaxInt64)
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
