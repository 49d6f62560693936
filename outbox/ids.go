package outbox

import (
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/millrace-run/millrace/event"
)

// Where events are by their ids. The offsets of a topic are cut into blocks of idBlock; block k begins at offset k*idBlock+1. A
// block that is complete gets an index: the hash of each id and the place in the block, sorted, in idBuckets rows by the first
// bits of the hash. A look-up reads of each block the one row that its hash falls in, and the key of a row (topic, bucket, block)
// lays these side by side. What lies behind the last complete block is in memory as hashes.
//
// The body of a row: 4 bytes CRC-32C over the key of the hash, the key of the row and what follows; then for each event, sorted, 5
// bytes of the hash behind the bits of the bucket and 2 bytes place in the block. 47 bits of a hash are few enough to be met by
// chance once in a while, so each hit is compared with the event itself.
//
// All of it is derived from the segments and made by one goroutine, away from those who append. A block counts once its row in
// id_blocks is there, which the last piece of it writes: after a crash an incomplete one is made again.
const (
	idBlock      = 1 << 16
	bucketBits   = 7
	idBuckets    = 1 << bucketBits
	idEntry      = 7
	idHeader     = 4
	idPiece      = 32 // rows that one commit writes: about a quarter of a MiB
	idChunks     = 16 // times in a block that the goroutine is woken
	idTails      = 4  // blocks of a topic that wait in memory to be written; older ones are read again
	blockBits    = 32 // of the key of a row
	maxIDTopic   = 1 << (63 - bucketBits - blockBits)
	hashBits     = 40 // of the hash in an entry
	placeBits    = 16 // of the place in the block
	hashShift    = 64 - bucketBits - hashBits
	bucketShift  = 64 - bucketBits
	idRowsAtOnce = maxRead / 4096 // rows that a look-up reads in one statement
)

// ids makes the index and looks into it.
type ids struct {
	box    *Outbox
	key    []byte
	block  event.Offset  // events in a block
	signal chan struct{} // one signal: some topic has grown by a chunk, or a block needs repair
	done   chan struct{} // closed when the goroutine has ended
	spent  atomic.Bool   // a page is damaged: what is deleted elsewhere stays in the index

	mu    sync.Mutex // guards all below
	tails map[*topic]*idTail
	again map[idPlace]bool // blocks whose rows are damaged
	bad   map[idPlace]bool // blocks with a segment that cannot be read; they get no index
}

type idPlace struct {
	topic *topic
	block int64
}

// idTail is the end of a topic in memory. Who has the lock may use all of it, also while reading from disk.
type idTail struct {
	lock   chan struct{} // holds one while somebody has it
	from   event.Offset  // hashes[i] is of offset from+i; from begins a block
	hashes []uint64      // 0 is no event
	lost   []lost        // what could not be read in it
}

// lost are offsets that cannot be read, and why.
type lost struct {
	from, to event.Offset
	err      error
}

func (t *idTail) next() event.Offset { return t.from + event.Offset(len(t.hashes)) }

