package outbox

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/millrace-run/millrace/event"
)

// bulkRows is how many rows one transaction of bulk work changes, so that those who append do not wait for it.
const bulkRows = 512

// DeadLetters lists dead letters in the order of their ids, at most q.Limit (0: no limit). One whose event is damaged is listed
// without it, so that the others can be seen.
func (b *Outbox) DeadLetters(ctx context.Context, q event.DeadQuery) ([]event.DeadLetter, error) {
	var letters []event.DeadLetter
	for {
		limit := bulkRows
		if q.Limit > 0 {
			limit = min(limit, q.Limit-len(letters))
		}
		piece, err := b.readDead(ctx, q, limit)
		if err != nil {
			return nil, err
		}
		letters = append(letters, piece...)
		if len(piece) < limit || len(letters) == q.Limit {
			return letters, nil
		}
		q.After = piece[limit-1].ID
	}
}

func (b *Outbox) readDead(ctx context.Context, q event.DeadQuery, limit int) (letters []event.DeadLetter, err error) {
	where, args := b.deadWhere(q)
	err = b.readers.with(ctx, func(c *conn) error {
		return c.each("SELECT "+rowColumns+", id, subscription FROM deliveries WHERE "+where+" ORDER BY id LIMIT ?",
			func(columns []driver.Value) error {
				s := b.byID(columns[rowWidth+1].(int64))
				if s == nil {
					return fmt.Errorf("dead letter %d has no subscription: %w", columns[rowWidth], errDamaged)
				}
				l := event.DeadLetter{
					Exceptional: scanRow(columns), ID: columns[rowWidth].(int64), Subscription: s.name, Topic: s.topic.name,
				}
				var damage error
				if l.Edited, damage = editedOf(s.topic, columns); damage != nil {
					b.log.Error("the edited event of a dead letter cannot be read", "id", l.ID, "subscription", l.Subscription, "err", damage)
				}
				letters = append(letters, l)
				return nil
			}, append(args, int64(limit))...)
	})
	find := finder{box: b}
	for i := range letters {
		l := &letters[i]
		if err != nil {
			return nil, err
		}
		if q.Bare {
			continue
		}
		var record event.Record
		if record, err = find.find(ctx, b.topic(l.Topic), l.Record.Offset); damaged(err) {
			err = b.loseLetter(ctx, l, err)
			continue
		}
		l.Record = record
	}
	return letters, err
}

// loseLetter tells that the event of a dead letter can't be had. One that was redriven or dropped since it was read may be gone.
func (b *Outbox) loseLetter(ctx context.Context, l *event.DeadLetter, cause error) error {
	return b.readers.with(ctx, func(c *conn) error {
		still, err := c.integer("SELECT EXISTS (SELECT 1 FROM deliveries WHERE id = ? AND state = 2)", l.ID)
		if still != 0 {
			b.log.Error("the event of a dead letter cannot be read", "id", l.ID, "subscription", l.Subscription, "err", cause)
		}
		return err
	})
}

// deadWhere is the condition that q asks for. Only numbers go into the text; there may be more ids than SQLite takes arguments.
func (b *Outbox) deadWhere(q event.DeadQuery) (where string, args []driver.Value) {
	where = "state = 2 AND id > ?"
	args = append(args, q.After)
	if len(q.IDs) > 0 {
		where += " AND id IN (SELECT value FROM json_each(?))"
		args = append(args, numbers(q.IDs))
	}
	if len(q.Subscriptions) > 0 {
		var ids []int64
		for _, name := range q.Subscriptions {
			if s := b.subscription(name); s != nil {
				ids = append(ids, s.id)
			}
		}
		where += " AND subscription IN (SELECT value FROM json_each(?))"
		args = append(args, numbers(ids))
	}
	if len(q.Reasons) > 0 {
		where += " AND reason IN (?" + strings.Repeat(", ?", len(q.Reasons)-1) + ")"
		for _, r := range q.Reasons {
			args = append(args, string(r))
		}
	}
	if len(q.Statuses) > 0 {
		where += " AND status IN (SELECT value FROM json_each(?))"
		args = append(args, numbers(q.Statuses))
	}
	if !q.Since.IsZero() {
		where += " AND last_at >= ?"
		args = append(args, nanos(q.Since))
	}
	if !q.Until.IsZero() {
		where += " AND last_at < ?"
		args = append(args, nanos(q.Until))
	}
	if q.Text != "" {
		where += " AND instr(error, ?) > 0"
		args = append(args, q.Text)
	}
	return where, args
}

