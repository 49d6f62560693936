package rules

import (
	"slices"
	"strconv"
)

// field is one member of an object or element of an array in JSON text: it begins at start (with its name, if it has one), its
// value lies from value up to end.
type field struct {
	name              string
	start, value, end int
}

// fields lists what an object or array holds that begins at i. The bytes are valid JSON. inside is the place behind its bracket.
func fields(b []byte, i int) (list []field, inside int) {
	s := scanner{b: b, i: i}
	named := b[i] == '{'
	s.enter()
	inside = s.i
	if s.closes('}') || s.closes(']') {
		return nil, inside
	}
	for {
		s.space()
		f := field{start: s.i}
		if named {
			escaped, _ := s.text()
			f.name = textOf(b[f.start+1:s.i-1], escaped)
			s.space()
			s.i++ // the colon
			s.space()
		}
		f.value = s.i
		s.value(nil)
		f.end = s.i
		list = append(list, f)
		if done, ok := s.follow(b[i] + 2); done || !ok { // in ASCII a bracket closes two places behind where it opens
			return list, inside
		}
	}
}

// valueIn is where the one value of b begins.
func valueIn(b []byte) int {
	s := scanner{b: b}
	s.space()
	return s.i
}

// setIn writes a value at a path in JSON and leaves every other byte as it was. Of equal names the first is written. Objects on
// the way that are missing, or null, are made; an array must hold the element already.
func setIn(b []byte, path []step, value []byte) ([]byte, error) {
	check := scanner{}
	if err := check.scan(b, nil); err != nil {
		return nil, fault("the data is %s: %v", sizeWord(b), err)
	}
	at := span{valueIn(b), check.i}
	for n, s := range path {
		if b[at.start] == 'n' {
			made, err := nested(path[n:], value)
			if err != nil {
				return nil, err
			}
			return splice(b, span{at.start, at.start + len("null")}, made), nil
		}
		list, inside, err := enterFields(b, at.start, s)
		if err != nil {
			return nil, err
		}
		i := indexIn(list, s)
		if i < 0 {
			return insert(b, list, inside, path[n:], value)
		}
		at = span{list[i].value, list[i].end}
	}
	return splice(b, at, value), nil
}

// enterFields is fields, if what begins at i can have the step.
func enterFields(b []byte, i int, s step) (list []field, inside int, err error) {
	bracket, what := byte('{'), "an object"
	if s.item {
		bracket, what = '[', "an array"
	}
	if b[i] != bracket {
		return nil, 0, fault("%s needs %s around it, and the data has %s there", s, what, kindAt(b[i]))
	}
	list, inside = fields(b, i)
	return list, inside, nil
}

// indexIn is the place of a step among fields, or -1.
func indexIn(list []field, s step) int {
	if !s.item {
		return slices.IndexFunc(list, func(f field) bool { return f.name == s.name })
	}
	i := s.index
	if i < 0 {
		i += len(list)
	}
	if i < 0 || i >= len(list) {
		return -1
	}
	return i
}

func insert(b []byte, list []field, inside int, path []step, value []byte) ([]byte, error) {
	if path[0].item {
		return nil, fault("%s is not an element of the array, which has %d", path[0], len(list))
	}
	made, err := nested(path[1:], value)
	if err != nil {
		return nil, err
	}
	text := append(appendString(nil, path[0].name), ':')
	text = append(text, made...)
	if len(list) > 0 {
		inside = list[len(list)-1].end
		text = append([]byte{','}, text...)
	}
	return splice(b, span{inside, inside}, text), nil
}

// nested puts a value into new objects, one for each step.
func nested(path []step, value []byte) ([]byte, error) {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i].item {
			return nil, fault("%s is an element of an array that is not there", path[i])
		}
		out := append([]byte{'{'}, appendString(nil, path[i].name)...)
		out = append(append(out, ':'), value...)
		value = append(out, '}')
	}
	return value, nil
}

// removeIn takes a member or element out of JSON with the comma beside it, and leaves every other byte as it was. All members of
// that name go, or the second would take the place of the first. What is not there is no error.
func removeIn(b []byte, path []step) ([]byte, error) {
	check := scanner{}
	if err := check.scan(b, nil); err != nil {
		return nil, fault("the data is %s: %v", sizeWord(b), err)
	}
	i := valueIn(b)
	for n, s := range path {
		if bracket := b[i]; s.item && bracket != '[' || !s.item && bracket != '{' {
			return b, nil
		}
		list, _ := fields(b, i)
		found := indexIn(list, s)
		if found < 0 {
			return b, nil
		}
		if n == len(path)-1 {
			return cut(b, list, found, s), nil
		}
		i = list[found].value
	}
	return b, nil
}

// cut removes one element, or all members with the name of the step. What goes with a field is the text up to the next one that
// stays, or from the end of the last one that stays.
func cut(b []byte, list []field, found int, s step) []byte {
	gone := func(i int) bool { return i == found || !s.item && list[i].name == s.name }
	out := slices.Clone(b)
	for i := len(list) - 1; i >= 0; i-- {
		if !gone(i) {
			continue
		}
		first := i
		for first > 0 && gone(first-1) {
			first--
		}
		from, to := list[first].start, list[i].end
		switch {
		case i+1 < len(list):
			to = list[i+1].start
		case first > 0:
			from = list[first-1].end
		}
		out = slices.Delete(out, from, to)
		i = first
	}
	return out
}

// splice replaces a part of b. It always makes a new slice, for b belongs to other copies of the event too.
func splice(b []byte, at span, text []byte) []byte {
	out := make([]byte, 0, len(b)-(at.end-at.start)+len(text))
	out = append(out, b[:at.start]...)
	out = append(out, text...)
	return append(out, b[at.end:]...)
}

func kindAt(c byte) string {
	switch c {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}

// String is how messages call a step.
func (s step) String() string {
	if s.item {
		return "[" + strconv.Itoa(s.index) + "]"
	}
	return strconv.Quote(s.name)
}
