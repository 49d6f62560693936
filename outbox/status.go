package outbox

import (
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"slices"

	"github.com/millrace-run/millrace/event"
)

// Status says how every subscription stands, by name. The numbers of one subscription are of one moment, those of different ones
// need not be.
func (b *Outbox) Status(ctx context.Context) ([]event.SubscriptionStatus, error) {
	b.mu.RLock()
	subscriptions := make([]*subscription, 0, len(b.subscriptions))
	for _, s := range b.subscriptions {
		subscriptions = append(subscriptions, s)
	}
	b.mu.RUnlock()
	slices.SortFunc(subscriptions, func(a, b *subscription) int { return cmp.Compare(a.name, b.name) })
	return statusOf(ctx, subscriptions)
}

// StatusOf is Status of the subscriptions with these names.
func (b *Outbox) StatusOf(ctx context.Context, names []string) ([]event.SubscriptionStatus, error) {
	subscriptions, err := b.named(names)
	if err != nil {
		return nil, err
	}
	return statusOf(ctx, subscriptions)
}

func statusOf(ctx context.Context, subscriptions []*subscription) ([]event.SubscriptionStatus, error) {
	list := make([]event.SubscriptionStatus, len(subscriptions))
	for i, s := range subscriptions {
		var err error
		if list[i], err = s.status(ctx); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (s *subscription) status(ctx context.Context) (event.SubscriptionStatus, error) {
	x, oldest := s.position()
	rows := event.Offset(0)
	err := s.box.readers.with(ctx, func(c *conn) (err error) {
		if x.Pinned, err = pinned(c, s.topic, x.Cursor, x.Head); err != nil {
			return err
		}
		return c.each("SELECT state, count(*), max(attempts), min(offset) FROM deliveries WHERE subscription = ? GROUP BY state",
			func(columns []driver.Value) error {
				n, _ := columns[1].(int64)
				attempts, _ := columns[2].(int64)
				first, _ := columns[3].(int64)
				switch columns[0] {
				case int64(event.Dead):
					x.Dead = n
					return nil
				case int64(event.Held):
					x.Held = n
				default:
					x.Retrying = n
				}
				x.Attempts = max(x.Attempts, int(attempts))
				if rows == 0 || event.Offset(first) < rows {
					rows = event.Offset(first)
				}
				return nil
			}, s.id)
	})
	if rows != 0 && (oldest == 0 || rows < oldest) {
		oldest = rows
	}
	if err != nil || oldest == 0 {
		return x, err
	}
	record, err := s.box.record(ctx, s.topic, oldest)
	if errors.Is(err, errDamaged) {
		return x, nil // nobody knows when it came; the other numbers stand
	}
	x.Oldest = record.Event.Received
	return x, err
}

// pinned is the bytes of the segments of t that hold an offset behind cursor, up to head.
func pinned(c *conn, t *topic, cursor, head event.Offset) (int64, error) {
	if cursor >= head {
		return 0, nil
	}
	below, err := totalUpTo(c, t, cursor)
	if err != nil {
		return 0, err
	}
	upTo, err := c.integer("SELECT total FROM segments WHERE topic = ? AND first <= ? ORDER BY first DESC LIMIT 1", t.id, int64(head))
	return max(0, upTo-below), err
}

// Space is how the room of an outbox is used, in bytes. Numbers of history are at most a second old while there are commits.
type Space struct {
	Used    int64 // pages in use
	MaxSize int64 // 0: no bound
	History int64 // events that all have settled, which retention still keeps
	Purged  int64 // events that retention took, since the outbox was opened
}

// Space says how much is used, kept and gone.
func (b *Outbox) Space() Space {
	w := b.writer
	return Space{
		Used: w.inUse.Load(), MaxSize: w.maxSize, History: w.retention.kept.Load(), Purged: w.retention.purged.Load(),
	}
}

// position is what memory knows: cursor, end and lag, and the first offset that is not settled (0: there is none).
func (s *subscription) position() (x event.SubscriptionStatus, oldest event.Offset) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x = event.SubscriptionStatus{Name: s.name, Topic: s.topic.name, Removed: s.ended, Cursor: s.cursor.at, Head: s.topic.head()}
	if s.ended {
		x.Head = s.until
	}
	x.Lag = int64(x.Head - x.Cursor)
	for _, g := range s.cursor.gaps {
		x.Lag -= int64(g.to - g.from + 1)
	}
	for o := x.Cursor + 1; o <= min(x.Head, x.Cursor+event.Window); o++ {
		if s.cursor.bit(o) {
			x.Lag--
		} else if oldest == 0 && !s.cursor.settled(o) {
			oldest = o
		}
	}
	x.Lag = max(x.Lag, 0)
	return x, oldest
}
