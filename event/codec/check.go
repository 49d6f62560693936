package codec

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"unicode/utf8"
)

// SyntaxError says where bytes stop being one JSON value.
type SyntaxError struct {
	Offset  int    // of the first byte that does not fit, from 0
	Problem string // what is wrong with it
}

// Error names the offset and the problem.
func (e *SyntaxError) Error() string { return fmt.Sprintf("byte %d: %s", e.Offset, e.Problem) }

// CheckJSON says whether data is exactly one JSON value of RFC 8259 in UTF-8, with white space around it at most. maxDepth is
// how many arrays and objects may be open at once; 0 or less sets no bound. Its error is a *SyntaxError. It does not
// recurse, so that no input can exhaust the stack, and allocates only beyond 64 levels.
func CheckJSON(data []byte, maxDepth int) error {
	c := checker{data: data, maxDepth: maxDepth}
	if c.begin() && c.whole() && c.end() {
		return nil
	}
	return c.err()
}

// checker walks over data. Its methods return false when they have set a problem, with pos at the offending byte.
type checker struct {
	data     []byte
	pos      int
	maxDepth int
	problem  string

	// The closing bracket of each open array and object: the first levels in place, so that they cost no allocation.
	depth int
	near  [64]byte
	deep  []byte
}

func (c *checker) push(closing byte) {
	if c.depth < len(c.near) {
		c.near[c.depth] = closing
	} else {
		c.deep = append(c.deep[:c.depth-len(c.near)], closing)
	}
	c.depth++
}

// closing is the bracket that the innermost open array or object needs. depth must not be 0.
func (c *checker) closing() byte {
	if c.depth <= len(c.near) {
		return c.near[c.depth-1]
	}
	return c.deep[c.depth-1-len(c.near)]
}

func (c *checker) fail(problem string) bool {
	c.problem = problem
	return false
}

func (c *checker) err() error {
	return &SyntaxError{Offset: min(c.pos, len(c.data)), Problem: c.problem}
}

// here returns the byte at pos; 0 at the end, which no JSON text has outside of strings.
func (c *checker) here() byte {
	if c.pos < len(c.data) {
		return c.data[c.pos]
	}
	return 0
}

// peek skips white space and returns the next byte, as here does. Mostly there is none to skip, so what runs for every token looks
// here first: that much the compiler makes part of the caller.
func (c *checker) peek() byte {
	c.pos = skipSpace(c.data, c.pos)
	return c.here()
}

// begin says whether there is text at all.
func (c *checker) begin() bool {
	switch c.peek() {
	case 0:
		if c.pos == len(c.data) {
			return c.fail("there is no JSON value")
		}
	case 0xEF:
		return c.fail("a byte order mark is not part of JSON")
	}
	return true
}

// end says whether nothing is left but white space.
func (c *checker) end() bool {
	if c.peek(); c.pos < len(c.data) {
		return c.fail("something follows the JSON value")
	}
	return true
}

// whole takes one value with everything in it. No array or object may be open before.
func (c *checker) whole() bool {
	for {
		opened, ok := c.value()
		if !ok {
			return false
		}
		if opened {
			continue
		}
		if more, ok := c.after(); !ok || !more {
			return ok
		}
	}
}

// value takes a scalar, an empty array or object, or the start of one that has members (opened): then a value follows.
func (c *checker) value() (opened, ok bool) {
	b := c.here()
	if b <= ' ' {
		b = c.peek()
	}
	switch b {
	case '"':
		return false, c.str()
	case '{':
		return c.enter('}')
	case '[':
		return c.enter(']')
	case 't':
		return false, c.literal("true")
	case 'f':
		return false, c.literal("false")
	case 'n':
		return false, c.literal("null")
	default:
		if b == '-' || isDigit(b) {
			return false, c.number()
		}
		return false, c.unexpected("a value")
	}
}

func (c *checker) enter(closing byte) (opened, ok bool) {
	if c.maxDepth > 0 && c.depth >= c.maxDepth {
		return false, c.fail(fmt.Sprintf("nested more than %d deep", c.maxDepth))
	}
	c.pos++
	if c.peek() == closing {
		c.pos++
		return false, true
	}
	c.push(closing)
	return true, closing == ']' || c.key()
}

// after takes what follows a value inside of others: closing brackets, then a comma (more: a value follows) unless all are closed.
func (c *checker) after() (more, ok bool) {
	for c.depth > 0 {
		closing, b := c.closing(), c.here()
		if b <= ' ' {
			b = c.peek()
		}
		switch b {
		case closing:
			c.pos++
			c.depth--
		case ',':
			c.pos++
			return true, closing == ']' || c.key()
		default:
			return false, c.unexpected(`"," or "` + string(closing) + `"`)
		}
	}
	return false, true
}

// first takes an opening bracket whose nesting does not count, and says whether a member follows.
func (c *checker) first(closing byte) bool {
	c.pos++
	if c.peek() != closing {
		return true
	}
	c.pos++
	return false
}

