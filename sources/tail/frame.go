package tail

import (
	"bytes"

	"golang.org/x/text/encoding/unicode"
)

// byteOrder is how the characters of a file are written.
type byteOrder uint8

const (
	narrow byteOrder = iota // a newline is one byte
	little                  // UTF-16
	big
)

func (s *settings) orderOf(f *file) byteOrder {
	switch s.encoding {
	case utf16LE:
		return little
	case utf16BE:
		return big
	case utf16Encoding:
		if f.mark16 == [2]byte{0xFE, 0xFF} {
			return big
		}
		return little
	}
	return narrow
}

// width is how many bytes a newline has.
func (o byteOrder) width() int {
	if o == narrow {
		return 1
	}
	return 2
}

// mark is the byte order mark of a file.
func (o byteOrder) mark() []byte {
	switch o {
	case little:
		return []byte{0xFF, 0xFE}
	case big:
		return []byte{0xFE, 0xFF}
	}
	return []byte{0xEF, 0xBB, 0xBF}
}

// find is where the next newline begins, -1 if there is none. b begins at a character.
func (o byteOrder) find(b []byte) int {
	if o == narrow {
		return bytes.IndexByte(b, '\n')
	}
	for at := 0; ; {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return -1
		}
		i += at
		if o == big && i%2 == 1 && b[i-1] == 0 {
			return i - 1
		}
		if o == little && i%2 == 0 && i+1 < len(b) && b[i+1] == 0 {
			return i
		}
		at = i + 1
	}
}

// lastEnd is where the last newline begins, -1 if there is none.
func (o byteOrder) lastEnd(b []byte) int {
	if o == narrow {
		return bytes.LastIndexByte(b, '\n')
	}
	last := -1
	for at := 0; ; {
		i := o.find(b[at:])
		if i < 0 {
			return last
		}
		last = at + i
		at = last + 2
	}
}

// text is b in UTF-8, or b itself if it is not UTF-16.
func (o byteOrder) text(b []byte) []byte {
	endian := unicode.LittleEndian
	switch o {
	case narrow:
		return b
	case big:
		endian = unicode.BigEndian
	}
	out, err := unicode.UTF16(endian, unicode.IgnoreBOM).NewDecoder().Bytes(b)
	if err != nil {
		return b // the decoder replaces what it cannot read, and has no error
	}
	return out
}

// whole is how many of n bytes are whole characters.
func (o byteOrder) whole(n int) int { return n - n%o.width() }

// records takes all whole records of a chunk. It returns false when the batch has no room for the next one.
func (c *chunk) records(order byteOrder) bool {
	if c.file.Over != overNone && !c.skip(order) {
		return true
	}
	if c.start != nil {
		return c.groups(order)
	}
	return c.lines(order)
}

func (c *chunk) lines(order byteOrder) bool {
	for width := order.width(); ; {
		rest := c.all[c.at:]
		n := order.find(rest)
		if n < 0 {
			return len(rest) <= c.max || c.endless(order, c.at)
		}
		if !c.emit(order, c.at, rest[:n:n]) {
			return false
		}
		c.at += n + width
	}
}

// emit makes an event of the bytes from an index on. One that is too long is counted, and cut or left out.
func (c *chunk) emit(order byteOrder, from int, data []byte) bool {
	long := len(data) > c.max
	if long {
		data = data[:order.whole(c.max):order.whole(c.max)]
	}
	if !long || c.truncate {
		if !c.batch.fits(len(data)) {
			c.batch.closed = true
			return false
		}
		c.add(order, from, data)
	}
	if long {
		c.tell.over.Add(1)
		c.problem(c.now, "a line is longer than max_line.size", c.file.Path, errTooLong)
	}
	return true
}

// add adds the bytes from an index on. What is not UTF-16 stays where it is.
func (c *chunk) add(order byteOrder, from int, data []byte) {
	if order == narrow {
		if !c.piece {
			c.piece = true
			c.batch.begin(c.file, c.all, c.room, c.base)
		}
		c.batch.add(from, from+len(data))
		return
	}
	text := order.text(data)
	c.batch.begin(c.file, text, nil, c.base+int64(from))
	c.batch.add(0, len(text))
}

// endless takes a record of which more than max is there, and not its end. What follows up to the end is passed over.
func (c *chunk) endless(order byteOrder, from int) bool {
	if !c.emit(order, from, c.all[from:]) {
		return false
	}
	c.at += order.whole(len(c.all) - c.at)
	c.file.Over = overLine
	return true
}

// skip passes over the rest of a record that is too long. It returns false when its end is not in the chunk.
func (c *chunk) skip(order byteOrder) bool {
	f := c.file
	for {
		rest := c.all[c.at:]
		n := order.find(rest)
		switch {
		case n < 0 && f.Over == overRest && len(rest) > c.max && c.start.Match(order.text(rest)):
			f.Over = overNone
			return true
		case n < 0 && (f.Over == overLine || len(rest) > c.max):
			c.at += order.whole(len(rest))
			f.Over = overLine
			return false
		case n < 0:
			return false
		case f.Over == overRest && c.start.Match(order.text(rest[:n])):
			f.Over = overNone
			return true
		}
		c.at += n + order.width()
		f.Over = overRest
		if c.start == nil {
			f.Over = overNone
			return true
		}
	}
}

// groups takes records of several lines. The last record of a file ends when a line begins the next one, when it has waited for
// long enough, or when the file is finished.
func (c *chunk) groups(order byteOrder) bool {
	width := order.width()
	for p := c.at; ; {
		n := order.find(c.all[p:])
		if n < 0 {
			return c.open(order, p)
		}
		if p > c.at && c.start.Match(order.text(c.all[p:p+n])) {
			if !c.emit(order, c.at, c.all[c.at:p-width:p-width]) {
				return false
			}
			c.at = p
		}
		p += n + width
		if p-width-c.at > c.max {
			if !c.emit(order, c.at, c.all[c.at:p-width]) {
				return false
			}
			c.at, c.file.Over = p, overRest
			if !c.skip(order) {
				return true
			}
			p = c.at
		}
	}
}

// open deals with the last record of a chunk, of which whole lines end at p. Whether the unfinished line behind them belongs to
// it is not known before that line ends, or is too long by itself.
func (c *chunk) open(order byteOrder, p int) bool {
	f, width := c.file, order.width()
	if len(c.all)-p > c.max {
		if p > c.at && c.start.Match(order.text(c.all[p:])) {
			if !c.emit(order, c.at, c.all[c.at:p-width:p-width]) {
				return false
			}
			c.at = p
		}
		return c.endless(order, c.at)
	}
	if c.last && !f.end && p > c.at && c.now.Sub(f.grew) >= c.timeout {
		if !c.emit(order, c.at, c.all[c.at:p-width:p-width]) {
			return false
		}
		c.at = p
	}
	return true
}

// rest takes what is left of a file that is finished: a record, though nothing ends it.
func (c *chunk) rest(order byteOrder) bool {
	if c.file.Over != overNone {
		c.at, c.file.Over = len(c.all), overNone
	}
	if last := order.lastEnd(c.all[c.at:]); last >= 0 { // only where lines make groups
		p := c.at + last + order.width()
		if p == len(c.all) || c.start.Match(order.text(c.all[p:])) {
			if !c.emit(order, c.at, c.all[c.at:c.at+last:c.at+last]) {
				return false
			}
			c.at = p
		}
	}
	if c.at == len(c.all) {
		return true
	}
	if !c.emit(order, c.at, c.all[c.at:len(c.all):len(c.all)]) {
		return false
	}
	c.at = len(c.all)
	return true
}
