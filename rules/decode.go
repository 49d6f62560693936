package rules

import (
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// object is a JSON object: its members in their order, each name once, the first of equal names.
type object struct{ *members }

type members struct {
	names  []string
	values []any
	index  map[string]int // made when there are many members
}

// manyMembers is the number from which on an object is looked up by map.
const manyMembers = 12

func newObject(n int) object {
	return object{&members{names: make([]string, 0, n), values: make([]any, 0, n)}}
}

// get returns a member and whether it is there.
func (o object) get(name string) (any, bool) {
	if i := o.find(name); i >= 0 {
		return o.values[i], true
	}
	return nil, false
}

func (o object) find(name string) int {
	if o.index != nil {
		if i, ok := o.index[name]; ok {
			return i
		}
		return -1
	}
	for i, n := range o.names {
		if n == name {
			return i
		}
	}
	return -1
}

// add appends a member unless its name is there already.
func (o object) add(name string, v any) {
	if o.find(name) >= 0 {
		return
	}
	o.names = append(o.names, name)
	o.values = append(o.values, v)
	switch {
	case o.index != nil:
		o.index[name] = len(o.names) - 1
	case len(o.names) > manyMembers:
		o.index = make(map[string]int, 2*len(o.names))
		for i, n := range o.names {
			o.index[n] = i
		}
	}
}

// put sets a member; a new one goes to the end.
func (o object) put(name string, v any) {
	if i := o.find(name); i >= 0 {
		o.values[i] = v
		return
	}
	o.add(name, v)
}

// decode turns bytes that are one JSON value into the values of this package: nil, bool, string, int64 or decimal, []any and
// object. Strings and numbers share the memory of b, which nobody changes.
func decode(b []byte) (any, error) {
	d := decoder{scanner{b: b}}
	v, ok := d.decode()
	if ok {
		d.space()
		ok = d.i == len(b)
	}
	if !ok {
		return nil, d.fault()
	}
	return v, nil
}

type decoder struct{ scanner }

func (d *decoder) decode() (any, bool) {
	d.space()
	if d.i >= len(d.b) {
		return nil, false
	}
	start := d.i
	switch d.b[d.i] {
	case '{':
		return d.decodeObject()
	case '[':
		return d.decodeArray()
	case '"':
		escaped, ok := d.text()
		if !ok {
			return nil, false
		}
		return textOf(d.b[start+1:d.i-1], escaped), true
	}
	if !d.value(nil) {
		return nil, false
	}
	switch d.b[start] {
	case 't':
		return true, true
	case 'f':
		return false, true
	case 'n':
		return nil, true
	}
	return numberOf(alias(d.b[start:d.i])), true
}

func (d *decoder) decodeObject() (any, bool) {
	if !d.enter() {
		return nil, false
	}
	o := newObject(4)
	if d.closes('}') {
		return o, true
	}
	for {
		d.space()
		start := d.i
		escaped, ok := d.text()
		if !ok {
			return nil, false
		}
		name := textOf(d.b[start+1:d.i-1], escaped)
		d.space()
		if !d.at(':') {
			return nil, false
		}
		d.i++
		v, ok := d.decode()
		if !ok {
			return nil, false
		}
		o.add(name, v)
		if done, ok := d.follow('}'); done || !ok {
			return o, ok
		}
	}
}

func (d *decoder) decodeArray() (any, bool) {
	if !d.enter() {
		return nil, false
	}
	list := []any{}
	if d.closes(']') {
		return list, true
	}
	for {
		v, ok := d.decode()
		if !ok {
			return nil, false
		}
		list = append(list, v)
		if done, ok := d.follow(']'); done || !ok {
			return list, ok
		}
	}
}

// alias reads bytes as a string without copying. An event's data is never changed in place (see event.Event), which makes it safe.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// bytesOf is the way back. Nobody writes to the result.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// textOf is the value of a JSON string, given without its quotes.
func textOf(b []byte, escaped bool) string {
	if escaped {
		return unescape(b)
	}
	return alias(b)
}

// unescape resolves the escapes of a JSON string that the scanner has accepted. Half a surrogate pair becomes U+FFFD.
func unescape(b []byte) string {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); {
		if b[i] != '\\' {
			out = append(out, b[i])
			i++
			continue
		}
		c := b[i+1]
		i += 2
		switch c {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r := hexRune(b[i:])
			i += 4
			if utf16.IsSurrogate(r) {
				second := rune(-1)
				if i+6 <= len(b) && b[i] == '\\' && b[i+1] == 'u' {
					second = hexRune(b[i+2:])
				}
				if r = utf16.DecodeRune(r, second); r != utf8.RuneError {
					i += 6
				}
			}
			out = utf8.AppendRune(out, r)
		default: // a quote, a backslash or a slash
			out = append(out, c)
		}
	}
	return string(out)
}

func hexRune(b []byte) rune {
	var r rune
	for _, c := range b[:4] {
		r = r<<4 | rune(hexDigit(c))
	}
	return r
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
