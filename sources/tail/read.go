package tail

import (
	"bytes"
	"time"
)

// read takes what it can of one file, at most a chunk, and says whether it got on. A file that has more is queued again.
func (e *engine) read(f *file, b *batch, now time.Time) bool {
	if f.buf != nil {
		return e.take(f, b)
	}
	if err := e.reach(f); err != nil {
		e.unreadable(f, now, err)
		return false
	}
	i, err := f.handle.stat()
	if err != nil {
		e.unreadable(f, now, err)
		return false
	}
	if err = e.compare(f, i); err == nil {
		err = e.refill(f, i, b, now)
	}
	switch {
	case err == errReplaced: //nolint:errorlint // it is never wrapped
		e.replaced(f, i, now)
		return true
	case err != nil:
		e.unreadable(f, now, err)
		return false
	}
	return true
}

// refill reads the next bytes of a file and takes the records in them.
func (e *engine) refill(f *file, i info, b *batch, now time.Time) error {
	e.begun(f, now)
	f.changed = time.Time{}
	if i.settled {
		f.changed = i.changed
	}
	f.yields = i.size < f.Size
	if i.size != f.Size {
		f.grew, f.Size, f.over, f.end = now, i.size, false, false
	}
	found, err := e.probe(f, i.size, b)
	if err != nil {
		return err
	}
	if !found {
		// Nothing new ends a line. What was read before is compared all the same.
		if _, _, err := e.fetch(f, i.size, 0); err != nil {
			return err
		}
		f.scanned, f.sure = i.size, true
		return nil
	}
	data, room, err := e.fetch(f, i.size, max(e.chunk, f.want))
	if err != nil {
		return err
	}
	f.sure = true
	back := int(min(f.Offset, tailSize))
	b.bytes += int64(len(data) - back)
	c := &chunk{engine: e, file: f, batch: b, all: data, room: room, at: back, now: now}
	c.last = f.Offset+int64(len(data)-back) >= i.size
	c.take()
	return nil
}

// probe looks for the end of the line that was incomplete at the last read, in what was added since. Reading a long line again
// each time something is added to it would take a time that grows with the square of its length.
func (e *engine) probe(f *file, size int64, b *batch) (found bool, err error) {
	if f.scanned <= f.Offset || f.end || f.Over != overNone || e.start != nil {
		return true, nil
	}
	if size-f.Offset > int64(e.max) {
		return true, nil // it is too long anyway
	}
	if e.scratch == nil {
		e.scratch = make([]byte, 64<<10)
	}
	for at := f.scanned &^ 1; at < size; {
		n, err := readUpTo(f.handle, e.scratch[:min(int64(len(e.scratch)), size-at)], at)
		if err != nil {
			return false, err
		}
		if n == 0 {
			break
		}
		if bytes.IndexByte(e.scratch[:n], '\n') >= 0 {
			return true, nil
		}
		b.bytes += int64(n)
		at += int64(n)
	}
	return false, nil
}

// take goes on with what was read for the batch before.
func (e *engine) take(f *file, b *batch) bool {
	data, room := f.buf, f.room
	f.buf, f.room = nil, nil
	c := &chunk{engine: e, file: f, batch: b, all: data, room: room, at: int(min(f.Offset, tailSize)), now: f.grew}
	c.last = f.Offset+int64(len(data)-c.at) >= f.Size
	c.take()
	return true
}

// chunk is bytes of a file: those behind its position, and before them those that the position is known by.
type chunk struct {
	*engine
	file  *file
	batch *batch
	all   []byte
	room  []byte // that all is a part of
	at    int    // of the position
	last  bool   // the file ends behind it
	now   time.Time
	base  int64 // where in the file all begins
	piece bool  // all is a piece of the batch
}

// take makes records of a chunk, as far as the batch has room, and moves the position behind them.
func (c *chunk) take() {
	f, from := c.file, c.at
	c.base = f.Offset - int64(from)
	if c.batch.hint = c.hint; c.last {
		c.batch.hint = min(c.hint, (len(c.all)-c.at)/32+1)
	}
	order := c.orderOf(f)
	c.skipMark(order)
	done := c.records(order)
	if f.end && c.last && done {
		done = c.rest(order)
	}
	if n := c.at - from; n > 0 {
		f.advance(c.all[:c.at], n)
		f.want = 0
		c.batch.touch(f)
	}
	left := len(c.all) - c.at
	if !done {
		f.buf, f.room = c.all[max(0, c.at-tailSize):], c.room
		f.queued = true
		c.ready = append([]*file{f}, c.ready...) // it goes on first, so that one file at most holds bytes
		return
	}
	f.scanned = f.Offset + int64(left)
	if !c.last {
		if c.at == from {
			f.want = min(2*max(c.chunk, f.want), 2*c.max+c.chunk+2*order.width())
		}
		c.queue(f)
		return
	}
	c.finish(order)
}

// finish is the end of what a file holds at present.
func (c *chunk) finish(order byteOrder) {
	f := c.file
	if c.start != nil && !f.end {
		f.held = order.lastEnd(c.all[c.at:]) >= 0 && f.Over == overNone
		return
	}
	if !f.end {
		return
	}
	f.end, f.over, f.held = false, true, false
	if !f.in {
		c.close(f) // the next looks find out whether it is still there
	}
}

// skipMark leaves out a byte order mark at the beginning of a file.
func (c *chunk) skipMark(order byteOrder) {
	if mark := order.mark(); c.file.Offset == 0 && bytes.HasPrefix(c.all[c.at:], mark) {
		c.at += len(mark)
	}
}

// toEnd begins a file at its end: behind its last whole line, so that a line that is being written is not cut.
func (e *engine) toEnd(f *file, now time.Time) {
	err := e.reach(f)
	var i info
	if err == nil {
		i, err = f.handle.stat()
	}
	if err == nil {
		err = e.compare(f, i)
	}
	order := e.orderOf(f)
	from := max(0, i.size-int64(e.max)) &^ 1
	b := make([]byte, i.size-from)
	n := 0
	if err == nil {
		n, err = readUpTo(f.handle, b, from)
	}
	if err != nil {
		e.problem(now, "a file cannot be read, it will be read from its beginning", f.Path, err)
		return
	}
	e.begun(f, now)
	end := order.whole(n)
	if last := order.lastEnd(b[:n]); last >= 0 {
		end = last + order.width()
	} else if from > 0 {
		f.Over = overLine
	} else {
		end = 0
	}
	f.Offset = from
	f.advance(b[:end], end)
	e.changes[f.text] = f.mark.encode()
}