func (t *idTail) enter(ctx context.Context) error {
	select {
	case t.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t *idTail) leave() { <-t.lock }

// newIDs reads the key. One that is not there any more is made anew: no row fits it, so all are made again.
func newIDs(b *Outbox, c *conn, block int) (*ids, error) {
	x := &ids{
		box: b, block: idBlock, signal: make(chan struct{}, 1), done: make(chan struct{}),
		tails: map[*topic]*idTail{}, again: map[idPlace]bool{}, bad: map[idPlace]bool{},
	}
	if block > 0 {
		x.block = event.Offset(block)
	}
	var err error
	if x.key, err = secret(c, "ids"); err == nil && len(x.key) != idSize {
		if err = c.exec("INSERT OR REPLACE INTO secrets (name, value) VALUES ('ids', randomblob(16))"); err == nil {
			x.key, err = secret(c, "ids")
		}
	}
	return x, err
}

// hash is keyed, so that who chooses ids cannot choose hashes. It is never 0.
func (x *ids) hash(id string) uint64 {
	var buffer [128]byte
	sum := sha256.Sum256(append(append(buffer[:0], x.key...), id...))
	return max(1, binary.BigEndian.Uint64(sum[:]))
}

// start is the first offset of a block, of the offset's own block for blockOf.
func (x *ids) start(block int64) event.Offset { return event.Offset(block)*x.block + 1 }
func (x *ids) blockOf(o event.Offset) int64   { return int64((o - 1) / x.block) }
func (x *ids) rowKey(t *topic, bucket, block int64) int64 {
	return t.id<<(bucketBits+blockBits) | bucket<<blockBits | block
}

// grown wakes the goroutine when a topic has grown into another chunk. The writer calls it after each commit.
func (x *ids) grown(first, last event.Offset) {
	chunk := max(1, x.block/idChunks)
	if (first-1)/chunk != last/chunk {
		x.wake()
	}
}

func (x *ids) wake() {
	select {
	case x.signal <- struct{}{}:
	default:
	}
}

// run makes the index until ctx ends. A fault is told of and tried again when there is more to do.
func (x *ids) run(ctx context.Context) {
	defer close(x.done)
	for {
		for _, t := range x.box.allTopics() {
			if err := errors.Join(x.index(ctx, t), x.tidy(ctx, t)); ctx.Err() != nil || errors.Is(err, event.ErrClosed) {
				return
			} else if err != nil {
				x.box.log.Warn("the index of event ids could not be made; look-ups by id take longer", "topic", t.name, "err", err)
			}
		}
		select {
		case <-x.signal:
		case <-ctx.Done():
			return
		}
	}
}

// index brings a topic's index up to its end. The newest comes first: it is what people ask for.
func (x *ids) index(ctx context.Context, t *topic) error {
	if t.id >= maxIDTopic {
		return nil // look-ups read the events
	}
	full, from, err := x.followed(ctx, t)
	if err != nil || x.box.writer.tight() {
		return err // an index is not worth the room that is kept for what drains
	}
	for i, hashes := range full {
		if err := x.write(ctx, t, x.blockOf(from)+int64(i), hashes); err != nil {
			return err
		}
	}
	if err := x.cut(ctx, t, from, len(full)); err != nil {
		return err
	}
	for {
		block, ok, err := x.missing(ctx, t)
		if err != nil || !ok {
			return err
		}
		if err := x.make(ctx, t, block); err != nil {
			return err
		}
	}
}

// tail returns a topic's tail. A new one begins at the last block, and has nothing in it yet.
func (x *ids) tail(t *topic) *idTail {
	x.mu.Lock()
	defer x.mu.Unlock()
	tail := x.tails[t]
	if tail == nil {
		tail = &idTail{lock: make(chan struct{}, 1), from: x.start(int64(t.head() / x.block))}
		x.tails[t] = tail
	}
	return tail
}

// followed brings the tail up to the end of the topic and returns the blocks in it that are complete. They stay there until cut.
func (x *ids) followed(ctx context.Context, t *topic) (full [][]uint64, from event.Offset, err error) {
	tail := x.tail(t)
	if err := tail.enter(ctx); err != nil {
		return nil, 0, err
	}
	defer tail.leave()
	if err := x.follow(ctx, t, tail); err != nil {
		return nil, 0, err
	}
	if n := len(tail.hashes) / int(x.block); n > idTails { // the disk is full, or slower than the load
		tail.drop(n-idTails, x.block)
	}
	for i := range len(tail.hashes) / int(x.block) {
		full = append(full, tail.hashes[i*int(x.block):(i+1)*int(x.block)])
	}
	for _, l := range tail.lost {
		x.spoil(t, x.blockOf(l.from), x.blockOf(l.to))
	}
	return full, tail.from, nil
}

// follow reads into the tail what it lacks up to the end of the topic.
func (x *ids) follow(ctx context.Context, t *topic, tail *idTail) error {
	for upTo := t.head(); tail.next() <= upTo; {
		hashes, bad, err := x.gather(ctx, t, tail.next(), upTo)
		tail.hashes = append(tail.hashes, hashes...)
		if bad != nil {
			tail.lost = append(tail.lost, *bad)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// cut drops the first n blocks from a tail that still begins at from: their index is written.
func (x *ids) cut(ctx context.Context, t *topic, from event.Offset, n int) error {
	tail := x.tail(t)
	if n == 0 {
		return nil
	}
	if err := tail.enter(ctx); err != nil {
		return err
	}
	defer tail.leave()
	if tail.from == from {
		tail.drop(n, x.block)
	}
	return nil
}

// drop copies what stays, so that the rest is freed and those who read the old hashes are not disturbed.
func (t *idTail) drop(blocks int, size event.Offset) {
	n := blocks * int(size)
	t.from += event.Offset(n)
	t.hashes = slices.Clone(t.hashes[n:])
	t.lost = slices.DeleteFunc(t.lost, func(l lost) bool { return l.to < t.from })
}

// gather returns the hashes of some events from o on, at least one and none beyond upTo, from the ring or from disk. Where
// there is no event the hash is 0; bad tells of those that cannot be read.
func (x *ids) gather(ctx context.Context, t *topic, o, upTo event.Offset) (hashes []uint64, bad *lost, err error) {
	if b, ok := x.box.ring.at(t, o); ok && b.body != nil {
		return x.hashes(&b, o, upTo), nil, nil
	}
	records, end, err := x.box.piece(ctx, t, o, upTo)
	if errors.Is(err, errDamaged) {
		x.box.log.Warn("events cannot be found by their ids", "err", err)
		bad, err = &lost{o, end, err}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	hashes = make([]uint64, end-o+1)
	for i := range records {
		hashes[records[i].Offset-o] = x.hash(records[i].Event.ID)
	}
	return hashes, bad, nil
}

// hashes are those of the events of a packed block, from o to upTo at most.
func (x *ids) hashes(b *block, o, upTo event.Offset) []uint64 {
	s := b.open(o)
	all := make([]uint64, min(b.last, upTo)-o+1)
	var r event.Record
	for i := range all {
		s.one(&r)
		all[i] = x.hash(r.Event.ID)
	}
	return all
}

// piece reads some events from o on, none beyond upTo. end is how far it came: there are no others up to it. With errDamaged
// those up to end cannot be read.
func (b *Outbox) piece(ctx context.Context, t *topic, o, upTo event.Offset) (records []event.Record, end event.Offset, err error) {
	if block, ok := b.ring.at(t, o); ok {
		records = block.from(o)
	} else {
		if records, err = b.read(ctx, t, o); errors.Is(err, errDamaged) {
			end, more := b.nextSegment(ctx, t, o)
			if more != nil {
				err = more
			}
			return nil, min(end-1, upTo), err
		}
	}
	if err != nil || len(records) == 0 {
		return nil, upTo, err
	}
	n, _ := slices.BinarySearchFunc(records, upTo+1, func(r event.Record, o event.Offset) int { return int(r.Offset - o) })
	if n == 0 {
		return nil, upTo, nil
	}
	return records[:n], records[n-1].Offset, nil
}

// nextSegment is where the first segment behind o begins, else behind the end of the topic.
func (b *Outbox) nextSegment(ctx context.Context, t *topic, o event.Offset) (next event.Offset, err error) {
	next = t.head() + 1
	err = b.readers.with(ctx, func(c *conn) error {
		return c.each("SELECT first FROM segments WHERE topic = ? AND first > ? ORDER BY first LIMIT 1",
			func(columns []driver.Value) error {
				first, _ := columns[0].(int64)
				next = event.Offset(first)
				return io.EOF
			}, t.id, int64(o))
	})
	return next, err
}

// make reads a block's events and writes its index.
func (x *ids) make(ctx context.Context, t *topic, block int64) error {
	hashes := make([]uint64, 0, x.block)
	for from, to := x.start(block), x.start(block+1)-1; event.Offset(len(hashes)) < x.block; {
		more, bad, err := x.gather(ctx, t, from+event.Offset(len(hashes)), to)
		if err != nil {
			return err
		}
		if bad != nil {
			x.spoil(t, block, block)
			return nil
		}
		hashes = append(hashes, more...)
	}
	return x.write(ctx, t, block, hashes)
}

// spoil notes that blocks hold events that cannot be read: a look-up reads the others and tells of these.
func (x *ids) spoil(t *topic, from, to int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for k := from; k <= to; k++ {
		x.bad[idPlace{t, k}] = true
	}
}

func (x *ids) spoiled(p idPlace) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.bad[p]
}

// write writes the index of a block in pieces, each in a commit of its own that others go before. The last makes it count.
func (x *ids) write(ctx context.Context, t *topic, block int64, hashes []uint64) error {
	p := idPlace{t, block}
	if x.spoiled(p) {
		return nil
	}
	rows := x.rows(t, block, hashes)
	for first := 0; first < idBuckets; first += idPiece {
		err := x.box.do(ctx, func(c *conn) (_ func(), err error) {
			defer func() {
				if isCorrupt(err) { // rolled back and told of; only a damage of events may end the outbox
					err = fmt.Errorf("damaged on disk: %v", err)
				}
			}()
			for bucket := first; bucket < first+idPiece; bucket++ {
				err := c.exec("INSERT OR REPLACE INTO ids (id, body) VALUES (?, ?)", x.rowKey(t, int64(bucket), block), rows[bucket])
				if err != nil {
					return nil, err
				}
			}
			if first+idPiece < idBuckets {
				return nil, nil
			}
			return nil, c.exec("INSERT OR IGNORE INTO id_blocks (topic, block) VALUES (?, ?)", t.id, block)
		})
		if err != nil {
			return err
		}
	}
	x.mu.Lock()
	delete(x.again, p)
	x.mu.Unlock()
	return nil
}

// rows are the bodies of a block, one for each bucket. An event is sorted as one number: the bits of the hash, then its place.
func (x *ids) rows(t *topic, block int64, hashes []uint64) [][]byte {
	entries := make([]uint64, 0, len(hashes))
	for i, h := range hashes {
		if h != 0 {
			entries = append(entries, h>>hashShift<<placeBits|uint64(i))
		}
	}
	slices.Sort(entries)
	rows := make([][]byte, idBuckets)
	for bucket := range rows {
		end, _ := slices.BinarySearch(entries, uint64(bucket+1)<<(hashBits+placeBits))
		body := make([]byte, idHeader, idHeader+end*idEntry)
		for _, e := range entries[:end] {
			body = appendEntry(body, e>>placeBits)
			body = append(body, byte(e>>8), byte(e))
		}
		entries = entries[end:]
		binary.BigEndian.PutUint32(body, x.sum(x.rowKey(t, int64(bucket), block), body[idHeader:]))
		rows[bucket] = body
	}
	return rows
}

// appendEntry appends the part of a hash, without its lowest bits, that an entry has.
func appendEntry(b []byte, h uint64) []byte {
	return append(b, byte(h>>32), byte(h>>24), byte(h>>16), byte(h>>8), byte(h))
}

func (x *ids) sum(key int64, entries []byte) uint32 {
	var head [idSize + 8]byte
	copy(head[:], x.key)
	binary.BigEndian.PutUint64(head[idSize:], uint64(key))
	return crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, entries)
}

// missing returns the newest block before the tail that should have an index and has none, or a damaged one.
func (x *ids) missing(ctx context.Context, t *topic) (block int64, ok bool, err error) {
	tail := x.tail(t)
	if err := tail.enter(ctx); err != nil {
		return 0, false, err
	}
	end := x.blockOf(tail.from)
	tail.leave()
	first, whole, err := x.blocks(ctx, t, end)
	if err != nil {
		return 0, false, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for k := end - 1; k >= first; k-- {
		p := idPlace{t, k}
		if !x.bad[p] && (!whole[k] || x.again[p]) {
			return k, true, nil
		}
	}
	return 0, false, nil
}

// blocks returns the first block of which there are events, and those before end that have an index.
func (x *ids) blocks(ctx context.Context, t *topic, end int64) (first int64, whole map[int64]bool, err error) {
	whole, first = map[int64]bool{}, end
	err = x.box.readers.with(ctx, func(c *conn) error {
		oldest, err := c.integer("SELECT first FROM segments WHERE topic = ? ORDER BY first LIMIT 1", t.id)
		if err != nil || oldest <= 0 {
			return err
		}
		first = x.blockOf(event.Offset(oldest))
		return c.each("SELECT block FROM id_blocks WHERE topic = ? AND block >= ? AND block < ?", func(columns []driver.Value) error {
			whole[columns[0].(int64)] = true
			return nil
		}, t.id, first, end)
	})
	return first, whole, indexError(t, err)
}

// indexError says of a damaged page what it was for.
func indexError(t *topic, err error) error {
	if isCorrupt(err) {
		return fmt.Errorf("topic %s, index of event ids: %w", t.name, err)
	}
	return err
}

// allTopics are the topics by name.
func (b *Outbox) allTopics() []*topic {
	b.mu.RLock()
	defer b.mu.RUnlock()
	all := make([]*topic, 0, len(b.topics))
	for _, t := range b.topics {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b *topic) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	return all
}
