package pipelines

import "strings"

// valueAt is a value that the scout looks at.
type valueAt struct {
	p     int // where it begins
	mark  int // where the caret belongs; 0 is p
	path  []string
	shape *shape
}

// flow reads a value in { } or [ ]. One that holds a trap is blanked as a whole, because where its parts end is not known.
func (s *scout) flow(v valueAt, indent int) {
	f := &flowScout{scout: s}
	var after int
	if v.shape.isExpression() && !isDialect(s.text[v.p:]) {
		f.found, f.trap = v, trapStart
	} else {
		after = f.collection(v)
	}
	if f.trap == noTrap && after < 0 {
		s.pos = len(s.text) // never closed: the parser says so
		return
	}
	if f.trap == noTrap {
		end := s.lineEnd(after)
		s.pos = end + 1
		if rest := s.text[after:end]; onlyComment(rest) {
			return
		}
		f.found, f.trap = v, trapStart
		f.found.mark = 0
	}
	after, closed := balanced(s.text, v.p)
	if !closed && strings.Contains(s.text[v.p:max(f.found.mark, f.found.p)], "\n") {
		s.pos = len(s.text) // never closed: what looks like a trap is the rest of the file
		return
	}
	end := s.lineEnd(after)
	s.report(f.found, f.trap)
	s.blanks = append(s.blanks, [2]int{v.p, end})
	s.out.skip[v.p] = true
	s.pos = end + 1
}

// isDialect says whether a map is a decision in another language, and not an expression that begins with a bracket.
func isDialect(text string) bool {
	inner, ok := strings.CutPrefix(text, "{")
	return ok && strings.HasPrefix(strings.TrimLeft(inner, " "), "cesql:")
}

// maxReach is how far the scout looks for the end of a broken collection. A bound keeps a file of many from taking long.
const maxReach = 8192

// balanced is the offset behind the bracket that closes the one at p, when brackets and quotes are counted as a person would;
// if they do not balance soon, the end of the line.
func balanced(text string, p int) (after int, closed bool) {
	depth := 0
	for i := p; i < min(len(text), p+maxReach); i++ {
		switch c := text[i]; c {
		case '{', '[', '(':
			depth++
		case '}', ']', ')':
			if depth--; depth == 0 {
				return i + 1, true
			}
		case '"', '\'':
			if i > 0 && isWord(text[i-1]) {
				continue // an apostrophe
			}
			line, _, _ := strings.Cut(text[i:], "\n")
			if n := stringEnd(line); n > 0 {
				i += n - 1
			}
		}
	}
	if i := strings.IndexByte(text[p:], '\n'); i >= 0 {
		return p + i, false
	}
	return len(text), false
}

// flowScout reads one flow collection. It stops at the first trap.
type flowScout struct {
	*scout
	found valueAt
	trap  trap
	depth int
}

// stop notes a trap and ends the reading.
func (f *flowScout) stop(v valueAt, mark int, t trap) int {
	v.mark = mark
	f.found, f.trap = v, t
	return -1
}

// collection reads from a bracket to behind its partner; -1: a trap was found, or it is never closed.
func (f *flowScout) collection(v valueAt) int {
	if f.depth++; f.depth > maxDepth {
		return -1
	}
	defer func() { f.depth-- }()
	p, closing := v.p+1, byte(']')
	if f.text[v.p] == '{' {
		closing = '}'
	}
	for {
		p = f.blank(p)
		if p >= len(f.text) {
			return -1
		}
		switch f.text[p] {
		case closing:
			return p + 1
		case ',':
			p++
			continue
		case ']', '}':
			return -1 // the wrong partner: the parser says so
		}
		before := p
		if closing == '}' {
			p = f.pair(p, v.path)
		} else {
			p = f.item(p, v.path)
		}
		if p <= before {
			return -1
		}
	}
}

// item reads an item of a list, which may be a pair: [a: b] is a list of one map.
func (f *flowScout) item(p int, path []string) int {
	path = inner(path, "-")
	if _, after := f.key(p); after >= 0 {
		return f.pair(p, path)
	}
	return f.value(valueAt{p: p, path: path})
}

// inner is the path of a part; it shares nothing with the path of another.
func inner(path []string, key string) []string {
	return append(path[:len(path):len(path)], key)
}

