package outbox

import (
	"cmp"
	"context"
	"database/sql/driver"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/millrace-run/millrace/event"
)

// The body of a receipts row: 4 bytes CRC-32C, then for each receipt, in the order of offsets, 8 bytes offset, 2 bytes attempt,
// 2 bytes status and 4 bytes milliseconds, all big endian. What does not fit its field is the greatest that does. The checksum
// covers the subscription, the time and the place of the row too.
const (
	receiptSize     = 16
	receiptsHeader  = 4
	receiptsPerRow  = 500  // a row of them just fits a page
	receiptSpan     = 8192 // offsets between the first and the last of a row: bounds where a look-up has to look
	receiptRowSize  = 64   // about what a row takes beside its body
	receiptsWait    = time.Second
	receiptsBound   = 256 << 20             // bytes of all rows; beyond it the oldest go
	receiptsPiece   = 64                    // rows that one commit deletes at most
	receiptsInHand  = 16 * receiptsPerRow   // of a subscription, while they cannot be written
	receiptsRelease = 20 * time.Millisecond // between two commits that only make room
)

// receipt is one delivery as it is written.
type receipt struct {
	offset          event.Offset
	attempt, status uint16
	millis          uint32
}

// given is a receipt that a commit brings.
type given struct {
	subscription *subscription
	receipt      receipt
}

// receipts are what was delivered of late and is not on disk yet. They ride with other commits, a page at a time or after a second,
// and have one of their own only when nothing else was committed for that long.
type receipts struct {
	clock event.Clock
	bound int64
	disk  receiptsDisk // the writer's alone, but for last
	spent bool         // the table cannot be written; the writer's alone

	mu       sync.Mutex // guards all below, and disk.last; only the writer changes them
	gathered map[*subscription][]receipt
	since    time.Time // when the first of them came; zero: there are none
	ripe     bool      // some subscription has a whole row
}

// receiptsDisk is what the table holds.
type receiptsDisk struct {
	last  int64 // id of the newest row
	total int64 // of the newest row
	gone  int64 // the total that was reached before the oldest row
}

func (d receiptsDisk) size() int64 { return max(0, d.total-d.gone) }

// receiptsPlan is what a commit does to the receipts.
type receiptsPlan struct {
	given []given
	taken map[*subscription]int // how many of the gathered it writes
	disk  receiptsDisk
	known bool // disk is what the table holds after the commit
}

func (r *receipts) init(c *conn, clock event.Clock, bound int64) error {
	r.clock, r.bound, r.gathered = clock, bound, map[*subscription][]receipt{}
	if bound == 0 {
		r.bound = receiptsBound
	}
	err := r.load(c)
	if isCorrupt(err) {
		r.spent, err = true, nil // nothing but look-ups needs receipts, and those tell of it
		r.disk.last = math.MaxInt64
	}
	return err
}

func (r *receipts) load(c *conn) error {
	err := c.each("SELECT id, total FROM receipts ORDER BY id DESC LIMIT 1", func(columns []driver.Value) error {
		r.disk.last, _ = columns[0].(int64)
		r.disk.total, _ = columns[1].(int64)
		return io.EOF
	})
	if err != nil {
		return err
	}
	r.disk.gone, err = r.disk.before(c)
	return err
}

// before is the total that was reached before the oldest row.
func (d receiptsDisk) before(c *conn) (total int64, err error) {
	total = d.total
	err = c.each("SELECT total - length(body) - ? FROM receipts ORDER BY id LIMIT 1", func(columns []driver.Value) error {
		total, _ = columns[0].(int64)
		return io.EOF
	}, int64(receiptRowSize))
	return total, err
}

// receipt takes what an outcome says of a delivery into the plan.
func (p *plan) receipt(s *subscription, o *event.Outcome) {
	if o.Receipt.Attempt > 0 && o.Exception == nil {
		p.receipts.given = append(p.receipts.given, given{s, receipt{
			offset: o.Offset, attempt: clamp16(o.Receipt.Attempt), status: clamp16(o.Receipt.Status),
			millis: uint32(min(max(o.Receipt.Took.Milliseconds(), 0), math.MaxUint32)),
		}})
	}
}

func clamp16(n int) uint16 { return uint16(min(max(n, 0), math.MaxUint16)) }

