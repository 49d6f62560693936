package outbox

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"time"

	"github.com/millrace-run/millrace/event"
)

// sought is a seek of one subscription, worked out.
type sought struct {
	event.Sought
	subscription *subscription
	cursor       cursor
}

// Seek moves the cursors of subscriptions. It is called by their one reader between two other calls, or while they have none: what
// the reader was handed before must not be settled after it. What it settled before is on disk, and the reader goes on at the new
// place as after Subscribe.
//
//	crash in or before the commit   cursors and rows are as they were
//	crash after it                  the next reader begins at the new place
func (b *Outbox) Seek(ctx context.Context, k event.Seek) ([]event.Sought, error) {
	readers, err := b.named(k.Subscriptions)
	if err != nil {
		return nil, err
	}
	if k.Preview {
		return b.previewSeek(ctx, readers, k.To)
	}
	if _, err := b.Commit(ctx, event.Commit{}); err != nil { // behind all that was settled
		return nil, err
	}
	var all []sought
	err = b.do(ctx, func(c *conn) (publish func(), err error) {
		if all, err = seekAll(c, readers, k.To); err != nil {
			return nil, err
		}
		for i := range all {
			if err := all[i].apply(c); err != nil {
				return nil, err
			}
		}
		return func() { b.sought(all) }, nil
	})
	if err != nil {
		return nil, err
	}
	for _, s := range readers {
		s.begin()
	}
	return reports(all), nil
}

// named are the subscriptions with these names.
func (b *Outbox) named(names []string) ([]*subscription, error) {
	all := make([]*subscription, len(names))
	for i, name := range names {
		if all[i] = b.subscription(name); all[i] == nil {
			return nil, fmt.Errorf("outbox has no subscription %q yet: start once with a configuration that names it", name)
		}
	}
	return all, nil
}

func (b *Outbox) previewSeek(ctx context.Context, readers []*subscription, to event.Start) (all []event.Sought, err error) {
	err = b.readers.with(ctx, func(c *conn) error {
		found, err := seekAll(c, readers, to)
		all = reports(found)
		return err
	})
	return all, err
}

func reports(all []sought) []event.Sought {
	out := make([]event.Sought, len(all))
	for i := range all {
		out[i] = all[i].Sought
	}
	return out
}

// sought takes over cursors that were committed. What was settled by a reader that has not heard of the seek is nothing any more.
func (b *Outbox) sought(all []sought) {
	for i := range all {
		s := all[i].subscription
		b.queue.forget(s)
		s.moved(all[i].cursor)
		s.wake()
	}
}

