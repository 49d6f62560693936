package rules

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// record is what a parser found: members with names, in their order, each name once. Values share the memory of the text.
type record struct {
	names  []string
	values []found
	index  map[string]int       // of the names; made when there are many
	clock  [len(clockForm)]byte // the last time of a request that was found valid
}

// manyNames is the number from which on names are looked up by map: a line may have tens of thousands.
const manyNames = 32

// found is one value of a record, as text that its kind tells how to read.
type found struct {
	kind foundKind
	text string
}

type foundKind uint8

const (
	foundNull   foundKind = iota
	foundText             // as it is
	foundPlain            // inside of a string of JSON without escapes
	foundNumber           // text is a number of JSON
	foundBool             // text is true or false
	foundClock            // text is a checked time of a web server's log
	foundJSON             // text is a value of JSON
)

func (r *record) reset() { r.names, r.values, r.index = r.names[:0], r.values[:0], nil }

// push appends a member whose name is not there yet.
func (r *record) push(name string, v found) {
	r.names, r.values = append(r.names, name), append(r.values, v)
	switch n := len(r.names); {
	case r.index != nil:
		r.index[name] = n - 1
	case n > manyNames:
		r.index = make(map[string]int, 2*n)
		for i, name := range r.names {
			r.index[name] = i
		}
	}
}

// add appends a member. Of equal names the first counts, as everywhere in this package.
func (r *record) add(name string, v found) {
	if r.find(name) < 0 {
		r.push(name, v)
	}
}

func (r *record) find(name string) int {
	if r.index != nil {
		if i, ok := r.index[name]; ok {
			return i
		}
		return -1
	}
	for i, n := range r.names {
		if n == name {
			return i
		}
	}
	return -1
}

// value is a found value as expressions have it.
func (f found) value() (any, error) {
	switch f.kind {
	case foundText:
		if !utf8.ValidString(f.text) {
			return string([]rune(f.text)), nil // as it is in JSON, with U+FFFD for each byte that is no text
		}
		return f.text, nil
	case foundPlain:
		return f.text, nil
	case foundNumber:
		return numberOf(f.text), nil
	case foundBool:
		return f.text == "true", nil
	case foundClock:
		return string(appendClock(nil, f.text)), nil
	case foundJSON:
		return decode([]byte(f.text))
	}
	return nil, nil
}

// whole is the record as an object.
func (r *record) whole() (any, error) {
	o := newObject(len(r.names))
	for i, name := range r.names {
		v, err := r.values[i].value()
		if err != nil {
			return nil, err
		}
		o.add(name, v)
	}
	return o, nil
}

// appendJSON writes the record as an object.
func (r *record) appendJSON(out []byte) []byte {
	if out == nil {
		out = make([]byte, 0, r.size())
	}
	out = append(out, '{')
	for i, name := range r.names {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendString(out, name), ':')
		out = r.values[i].appendJSON(out)
	}
	return append(out, '}')
}

// size is about how many bytes appendJSON writes.
func (r *record) size() int {
	n := 2
	for i := range r.names {
		n += len(r.names[i]) + len(r.values[i].text) + 8
	}
	return n
}

func (f found) appendJSON(out []byte) []byte {
	switch f.kind {
	case foundText, foundPlain:
		return appendString(out, f.text)
	case foundNumber, foundBool, foundJSON:
		return append(out, f.text...)
	case foundClock:
		return append(appendClock(append(out, '"'), f.text), '"')
	}
	return append(out, "null"...)
}

// typed is a text as the type that the settings give it. An empty text of any type but string is null.
func typed(name, text, kind string) (found, error) {
	if kind == "" || kind == "string" {
		return found{foundText, text}, nil
	}
	if text == "" {
		return found{}, nil
	}
	switch kind {
	case "auto":
		return guessed(text), nil
	case "int":
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return found{foundNumber, strconv.FormatInt(n, 10)}, nil
		}
	case "float":
		if isJSONNumber(text) {
			return found{foundNumber, text}, nil
		}
	case "bool":
		if b, err := strconv.ParseBool(strings.ToLower(text)); err == nil {
			return found{foundBool, strconv.FormatBool(b)}, nil
		}
	}
	return found{}, fault("%s is %s, which is no %s", name, shorten(text), kind)
}

// guessed reads a text that looks like a number or a boolean as one.
func guessed(text string) found {
	switch {
	case text == "true" || text == "false":
		return found{foundBool, text}
	case isJSONNumber(text):
		return found{foundNumber, text}
	}
	return found{foundText, text}
}

// isJSONNumber says whether a text is a number of JSON, which 007 is not.
func isJSONNumber(text string) bool {
	if text == "" || text[0] != '-' && (text[0] < '0' || text[0] > '9') {
		return false
	}
	i, ok := skipNumber([]byte(text), 0)
	return ok && i == len(text)
}

// clockForm is how web servers write the time of a request: 10/Oct/2000:13:55:36 -0700.
const clockForm = "02/Jan/2006:15:04:05 -0700"

// isClock checks the time of a request without making one: its places, its ranges and the name of its month.
func isClock(t string) bool {
	if len(t) != len(clockForm) || t[2] != '/' || t[6] != '/' || t[11] != ':' || t[14] != ':' || t[17] != ':' || t[20] != ' ' ||
		t[21] != '+' && t[21] != '-' || monthOf(t[3:6]) == 0 {
		return false
	}
	for _, at := range [...]int{0, 1, 7, 8, 9, 10, 12, 13, 15, 16, 18, 19, 22, 23, 24, 25} {
		if t[at] < '0' || t[at] > '9' {
			return false
		}
	}
	day := t[0:2]
	return day != "00" && day <= "31" && t[12:14] <= "23" && t[15:17] <= "59" && t[18:20] <= "60" && t[22:24] <= "23" && t[24:26] <= "59"
}

func monthOf(name string) int {
	i := strings.Index("JanFebMarAprMayJunJulAugSepOctNovDec", name)
	if i < 0 || i%3 != 0 {
		return 0
	}
	return i/3 + 1
}

// appendClock writes a checked time of a request as RFC 3339, with the offset that it has.
func appendClock(out []byte, t string) []byte {
	month := monthOf(t[3:6])
	out = append(append(out, t[7:11]...), '-', byte('0'+month/10), byte('0'+month%10), '-')
	out = append(append(append(out, t[0:2]...), 'T'), t[12:20]...)
	if t[21:] == "+0000" {
		return append(out, 'Z')
	}
	return append(append(append(out, t[21:24]...), ':'), t[24:26]...)
}

// slot is the value of a field of which an expression knew the name.
func (r *record) slot(s *slot) (any, error) {
	i := r.find(s.member)
	if i < 0 {
		return s.absent, nil
	}
	v, err := r.values[i].value()
	if v == nil {
		v = s.null
	}
	return v, err
}