// next takes what follows a member behind first: a comma, and says that another member follows, or the closing bracket.
func (c *checker) next(closing byte) bool {
	switch c.peek() {
	case ',':
		c.pos++
		return true
	case closing:
		c.pos++
		return false
	}
	return c.unexpected(`"," or "` + string(closing) + `"`)
}

// key takes a member's name and the colon.
func (c *checker) key() bool {
	if c.here() != '"' && c.peek() != '"' {
		return c.unexpected("a member's name in double quotes")
	}
	if !c.str() {
		return false
	}
	if c.here() != ':' && c.peek() != ':' {
		return c.unexpected(`":"`)
	}
	c.pos++
	return true
}

func (c *checker) str() bool {
	for c.pos++; ; {
		c.pos = skipPlain(c.data, c.pos)
		if c.pos >= len(c.data) {
			return c.fail("the text ends inside a string")
		}
		switch b := c.data[c.pos]; {
		case b == '"':
			c.pos++
			return true
		case b == '\\':
			if !c.escape() {
				return false
			}
		case b < ' ':
			return c.fail("a control character in a string must be escaped")
		default:
			r, n := utf8.DecodeRune(c.data[c.pos:])
			if r == utf8.RuneError && n == 1 {
				return c.fail("invalid UTF-8")
			}
			c.pos += n
		}
	}
}

func (c *checker) escape() bool {
	if c.pos+1 >= len(c.data) {
		return c.fail("the text ends inside a string")
	}
	switch c.data[c.pos+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		c.pos += 2
		return true
	case 'u':
		if _, ok := hex4(c.data, c.pos+2); !ok {
			return c.fail(`\u needs four hexadecimal digits`)
		}
		c.pos += 6
		return true
	}
	return c.fail("unknown escape in a string")
}

func (c *checker) literal(word string) bool {
	if len(c.data)-c.pos < len(word) || string(c.data[c.pos:c.pos+len(word)]) != word {
		return c.unexpected("a value")
	}
	c.pos += len(word)
	return true
}

// number takes an optional minus, an integer without leading zeros, a fraction and an exponent.
func (c *checker) number() bool {
	if c.data[c.pos] == '-' {
		c.pos++
	}
	first := c.pos
	if !c.digits() {
		return false
	}
	if c.data[first] == '0' && c.pos > first+1 {
		c.pos = first
		return c.fail("a number has no leading zeros")
	}
	if c.at('.') {
		c.pos++
		if !c.digits() {
			return false
		}
	}
	if c.at('e') || c.at('E') {
		c.pos++
		if c.at('+') || c.at('-') {
			c.pos++
		}
		return c.digits()
	}
	return true
}

// digits takes one digit or more.
func (c *checker) digits() bool {
	first := c.pos
	for c.pos < len(c.data) && isDigit(c.data[c.pos]) {
		c.pos++
	}
	if c.pos == first {
		return c.unexpected("a digit")
	}
	return true
}

func (c *checker) at(b byte) bool { return c.pos < len(c.data) && c.data[c.pos] == b }

func (c *checker) unexpected(want string) bool {
	if c.pos >= len(c.data) {
		return c.fail("the text ends where " + want + " belongs")
	}
	return c.fail(fmt.Sprintf("%q where %s belongs", rune(c.data[c.pos]), want))
}

func isDigit(b byte) bool { return b-'0' <= 9 }

func skipSpace(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\n' || data[i] == '\r' || data[i] == '\t') {
		i++
	}
	return i
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// skipPlain returns the index of the next byte that means something inside a string: a quote, a backslash, a control
// character or the start of a character beyond ASCII. It looks at eight bytes at once, because strings are most of a text.
func skipPlain(data []byte, i int) int {
	for ; i+8 <= len(data); i += 8 {
		w := binary.LittleEndian.Uint64(data[i:])
		quote, backslash := w^(ones*'"'), w^(ones*'\\')
		// In each of these the high bit of a byte is set if it is what we look for; bits above the first hit may be wrong.
		hit := (w - ones*' ') | (quote - ones) | (backslash - ones) | w
		if hit &= highs; hit != 0 {
			return i + bits.TrailingZeros64(hit)/8
		}
	}
	for i < len(data) {
		if b := data[i]; b == '"' || b == '\\' || b < ' ' || b >= utf8.RuneSelf {
			break
		}
		i++
	}
	return i
}

// hex4 reads four hexadecimal digits at i.
func hex4(data []byte, i int) (rune, bool) {
	if i+4 > len(data) {
		return 0, false
	}
	var r rune
	for _, b := range data[i : i+4] {
		d, ok := hexDigit(b)
		if !ok {
			return 0, false
		}
		r = r<<4 | rune(d)
	}
	return r, true
}

func hexDigit(b byte) (byte, bool) {
	switch {
	case isDigit(b):
		return b - '0', true
	case b|0x20 >= 'a' && b|0x20 <= 'f':
		return b | 0x20 - 'a' + 10, true
	}
	return 0, false
}