func seekAll(c *conn, readers []*subscription, to event.Start) ([]sought, error) {
	all := make([]sought, len(readers))
	for i, s := range readers {
		var err error
		if all[i], err = s.seek(c, to); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// seek works out a seek. A dead letter at or behind the target is not owed any more, so that its event stays in one state: redrive
// and drop find it as it was.
func (s *subscription) seek(c *conn, to event.Start) (k sought, err error) {
	k.subscription, k.Subscription = s, s.name
	before := s.snapshot()
	k.Cursor, k.Head = before.at, s.topic.head()
	if k.Next, k.Gone, err = s.topic.locate(c, to); err != nil {
		return k, err
	}
	if k.Gone > 0 && k.Next <= k.Head {
		if k.Oldest, err = receivedAt(c, s.topic, k.Next); err != nil {
			return k, err
		}
	}
	k.cursor.at = k.Next - 1
	if k.Next > before.at { // what lies ahead of the cursor is as it was
		k.cursor.ahead = before.ahead
		k.cursor.gaps = before.behind(k.cursor.at)
		for o := before.at + 1; o < min(k.Next, before.at+event.Window+1); o++ {
			k.cursor.ahead[o%event.Window/64] &^= 1 << (o % 64)
		}
	}
	if k.Next <= before.at {
		k.Again = before.settledFrom(k.Next, k.Head)
	}
	k.Skipped = max(0, int64(k.cursor.at-before.at)-before.settledIn(before.at+1, k.cursor.at))
	const rows = "SELECT offset, " + seekStays + ", state FROM deliveries WHERE subscription = ? AND offset >= ? ORDER BY offset"
	kept := int64(0)
	err = c.each(rows, func(columns []driver.Value) error {
		o := event.Offset(columns[0].(int64))
		if columns[1] == int64(1) {
			if kept++; columns[2] == int64(event.Dead) {
				k.Dead++
			}
			k.cursor.pass(o)
			return nil
		}
		k.Waiting++
		k.cursor.reopen(o)
		return nil
	}, s.id, int64(k.Next))
	k.Again = max(0, k.Again-kept-k.Waiting)
	k.cursor.advance()
	return k, err
}

// seekStays says of a row whether a seek leaves it: a dead letter, and one that somebody edited or gave to this sink, since what comes
// again is neither.
const seekStays = "(state = 2 OR edited IS NOT NULL OR origin <> '')"

func (k *sought) apply(c *conn) error {
	err := c.exec("DELETE FROM deliveries WHERE subscription = ? AND offset >= ? AND NOT "+seekStays, k.subscription.id, int64(k.Next))
	if err != nil {
		return err
	}
	return c.exec("UPDATE subscriptions SET cursor = ?, ahead = ?, gaps = ? WHERE id = ?",
		int64(k.cursor.at), k.cursor.aheadBytes(), k.cursor.gapBytes(), k.subscription.id)
}

// locate is the offset of the first event that a reader gets who begins at a place, and how many that it asked for are gone.
func (t *topic) locate(c *conn, to event.Start) (next event.Offset, gone int64, err error) {
	purged, head := t.purgedTo(), t.head()
	switch {
	case to.Beginning:
		return purged + 1, int64(purged), nil
	case to.Offset > head+1 || to.Offset < 0:
		return 0, 0, fmt.Errorf("%w: topic %s has no event %d, its last is %d", event.ErrNoPlace, t.name, to.Offset, head)
	case to.Offset > 0:
		next = max(to.Offset, purged+1)
		return next, int64(next - to.Offset), nil
	case to.Time.IsZero():
		return head + 1, 0, nil
	}
	if next, err = t.since(c, to.Time); next == purged+1 && err == nil {
		gone = int64(purged)
	}
	return next, gone, err
}

// since is the first event that was received at or after a time; one behind the last if there is none. A segment knows when its
// newest event was received.
func (t *topic) since(c *conn, at time.Time) (event.Offset, error) {
	next := t.head() + 1
	from, err := c.integer("SELECT first FROM segments WHERE topic = ? AND at >= ? ORDER BY first LIMIT 1", t.id, nanos(at))
	if err != nil || from == 0 {
		return next, err
	}
	records, _, err := segmentOf(c, t, event.Offset(from))
	i := slices.IndexFunc(records, func(r event.Record) bool { return !r.Event.Received.Before(at) })
	if err != nil || i < 0 {
		return event.Offset(from), err
	}
	return records[i].Offset, nil
}

// receivedAt is when an event was received.
func receivedAt(c *conn, t *topic, o event.Offset) (at time.Time, err error) {
	records, _, err := segmentOf(c, t, o)
	for _, r := range records {
		if r.Offset == o {
			return r.Event.Received, nil
		}
	}
	return at, err
}

// behind are the gaps beyond an offset, with what lies beyond it of one that holds it.
func (c *cursor) behind(o event.Offset) (gaps []gap) {
	for _, g := range c.gaps {
		if g.to > o {
			gaps = append(gaps, gap{max(g.from, o+1), g.to})
		}
	}
	return gaps
}

// settledIn counts the offsets of a range beyond the cursor that need no handing out.
func (c *cursor) settledIn(from, to event.Offset) (n int64) {
	for o := from; o <= min(to, c.at+event.Window); o++ {
		if c.settled(o) {
			n++
		}
	}
	for _, g := range c.gaps {
		n += max(0, int64(min(g.to, to)-max(g.from, from, c.at+event.Window+1))+1)
	}
	return n
}

// settledFrom counts the offsets of a range that need no handing out.
func (c *cursor) settledFrom(from, to event.Offset) int64 {
	return max(0, int64(min(c.at, to)-from)+1) + c.settledIn(max(from, c.at+1), to)
}

// pass adds an offset behind all gaps but those that hold it.
func (c *cursor) pass(o event.Offset) {
	i, inside := c.gap(o)
	switch {
	case inside:
	case i > 0 && c.gaps[i-1].to == o-1:
		c.gaps[i-1].to = o
	default:
		c.gaps = slices.Insert(c.gaps, i, gap{o, o})
	}
}

// reopen makes an offset beyond the cursor one that is not settled.
func (c *cursor) reopen(o event.Offset) {
	if c.at < o && o <= c.at+event.Window {
		c.ahead[o%event.Window/64] &^= 1 << (o % 64)
	}
	if i, inside := c.gap(o); inside {
		g := c.gaps[i]
		rest := []gap{{g.from, o - 1}, {o + 1, g.to}}
		c.gaps = slices.Replace(c.gaps, i, i+1, slices.DeleteFunc(rest, func(g gap) bool { return g.from > g.to })...)
	}
}

// begin lets the reader begin behind the cursor.
func (s *subscription) begin() {
	s.reading.Lock()
	defer s.reading.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beginLocked()
}

func (s *subscription) beginLocked() {
	s.reuses, s.room = false, nil
	s.next, s.buffer, s.packed, s.out = s.cursor.at+1, nil, segmentReader{}, map[event.Offset]bool{}
	s.due, s.asked = time.Time{}, time.Time{}
	s.wake()
}

// startOf is the cursor of a new subscription, and a line for the log of what it asked for and does not get.
func (b *Outbox) startOf(c *conn, t *topic, name string, from event.Start) (cursor, func(), error) {
	next, gone, err := t.locate(c, from)
	if err != nil || from == (event.Start{}) {
		return cursor{at: next - 1}, func() {}, err
	}
	var oldest time.Time
	if gone > 0 && next <= t.head() {
		oldest, err = receivedAt(c, t, next)
	}
	return cursor{at: next - 1}, func() {
		b.log.Info("new subscription begins in history", "subscription", name, "offset", int64(next), "events", int64(t.head()-next+1))
		if gone > 0 {
			b.log.Warn("of what a new subscription asked for, events are gone by retention", "subscription", name, "events_at_most", gone,
				"oldest_left", oldest)
		}
	}, err
}