// pair reads key: value.
func (f *flowScout) pair(p int, path []string) int {
	key, after := f.key(p)
	if after < 0 {
		// No colon: a key without a value, or something that is read as a value.
		return f.value(valueAt{p: p, path: inner(path, "")})
	}
	after = f.blank(after)
	if after < len(f.text) && strings.IndexByte(",}", f.text[after]) >= 0 {
		return after
	}
	return f.value(valueAt{p: after, path: inner(path, key)})
}

// key reads a key within a flow map and returns the offset behind its colon, or -1.
func (f *flowScout) key(p int) (string, int) {
	if c := f.text[p]; c == '"' || c == '\'' {
		q := f.quoteEnd(p)
		if q < 0 {
			return "", -1
		}
		if after := f.blank(q); after < len(f.text) && f.text[after] == ':' {
			return f.text[p+1 : q-1], after + 1
		}
		return "", -1
	}
	for i := p; i < len(f.text); i++ {
		switch f.text[i] {
		case ',', '{', '}', '[', ']', '\n':
			return "", -1
		case ':':
			if i+1 == len(f.text) || strings.IndexByte(" \t\n,[]{}", f.text[i+1]) >= 0 {
				return strings.TrimRight(f.text[p:i], " "), i + 1
			}
		}
	}
	return "", -1
}

// blank passes white space, line breaks and comments.
func (f *flowScout) blank(p int) int {
	for p < len(f.text) {
		switch c := f.text[p]; {
		case c == ' ' || c == '\t' || c == '\n':
			p++
		case c == '#' && p > 0 && strings.IndexByte(" \t\n", f.text[p-1]) >= 0:
			p = f.lineEnd(p)
		default:
			return p
		}
	}
	return p
}

// value reads a value within a collection and returns the offset behind it.
func (f *flowScout) value(v valueAt) int {
	if v.p >= len(f.text) {
		return -1
	}
	v.shape = f.schema.at(v.path)
	rest := f.text[v.p:]
	switch c := rest[0]; {
	case strings.HasPrefix(rest, "{{"):
		return f.stop(v, v.p, trapBraces)
	case c == '{' || c == '[':
		if v.shape.isExpression() && !isDialect(rest) {
			return f.stop(v, v.p, trapStart)
		}
		after := f.collection(v)
		if after < 0 {
			return -1
		}
		return f.ended(v, after, trapStart)
	case c == '"' || c == '\'':
		q := f.quoteEnd(v.p)
		if q < 0 {
			return -1
		}
		return f.ended(v, q, trapQuote)
	case c == '&' && nameLength(rest[1:]) > 0 && strings.HasPrefix(rest[1+nameLength(rest[1:]):], " "):
		v.p = f.blank(v.p + 1 + nameLength(rest[1:]))
		return f.value(v)
	case c == '*' && nameLength(rest[1:]) > 0 && (f.anchors[rest[1:1+nameLength(rest[1:])]] || !v.shape.isExpression()):
		return f.ended(v, v.p+1+nameLength(rest[1:]), trapStart)
	case strings.IndexByte("&*!@`", c) >= 0:
		return f.stop(v, v.p, trapStart)
	}
	return f.plainValue(v)
}

// ended checks that nothing but the collection goes on after a value that has an end of its own.
func (f *flowScout) ended(v valueAt, after int, t trap) int {
	p := f.blank(after)
	if p < len(f.text) && strings.IndexByte(",]}:", f.text[p]) < 0 {
		if t == trapQuote {
			return f.stop(v, p, t)
		}
		return f.stop(v, v.p, t)
	}
	if p < len(f.text) && f.text[p] == ':' {
		return f.blank(p + 1)
	}
	return p
}

// plainValue reads a plain value to where YAML ends it, and looks whether that is where its writer ends it.
func (f *flowScout) plainValue(v valueAt) int {
	v.shape = v.shape.scalar()
	for i := v.p; i < len(f.text); i++ {
		text := f.text[v.p:i]
		switch f.text[i] {
		case ',', ']', '}':
			if v.shape.isExpression() && unfinished(text) {
				return f.stop(v, i, trapComma)
			}
			return i
		case '[', '{':
			return f.stop(v, i, trapBracket)
		case ':':
			if i+1 < len(f.text) && strings.IndexByte(" \t\n", f.text[i+1]) >= 0 {
				return f.stop(v, i, trapColon)
			}
		case '#':
			if i > v.p && strings.IndexByte(" \t\n", f.text[i-1]) >= 0 {
				if v.shape.isExpression() && unfinished(text) {
					return f.stop(v, i, trapHash)
				}
				i = f.lineEnd(i) - 1
			}
		}
	}
	return -1
}