// receiptsWait is how long the writer may sleep at most for the sake of the receipts; false: as long as it likes.
func (w *writer) receiptsWait() (time.Duration, bool) {
	r := &w.receipts
	switch {
	case r.spent:
		return 0, false
	case w.scarce() && !w.full.Load() && r.disk.size() > 0:
		return receiptsRelease, true
	case w.tight() || w.scarce() || r.since.IsZero():
		return 0, false
	}
	return max(0, r.since.Add(receiptsWait).Sub(r.clock.Now())), true
}

// receiptsDue says whether the receipts are worth a commit of their own, now that nothing else is there to be committed.
func (w *writer) receiptsDue() bool {
	wait, ok := w.receiptsWait()
	return ok && (wait == 0 || w.scarce() || w.box.queue.isClosed())
}

// applyReceipts writes what is ripe, and deletes what is too much. None are written while room is short. Near the bound of the
// outbox all go, in small pieces so that nobody waits long for it; on a full disk they stay, because to delete them would take
// room in the WAL and give none back to the disk.
func (w *writer) applyReceipts(p *plan) error {
	r := &w.receipts
	p.receipts.disk, p.receipts.known = r.disk, true
	limit := r.bound
	switch {
	case w.full.Load() || w.failures > 0 || r.spent:
		return nil
	case w.scarce():
		limit = 0
	default:
		if err := w.writeReceipts(&p.receipts); err != nil {
			return w.ofReceipts(err)
		}
	}
	return w.ofReceipts(w.trimReceipts(&p.receipts.disk, limit))
}

func (w *writer) writeReceipts(p *receiptsPlan) error {
	r := &w.receipts
	if r.since.IsZero() {
		return nil
	}
	now := r.clock.Now()
	all := w.box.queue.isClosed() || now.Sub(r.since) >= receiptsWait || now.Before(r.since)
	if !all && !r.ripe {
		return nil
	}
	p.taken = map[*subscription]int{}
	for s, list := range r.gathered {
		n := len(list)
		if !all {
			n -= n % receiptsPerRow
		}
		p.taken[s] = n
		if err := w.writeRows(&p.disk, s, list[:n], now); err != nil {
			return err
		}
	}
	return nil
}

// writeRows writes receipts of one subscription in rows that are neither too large nor too wide.
func (w *writer) writeRows(d *receiptsDisk, s *subscription, list []receipt, now time.Time) error {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b receipt) int { return cmp.Compare(a.offset, b.offset) })
	for len(list) > 0 {
		n := 1
		for n < len(list) && n < receiptsPerRow && list[n].offset-list[0].offset < receiptSpan {
			n++
		}
		low, high, at := int64(list[0].offset), int64(list[n-1].offset), now.UnixNano()
		body := encodeReceipts(s.id, at, list[:n])
		d.last++
		d.total += int64(len(body)) + receiptRowSize
		err := w.conn.exec("INSERT INTO receipts (id, subscription, low, high, at, total, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
			d.last, s.id, low, high, at, d.total, body)
		if err != nil {
			return err
		}
		w.written += pageSize
		list = list[n:]
	}
	return nil
}

// trimReceipts deletes the oldest rows while there are more bytes than limit, at most a piece of them.
func (w *writer) trimReceipts(d *receiptsDisk, limit int64) error {
	for n := 0; d.size() > limit && n < receiptsPiece; n++ {
		if err := w.conn.exec("DELETE FROM receipts WHERE id = (SELECT min(id) FROM receipts)"); err != nil {
			return err
		}
		gone, err := d.before(w.conn)
		if err != nil {
			return err
		}
		d.gone = gone
		w.written += pageSize
	}
	return nil
}

