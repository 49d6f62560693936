package outbox

import (
	"cmp"
	"context"
	"database/sql/driver"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace-run/millrace/event"
)

// subscription is one reader of a topic: the state that the writer moves, and where its one reader is.
type subscription struct {
	box     *Outbox
	id      int64
	name    string
	topic   *topic
	signal  chan struct{}
	pending []event.Outcome // lazy outcomes that wait for a commit; guarded by the queue's mutex
	drops   atomic.Int64    // see Dropped

	reading sync.Mutex     // guards next and buffer; taken before mu, held while reading from disk
	next    event.Offset   // what Next returns next; written under mu too
	buffer  []event.Record // read from disk or unpacked, not yet returned
	packed  segmentReader  // of a packed block in memory, behind buffer

	unpacked bool           // buffer is of a packed block
	reuses   bool           // see Reuse
	room     []event.Record // for buffer, when it is used again

	mu     sync.Mutex // guards all below; the writer takes it, so nothing waits under it
	cursor cursor
	ended  bool // not named by the last Configure
	until  event.Offset
	out    map[event.Offset]bool // rows that Due handed out, or that run on (reason window)
	due    time.Time             // no row is due before it; zero: not known
	asked  time.Time             // the latest that Due was asked for since the clock was last looked at; zero: it must be

	changing map[event.Offset]bool // rows that the commit under way changes
	unsure   map[event.Offset]bool // while Due looks: rows that changed, or may have, since it began; else nil
}

// never is the due time of a subscription without rows.
var never = time.Unix(1<<40, 0)

func (s *subscription) wake() {
	select {
	case s.signal <- struct{}{}:
	default:
	}
}

// Wake has a signal when there may be more.
func (s *subscription) Wake() <-chan struct{} { return s.signal }

// Position returns the cursor and the last offset of the topic.
func (s *subscription) Position() (at, head event.Offset) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cursor.at, s.topic.head()
}

func (s *subscription) snapshot() cursor {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cursor
}

// moved takes over a cursor that was committed.
func (s *subscription) moved(c cursor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cursor = c
}

// change notes that the commit which is now made changes a row. Until it is published, Due must not trust what it finds on disk:
// a row that it has not heard of, or that is no more.
func (s *subscription) change(o event.Offset) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changing[o] = true
	if s.unsure != nil {
		s.unsure[o] = true
	}
}

// unchange ends what change began, whether or not it was committed. A Due that looked meanwhile left the row out and may have noted
// that nothing else is due, so the reader must look anew: without this signal the row would never be handed out.
func (s *subscription) unchange(o event.Offset) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.changing, o)
	s.due = time.Time{}
	s.wake()
}

// changed takes over a row that was committed.
func (s *subscription) changed(r row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	runs := s.out[r.offset] || r.offset < s.next // else a reader before this one wrote it, and nobody will settle it
	if runs && r.exception != nil && r.exception.Reason == event.ReasonWindow && r.exception.State == event.Retry {
		s.out[r.offset] = true
		return
	}
	if r.exception != nil && r.exception.State == event.Released { // a held row is not out, and any other stays as it is
		s.soonerLocked(event.AtOnce)
		return
	}
	delete(s.out, r.offset)
	if r.exception != nil && r.exception.State == event.Retry {
		s.soonerLocked(r.exception.NextAt)
	}
}

// soonerLocked notes that a row is due at t.
func (s *subscription) soonerLocked(t time.Time) {
	if !s.due.IsZero() && t.Before(s.due) {
		s.due = t
	}
	s.wake()
}

// Subscribe returns the reader of a subscription that Configure named. It begins behind the cursor; a second call takes the
// place of the first.
func (b *Outbox) Subscribe(name string) (event.Subscription, error) {
	s := b.subscription(name)
	if b.queue.isClosed() {
		return nil, event.ErrClosed
	}
	if s == nil {
		return nil, fmt.Errorf("outbox has no subscription %q", name)
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil, fmt.Errorf("subscription %q is no longer named by any configuration", name)
	}
	s.beginLocked()
	return s, nil
}

