package outbox

import (
	"bytes"
	"cmp"
	"context"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"

	"github.com/millrace-run/millrace/event"
)

// Find returns the events whose id is id, by topic and offset: an id may be in several topics, and more than once in each. limit
// bounds how many are returned, 0 does not. What it returns together with an error is right and may be incomplete: some events
// cannot be read, and the error names them.
func (b *Outbox) Find(ctx context.Context, id string, limit int) (found []event.Located, err error) {
	var errs []error
	hash := b.ids.hash(id)
	for _, t := range b.allTopics() {
		if ctx.Err() != nil {
			return found, context.Cause(ctx)
		}
		l := &lookUp{ids: b.ids, topic: t, id: id, hash: hash, room: -1}
		if limit > 0 {
			if l.room = limit - len(found); l.room == 0 {
				break
			}
		}
		if err := l.run(ctx); err != nil {
			errs = append(errs, err)
			if !errors.Is(err, errDamaged) {
				break
			}
		}
		for _, r := range l.found {
			found = append(found, event.Located{Topic: t.name, Record: r})
		}
	}
	return found, errors.Join(errs...)
}

// lookUp looks for an id in one topic.
type lookUp struct {
	*ids
	topic *topic
	id    string
	hash  uint64
	room  int // how many more are wanted; negative: all
	found []event.Record
	errs  []error // of events that cannot be read
}

// run looks into the tail first, since blocks move from there to the disk and never back, then into the blocks before it, and last
// at what outlived its segment.
func (l *lookUp) run(ctx context.Context) error {
	if l.topic.head() == 0 {
		return nil
	}
	late, lost, end, err := l.late(ctx)
	if err != nil {
		return err
	}
	err = l.early(ctx, l.blockOf(end))
	for i := 0; err == nil && i < len(late) && l.room != 0; i++ {
		err = l.hit(ctx, late[i])
	}
	for i := 0; err == nil && i < len(lost) && l.room != 0; i++ {
		err = l.miss(ctx, lost[i].to, lost[i].err)
	}
	if err == nil {
		err = l.rescued(ctx)
	}
	slices.SortFunc(l.found, func(a, b event.Record) int { return cmp.Compare(a.Offset, b.Offset) })
	return errors.Join(append(l.errs, err)...)
}

// late returns the hits in the tail, after it was brought up to the end of the topic, and where the tail begins.
func (l *lookUp) late(ctx context.Context) (hits []event.Offset, lost []lost, from event.Offset, err error) {
	tail := l.tail(l.topic)
	if err := tail.enter(ctx); err != nil {
		return nil, nil, 0, err
	}
	defer tail.leave()
	if err := l.follow(ctx, l.topic, tail); err != nil {
		return nil, nil, 0, err
	}
	for i, h := range tail.hashes {
		if h == l.hash {
			hits = append(hits, tail.from+event.Offset(i))
		}
	}
	return hits, slices.Clone(tail.lost), tail.from, nil
}

