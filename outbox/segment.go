package outbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"time"
	"unsafe"

	"github.com/millrace-run/millrace/event"
)

// The format of a segment's body, version 2. Integers are varints unless noted; a string is its length and its bytes.
//
//	byte     version
//	4 bytes  CRC-32C of all that follows, big endian
//	heads    count, then each: source, type, datacontenttype, dataschema, extensions (count, then name, kind each), and since
//	         version 2 the stages that ran (count, then names)
//	base     received time of the first event, nanoseconds since 1970 (signed); -2^63 is the
//	         zero time
//	events   each: index of its head, id, subject, time, received minus base (signed), the text of each extension of the
//	         head, then data: 0 for none, else its length plus one and the bytes
//
// What events of one source have in common is thus written once. The number of events is a column of the row.
const (
	segmentVersion   = 2
	segmentHeader    = 5
	maxSegmentEvents = 4096
	maxSegmentBytes  = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged is what a segment gives that does not say what was written to it.
var errDamaged = errors.New("segment is damaged")

// segmentEncoder builds bodies. It is reused to keep its buffers; the body that encode returns is valid until the next call.
type segmentEncoder struct {
	heads  []*event.Event // first event of each head
	index  []int          // head of each event
	buffer []byte
}

func (s *segmentEncoder) encode(records []event.Record) []byte {
	s.collect(records)
	b := append(s.buffer[:0], segmentVersion, 0, 0, 0, 0)
	b = binary.AppendUvarint(b, uint64(len(s.heads)))
	for _, h := range s.heads {
		b = appendHead(b, h)
	}
	base := stamp(records[0].Event.Received)
	b = binary.AppendVarint(b, base)
	for i := range records {
		b = binary.AppendUvarint(b, uint64(s.index[i]))
		b = appendEvent(b, &records[i].Event, base)
	}
	sum(b)
	s.buffer = b
	clear(s.heads) // else they keep the events in memory
	return b
}

// sum writes the checksum into a body.
func sum(body []byte) {
	binary.BigEndian.PutUint32(body[1:segmentHeader], crc32.Checksum(body[segmentHeader:], castagnoli))
}

// collect finds the distinct heads. It looks at the last few only: more than that in one batch are rare, and then a
// repeated head costs some bytes, not the linear search.
func (s *segmentEncoder) collect(records []event.Record) {
	s.heads, s.index = s.heads[:0], s.index[:0]
	for i := range records {
		e := &records[i].Event
		at := -1
		for j := len(s.heads) - 1; j >= max(0, len(s.heads)-8); j-- {
			if sameHead(s.heads[j], e) {
				at = j
				break
			}
		}
		if at < 0 {
			at = len(s.heads)
			s.heads = append(s.heads, e)
		}
		s.index = append(s.index, at)
	}
}

func sameHead(a, b *event.Event) bool {
	if a.Source != b.Source || a.Type != b.Type || a.DataContentType != b.DataContentType || a.DataSchema != b.DataSchema ||
		len(a.Extensions) != len(b.Extensions) {
		return false
	}
	for i := range a.Extensions {
		if a.Extensions[i].Name != b.Extensions[i].Name || a.Extensions[i].Kind != b.Extensions[i].Kind {
			return false
		}
	}
	return slices.Equal(a.Ran, b.Ran)
}

func appendHead(b []byte, e *event.Event) []byte {
	for _, s := range [...]string{e.Source, e.Type, e.DataContentType, e.DataSchema} {
		b = appendString(b, s)
	}
	b = binary.AppendUvarint(b, uint64(len(e.Extensions)))
	for _, x := range e.Extensions {
		b = append(appendString(b, x.Name), byte(x.Kind))
	}
	b = binary.AppendUvarint(b, uint64(len(e.Ran)))
	for _, name := range e.Ran {
		b = appendString(b, name)
	}
	return b
}

func appendEvent(b []byte, e *event.Event, base int64) []byte {
	for _, s := range [...]string{e.ID, e.Subject, e.Time} {
		b = appendString(b, s)
	}
	b = binary.AppendVarint(b, stamp(e.Received)-base)
	for _, x := range e.Extensions {
		b = appendString(b, x.Text)
	}
	if e.Data == nil {
		return append(b, 0)
	}
	return append(binary.AppendUvarint(b, uint64(len(e.Data))+1), e.Data...)
}

// noTime is how the zero time is written, which is too long ago for nanoseconds.
const noTime = math.MinInt64

func stamp(t time.Time) int64 {
	if t.IsZero() {
		return noTime
	}
	return t.UnixNano()
}

func unstamp(n int64) time.Time {
	if n == noTime {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// packer makes bodies of events that it is given one by one, so that none of them needs to be kept. It is reused to keep its
// buffers.
type packer struct {
	heads  []event.Event
	events []byte
	count  int
	base   int64 // received time of the first
	newest int64
	packed []event.Packed
}

// add adds an event to the body that is made, or begins another if it has no room.
func (p *packer) add(e *event.Event) {
	if p.count == maxSegmentEvents || p.count > 0 && len(p.events)+e.Size() > maxSegmentBytes {
		p.end()
	}
	at := stamp(e.Received)
	if p.count == 0 {
		p.base, p.newest = at, at
	}
	p.newest = max(p.newest, at)
	p.events = binary.AppendUvarint(p.events, uint64(p.head(e)))
	p.events = appendEvent(p.events, e, p.base)
	p.count++
}

// head is the index of an event's head, see segmentEncoder.collect.
func (p *packer) head(e *event.Event) int {
	for j := len(p.heads) - 1; j >= max(0, len(p.heads)-8); j-- {
		if sameHead(&p.heads[j], e) {
			return j
		}
	}
	p.heads = append(p.heads, *e)
	return len(p.heads) - 1
}

// end finishes a body.
func (p *packer) end() {
	if p.count == 0 {
		return
	}
	head := binary.AppendUvarint([]byte{segmentVersion, 0, 0, 0, 0}, uint64(len(p.heads)))
	for i := range p.heads {
		head = appendHead(head, &p.heads[i])
	}
	head = binary.AppendVarint(head, p.base)
	body := append(append(make([]byte, 0, len(head)+len(p.events)), head...), p.events...)
	sum(body)
	p.packed = append(p.packed, event.Packed{Count: p.count, Newest: unstamp(p.newest), Body: body})
	clear(p.heads) // else they keep the events in memory
	p.heads, p.events, p.count = p.heads[:0], p.events[:0], 0
}

// take returns what was made.
func (p *packer) take() []event.Packed {
	p.end()
	packed := p.packed
	p.packed = nil
	return packed
}

// decodeSegment returns the n events of a body, the first of which has offset first. The events share body's memory: it
// must not be changed afterwards.
func decodeSegment(body []byte, first event.Offset, n int) ([]event.Record, error) {
	if len(body) < segmentHeader || body[0] < 1 || body[0] > segmentVersion {
		return nil, fmt.Errorf("%w: unknown format", errDamaged)
	}
	if crc32.Checksum(body[segmentHeader:], castagnoli) != binary.BigEndian.Uint32(body[1:segmentHeader]) {
		return nil, fmt.Errorf("%w: checksum does not match", errDamaged)
	}
	if n < 0 || n > len(body) {
		return nil, fmt.Errorf("%w: impossible count", errDamaged)
	}
	s := openSegment(body, first, n)
	records := s.read(n, nil)
	if s.bad || s.at != len(body) {
		return nil, fmt.Errorf("%w: content does not fit its length", errDamaged)
	}
	return records, nil
}

// segmentReader reads the events of a body from front to back. The zero reader has none.
type segmentReader struct {
	decoder
	heads []event.Event
	base  int64
	next  event.Offset
	left  int
}

// openSegment begins to read a body of n events, of which it believes that it is whole.
func openSegment(body []byte, first event.Offset, n int) segmentReader {
	// Strings share the body too: nobody writes to it any more, and a copy of each segment would double what a read costs.
	d := decoder{bytes: body, text: unsafe.String(unsafe.SliceData(body), len(body)), at: segmentHeader}
	s := segmentReader{decoder: d, next: first, left: n}
	s.heads = make([]event.Event, s.count())
	for i := range s.heads {
		s.head(&s.heads[i])
	}
	s.base = s.varint()
	return s
}

// read returns the next n records, fewer at the end, in room if that is large enough.
func (s *segmentReader) read(n int, room []event.Record) []event.Record {
	n = min(n, s.left)
	records := slices.Grow(room[:0], n)[:n]
	for i := range records {
		s.one(&records[i])
	}
	return records
}

// one writes the next record to r.
func (s *segmentReader) one(r *event.Record) {
	r.Offset = s.next
	s.event(&r.Event, s.heads, s.base)
	s.next++
	s.left--
}

// pass goes on to an offset. Of what lies before it, only the lengths are read.
func (s *segmentReader) pass(to event.Offset) {
	for r := (event.Record{}); s.next < to && s.left > 0; {
		s.one(&r)
	}
}

// decoder reads a body from front to back. After the first impossible value it is bad and gives zero values.
type decoder struct {
	bytes []byte
	text  string // the same memory
	at    int
	bad   bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.bytes[d.at:])
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.at += n
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.bytes[d.at:])
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.at += n
	return v
}

// count is a number of things that each take at least one byte.
func (d *decoder) count() int {
	v := d.uvarint()
	if v > uint64(len(d.bytes)-d.at) {
		d.bad = true
		return 0
	}
	return int(v)
}

func (d *decoder) string() string {
	n := d.count()
	s := d.text[d.at : d.at+n]
	d.at += n
	return s
}

func (d *decoder) byte() byte {
	if d.at >= len(d.bytes) {
		d.bad = true
		return 0
	}
	d.at++
	return d.bytes[d.at-1]
}

func (d *decoder) head(e *event.Event) {
	e.Source, e.Type, e.DataContentType, e.DataSchema = d.string(), d.string(), d.string(), d.string()
	if n := d.count(); n > 0 {
		e.Extensions = make([]event.Extension, n)
	}
	for i := range e.Extensions {
		e.Extensions[i].Name = d.string()
		e.Extensions[i].Kind = event.Kind(d.byte())
	}
	if d.bytes[0] == 1 {
		return
	}
	if n := d.count(); n > 0 {
		e.Ran = make([]string, n)
	}
	for i := range e.Ran {
		e.Ran[i] = d.string()
	}
}

func (d *decoder) event(e *event.Event, heads []event.Event, base int64) {
	h := d.uvarint()
	if h >= uint64(len(heads)) {
		d.bad = true
		return
	}
	*e = heads[h]
	e.ID, e.Subject, e.Time = d.string(), d.string(), d.string()
	e.Received = unstamp(base + d.varint())
	if len(e.Extensions) > 0 {
		e.Extensions = append([]event.Extension(nil), e.Extensions...)
		for i := range e.Extensions {
			e.Extensions[i].Text = d.string()
		}
	}
	if n := d.uvarint(); n > 0 && n-1 <= uint64(len(d.bytes)-d.at) {
		end := d.at + int(n-1)
		e.Data = d.bytes[d.at:end:end]
		d.at = end
	} else {
		d.bad = d.bad || n > 0
	}
}