// Next returns what comes next, from the ring if it holds it, else from disk.
func (s *subscription) Next(ctx context.Context, upTo event.Offset, most int) ([]event.Record, error) {
	if s.box.queue.isClosed() {
		return nil, event.ErrClosed
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	upTo = min(upTo, s.owed())
	var records []event.Record
	bytes := 0
	for len(records) < most && bytes < maxRead {
		s.skip()
		if s.next > upTo {
			break
		}
		source, err := s.source(ctx)
		if len(records) > 0 && err != nil {
			return records, nil // they are not handed out again; the error comes with the next call
		}
		if err != nil || len(source) == 0 {
			return records, err
		}
		if len(records) > 0 && s.unpacked {
			break // it would be copied; it is there for the next call
		}
		if records, bytes = s.pick(source, upTo, most, records, bytes); len(records) > 0 && s.unpacked {
			break // more would be written to the room of these
		}
	}
	return records, nil
}

// Reuse implements event.Reuser.
func (s *subscription) Reuse() {
	s.reading.Lock()
	defer s.reading.Unlock()
	s.reuses = true
}

// Skip implements event.Skipper.
func (s *subscription) Skip(upTo event.Offset) bool {
	s.reading.Lock()
	defer s.reading.Unlock()
	if upTo > s.owed() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next <= upTo {
		s.next, s.buffer, s.packed = upTo+1, nil, segmentReader{}
	}
	return true
}

// owed is the last offset that the subscription may get.
func (s *subscription) owed() event.Offset {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return s.until
	}
	return s.topic.head()
}

// pick appends to records what of source is not settled, and moves s.next. What begins a batch in one piece is not copied: records
// do not change once they are committed.
func (s *subscription) pick(source []event.Record, upTo event.Offset, most int, records []event.Record, bytes int) ([]event.Record, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := len(records) == 0
	for i := range source {
		r := &source[i]
		if r.Offset > upTo || len(records) == most || bytes >= maxRead {
			break
		}
		s.next = r.Offset + 1
		switch {
		case s.cursor.settled(r.Offset):
			continue
		case first && len(records) == i:
			records = source[: i+1 : i+1]
		case len(records) == cap(records):
			records = slices.Grow(records, min(most-len(records), len(source)-i))
			fallthrough
		default:
			records = append(records, *r)
		}
		bytes += r.Event.Size()
	}
	return records, bytes
}

// unpackAtOnce is how many records of a packed block are made at once.
const unpackAtOnce = 256

// buffered says whether the buffer has s.next.
func (s *subscription) buffered() bool {
	return len(s.buffer) > 0 && s.buffer[0].Offset <= s.next && s.next <= s.buffer[len(s.buffer)-1].Offset
}

// source returns records that begin at s.next.
func (s *subscription) source(ctx context.Context) ([]event.Record, error) {
	if s.packed.left == 0 || s.packed.next != s.next {
		b, ok := s.box.ring.at(s.topic, s.next)
		if ok && b.body == nil {
			s.buffer, s.packed, s.unpacked = nil, segmentReader{}, false
			return b.from(s.next), nil
		}
		if ok && !s.buffered() {
			s.packed = *b.open(s.next)
		}
	}
	if s.packed.left > 0 && s.packed.next == s.next {
		s.unpacked = true
		s.buffer = s.packed.read(unpackAtOnce, s.room)
		if s.reuses {
			s.room = s.buffer
		}
		if s.packed.left == 0 {
			s.packed = segmentReader{} // else its body stays in memory
		}
		return s.buffer, nil
	}
	for len(s.buffer) > 0 && s.buffer[0].Offset < s.next {
		s.buffer = s.buffer[1:]
	}
	if len(s.buffer) == 0 {
		var err error
		s.unpacked = false
		if s.buffer, err = s.box.read(ctx, s.topic, s.next); err != nil {
			s.buffer = nil
			return nil, err
		}
	}
	return s.buffer, nil
}

// skip jumps over what is settled in one piece, so that it is not read.
func (s *subscription) skip() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = max(s.next, s.cursor.at+1)
	if i, inside := s.cursor.gap(s.next); inside {
		s.next = s.cursor.gaps[i].to + 1
	}
}

