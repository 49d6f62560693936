package tail

import (
	"bytes"

	"github.com/millrace-run/millrace/event"
)

// batch gathers records. They are places in the bytes that were read until somebody makes events of them: of a log of which one
// line in a hundred matters, the others never become one.
type batch struct {
	limits
	hint   int // how many records there may be
	spans  []span
	pieces []piece
	size   int   // of the data
	bytes  int64 // read for it
	files  []*file
	closed bool // a record did not fit
}

// piece is bytes of a file that records lie in. It does not change before it is recycled.
type piece struct {
	identity        // of the file
	source   string // of its events
	text     []byte
	room     []byte // that text is a part of, if it is what was read
	base     int64  // where in the file the text begins; of a text that was decoded, where its record does
}

// span is a record: a part of a piece. It holds no pointers, so that the garbage collector need not look at it.
type span struct{ piece, from, to uint32 }

// lineType is the type of all events of this source.
const lineType = "millrace.line"

func (b *batch) full() bool {
	return b.closed || len(b.spans) >= b.limits.events || b.size >= b.limits.bytes || b.bytes >= b.turn
}

// fits says whether there is room for n more bytes; a batch that is empty takes any record.
func (b *batch) fits(n int) bool {
	return len(b.spans) == 0 || len(b.spans) < b.limits.events && b.size+n <= b.limits.bytes
}

// begin adds a piece, in which the records lie that are added next.
func (b *batch) begin(f *file, text, room []byte, base int64) {
	b.pieces = append(b.pieces, piece{identity: f.identity, source: f.source, text: text, room: room, base: base})
}

// add adds a record of the last piece.
func (b *batch) add(from, to int) {
	if b.spans == nil && b.hint > 0 {
		b.spans = make([]span, 0, b.hint)
	}
	b.spans = append(b.spans, span{uint32(len(b.pieces) - 1), uint32(from), uint32(to)})
	b.size += to - from
}

// touch notes that the position of a file moved.
func (b *batch) touch(f *file) {
	if !f.touched {
		f.touched = true
		b.files = append(b.files, f)
	}
}

// records is what a batch came to. Its methods may be called concurrently.
type records struct {
	spans  []span
	pieces []piece
	few    bool // most of what was read was left out, as lines that are too long are
}

func (b *batch) records() *records {
	return &records{b.spans, b.pieces, int64(2*b.size) < b.bytes}
}

// make writes event i, without its id. Lines share what was read, but few of them are copied: the log counts their own bytes only.
func (r *records) make(i int, e *event.Event) {
	s := r.spans[i]
	p := &r.pieces[s.piece]
	*e = event.Event{Source: p.source, Type: lineType, DataContentType: "text/plain", Data: p.text[s.from:s.to:s.to]}
	if r.few {
		e.Data = bytes.Clone(e.Data)
	}
}

// complete writes the id of event i.
func (r *records) complete(i int, e *event.Event) {
	s := r.spans[i]
	p := &r.pieces[s.piece]
	var room [idSize]byte
	e.ID = string(p.appendID(room[:0], p.base+int64(s.from)))
}
