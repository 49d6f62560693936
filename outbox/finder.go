package outbox

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/millrace-run/millrace/event"
)

// finder reads single events, wherever they are. It keeps the segment that it read last, so that many rows of one segment decode
// it once. It is used by one goroutine at a time.
type finder struct {
	box      *Outbox
	topic    *topic
	from, to event.Offset // what records holds
	records  []event.Record
	err      error // why they can't be had
}

// record reads one event, see find.
func (b *Outbox) record(ctx context.Context, t *topic, o event.Offset) (event.Record, error) {
	return (&finder{box: b}).find(ctx, t, o)
}

// find reads one event from the ring, its segment or, if that has gone, what was rescued of it. What is read is copied out of its
// segment, so that a few events that are kept do not keep a segment each. The error is errDamaged if the event can't be had.
func (f *finder) find(ctx context.Context, t *topic, o event.Offset) (event.Record, error) {
	if b, ok := f.box.ring.at(t, o); ok && b.body == nil {
		return b.from(o)[0], nil
	} else if ok {
		record := b.open(o).read(1, nil)[0]
		record.Event = record.Event.Detached()
		return record, nil
	}
	if f.topic != t || o < f.from || o > f.to {
		if err := f.load(ctx, t, o); err != nil {
			return event.Record{}, err
		}
	}
	if f.err != nil {
		return event.Record{}, f.err
	}
	record := f.records[o-f.from]
	record.Event = record.Event.Detached()
	return record, nil
}

// load reads what holds an offset. What a purge takes from segments is in bodies from the same commit on, so the order of the two
// looks misses nothing.
func (f *finder) load(ctx context.Context, t *topic, o event.Offset) error {
	f.topic, f.records = nil, nil
	err := f.box.readers.with(ctx, func(c *conn) (err error) {
		f.records, f.to, err = segmentOf(c, t, o)
		if err != nil || len(f.records) > 0 {
			return err
		}
		return c.each("SELECT offset, 1, body FROM bodies WHERE topic = ? AND offset = ?",
			func(columns []driver.Value) (err error) {
				f.records, err = decodeRow(t, columns)
				return err
			}, t.id, int64(o))
	})
	if err == nil && len(f.records) == 0 {
		err = fmt.Errorf("topic %s has no event %d: %w", t.name, o, errDamaged)
	}
	if err != nil && !damaged(err) {
		return err
	}
	f.topic, f.from, f.err = t, o, err
	if err == nil {
		f.from = f.records[0].Offset
	}
	return nil
}

// segmentOf reads the segment that holds an offset, and says which is its last. Without such a segment it gives no records.
func segmentOf(c *conn, t *topic, o event.Offset) (records []event.Record, last event.Offset, err error) {
	last = o
	err = c.each("SELECT first, n, body FROM segments WHERE topic = ? AND first <= ? ORDER BY first DESC LIMIT 1",
		func(columns []driver.Value) (err error) {
			if end := event.Offset(columns[0].(int64) + columns[1].(int64) - 1); end >= o {
				last = end
				records, err = decodeRow(t, columns)
			}
			return err
		}, t.id, int64(o))
	return records, last, err
}

// damaged says whether an event can't be had, now or later.
func damaged(err error) bool { return errors.Is(err, errDamaged) }