// Due hands out rows whose time has come.
func (s *subscription) Due(ctx context.Context, now time.Time, most int) ([]event.Exceptional, time.Time, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	if err := s.repairTimes(ctx, now); err != nil {
		return nil, time.Time{}, err
	}
	limit, next := s.beginDue(now, most)
	if limit == 0 {
		return nil, next, nil
	}
	due, later, err := s.readDue(ctx, now, most, limit)
	if err == nil {
		due, err = s.readEvents(ctx, due)
	}
	return s.endDue(due, later, err)
}

// readEvents adds the events to rows. A row whose event is damaged stays where it is and is not looked at again by this reader:
// it must not keep the others from being handed out.
func (s *subscription) readEvents(ctx context.Context, rows []event.Exceptional) (whole []event.Exceptional, err error) {
	order := make([]*event.Exceptional, len(rows))
	for i := range rows {
		order[i] = &rows[i]
	}
	// In the order of their offsets, so that each segment is read once.
	slices.SortFunc(order, func(a, b *event.Exceptional) int { return cmp.Compare(a.Record.Offset, b.Record.Offset) })
	find, lost := finder{box: s.box}, map[event.Offset]bool{}
	for _, x := range order {
		o := x.Record.Offset
		if x.Exception.Edit != nil {
			continue // the row has it
		}
		record, err := find.find(ctx, s.topic, o)
		switch {
		case damaged(err):
			lost[o] = true
			s.lose(o, err)
		case err != nil:
			return nil, err
		default:
			x.Record = record
		}
	}
	return slices.DeleteFunc(rows, func(x event.Exceptional) bool { return lost[x.Record.Offset] }), nil
}

// lose notes that the event of a row can't be had. A row that changed since it was read may have ended, and its event with it.
func (s *subscription) lose(o event.Offset, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unsure[o] {
		return
	}
	s.out[o] = true
	s.box.log.Error("event cannot be delivered again", "subscription", s.name, "offset", int64(o), "err", err)
}

// beginDue returns how many rows must be looked at, 0 if none can be due. From here on, rows that are committed bring s.due
// forward, so that none is missed between the query and endDue.
func (s *subscription) beginDue(now time.Time, most int) (limit int, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now = now.Round(0); now.After(s.asked) {
		s.asked = now
	}
	if !s.due.IsZero() && now.Before(s.due) || most <= 0 {
		return 0, s.nextDueLocked()
	}
	s.due, s.unsure = never, maps.Clone(s.changing)
	return len(s.out) + most + 1, time.Time{}
}

// readDue returns at most most rows that are due and not handed out, and the time of the first row after them.
func (s *subscription) readDue(ctx context.Context, now time.Time, most, limit int) (due []event.Exceptional, later time.Time, err error) {
	later = never
	err = s.box.readers.with(ctx, func(c *conn) error {
		return c.each("SELECT "+rowColumns+" FROM deliveries WHERE subscription = ? AND state = 1 ORDER BY next_at, offset LIMIT ?",
			func(columns []driver.Value) error {
				x := scanRow(columns)
				switch {
				case s.isOut(x.Record.Offset):
				case len(due) < most && !x.Exception.NextAt.After(now):
					edited, err := editedOf(s.topic, columns)
					switch {
					case err != nil:
						s.lose(x.Record.Offset, err)
						return nil
					case edited != nil:
						x.Record.Event = *edited
					}
					due = append(due, x)
				default:
					later = x.Exception.NextAt
					return io.EOF
				}
				return nil
			}, s.id, int64(limit))
	})
	return due, later, err
}

func (s *subscription) isOut(o event.Offset) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out[o]
}

func (s *subscription) endDue(due []event.Exceptional, later time.Time, err error) ([]event.Exceptional, time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	unsure := s.unsure
	s.unsure = nil
	if err != nil {
		s.due = time.Time{}
		return nil, time.Time{}, err
	}
	// What changed meanwhile is left out: if it is still due, its commit says so when it is published.
	due = slices.DeleteFunc(due, func(x event.Exceptional) bool { return unsure[x.Record.Offset] })
	for i := range due {
		s.out[due[i].Record.Offset] = true
	}
	if later.Before(s.due) {
		s.due = later
	}
	return due, s.nextDueLocked(), nil
}