// numbers is a JSON array.
func numbers[T int | int64](ids []T) string {
	var b strings.Builder
	b.WriteByte('[')
	for i, id := range ids {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatInt(int64(id), 10))
	}
	b.WriteByte(']')
	return b.String()
}

func (b *Outbox) byID(id int64) *subscription {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, s := range b.subscriptions {
		if s.id == id {
			return s
		}
	}
	return nil
}

// Redrive gives the selected dead letters back to their subscriptions, in pieces of bulkRows. Attempts stay; the counted ones
// and the first attempt begin anew. An error tells how many were given back before it.
func (b *Outbox) Redrive(ctx context.Context, q event.DeadQuery) (int, error) {
	return b.inPieces(ctx, q, func(ctx context.Context, p deadPiece) error {
		now := b.clock.Now().UTC()
		return b.do(ctx, func(c *conn) (func(), error) {
			touched := map[int64][]event.Offset{}
			err := p.change(c, "UPDATE deliveries SET state = 1, reason = 'redrive', counted = 0, first_at = 0, next_at = ?",
				touched, now.UnixNano())
			return func() { b.due(touched, now) }, err
		})
	})
}

// due tells subscriptions that they have rows which are due.
func (b *Outbox) due(ids map[int64][]event.Offset, at time.Time) {
	for id := range ids {
		if s := b.byID(id); s != nil {
			s.mu.Lock()
			s.soonerLocked(at)
			s.mu.Unlock()
		}
	}
}

// Drop deletes the rows of the selected dead letters, in pieces of bulkRows; that settles them, since the cursor has passed them
// by. Readers that hold a key for a dead letter hear of it by Dropped. An error tells how many were dropped before it.
func (b *Outbox) Drop(ctx context.Context, q event.DeadQuery) (int, error) {
	return b.inPieces(ctx, q, func(ctx context.Context, p deadPiece) error {
		return b.do(ctx, func(c *conn) (func(), error) {
			touched := map[int64][]event.Offset{}
			err := p.change(c, "DELETE FROM deliveries", touched)
			for id, offsets := range touched {
				s := b.byID(id)
				for i := 0; s != nil && err == nil && i < len(offsets); i++ {
					err = b.writer.leave(s.topic, offsets[i])
				}
			}
			return func() { b.dropped(touched) }, err
		})
	})
}

// dropped tells subscriptions how many dead letters they have lost.
func (b *Outbox) dropped(touched map[int64][]event.Offset) {
	for id, offsets := range touched {
		if s := b.byID(id); s != nil {
			s.drops.Add(int64(len(offsets)))
			s.wake()
		}
	}
}

// deadPiece is what one transaction changes of the dead letters that a query selects, and what came of it.
type deadPiece struct {
	where string
	args  []driver.Value
	n     *int
	last  *int64 // the greatest id
}

// inPieces calls change with pieces of what q selects until there are no more.
func (b *Outbox) inPieces(ctx context.Context, q event.DeadQuery, change func(context.Context, deadPiece) error) (int, error) {
	done := 0
	for {
		limit := bulkRows
		if q.Limit > 0 {
			limit = min(limit, q.Limit)
		}
		where, args := b.deadWhere(q)
		n, last := 0, int64(0)
		err := change(ctx, deadPiece{where, append(args, int64(limit)), &n, &last})
		if err != nil {
			return done, err // what was counted of this piece was rolled back
		}
		done += n
		if n == 0 || n == q.Limit {
			return done, nil
		}
		q.After = last
		q.Limit = max(0, q.Limit-n)
	}
}

// change runs a statement on the rows of the piece and notes them by subscription. A transaction that is tried again begins anew.
func (p deadPiece) change(c *conn, statement string, touched map[int64][]event.Offset, args ...driver.Value) error {
	*p.n, *p.last = 0, 0
	clear(touched)
	return c.each(statement+" WHERE id IN (SELECT id FROM deliveries WHERE "+p.where+" ORDER BY id LIMIT ?) RETURNING id, subscription, offset",
		func(columns []driver.Value) error {
			*p.n, *p.last = *p.n+1, max(*p.last, columns[0].(int64))
			id := columns[1].(int64)
			touched[id] = append(touched[id], event.Offset(columns[2].(int64)))
			return nil
		}, append(args, p.args...)...)
}

func (b *Outbox) readState(ctx context.Context, owner string) (map[string][]byte, error) {
	state := map[string][]byte{}
	err := b.readers.with(ctx, func(c *conn) error {
		return c.each("SELECT key, value FROM states WHERE owner = ?", func(columns []driver.Value) error {
			value, _ := columns[1].([]byte)
			if value == nil {
				value = []byte{}
			}
			state[columns[0].(string)] = value
			return nil
		}, owner)
	})
	return state, err
}
