package engine

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/millrace-run/millrace/event"
)

// cemetery holds the dead letters of all subscriptions, in the order of their ids. An event that dies again gets a new id.
type cemetery struct {
	rows  []*row
	last  int64 // id
	bytes int64
}

func (c *cemetery) bury(r *row) {
	c.last++
	r.id = c.last
	c.rows = append(c.rows, r)
	c.bytes += cost(&r.record.Event)
}

// exhume takes a row out, if it is there.
func (c *cemetery) exhume(r *row) {
	i, found := slices.BinarySearchFunc(c.rows, r.id, func(r *row, id int64) int { return cmp.Compare(r.id, id) })
	if found {
		c.rows = slices.Delete(c.rows, i, i+1)
		c.bytes -= cost(&r.record.Event)
	}
	r.id = 0
}

// forget drops the oldest dead letters while there are too many of them in memory; the last one is always kept.
func (e *Engine) forget() {
	c := &e.cemetery
	for len(c.rows) > 1 && (len(c.rows) > e.options.MaxDead || c.bytes > e.options.MaxDeadBytes) {
		r := c.rows[0]
		c.exhume(r)
		delete(r.sub.rows, r.record.Offset)
		r.sub.robbed()
		e.forgotten++
		if n := e.forgotten; n&(n-1) == 0 { // at 1, 2, 4, 8, …: a flood of them says little more
			e.options.Logger.Warn("too many dead letters in memory, the oldest is forgotten",
				"subscription", r.sub.name, "event_id", r.record.Event.ID, "reason", string(r.x.Reason), "forgotten", n)
		}
	}
}

// DeadLetters lists dead letters in the order of their ids. They are kept as long as the process runs.
func (e *Engine) DeadLetters(ctx context.Context, q event.DeadQuery) ([]event.DeadLetter, error) {
	if err := e.enter(ctx); err != nil {
		return nil, err
	}
	defer e.mu.Unlock()
	rows := e.cemetery.selected(q)
	list := make([]event.DeadLetter, len(rows))
	for i, r := range rows {
		list[i] = r.letter()
	}
	return list, nil
}

func (r *row) letter() event.DeadLetter {
	return event.DeadLetter{
		ID: r.id, Subscription: r.sub.name, Topic: r.sub.topic.name, Exceptional: event.Exceptional{Record: r.record, Exception: r.x},
	}
}

func (c *cemetery) selected(q event.DeadQuery) []*row {
	var rows []*row
	for _, r := range c.rows {
		if d := r.letter(); d.ID <= q.After || !q.Selects(&d) {
			continue
		}
		rows = append(rows, r)
		if len(rows) == q.Limit {
			break
		}
	}
	return rows
}

// Redrive hands dead letters to their subscriptions again. They count as in flight even where there is no room for more.
func (e *Engine) Redrive(ctx context.Context, q event.DeadQuery) (int, error) {
	if err := e.enter(ctx); err != nil {
		return 0, err
	}
	defer e.mu.Unlock()
	rows := e.cemetery.selected(q)
	for _, r := range rows {
		e.cemetery.exhume(r)
		if e.broker.private {
			e.hold(r.sub.topic, r.record.Offset, cost(&r.record.Event), 1)
		}
		r.x.State, r.x.Reason, r.x.Counted = event.Retry, event.ReasonRedrive, 0
		r.x.FirstAt, r.x.NextAt = time.Time{}, e.options.Clock.Now().UTC()
		r.sub.waiting.add(r)
		r.sub.signal()
	}
	return len(rows), nil
}

// Drop settles dead letters for good; over a broker their messages are acknowledged.
func (e *Engine) Drop(ctx context.Context, q event.DeadQuery) (int, error) {
	if err := e.enter(ctx); err != nil {
		return 0, err
	}
	defer e.mu.Unlock()
	rows := e.cemetery.selected(q)
	for _, r := range rows {
		e.cemetery.exhume(r)
		r.sub.finish(r, true)
		r.sub.robbed()
	}
	return len(rows), nil
}