// nextDueLocked is what Due reports: zero when no row waits.
func (s *subscription) nextDueLocked() time.Time {
	if s.due.Equal(never) {
		return time.Time{}
	}
	return s.due
}

// Settle records outcomes; they are committed within 10 ms.
func (s *subscription) Settle(ctx context.Context, outcomes []event.Outcome) error {
	if len(outcomes) == 0 {
		return nil
	}
	return s.box.queue.settle(ctx, s, outcomes)
}

// Rows returns the offsets in a range that have rows.
func (s *subscription) Rows(ctx context.Context, from, to event.Offset) (offsets []event.Offset, err error) {
	err = s.box.readers.with(ctx, func(c *conn) error {
		return c.each("SELECT offset FROM deliveries WHERE subscription = ? AND offset BETWEEN ? AND ? ORDER BY offset",
			func(columns []driver.Value) error {
				offsets = append(offsets, event.Offset(columns[0].(int64)))
				return nil
			}, s.id, int64(from), int64(to))
	})
	return offsets, err
}

// Row returns the exception row of an event.
func (s *subscription) Row(ctx context.Context, o event.Offset) (row *event.Exception, err error) {
	err = s.box.readers.with(ctx, func(c *conn) error {
		return c.each("SELECT "+rowColumns+" FROM deliveries WHERE subscription = ? AND offset = ?", func(columns []driver.Value) error {
			x := scanRow(columns)
			row = &x.Exception
			return nil
		}, s.id, int64(o))
	})
	return row, err
}

// Keyed returns the rows in a state that have a key.
func (s *subscription) Keyed(
	ctx context.Context, state event.ExceptionState, after event.Offset, most int,
) (keyed []event.Keyed, err error) {
	err = s.box.readers.with(ctx, func(c *conn) error {
		return c.each(`SELECT offset, key FROM deliveries WHERE subscription = ? AND state = ? AND offset > ? AND key IS NOT NULL
				ORDER BY offset LIMIT ?`,
			func(columns []driver.Value) error {
				key, _ := columns[1].([]byte)
				keyed = append(keyed, event.Keyed{Offset: event.Offset(columns[0].(int64)), Key: key})
				return nil
			}, s.id, int64(state), int64(after), int64(most))
	})
	return keyed, err
}

// Dropped counts the dead letters that were dropped.
func (s *subscription) Dropped() int64 { return s.drops.Load() }

// rowColumns are what scanRow takes.
const rowColumns = `offset, state, reason, stage, status, attempts, counted, next_at, first_at, last_at, error, answer, progress, key,
	history, edited, origin`

// rowWidth is how many they are.
const rowWidth = 17

// scanRow makes an exception of a row; of the record only the offset is known, see editedOf.
func scanRow(columns []driver.Value) event.Exceptional {
	integer := func(i int) int64 { n, _ := columns[i].(int64); return n }
	text := func(i int) string { s, _ := columns[i].(string); return s }
	blob := func(i int) []byte { b, _ := columns[i].([]byte); return b }
	return event.Exceptional{
		Record: event.Record{Offset: event.Offset(integer(0))},
		Exception: event.Exception{
			State: event.ExceptionState(integer(1)), Reason: event.Reason(text(2)), Stage: text(3), Status: int(integer(4)),
			Attempts: int(integer(5)), Counted: int(integer(6)), NextAt: fromNanos(integer(7)), FirstAt: fromNanos(integer(8)),
			LastAt: fromNanos(integer(9)), Error: text(10), Answer: blob(11), Progress: blob(12), Key: blob(13),
			History: decodeHistory(blob(14)), Edit: fingerprint(blob(15)), From: text(16),
		},
	}
}

// editedOf is the event that an edit put in the place of the stored one; nil: none did.
func editedOf(t *topic, columns []driver.Value) (*event.Event, error) {
	if columns[15] == nil {
		return nil, nil
	}
	records, err := decodeRow(t, []driver.Value{columns[0], int64(1), columns[15]})
	if err != nil {
		return nil, err
	}
	return &records[0].Event, nil
}
