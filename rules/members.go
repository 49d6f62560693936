package rules

import "strings"

// membersOf notes the members of an object, which it checks as scan does. False says that b is something else, or has a name with
// an escape, or is broken: then r is of no use.
func (r *record) membersOf(b []byte) bool {
	r.reset()
	i := afterSpace(b, 0)
	if i >= len(b) || b[i] != '{' {
		return false
	}
	for i = afterSpace(b, i+1); ; i = afterSpace(b, i+1) {
		if i >= len(b) || b[i] != '"' {
			return false // an empty object has nothing to note
		}
		behind, escaped, ok := skipText(b, i)
		if !ok || escaped {
			return false
		}
		name := alias(b[i+1 : behind-1])
		if i = afterSpace(b, behind); i >= len(b) || b[i] != ':' {
			return false
		}
		i = afterSpace(b, i+1)
		v, end := foundAt(b, i)
		if end < 0 {
			return false
		}
		r.names, r.values = append(r.names, name), append(r.values, v) // without an index find returns the first of equal names
		if i = afterSpace(b, end); i >= len(b) || b[i] != ',' {
			return i < len(b) && b[i] == '}' && afterSpace(b, i+1) == len(b)
		}
	}
}

// foundAt is the value at a place of an object, and the place behind it; -1 if there is none.
func foundAt(b []byte, i int) (found, int) {
	end, ok := skip(b, i, 1)
	if !ok || end < 0 {
		return found{}, -1
	}
	text := alias(b[i:end])
	switch c := b[i]; {
	case c == '"' && strings.IndexByte(text, '\\') < 0:
		return found{foundPlain, text[1 : len(text)-1]}, end
	case c == 'n':
		return found{}, end
	case c == 't' || c == 'f':
		return found{foundBool, text}, end
	case c == '-' || isDigit(c):
		return found{foundNumber, text}, end
	}
	return found{foundJSON, text}, end
}
