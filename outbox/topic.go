package outbox

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/millrace-run/millrace/event"
)

// topic is one stream. Only the writer changes it.
type topic struct {
	id            int64
	name          string
	last          atomic.Int64           // offset of the last event, 0 if there is none
	total         atomic.Int64           // bytes of all bodies that it ever had
	purged        atomic.Int64           // last offset whose segment has gone
	freed         atomic.Int64           // total of that segment
	named         atomic.Bool            // by the last Configure; another takes no events
	dedupe        atomic.Pointer[dedupe] // nil takes every event; that of another topic shares its keys
	mu            sync.Mutex             // guards subscriptions
	subscriptions []*subscription

	// What only the writer looks at, for retention.
	stuck      bool         // its history cannot be purged
	oldest     place        // its first segment; n is 0 while that is not known
	retime     event.Offset // before it there may be times in the future, which are repaired; 0: there are none
	floorAt    event.Offset // an offset
	floorTotal int64        // and the total up to it
}

func (t *topic) head() event.Offset     { return event.Offset(t.last.Load()) }
func (t *topic) grow(to event.Offset)   { t.last.Store(int64(to)) }
func (t *topic) purgedTo() event.Offset { return event.Offset(t.purged.Load()) }

// readers are its subscriptions, removed ones too.
func (t *topic) readers() []*subscription {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clip(t.subscriptions)
}

func (t *topic) attach(s *subscription) {
	t.mu.Lock()
	t.subscriptions = append(t.subscriptions, s)
	t.mu.Unlock()
}

func (t *topic) wake() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.subscriptions {
		s.wake()
	}
}

// ringSize bounds what the ring holds, in bytes of events.
const ringSize = 4 << 20

// ring keeps the events of the latest commits, so that a reader that keeps up needs no disk. It holds blocks of whole commits of a
// topic, the oldest go first.
type ring struct {
	mu     sync.RWMutex
	blocks []block // in the order of their commits
	bytes  int64
	byname map[*topic][]block // the same blocks by topic, ascending offsets
}

type block struct {
	topic       *topic
	first, last event.Offset
	records     []event.Record
	body        []byte // of a segment, in place of records
	bytes       int64
}

// from returns the records from o on, which the block holds.
func (b *block) from(o event.Offset) []event.Record {
	if b.body != nil {
		s := b.open(o)
		return s.read(s.left, nil)
	}
	return b.records[o-b.first:]
}

// open begins to read a packed block at o.
func (b *block) open(o event.Offset) *segmentReader {
	s := openSegment(b.body, b.first, int(b.last-b.first)+1)
	s.pass(o)
	return &s
}

func (r *ring) add(a *planned) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.packed == nil {
		r.addLocked(block{topic: a.topic, first: a.first, last: a.last(), records: a.records, bytes: a.bytes})
	}
	first := a.first
	for i := range a.packed {
		x := &a.packed[i]
		last := first + event.Offset(x.Count) - 1
		r.addLocked(block{topic: a.topic, first: first, last: last, body: x.Body, bytes: int64(len(x.Body))})
		first = last + 1
	}
}

func (r *ring) addLocked(b block) {
	if r.byname == nil {
		r.byname = map[*topic][]block{}
	}
	r.blocks = append(r.blocks, b)
	r.byname[b.topic] = append(r.byname[b.topic], b)
	r.bytes += b.bytes
	n := 0
	for ; r.bytes > ringSize && n < len(r.blocks); n++ {
		old := &r.blocks[n]
		r.bytes -= old.bytes
		list := r.byname[old.topic]
		list[0] = block{}
		r.byname[old.topic] = list[1:]
		*old = block{}
	}
	r.blocks = r.blocks[n:]
}

// at returns the block that holds o, if the ring has it.
func (r *ring) at(t *topic, o event.Offset) (block, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := r.byname[t]
	i, ok := slices.BinarySearchFunc(list, o, func(b block, o event.Offset) int {
		switch {
		case o < b.first:
			return 1
		case o > b.last:
			return -1
		}
		return 0
	})
	if !ok {
		return block{}, false
	}
	return list[i], true
}

