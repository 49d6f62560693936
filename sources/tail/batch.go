package tail

import (
	"bytes"
	"unsafe"

	"github.com/millrace-run/millrace/event"
)

// batch gathers events.
type batch struct {
	limits
	hint   int // how many events there may be
	events []event.Event
	ids    []byte
	size   int   // of the data
	bytes  int64 // read for it
	files  []*file
	closed bool // a record did not fit
}

// lineType is the type of all events of this source.
const lineType = "millrace.line"

func (b *batch) full() bool {
	return b.closed || len(b.events) >= b.limits.events || b.size >= b.limits.bytes || b.bytes >= b.turn
}

// fits says whether there is room for n more bytes; a batch that is empty takes any record.
func (b *batch) fits(n int) bool {
	return len(b.events) == 0 || len(b.events) < b.limits.events && b.size+n <= b.limits.bytes
}

// add makes an event of a record that begins at an offset.
func (b *batch) add(f *file, offset int64, data []byte) {
	if b.events == nil && b.hint > 0 {
		b.events, b.ids = make([]event.Event, 0, b.hint), make([]byte, 0, b.hint*idSize)
	}
	b.ids = f.appendID(b.ids, offset)
	b.events = append(b.events, event.Event{Source: f.source, Type: lineType, DataContentType: "text/plain", Data: data})
	b.size += len(data)
}

// touch notes that the position of a file moved.
func (b *batch) touch(f *file) {
	if !f.touched {
		f.touched = true
		b.files = append(b.files, f)
	}
}

// named gives the events their ids, which share one piece of memory as their lines share what was read. Where most of that was left out,
// as lines that are too long are, the others are copied: the log counts their own bytes only.
func (b *batch) named() []event.Event {
	if len(b.events) == 0 {
		return nil
	}
	all := unsafe.String(&b.ids[0], len(b.ids)) // ids is not written to any more
	few := int64(2*(b.size+len(b.ids))) < b.bytes
	for i := range b.events {
		b.events[i].ID = all[i*idSize : (i+1)*idSize]
		if few {
			b.events[i].Data = bytes.Clone(b.events[i].Data)
		}
	}
	return b.events
}
