package lab

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The colors, as a terminal takes them.
const (
	bold   = "\x1b[1m"
	dim    = "\x1b[2m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	blue   = "\x1b[34m"
	cyan   = "\x1b[36m"
	plain  = "\x1b[0m"
)

// paint colors text that was cleaned.
func (b *page) paint(color, text string) string {
	if !b.color || text == "" {
		return text
	}
	return color + text + plain
}

// clean makes text harmless for a terminal, on one line: control characters, those that change the direction of writing, line
// separators and bytes that are no UTF-8 are written as escapes.
func clean(text string) string {
	if !strings.ContainsFunc(text, isHarmful) && utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case r == '\t':
			b.WriteString("    ")
		case isHarmful(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteString(text[i : i+n])
		}
		i += n
	}
	return b.String()
}

func isHarmful(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

// json writes indented JSON, its first lines if there are many.
func (b *page) json(text string) {
	all := strings.Split(text, "\n")
	for _, line := range all[:min(len(all), maxLines)] {
		b.WriteString(indent)
		b.jsonLine(line)
		b.WriteByte('\n')
	}
	b.more(len(all))
}

// jsonLine colors one line of indented JSON: space, perhaps a member's name, and a value or a bracket.
func (b *page) jsonLine(line string) {
	rest := strings.TrimLeft(line, " ")
	b.WriteString(line[:len(line)-len(rest)])
	if end := jsonStringEnd(rest); end > 0 && strings.HasPrefix(rest[end:], ": ") {
		b.WriteString(b.paint(blue, clean(rest[:end])) + ": ")
		rest = rest[end+2:]
	}
	value := strings.TrimSuffix(rest, ",")
	switch {
	case value == "" || strings.ContainsAny(value[:1], "{}[]"):
		b.WriteString(value)
	case value[0] == '"':
		b.WriteString(b.paint(green, clean(value)))
	default:
		b.WriteString(b.paint(yellow, clean(value)))
	}
	b.WriteString(rest[len(value):])
}

// jsonStringEnd is the end of the string that text begins with, 0 if it begins with something else.
func jsonStringEnd(text string) int {
	if !strings.HasPrefix(text, `"`) {
		return 0
	}
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}
