package codec

import (
	"bytes"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	upperHex = "0123456789ABCDEF"
	lowerHex = "0123456789abcdef"
)

// AppendString appends s as a JSON string. Only what JSON demands is escaped; bytes that are no UTF-8 become U+FFFD, because
// JSON cannot carry them.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for s != "" {
		n := 0
		for n < len(s) && s[n] >= ' ' && s[n] < utf8.RuneSelf && s[n] != '"' && s[n] != '\\' {
			n++
		}
		dst = append(dst, s[:n]...)
		if s = s[n:]; s == "" {
			break
		}
		r, size := utf8.DecodeRuneInString(s)
		dst = appendRune(dst, r)
		s = s[size:]
	}
	return append(dst, '"')
}

func appendRune(dst []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(dst, '\\', byte(r))
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	if r < ' ' {
		return append(dst, '\\', 'u', '0', '0', lowerHex[r>>4], lowerHex[r&15])
	}
	return utf8.AppendRune(dst, r)
}

// unquote returns the text of a valid JSON string, quotes included. It fails on half a surrogate pair, which no text can hold.
func unquote(quoted []byte) (string, bool) {
	inner := quoted[1 : len(quoted)-1]
	escape := indexEscape(inner, 0)
	if escape == len(inner) {
		return string(inner), true
	}
	var b strings.Builder
	b.Grow(len(inner))
	for start := 0; ; {
		b.Write(inner[start:escape])
		if escape == len(inner) {
			return b.String(), true
		}
		r, size, ok := unescape(inner[escape:])
		if !ok {
			return "", false
		}
		b.WriteRune(r)
		start = escape + size
		escape = indexEscape(inner, start)
	}
}

// indexEscape returns the index of the next backslash at or after i, or the length.
func indexEscape(s []byte, i int) int {
	if n := bytes.IndexByte(s[i:], '\\'); n >= 0 {
		return i + n
	}
	return len(s)
}

// unescape reads the escape that valid JSON begins with.
func unescape(s []byte) (r rune, size int, ok bool) {
	switch s[1] {
	case 'b':
		return '\b', 2, true
	case 'f':
		return '\f', 2, true
	case 'n':
		return '\n', 2, true
	case 'r':
		return '\r', 2, true
	case 't':
		return '\t', 2, true
	case 'u':
		return unescapeUnicode(s)
	}
	return rune(s[1]), 2, true
}

func unescapeUnicode(s []byte) (r rune, size int, ok bool) {
	r, _ = hex4(s, 2)
	if !utf16.IsSurrogate(r) {
		return r, 6, true
	}
	if len(s) < 12 || s[6] != '\\' || s[7] != 'u' {
		return 0, 0, false
	}
	low, _ := hex4(s, 8)
	r = utf16.DecodeRune(r, low)
	return r, 12, r != utf8.RuneError
}

// appendOneLine appends valid JSON without the white space between its tokens; strings and numbers keep every byte.
func appendOneLine(dst, data []byte) []byte {
	for i := 0; i < len(data); {
		switch data[i] {
		case ' ', '\n', '\r', '\t':
			i++
		case '"':
			end := skipString(data, i)
			dst = append(dst, data[i:end]...)
			i = end
		default:
			dst = append(dst, data[i])
			i++
		}
	}
	return dst
}

// skipString returns the index behind the string that begins at i of valid JSON.
func skipString(data []byte, i int) int {
	for i++; ; {
		switch i = skipPlain(data, i); data[i] {
		case '"':
			return i + 1
		case '\\':
			i += 2
		default:
			i++
		}
	}
}

// encodeHeader percent-encodes an attribute's text as the HTTP binding has it: space, double quote, percent and every byte of
// a character outside of U+0021 to U+007E.
func encodeHeader(s string) string {
	n := 0
	for i := range len(s) {
		if mustEncode(s[i]) {
			n++
		}
	}
	if n == 0 {
		return s
	}
	b := make([]byte, 0, len(s)+2*n)
	for i := range len(s) {
		if mustEncode(s[i]) {
			b = append(b, '%', upperHex[s[i]>>4], upperHex[s[i]&15])
		} else {
			b = append(b, s[i])
		}
	}
	return string(b)
}

func mustEncode(b byte) bool { return b <= ' ' || b == '"' || b == '%' || b > '~' }

// decodeHeader undoes encodeHeader, and before it the double quotes that older versions of the binding used. It decodes once.
// A percent sign without two hexadecimal digits behind it stays: it comes from a sender that does not encode.
func decodeHeader(s string) (text, problem string) {
	if strings.IndexByte(s, '%') < 0 && (s == "" || s[0] != '"') {
		return s, ""
	}
	if s[0] == '"' {
		if s, problem = unquoteHeader(s); problem != "" {
			return "", problem
		}
	}
	if strings.IndexByte(s, '%') < 0 {
		return s, ""
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) {
			high, _ := hexDigit(s[i+1])
			low, _ := hexDigit(s[i+2])
			b = append(b, high<<4|low)
			i += 2
			continue
		}
		b = append(b, s[i])
	}
	return string(b), ""
}

// unquoteHeader returns the content of a quoted string of RFC 9110, without the backslashes.
func unquoteHeader(s string) (text, problem string) {
	b := make([]byte, 0, len(s))
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			if i+1 < len(s) {
				return "", "something follows the closing quote"
			}
			return string(b), ""
		case '\\':
			if i++; i == len(s) {
				return "", "the closing quote is missing"
			}
		}
		b = append(b, s[i])
	}
	return "", "the closing quote is missing"
}
