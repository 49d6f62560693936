package outbox

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"time"

	"github.com/millrace-run/millrace/event"
)

// retiming gives the segments of a topic from one offset to another the present time.
type retiming struct {
	topic    *topic
	from, to event.Offset
	at       int64
	end      bool // no more lie before them
}

// clockWentBack has the ends of all topics looked at: what came while the clock was ahead is there.
func (w *writer) clockWentBack() {
	w.box.mu.RLock()
	defer w.box.mu.RUnlock()
	for _, t := range w.box.topics {
		t.retime = t.head() + 1
	}
}

// retime adds a piece of the repair to a plan when the clock was ahead and left segments in the future. It goes from the end of a
// topic back to the first that has a right time. One that is overlooked so is repaired when it has become the oldest of its topic.
func (w *writer) retime(p *plan, s *survey, now time.Time, most piece) (bool, error) {
	late := now.Add(clockSlack).UnixNano()
	for i := range s.topics {
		if h := &s.topics[i]; h.next.at > late && h.topic.retime == 0 {
			p.retiming = &retiming{topic: h.topic, from: h.next.first, to: h.next.first, at: now.UnixNano(), end: true}
			return true, nil
		}
	}
	w.box.mu.RLock()
	defer w.box.mu.RUnlock()
	for _, t := range w.box.topics {
		if t.retime == 0 || t.stuck {
			continue
		}
		x, err := w.retimeEnd(t, late, most)
		if err != nil {
			return false, w.ofHistory(t, err)
		}
		if x.to > 0 {
			x.at, p.retiming = now.UnixNano(), x
			return true, nil
		}
		t.retime = 0
	}
	return false, nil
}

// retimeEnd looks for segments before t.retime whose time is too late.
func (w *writer) retimeEnd(t *topic, late int64, most piece) (*retiming, error) {
	x := &retiming{topic: t, end: true}
	var end int64
	err := w.conn.each("SELECT first, n, at, total FROM segments WHERE topic = ? AND first < ? ORDER BY first DESC LIMIT ?",
		func(columns []driver.Value) error {
			q := toPlace(columns)
			if x.end = q.at <= late; x.end {
				return io.EOF
			}
			if x.to == 0 {
				x.to, end = q.first, q.total
			}
			x.from = q.first
			if end-q.total >= most.bytes {
				return io.EOF
			}
			return nil
		}, t.id, int64(t.retime), int64(most.segments))
	return x, err
}

// wrongTimes is the condition that rows meet which were written by a clock that ran ahead of ?2: a row's last attempt, or its
// redrive, cannot lie in the future. A row that was written by a right clock waits longer than ?2 and is not among them.
const wrongTimes = "subscription = ?1 AND state = 1 AND next_at > ?2 AND (last_at > ?2 OR reason = 'redrive')"

// repairTimes lets rows that were written while the clock was wrong wait their pause from now on, so that a clock which was a year
// ahead for a minute does not keep them for a year. It looks once after each Subscribe and whenever now is before the last one.
func (s *subscription) repairTimes(ctx context.Context, now time.Time) error {
	now = now.Round(0) // else a clock that was set back would not be seen: a Time also knows how long the process runs
	if !s.clockWentBack(now) {
		return nil
	}
	for {
		n, err := s.repairPiece(ctx, now)
		if errors.Is(err, event.ErrFull) {
			return nil // there is no room for it; the next look finds the rows as they are
		}
		if err != nil {
			return err
		}
		if n < bulkRows {
			s.repaired(now)
			return nil
		}
	}
}

func (s *subscription) clockWentBack(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked.IsZero() || now.Before(s.asked.Add(-clockSlack))
}

// repaired notes the time up to which the clock was looked at.
func (s *subscription) repaired(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = now
}

// repairPiece repairs at most bulkRows rows. It looks before it asks the writer, since there is hardly ever anything to do.
func (s *subscription) repairPiece(ctx context.Context, now time.Time) (n int, err error) {
	late := now.Add(clockSlack).UnixNano()
	err = s.box.readers.with(ctx, func(c *conn) error {
		found, err := c.integer("SELECT EXISTS (SELECT 1 FROM deliveries WHERE "+wrongTimes+")", s.id, late)
		n = int(found)
		return err
	})
	if err != nil || n == 0 {
		return 0, err
	}
	err = s.box.do(ctx, func(c *conn) (func(), error) {
		n = 0
		err := c.each(`UPDATE deliveries SET last_at = min(last_at, ?3), first_at = min(first_at, ?3),
				next_at = ?3 + CASE WHEN last_at > ?2 THEN next_at - last_at ELSE 0 END
			WHERE id IN (SELECT id FROM deliveries WHERE `+wrongTimes+` LIMIT ?4) RETURNING id`,
			func([]driver.Value) error { n++; return nil }, s.id, late, now.UnixNano(), int64(bulkRows))
		return func() { s.box.due(map[int64][]event.Offset{s.id: nil}, now) }, err
	})
	return n, err
}
