package rules

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"
)

// appendJSON writes a value as compact JSON, members in their order, numbers as their text. What is missing is null and noted,
// unless the data says null itself. Values may share parts, so that a small expression can describe a huge text: writing stops
// when the budget is spent, which the caller asks overspent.
func (r *run) appendJSON(out []byte, v any) []byte {
	if r.chargeBytes(lengthOf(v)) != nil {
		return out
	}
	switch v := v.(type) {
	case string:
		return appendString(out, v)
	case bool:
		if v {
			return append(out, "true"...)
		}
		return append(out, "false"...)
	case int64, decimal, float64:
		return append(out, numberText(v)...)
	case time.Time:
		return appendString(out, timeText(v))
	case time.Duration:
		return appendString(out, v.String())
	case *time.Location:
		return appendString(out, v.String())
	case uncertain:
		r.met(v.name)
		return append(out, "false"...)
	case []any:
		out = append(out, '[')
		for i, e := range v {
			if i > 0 {
				out = append(out, ',')
			}
			out = r.appendJSON(out, e)
		}
		return append(out, ']')
	case object:
		out = append(out, '{')
		for i, name := range v.names {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(appendString(out, name), ':')
			out = r.appendJSON(out, v.values[i])
		}
		return append(out, '}')
	case missing:
		if !v.null {
			r.met(v.name)
		}
	}
	return append(out, "null"...)
}

// lengthOf is about how many bytes a value takes as text, without the values in it.
func lengthOf(v any) int {
	switch v := v.(type) {
	case string:
		return len(v)
	case decimal:
		return len(v.text)
	case object:
		n := 0
		for _, name := range v.names {
			n += len(name)
		}
		return n
	}
	return 0
}

// timeText is RFC 3339 with as many digits of a second as it has.
func timeText(t time.Time) string { return t.Format(time.RFC3339Nano) }

const hexDigits = "0123456789abcdef"

// appendString writes a JSON string. Bytes that are not UTF-8 become U+FFFD.
func appendString(out []byte, s string) []byte {
	out = append(out, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			char, size := utf8.DecodeRuneInString(s[i:])
			out = utf8.AppendRune(out, char)
			i += size
			continue
		}
		i++
		switch {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c >= 0x20:
			out = append(out, c)
		case c == '\n':
			out = append(out, `\n`...)
		case c == '\r':
			out = append(out, `\r`...)
		case c == '\t':
			out = append(out, `\t`...)
		default:
			out = append(out, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(out, '"')
}

// text is how a value prints: strings as they are, numbers as in the data, times as RFC 3339, arrays and objects as JSON.
func (r *run) text(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case time.Time:
		return timeText(v), nil
	case time.Duration:
		return v.String(), nil
	case nil, missing:
		return "", fault("nil has no text")
	}
	out := r.appendJSON(nil, v)
	return string(out), r.overspent()
}

// export takes a value of this package to one of those that Expr.Value names. It copies, so that the result does not hold the
// event's data in memory. Like appendJSON it stops when the budget is spent.
func (r *run) export(v any) any {
	if r.chargeBytes(lengthOf(v)) != nil {
		return nil
	}
	switch v := v.(type) {
	case bool, int64, float64, time.Time:
		return v
	case string:
		return strings.Clone(v)
	case decimal:
		return json.Number(strings.Clone(v.text))
	case time.Duration:
		return v.String()
	case *time.Location:
		return v.String()
	case uncertain:
		r.met(v.name)
		return false
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = r.export(e)
		}
		return out
	case object:
		out := make(map[string]any, len(v.names))
		for i, name := range v.names {
			out[strings.Clone(name)] = r.export(v.values[i])
		}
		return out
	case missing:
		if !v.null {
			r.met(v.name)
		}
	}
	return nil
}
