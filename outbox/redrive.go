package outbox

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/millrace-run/millrace/event"
)

// RedriveEach gives dead letters back one by one: with another event in the place of the stored one, or to another subscription of
// their topic. The results are in the order of all, of which each bulkRows are one transaction, fewer when their events are large. An
// error comes beside the results of those before it.
//
// An edited event lies in the row itself, and goes with it. The stored one stays as it was, and the row goes on naming it, so the
// next edit begins from it again. A row that goes to another subscription is deleted here and made there in one statement each of
// one transaction: a crash leaves one of the two. Whether the other one may have it is decided where nothing else is committed: it has
// settled the event, so its reader will not come to it, and it has no row for it, which would be another delivery of its own.
func (b *Outbox) RedriveEach(ctx context.Context, all []event.Redrive) ([]event.RedriveResult, error) {
	results := make([]event.RedriveResult, 0, len(all))
	for len(all) > 0 {
		n, err := b.mendable(all)
		if err != nil {
			return results, err
		}
		piece := all[:n]
		all = all[n:]
		m := &mending{box: b, now: b.clock.Now().UTC()}
		err = b.do(ctx, func(c *conn) (func(), error) {
			m.begin(len(piece))
			for i := range piece {
				if err := m.one(c, &piece[i]); err != nil {
					return nil, err
				}
			}
			return m.publish, nil
		})
		if err != nil {
			return results, err
		}
		results = append(results, m.results...)
	}
	return results, nil
}

// mendable checks the first of all, and says how many one transaction takes: one, or more up to workSize.
func (b *Outbox) mendable(all []event.Redrive) (n int, err error) {
	for bytes := 0; n < min(len(all), bulkRows) && bytes < workSize; n++ {
		r := &all[n]
		if r.To != "" && b.subscription(r.To) == nil {
			return 0, fmt.Errorf("outbox has no subscription %q", r.To)
		}
		if r.Event == nil {
			continue
		}
		if b.writer.full.Load() || b.writer.brim.Load() { // it needs room; what goes back as it is does not
			return 0, event.ErrFull
		}
		if bytes += r.Event.Size(); r.Event.Size() > maxValue {
			return 0, fmt.Errorf("event %q is larger than %d bytes", r.Event.ID, maxValue)
		}
	}
	return n, nil
}

// mending is one transaction of RedriveEach. One that is tried again begins anew.
type mending struct {
	box     *Outbox
	now     time.Time
	results []event.RedriveResult
	back    map[int64][]event.Offset // rows that are due, by subscription
	taken   map[int64][]event.Offset // dead letters that went to another subscription
}

func (m *mending) begin(n int) {
	m.results = make([]event.RedriveResult, 0, n)
	m.back, m.taken = map[int64][]event.Offset{}, map[int64][]event.Offset{}
}

func (m *mending) publish() {
	m.box.due(m.back, m.now)
	m.box.dropped(m.taken)
}

func (m *mending) one(c *conn, r *event.Redrive) error {
	var from *subscription
	var offset event.Offset
	var edited driver.Value
	err := c.each("SELECT subscription, offset, edited FROM deliveries WHERE id = ? AND state = 2", func(columns []driver.Value) error {
		from, offset = m.box.byID(columns[0].(int64)), event.Offset(columns[1].(int64))
		if body, _ := columns[2].([]byte); body != nil {
			edited = body
		}
		return nil
	}, r.ID)
	result := event.RedriveGone
	if err == nil && from != nil {
		if r.Plain {
			edited = nil
		}
		if r.Event != nil {
			edited = append([]byte(nil), m.box.writer.encoder.encode([]event.Record{{Offset: offset, Event: *r.Event}})...)
		}
		result, err = m.give(c, r, from, offset, edited)
	}
	m.results = append(m.results, result)
	return err
}

// give makes the row due, where it belongs.
func (m *mending) give(c *conn, r *event.Redrive, from *subscription, o event.Offset, edited driver.Value) (event.RedriveResult, error) {
	to := m.box.subscription(r.To)
	if to == nil || to == from {
		if r.Last && !m.lastOf(from, o) {
			return event.RedriveStays, nil
		}
		m.back[from.id] = append(m.back[from.id], o)
		return event.RedriveDone, c.exec(`UPDATE deliveries SET state = 1, reason = 'redrive', counted = 0, first_at = 0, next_at = ?,
			edited = ? WHERE id = ?`, m.now.UnixNano(), edited, r.ID)
	}
	if to.topic != from.topic || !to.passed(o) {
		return event.RedriveStays, nil
	}
	has, err := c.integer("SELECT EXISTS (SELECT 1 FROM deliveries WHERE subscription = ? AND offset = ?)", to.id, int64(o))
	if has != 0 || err != nil {
		return event.RedriveStays, err
	}
	m.back[to.id], m.taken[from.id] = append(m.back[to.id], o), append(m.taken[from.id], o)
	err = c.exec(`INSERT INTO deliveries (subscription, offset, state, reason, stage, status, attempts, counted, next_at, first_at, last_at,
			error, edited, origin) VALUES (?, ?, 1, 'redrive', '', 0, 0, 0, ?, 0, 0, '', ?, ?)`,
		to.id, int64(o), m.now.UnixNano(), edited, from.name)
	if err == nil {
		err = c.exec("DELETE FROM deliveries WHERE id = ?", r.ID)
	}
	return event.RedriveDone, err
}

// lastOf says whether every other subscription that is named has settled an event.
func (m *mending) lastOf(s *subscription, o event.Offset) bool {
	for _, other := range s.topic.readers() {
		if other != s && !other.passed(o) && !other.isEnded() {
			return false
		}
	}
	return true
}

// passed says that the reader will not come to an event any more, but by a row: it has settled it, as something that it was owed.
func (s *subscription) passed(o event.Offset) bool {
	return s.side(o) == event.StandsSettled
}

func (s *subscription) isEnded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}
