package rules

import "fmt"

// maxDepth is how deep JSON may nest before an expression refuses to look into it. Sources set lower limits of their own.
const maxDepth = 1000

// jsonError says where bytes stop being JSON.
type jsonError struct {
	Offset int
	Deep   bool
}

func (e *jsonError) Error() string {
	if e.Deep {
		return fmt.Sprintf("the JSON is nested more than %d deep", maxDepth)
	}
	return fmt.Sprintf("not valid JSON at byte %d", e.Offset+1)
}

// span is a part of the bytes that are scanned, from start up to but not including end. No JSON value is empty, so the zero
// span stands for a value that is not there.
type span struct{ start, end int }

// want is a node of the tree of paths that an expression reads. Of members with equal names only the first is looked into, as
// everywhere in this package.
type want struct {
	slot    int // where the span of this value goes; negative for a node that only leads to others
	members []*member
	items   map[int]*want
}

// member is a branch of want by name; id numbers the branches of one tree.
type member struct {
	name string
	id   int
	next *want
}

// scanner reads JSON from front to back in one pass: it checks the whole of it and notes the spans that are wanted. It is used
// for everything that looks into data (slots, decoding, editing), so that they cannot disagree about what the bytes mean.
type scanner struct {
	b     []byte
	i     int
	depth int
	deep  bool
	spans []span // by slot
	seen  []bool // by id of a member: its first occurrence has passed
}

// scan checks that b is exactly one JSON value and fills spans for what w wants.
func (s *scanner) scan(b []byte, w *want) error {
	s.b, s.i, s.depth, s.deep = b, 0, 0, false
	if !s.value(w) {
		return s.fault()
	}
	s.space()
	if s.i < len(b) {
		return s.fault()
	}
	return nil
}

func (s *scanner) fault() error { return &jsonError{Offset: s.i, Deep: s.deep} }

func (s *scanner) space() { s.i = afterSpace(s.b, s.i) }

// value reads one value and the space before it. False leaves i near the fault.
func (s *scanner) value(w *want) bool {
	s.space()
	start, ok := s.i, false
	switch {
	case w != nil && s.at('{'):
		ok = s.object(w)
	case w != nil && s.at('['):
		ok = s.array(w)
	default:
		s.i, ok = skip(s.b, s.i, s.depth)
		s.deep = !ok && s.i < 0
		s.i = max(s.i, ^s.i)
	}
	if ok && w != nil && w.slot >= 0 {
		s.spans[w.slot] = span{start, s.i}
	}
	return ok
}

func (s *scanner) object(w *want) bool {
	if !s.enter() {
		return false
	}
	if s.closes('}') {
		return true
	}
	for {
		s.space()
		start := s.i
		escaped, ok := s.text()
		if !ok {
			return false
		}
		var next *want
		if len(w.members) > 0 {
			next = s.find(w, s.b[start+1:s.i-1], escaped)
		}
		s.space()
		if s.i >= len(s.b) || s.b[s.i] != ':' {
			return false
		}
		s.i++
		if !s.value(next) {
			return false
		}
		if done, ok := s.follow('}'); done || !ok {
			return ok
		}
	}
}

func (s *scanner) array(w *want) bool {
	if !s.enter() {
		return false
	}
	if s.closes(']') {
		return true
	}
	for n := 0; ; n++ {
		var next *want
		if w.items != nil {
			next = w.items[n]
		}
		if !s.value(next) {
			return false
		}
		if done, ok := s.follow(']'); done || !ok {
			return ok
		}
	}
}

// enter steps over an opening bracket.
func (s *scanner) enter() bool {
	s.i++
	s.depth++
	s.deep = s.depth > maxDepth
	return !s.deep
}

// closes steps over the closing bracket of something empty.
func (s *scanner) closes(bracket byte) bool {
	s.space()
	if s.i < len(s.b) && s.b[s.i] == bracket {
		s.i++
		s.depth--
		return true
	}
	return false
}

// follow steps over what comes behind an element: a comma, or the closing bracket, which means done.
func (s *scanner) follow(bracket byte) (done, ok bool) {
	s.space()
	if s.i >= len(s.b) {
		return false, false
	}
	switch s.b[s.i] {
	case ',':
		s.i++
		return false, true
	case bracket:
		s.i++
		s.depth--
		return true, true
	}
	return false, false
}

// find returns the branch of w that key leads to, unless an equal key came before.
func (s *scanner) find(w *want, key []byte, escaped bool) *want {
	if escaped {
		key = []byte(unescape(key))
	}
	for _, m := range w.members {
		if string(key) == m.name {
			if s.seen[m.id] {
				return nil
			}
			s.seen[m.id] = true
			return m.next
		}
	}
	return nil
}

// text reads a string with its quotes and says whether it holds an escape.
func (s *scanner) text() (escaped, ok bool) {
	if !s.at('"') {
		return false, false
	}
	s.i, escaped, ok = skipText(s.b, s.i)
	return escaped, ok
}

func (s *scanner) at(c byte) bool { return s.i < len(s.b) && s.b[s.i] == c }