// maxRead is how much of segments one read copies out before it ends its statement.
const maxRead = 1 << 20

// readers are the connections that read. Each read takes one, copies out what it needs and gives it back.
type readers struct {
	path    string
	slots   chan struct{} // holds one for each read under way, at most maxReaders; close takes them all
	closing chan struct{} // closed by close
	gate    sync.RWMutex  // held by each read; the writer closes it for a checkpoint that must not meet any

	mu   sync.Mutex // guards idle
	idle []*conn
}

const maxReaders = 8

func newReaders(path string) *readers {
	return &readers{path: path, slots: make(chan struct{}, maxReaders), closing: make(chan struct{})}
}

// with runs read on a connection.
func (r *readers) with(ctx context.Context, read func(c *conn) error) error {
	if err := r.enter(ctx); err != nil {
		return err
	}
	defer func() { <-r.slots }()
	c, err := r.conn()
	if err != nil {
		return err
	}
	r.gate.RLock()
	err = read(c)
	r.gate.RUnlock()
	r.mu.Lock()
	r.idle = append(r.idle, c)
	r.mu.Unlock()
	return err
}

// enter waits until fewer than maxReaders read.
func (r *readers) enter(ctx context.Context) error {
	select {
	case <-r.closing:
		return event.ErrClosed
	default:
	}
	select {
	case r.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case r.slots <- struct{}{}:
		return nil
	case <-r.closing:
		return event.ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// conn takes a connection that is idle, or opens one.
func (r *readers) conn() (*conn, error) {
	r.mu.Lock()
	n := len(r.idle)
	if n == 0 {
		r.mu.Unlock()
		return openReader(r.path)
	}
	defer r.mu.Unlock()
	c := r.idle[n-1]
	r.idle = r.idle[:n-1]
	return c, nil
}

func openReader(path string) (*conn, error) {
	c, err := openConn(path, "rw")
	if err != nil {
		return nil, err
	}
	// A segment is read once: pages of the index are all that is worth keeping.
	if err := errors.Join(c.exec("PRAGMA query_only = ON"), c.exec("PRAGMA cache_size = -512")); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// close waits for the reads under way and closes all connections. It is called once.
func (r *readers) close() error {
	close(r.closing)
	for range maxReaders {
		r.slots <- struct{}{}
	}
	var errs []error
	for _, c := range r.idle {
		errs = append(errs, c.close())
	}
	return errors.Join(errs...)
}

// read returns records from o on: whole segments, about maxRead bytes, fewer only at the end of the topic and before a segment
// that can't be read: what lies before that one is not held back by it.
func (b *Outbox) read(ctx context.Context, t *topic, o event.Offset) (records []event.Record, err error) {
	err = b.readers.with(ctx, func(c *conn) error {
		size := 0
		return c.each(`SELECT first, n, body FROM segments WHERE topic = ?1 AND first >=
				(SELECT coalesce(max(first), 0) FROM segments WHERE topic = ?1 AND first <= ?2) ORDER BY first`,
			func(columns []driver.Value) error {
				more, err := decodeRow(t, columns)
				if err != nil {
					return err
				}
				records = append(records, more...)
				if size += len(columns[2].([]byte)); size >= maxRead {
					return io.EOF
				}
				return nil
			}, t.id, int64(o))
	})
	for len(records) > 0 && records[0].Offset < o {
		records = records[1:]
	}
	if len(records) > 0 {
		err = nil
	}
	return records, err
}

func decodeRow(t *topic, columns []driver.Value) ([]event.Record, error) {
	first, _ := columns[0].(int64)
	n, _ := columns[1].(int64)
	body, _ := columns[2].([]byte)
	records, err := decodeSegment(body, event.Offset(first), int(n))
	if err != nil {
		return nil, fmt.Errorf("topic %s, events %d to %d: %w", t.name, first, first+n-1, err)
	}
	return records, nil
}
