package lab

import (
	"strings"

	"github.com/millrace-run/millrace/event/codec"
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
		b.WriteString(b.paint(blue, codec.Legible(rest[:end])) + ": ")
		rest = rest[end+2:]
	}
	value := strings.TrimSuffix(rest, ",")
	switch {
	case value == "" || strings.ContainsAny(value[:1], "{}[]"):
		b.WriteString(value)
	case value[0] == '"':
		b.WriteString(b.paint(green, codec.Legible(value)))
	default:
		b.WriteString(b.paint(yellow, codec.Legible(value)))
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