// published takes over what a commit did and what it brought.
func (r *receipts) published(p *receiptsPlan) {
	if !p.known || len(p.given) == 0 && len(p.taken) == 0 && p.disk == r.disk {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.disk = p.disk
	for s, n := range p.taken {
		if r.gathered[s] = slices.Delete(r.gathered[s], 0, n); len(r.gathered[s]) == 0 {
			delete(r.gathered, s)
		}
	}
	if len(r.gathered) == 0 {
		r.since = time.Time{}
	}
	r.ripe = false
	for _, g := range p.given {
		r.gathered[g.subscription] = append(r.gathered[g.subscription], g.receipt)
	}
	for s, list := range r.gathered {
		if len(list) > receiptsInHand {
			r.gathered[s] = slices.Delete(list, 0, len(list)-receiptsInHand/2)
		}
		r.ripe = r.ripe || len(list) >= receiptsPerRow
	}
	if r.since.IsZero() && len(r.gathered) > 0 {
		r.since = r.clock.Now()
	}
}

// inHand returns what is known of an event and not yet on disk, and the newest row that was there when it was not.
func (r *receipts) inHand(s *subscription, o event.Offset) (list []event.DatedReceipt, last int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.gathered[s] {
		if x.offset == o {
			list = append(list, x.dated(r.since))
		}
	}
	return list, r.disk.last
}

func (x receipt) dated(at time.Time) event.DatedReceipt {
	return event.DatedReceipt{
		Receipt: event.Receipt{
			Attempt: int(x.attempt), Status: int(x.status), Took: time.Duration(x.millis) * time.Millisecond,
		},
		At: at.UTC(),
	}
}

// Receipts returns what is known of the deliveries of an event to a subscription, oldest first. There is none for an event that was
// settled without a delivery, and no more for one whose receipts made room for newer ones. A row that does not say what was
// written to it is an error.
func (b *Outbox) Receipts(ctx context.Context, subscription string, o event.Offset) ([]event.DatedReceipt, error) {
	s := b.subscription(subscription)
	if s == nil {
		return nil, fmt.Errorf("outbox has no subscription %q", subscription)
	}
	// What is in memory first: rows that are written from now on are newer than last and hold what was found there.
	fresh, last := b.writer.receipts.inHand(s, o)
	var list []event.DatedReceipt
	err := b.readers.with(ctx, func(c *conn) error {
		return c.each(`SELECT id, at, low, high, body FROM receipts
				WHERE subscription = ? AND low BETWEEN ? AND ? AND high >= ? AND id <= ? ORDER BY id`,
			func(columns []driver.Value) error {
				more, err := findReceipts(s, columns, o)
				list = append(list, more...)
				return err
			}, s.id, int64(o)-receiptSpan+1, int64(o), int64(o), last)
	})
	if isCorrupt(err) {
		err = fmt.Errorf("subscription %s, receipts: %w", s.name, err)
	}
	return append(list, fresh...), err
}

// findReceipts returns the receipts of o in a row.
func findReceipts(s *subscription, columns []driver.Value, o event.Offset) (list []event.DatedReceipt, err error) {
	at, _ := columns[1].(int64)
	body, _ := columns[4].([]byte)
	if !soundReceipts(s.id, at, columns[2], columns[3], body) {
		return nil, fmt.Errorf("subscription %s, receipts row %v of events %v to %v is damaged: its checksum does not match",
			s.name, columns[0], columns[2], columns[3])
	}
	for rest := body[receiptsHeader:]; len(rest) > 0; rest = rest[receiptSize:] {
		if x := decodeReceipt(rest); x.offset == o {
			list = append(list, x.dated(time.Unix(0, at)))
		}
	}
	return list, nil
}

func encodeReceipts(subscription, at int64, list []receipt) []byte {
	b := make([]byte, receiptsHeader, receiptsHeader+len(list)*receiptSize)
	for _, x := range list {
		b = binary.BigEndian.AppendUint64(b, uint64(x.offset))
		b = binary.BigEndian.AppendUint16(b, x.attempt)
		b = binary.BigEndian.AppendUint16(b, x.status)
		b = binary.BigEndian.AppendUint32(b, x.millis)
	}
	binary.BigEndian.PutUint32(b, receiptsSum(subscription, at, b[receiptsHeader:]))
	return b
}

func decodeReceipt(b []byte) receipt {
	return receipt{
		offset:  event.Offset(binary.BigEndian.Uint64(b)),
		attempt: binary.BigEndian.Uint16(b[8:]), status: binary.BigEndian.Uint16(b[10:]),
		millis: binary.BigEndian.Uint32(b[12:]),
	}
}

// receiptsSum is the checksum of a row.
func receiptsSum(subscription, at int64, list []byte) uint32 {
	var head [16]byte
	binary.BigEndian.PutUint64(head[:], uint64(subscription))
	binary.BigEndian.PutUint64(head[8:], uint64(at))
	return crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, list)
}

// soundReceipts says whether a row is as it was written, its place included.
func soundReceipts(subscription, at int64, low, high driver.Value, body []byte) bool {
	if len(body) < receiptsHeader+receiptSize || (len(body)-receiptsHeader)%receiptSize != 0 {
		return false
	}
	list := body[receiptsHeader:]
	return binary.BigEndian.Uint32(body) == receiptsSum(subscription, at, list) &&
		low == int64(decodeReceipt(list).offset) && high == int64(decodeReceipt(list[len(list)-receiptSize:]).offset)
}
