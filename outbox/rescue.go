package outbox

import (
	"database/sql/driver"
	"slices"

	"github.com/millrace-run/millrace/event"
)

// rescue copies the events of a range that rows still name to bodies. What can't be read any more is told of: its rows stay and
// are reported by who comes to them.
func (w *writer) rescue(t *topic, from, to event.Offset) error {
	offsets, err := w.named(t, from, to)
	for err == nil && len(offsets) > 0 {
		offsets, err = w.rescueFrom(t, offsets)
	}
	return err
}

// named returns the offsets of a range that rows of any subscription of the topic name, ascending.
func (w *writer) named(t *topic, from, to event.Offset) (offsets []event.Offset, err error) {
	for _, s := range t.readers() {
		err := w.conn.each("SELECT offset FROM deliveries WHERE subscription = ? AND offset BETWEEN ? AND ?",
			func(columns []driver.Value) error {
				offsets = append(offsets, event.Offset(columns[0].(int64)))
				return nil
			}, s.id, int64(from), int64(to))
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(offsets)
	return slices.Compact(offsets), nil
}

// rescueFrom copies those of the offsets that are in the segment of the first. It returns the others.
func (w *writer) rescueFrom(t *topic, offsets []event.Offset) (rest []event.Offset, err error) {
	records, last, err := segmentOf(w.conn, t, offsets[0])
	if damaged(err) {
		w.log.Error("events that rows name are lost with their segment", "topic", t.name, "err", err)
		err = nil
	}
	n := 1
	for n < len(offsets) && offsets[n] <= last {
		n++
	}
	for _, o := range offsets[:n] {
		if err != nil || len(records) == 0 {
			break
		}
		body := w.encoder.encode(records[o-records[0].Offset:][:1])
		w.written += int64(len(body)) + pageSize
		err = w.conn.exec("INSERT OR IGNORE INTO bodies (topic, offset, body) VALUES (?, ?, ?)", t.id, int64(o), body)
	}
	return offsets[n:], err
}

// leave deletes the body of an event that no row names any more. It is called at the end of a commit that deleted rows.
func (w *writer) leave(t *topic, o event.Offset) error {
	if w.keepBodies || o > t.purgedTo() { // only events whose segment has gone have a body
		return nil
	}
	return w.ofBodies(w.conn.exec(`DELETE FROM bodies WHERE topic = ?1 AND offset = ?2 AND NOT EXISTS (SELECT 1 FROM deliveries
		WHERE offset = ?2 AND subscription IN (SELECT id FROM subscriptions WHERE topic = ?1))`, t.id, int64(o)))
}

// leaveBodies ends the bodies of the rows that a plan deletes. What the plan itself purges it looks at after its rows, so of that
// there is nothing to leave.
func (w *writer) leaveBodies(p *plan) error {
	for _, r := range p.rows {
		if r.exception != nil {
			continue
		}
		if err := w.leave(r.subscription.topic, r.offset); err != nil {
			return err
		}
	}
	return nil
}