// early looks into the blocks before end: in the index of those that have one, and into the events of the others.
func (l *lookUp) early(ctx context.Context, end int64) error {
	first, whole, err := l.blocks(ctx, l.topic, end)
	if err != nil || first >= end {
		return err
	}
	hits, err := l.indexed(ctx, first, end, whole)
	if err != nil {
		return err
	}
	for k := first; k < end && l.room != 0; k++ {
		list, sound := hits[k]
		if whole[k] && !sound {
			l.repair(k)
		}
		if !sound {
			err = l.scan(ctx, l.start(k), l.start(k+1)-1)
		}
		for i := 0; err == nil && i < len(list) && l.room != 0; i++ {
			err = l.hit(ctx, list[i])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// indexed reads the rows that the hash falls in and returns the hits of each block whose row is sound.
func (l *lookUp) indexed(ctx context.Context, first, end int64, whole map[int64]bool) (map[int64][]event.Offset, error) {
	hits := map[int64][]event.Offset{}
	bucket := int64(l.hash >> bucketShift)
	from, to := l.rowKey(l.topic, bucket, first), l.rowKey(l.topic, bucket, end-1)
	for from <= to {
		n := 0
		err := l.box.readers.with(ctx, func(c *conn) error {
			return c.each("SELECT id, body FROM ids WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?", func(columns []driver.Value) error {
				key, _ := columns[0].(int64)
				body, _ := columns[1].([]byte)
				block := key & (1<<blockBits - 1)
				if whole[block] && l.sound(key, body) {
					hits[block] = l.entries(block, body)
				}
				n, from = n+1, key+1
				return nil
			}, from, to, int64(idRowsAtOnce))
		})
		if err != nil {
			return nil, indexError(l.topic, err)
		}
		if n < idRowsAtOnce {
			return hits, nil
		}
	}
	return hits, nil
}

// sound says whether a row is as it was written.
func (x *ids) sound(key int64, body []byte) bool {
	return len(body) >= idHeader && (len(body)-idHeader)%idEntry == 0 &&
		binary.BigEndian.Uint32(body) == x.sum(key, body[idHeader:])
}

// entries are the offsets in a row that have the hash. An empty list is not nil.
func (l *lookUp) entries(block int64, body []byte) []event.Offset {
	list, want := body[idHeader:], appendEntry(nil, l.hash>>hashShift)
	n := len(list) / idEntry
	at := func(i int) []byte { return list[i*idEntry : i*idEntry+idEntry] }
	offsets := []event.Offset{}
	for i := sort.Search(n, func(i int) bool { return bytes.Compare(at(i)[:len(want)], want) >= 0 }); i < n; i++ {
		e := at(i)
		if !bytes.Equal(e[:len(want)], want) {
			break
		}
		offsets = append(offsets, l.start(block)+event.Offset(binary.BigEndian.Uint16(e[len(want):])))
	}
	return offsets
}

// repair has a damaged index made again. This look-up reads the events of the block instead.
func (l *lookUp) repair(block int64) {
	l.box.log.Warn("the index of event ids is damaged and is made again", "topic", l.topic.name,
		"events", fmt.Sprintf("%d to %d", l.start(block), l.start(block+1)-1))
	l.mu.Lock()
	l.again[idPlace{l.topic, block}] = true
	l.mu.Unlock()
	l.wake()
}

// hit takes an event if it has the id and is still there.
func (l *lookUp) hit(ctx context.Context, o event.Offset) error {
	r, err := l.box.record(ctx, l.topic, o)
	switch {
	case errors.Is(err, errDamaged):
		return l.miss(ctx, o, err)
	case err != nil:
		return err
	case r.Event.ID == l.id:
		l.take(r)
	}
	return nil
}

// miss notes that an event which is still there cannot be read.
func (l *lookUp) miss(ctx context.Context, o event.Offset, cause error) error {
	gone, err := l.gone(ctx, o)
	if !gone && err == nil {
		l.errs = append(l.errs, cause)
	}
	return err
}

// rescued looks at the events that outlived their segment. What a purge took from under the other looks is there by now.
func (l *lookUp) rescued(ctx context.Context) error {
	for from := event.Offset(0); l.room != 0; {
		size := 0
		err := l.box.readers.with(ctx, func(c *conn) error {
			return c.each("SELECT offset, 1, body FROM bodies WHERE topic = ? AND offset > ? ORDER BY offset", func(columns []driver.Value) error {
				l.takeBody(columns)
				from = event.Offset(columns[0].(int64))
				if size += len(columns[2].([]byte)); size >= maxRead || l.room == 0 {
					return io.EOF
				}
				return nil
			}, l.topic.id, int64(from))
		})
		if err != nil || size < maxRead {
			return err
		}
	}
	return nil
}

// takeBody takes a rescued event if it has the id and was not found before.
func (l *lookUp) takeBody(columns []driver.Value) {
	records, err := decodeRow(l.topic, columns)
	if err != nil {
		l.errs = append(l.errs, err)
		return
	}
	r := records[0]
	if r.Event.ID == l.id && !slices.ContainsFunc(l.found, func(x event.Record) bool { return x.Offset == r.Offset }) {
		l.take(r)
	}
}

// gone says whether an offset lies before all that the topic still has.
func (l *lookUp) gone(ctx context.Context, o event.Offset) (gone bool, err error) {
	err = l.box.readers.with(ctx, func(c *conn) error {
		gone = true
		return c.each("SELECT 1 FROM segments WHERE topic = ? AND first <= ? LIMIT 1", func([]driver.Value) error {
			gone = false
			return io.EOF
		}, l.topic.id, int64(o))
	})
	return gone, err
}

func (l *lookUp) take(r event.Record) {
	l.found = append(l.found, r)
	l.room--
}

// scan looks for the id in the events themselves.
func (l *lookUp) scan(ctx context.Context, from, to event.Offset) error {
	for from <= to && l.room != 0 {
		records, end, err := l.box.piece(ctx, l.topic, from, to)
		if errors.Is(err, errDamaged) {
			l.errs = append(l.errs, err)
			err = nil
		}
		if err != nil {
			return err
		}
		for i := 0; i < len(records) && l.room != 0; i++ {
			if r := records[i]; r.Event.ID == l.id {
				l.take(event.Record{Offset: r.Offset, Event: r.Event.Detached()})
			}
		}
		from = end + 1
	}
	return nil
}
