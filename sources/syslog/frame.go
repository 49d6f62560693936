package syslog

import (
	"bytes"
	"errors"
)

// framer cuts a stream into messages: by the count of octets before each (RFC 6587, section 3.4.1, and RFC 5425), or by the newline
// behind each (section 3.4.2). The first bytes of a stream decide for all of it: a number, a space and the < of a priority begin a
// counted message. Which messages come out does not depend on how the stream was cut into reads.
//
// Use: read into space, say how much with filled, take messages with next until there is none; at the end of the stream, rest.
type framer struct {
	max    int // a longer message is cut
	buf    []byte
	start  int // of what was not taken yet
	looked int // bytes from start on that hold no newline
	skip   int // bytes of a cut message that are still to come, for counted ones
	over   int // bytes of a cut message that were left out so far, for others; -1 when none is being skipped
	mode   framing
}

type framing uint8

const (
	undecided framing = iota
	counted
	lines
)

// The faults of a stream. After one nothing more can be told from it.
var (
	errNotSyslog = errors.New("the stream does not begin with text")
	errCount     = errors.New("the count before a message is no number, or too large")
	errEndless   = errors.New("a message is 16 times as long as max_message, or has no end")
)

const (
	usualBuffer = 16 << 10
	maxDigits   = 9 // of a count
	maxTimes    = 16
)

func newFramer(limit int) *framer { return &framer{max: limit, over: -1} }

// space is where the next bytes may be read to. Messages that next returned are not valid afterwards.
func (f *framer) space() []byte {
	used := len(f.buf) - f.start
	switch {
	case used == 0 && cap(f.buf) != usualBuffer:
		f.buf = make([]byte, 0, usualBuffer) // what a long message needed is not kept
	case cap(f.buf)-used < usualBuffer/4:
		grown := make([]byte, used, 2*cap(f.buf))
		copy(grown, f.buf[f.start:])
		f.buf = grown
	default:
		f.buf = append(f.buf[:0], f.buf[f.start:]...)
	}
	f.start = 0
	return f.buf[len(f.buf):cap(f.buf)]
}

// filled says that n bytes were read.
func (f *framer) filled(n int) { f.buf = f.buf[:len(f.buf)+n] }

// message is one message of a stream; cut says that it was longer.
type message struct {
	text []byte
	cut  bool
}

// next returns the next message that is complete; ok is false when more must be read for it. Empty ones are left out.
func (f *framer) next() (m message, ok bool, err error) {
	if f.mode == undecided {
		if f.mode, err = f.decide(); err != nil || f.mode == undecided {
			return m, false, err
		}
	}
	for {
		if f.mode == counted {
			m, ok, err = f.nextCounted()
		} else {
			m, ok, err = f.nextLine()
		}
		if !ok || err != nil || len(m.text) > 0 {
			return m, ok, err
		}
	}
}

// decide looks at the first bytes that are no line ends.
func (f *framer) decide() (framing, error) {
	f.skipEnds()
	b := f.buf[f.start:]
	if len(b) == 0 {
		return undecided, nil
	}
	if b[0] < ' ' && b[0] != '\t' || b[0] >= 0x7F {
		return undecided, errNotSyslog
	}
	n := countDigits(b)
	switch {
	case n == 0 || b[0] == '0':
		return lines, nil
	case n > maxDigits:
		return undecided, errCount
	case n == len(b), n+1 == len(b) && b[n] == ' ':
		return undecided, nil
	case b[n] == ' ' && b[n+1] == '<':
		return counted, nil
	}
	return lines, nil
}

func (f *framer) skipEnds() {
	for f.start < len(f.buf) && (f.buf[f.start] == '\n' || f.buf[f.start] == '\r') {
		f.start++
	}
}

// countDigits is how many digits b begins with, one more than a count may have at most.
func countDigits(b []byte) int {
	n := 0
	for n < len(b) && n <= maxDigits && b[n] >= '0' && b[n] <= '9' {
		n++
	}
	return n
}

// nextCounted takes a number, a space, and as many bytes. Line ends between messages, which some senders add, are left out.
func (f *framer) nextCounted() (message, bool, error) {
	if f.skip > 0 {
		n := min(f.skip, len(f.buf)-f.start)
		f.start, f.skip = f.start+n, f.skip-n
		if f.skip > 0 {
			return message{}, false, nil
		}
	}
	f.skipEnds()
	b := f.buf[f.start:]
	n := countDigits(b)
	if n > maxDigits || len(b) > 0 && (n == 0 || b[0] == '0') || n < len(b) && b[n] != ' ' {
		return message{}, false, errCount
	}
	if n >= len(b) {
		return message{}, false, nil
	}
	size := 0
	for _, digit := range b[:n] {
		size = 10*size + int(digit-'0')
	}
	if size > maxTimes*f.max {
		return message{}, false, errEndless
	}
	want := min(size, f.max)
	if b = b[n+1:]; len(b) < want {
		return message{}, false, nil
	}
	f.start, f.skip = f.start+n+1+want, size-want
	return message{trimEnd(b[:want]), size > want}, true, nil
}

// nextLine takes what comes before a newline.
func (f *framer) nextLine() (message, bool, error) {
	b := f.buf[f.start:]
	end := bytes.IndexByte(b[f.looked:], '\n')
	if end >= 0 {
		end += f.looked
	}
	if f.over >= 0 {
		return f.skipLine(b, end)
	}
	switch {
	case end >= 0 && end <= f.max:
		f.start, f.looked = f.start+end+1, 0
		return message{trimEnd(b[:end]), false}, true, nil
	case len(b) > f.max: // what follows is left out up to its newline
		f.start, f.looked, f.over = f.start+f.max, 0, 0
		return message{b[:f.max], true}, true, nil
	}
	f.looked = len(b)
	return message{}, false, nil
}

// skipLine leaves out the rest of a line that was cut.
func (f *framer) skipLine(b []byte, end int) (message, bool, error) {
	n := end
	if end < 0 {
		n = len(b)
	}
	f.over += n
	f.start, f.looked = f.start+n, 0
	if f.over > (maxTimes-1)*f.max {
		return message{}, false, errEndless
	}
	if end < 0 {
		return message{}, false, nil
	}
	f.start, f.over = f.start+1, -1
	return message{}, true, nil
}

// trimEnd takes away the ends that senders put into a message: newlines and NUL.
func trimEnd(b []byte) []byte {
	for n := len(b); n > 0; n-- {
		if c := b[n-1]; c != '\n' && c != '\r' && c != 0 {
			return b[:n]
		}
	}
	return nil
}

// begun says whether there is a part of a message.
func (f *framer) begun() bool { return f.start < len(f.buf) || f.skip > 0 || f.over >= 0 }

// rest is what is left when the stream has ended. A line needs no newline then; whole is false where a counted message is not complete.
func (f *framer) rest() (m message, whole bool) {
	if f.mode == counted {
		f.skipEnds()
		return m, f.start == len(f.buf) && f.skip == 0
	}
	if f.over >= 0 {
		return m, true // its beginning was taken
	}
	b := f.buf[f.start:]
	return message{trimEnd(b[:min(len(b), f.max)]), len(b) > f.max}, true // longer only where max is less than a count and its space
}
