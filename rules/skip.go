package rules

import (
	"encoding/binary"
	"math/bits"
)

// The functions here step over a part of JSON text that begins at b[i] and check it. They return the place behind it, or the place
// of the fault and false. They keep to local variables, for most of the time of an expression on data goes by in them.

// skip steps over one value. A fault at a place below zero is one of depth: the place is ^i.
func skip(b []byte, i, depth int) (int, bool) {
	if i >= len(b) {
		return i, false
	}
	switch c := b[i]; {
	case c == '"':
		i, _, ok := skipText(b, i)
		return i, ok
	case c == '{' || c == '[':
		if depth >= maxDepth {
			return ^i, false
		}
		return skipInside(b, i, depth+1)
	case c == 't':
		return skipWord(b, i, "true")
	case c == 'f':
		return skipWord(b, i, "false")
	case c == 'n':
		return skipWord(b, i, "null")
	}
	return skipNumber(b, i)
}

// skipInside steps over an object or array.
func skipInside(b []byte, i, depth int) (int, bool) {
	named := b[i] == '{'
	closing := b[i] + 2 // in ASCII a bracket closes two places behind where it opens
	if i = afterSpace(b, i+1); i < len(b) && b[i] == closing {
		return i + 1, true
	}
	for {
		ok := true
		if named {
			if i, ok = skipName(b, i); !ok {
				return i, false
			}
		}
		if i, ok = skip(b, i, depth); !ok {
			return i, false
		}
		if i = afterSpace(b, i); i >= len(b) {
			return i, false
		}
		switch b[i] {
		case ',':
			i = afterSpace(b, i+1)
		case closing:
			return i + 1, true
		default:
			return i, false
		}
	}
}

// skipName steps over the name of a member, the colon, and the space around it.
func skipName(b []byte, i int) (int, bool) {
	if i >= len(b) || b[i] != '"' {
		return i, false
	}
	i, _, ok := skipText(b, i)
	if !ok {
		return i, false
	}
	if i = afterSpace(b, i); i >= len(b) || b[i] != ':' {
		return i, false
	}
	return afterSpace(b, i+1), true
}

// afterSpace is the place of the next byte that is no white space.
func afterSpace(b []byte, i int) int {
	for i < len(b) && b[i] <= ' ' && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

func skipWord(b []byte, i int, word string) (int, bool) {
	if len(b)-i < len(word) || string(b[i:i+len(word)]) != word {
		return i, false
	}
	return i + len(word), true
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// skipText steps over a string with its quotes and says whether it holds an escape. It looks at eight bytes at a time: in each
// word the lowest byte whose high bit is set in stop is the next quote, backslash or control character; borrows can only set bits
// above it.
func skipText(b []byte, i int) (end int, escaped, ok bool) {
	i++
	for {
		if i+8 <= len(b) {
			x := binary.LittleEndian.Uint64(b[i:])
			quote, slash := x^(ones*'"'), x^(ones*'\\')
			stop := (((quote - ones) &^ quote) | ((slash - ones) &^ slash) | ((x - ones*0x20) &^ x)) & highs
			if stop == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(stop) / 8
		} else {
			for i < len(b) && b[i] != '"' && b[i] != '\\' && b[i] >= 0x20 {
				i++
			}
			if i >= len(b) {
				return i, escaped, false
			}
		}
		switch b[i] {
		case '"':
			return i + 1, escaped, true
		case '\\':
			escaped = true
			if i, ok = skipEscape(b, i); !ok {
				return i, escaped, false
			}
		default: // a control character
			return i, escaped, false
		}
	}
}

// skipEscape steps over a backslash and what it escapes.
func skipEscape(b []byte, i int) (int, bool) {
	if i++; i >= len(b) {
		return i, false
	}
	switch b[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1, true
	case 'u':
		for n := 1; n <= 4; n++ {
			if i+n >= len(b) || hexDigit(b[i+n]) < 0 {
				return i, false
			}
		}
		return i + 5, true
	}
	return i, false
}

// skipNumber steps over a number by the grammar of RFC 8259.
func skipNumber(b []byte, i int) (int, bool) {
	if i < len(b) && b[i] == '-' {
		i++
	}
	start := i
	if i = skipDigits(b, i); i == start || b[start] == '0' && i > start+1 {
		return start, false
	}
	if i < len(b) && b[i] == '.' {
		start = i + 1
		if i = skipDigits(b, start); i == start {
			return i, false
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		start = i
		if i = skipDigits(b, start); i == start {
			return i, false
		}
	}
	return i, true
}

func skipDigits(b []byte, i int) int {
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		i++
	}
	return i
}
