package router

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace-run/millrace/event"
)

// desk is where workers and the goroutine of their sink meet. It is an event.Lender.
type desk struct {
	*subscriber

	mu       sync.Mutex // guards all below
	requests []*request
	closed   bool // for good or until the next run
}

// request is what a worker wants: events if receipts is nil, else to give some back.
type request struct {
	ask   event.Ask
	until time.Time // how long it waits
	gone  atomic.Bool

	receipts []string
	places   []claim
	back     event.Return

	replies chan reply // has room for the one answer

	leased []event.Leased // on their way to who asks
}

type reply struct {
	events []event.Leased
	gone   []string
	err    error
}

func (r *request) answer(a reply) { r.replies <- a }

// notGiven is the action of events that were leased to somebody who had left meanwhile.
const notGiven event.ReturnAction = 255

// open lets workers in.
func (d *desk) open() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = false
}

// close lets nobody in any more, and returns who is there.
func (d *desk) close() []*request {
	d.mu.Lock()
	defer d.mu.Unlock()
	left := d.requests
	d.requests, d.closed = nil, true
	return left
}

// take returns who came since the last time.
func (d *desk) take() []*request {
	d.mu.Lock()
	defer d.mu.Unlock()
	came := d.requests
	d.requests = nil
	return came
}

// put hands a request in. Every request is answered.
func (d *desk) put(r *request) {
	r.replies = make(chan reply, 1)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		r.answer(reply{err: event.ErrClosed})
		return
	}
	d.requests = append(d.requests, r)
	d.lanes[0].fed.Ring()
}

// Receive is event.Lender's.
func (d *desk) Receive(ctx context.Context, a event.Ask) ([]event.Leased, error) {
	r := &request{ask: a, until: d.clock.Now().UTC().Add(a.Wait)}
	d.put(r)
	select {
	case got := <-r.replies:
		return got.events, got.err
	case <-ctx.Done():
	}
	r.gone.Store(true)
	d.lanes[0].fed.Ring()
	got := <-r.replies // it may have been on its way
	if len(got.events) > 0 {
		d.putBack(got.events)
	}
	return nil, got.err
}

// putBack hands in what nobody is there for any more. What comes of it is not waited for: at worst the leases end.
func (d *desk) putBack(events []event.Leased) {
	r := &request{back: event.Return{Action: notGiven}}
	for _, l := range events {
		c, _ := d.claimOf(l.Receipt)
		r.receipts, r.places = append(r.receipts, l.Receipt), append(r.places, c)
	}
	d.put(r)
}

// Return is event.Lender's.
func (d *desk) Return(ctx context.Context, receipts []string, back event.Return) ([]string, error) {
	r := &request{receipts: receipts, back: back, places: make([]claim, len(receipts))}
	for i, receipt := range receipts {
		c, ok := d.claimOf(receipt)
		if !ok {
			return nil, event.ErrReceipt
		}
		r.places[i] = c
	}
	d.put(r)
	select {
	case got := <-r.replies:
		return got.gone, got.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// claim is what a receipt says: an attempt of an event, and when it began. Behind a seek the same attempt may come again, and is not
// what the first one's worker speaks of.
type claim struct {
	place
	attempt int
	begun   int64 // unix nanoseconds
}

// names says whether an exception is of the attempt.
func (c claim) names(x *event.Exception) bool {
	return x.Attempts == c.attempt && x.LastAt.UnixNano() == c.begun
}

// receiptOf names an attempt of an event: offset, attempt, when it began, and a checksum over them and the name of the subscription, so that a
// receipt of another queue is no receipt here. It is no secret: whoever may take events may end their leases.
func receiptOf(k *lane, o event.Offset, attempt int, begun time.Time) string {
	b := binary.AppendUvarint(binary.AppendUvarint(nil, uint64(o)), uint64(attempt))
	b = binary.AppendVarint(b, begun.UnixNano())
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(b, k.checksum(b)))
}

func (l *lane) checksum(b []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE([]byte(l.name)), crc32.IEEETable, b)
}

// claimOf reads a receipt. It may be called concurrently with everything.
func (d *desk) claimOf(receipt string) (claim, bool) {
	b, err := base64.RawURLEncoding.DecodeString(receipt)
	if err != nil || len(b) < crc32.Size {
		return claim{}, false
	}
	b, sum := b[:len(b)-crc32.Size], binary.BigEndian.Uint32(b[len(b)-crc32.Size:])
	offset, n := binary.Uvarint(b)
	if n <= 0 {
		return claim{}, false
	}
	attempt, m := binary.Uvarint(b[n:])
	if m <= 0 {
		return claim{}, false
	}
	begun, l := binary.Varint(b[n+m:])
	if l <= 0 || n+m+l != len(b) {
		return claim{}, false
	}
	for _, k := range d.lanes {
		if k.checksum(b) == sum {
			return claim{place{k, event.Offset(offset)}, int(attempt), begun}, true
		}
	}
	return claim{}, false
}

// Lender hands out the events of a sink from which workers take them; nil if there is no such sink. Events come while Run runs.
func (r *Router) Lender(pipeline, sink string) event.Lender {
	for _, p := range r.pipelines {
		for _, s := range p.sinks {
			if p.name == pipeline && s.plan.Name == sink && s.desk != nil {
				return s.desk
			}
		}
	}
	return nil
}
