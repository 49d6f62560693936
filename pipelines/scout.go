package pipelines

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// The scout reads a file before the YAML parser does and names the places where YAML reads something else than people mean:
// an expression or a template that is not in quotes. The parser would stop at most of them with a message about its own
// grammar, or take a part of the value without a word. It knows which keys hold expressions, and it is careful: what is proper
// YAML and makes sense here passes.
//
// Each value that it names is blanked in the text that the parser gets, so that all other faults of the file are found too.

// scouted is what the scout found.
type scouted struct {
	text   string       // the file with the named values blanked
	skip   map[int]bool // byte offsets of blanked values
	faults []Diagnostic
	tabs   bool // the indentation holds tabs: the structure cannot be known
}

// level is an open key or list item of the block structure.
type level struct {
	indent int
	key    string // "-" for a list item
}

type scout struct {
	src     *source
	text    string
	schema  *shape
	pos     int
	levels  []level
	anchors map[string]bool
	tabLine int
	tabs    int
	out     scouted
	blanks  [][2]int
}

func scoutFile(src *source, schema *shape) scouted {
	s := &scout{src: src, text: src.text, schema: schema, anchors: anchorsOf(src.text)}
	s.out.skip = map[int]bool{}
	for s.pos < len(s.text) {
		s.line()
	}
	if s.tabs > 0 {
		problem := "a tab in the indentation: YAML wants spaces"
		if s.tabs > 1 {
			problem += fmt.Sprintf(" (%d lines have one)", s.tabs)
		}
		at := s.src.placeAt(s.tabLine)
		s.out.faults = append(s.out.faults, s.src.fault(at, 1, codeTab, problem, "replace each tab by two spaces"))
		s.out.tabs = true
	}
	s.out.text = s.blanked()
	return s.out
}

// anchorsOf collects the names behind & where a value may begin. Names that are none do no harm: they only make the scout
// more careful.
func anchorsOf(text string) map[string]bool {
	names := map[string]bool{}
	for i := range len(text) {
		if text[i] == '&' && (i == 0 || strings.IndexByte(" \n[{,", text[i-1]) >= 0) {
			if n := nameLength(text[i+1:]); n > 0 {
				names[text[i+1:i+1+n]] = true
			}
		}
	}
	return names
}

// nameLength is how long the name of an anchor is that s begins with.
func nameLength(s string) int {
	n := 0
	for n < len(s) && (isWord(s[n]) || s[n] == '-') {
		n++
	}
	return n
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// line reads one line of block structure, and whatever value begins on it.
func (s *scout) line() {
	start := s.pos
	end := s.lineEnd(start)
	p := start + spaces(s.text[start:end])
	content := strings.TrimLeft(s.text[p:end], " \t")
	switch {
	case content == "" || content[0] == '#':
		s.pos = end + 1
		return
	case s.text[p] == '\t':
		if s.tabs++; s.tabs == 1 {
			s.tabLine = p
		}
		s.pos = end + 1
		return
	case p == start && (strings.HasPrefix(content, "---") || strings.HasPrefix(content, "...") || content[0] == '%'):
		s.pos = end + 1
		return
	}
	s.entry(start, p, end)
}

// entry reads list markers and a key at p, and the value behind them.
func (s *scout) entry(start, p, end int) {
	for p < end && s.text[p] == '-' && (p+1 == end || s.text[p+1] == ' ') {
		s.open(p-start, "-")
		p++
		p += spaces(s.text[p:end])
	}
	if p >= end {
		s.pos = end + 1
		return
	}
	key, after := s.key(p, end)
	if after < 0 {
		if len(s.levels) > 0 && s.levels[len(s.levels)-1].key == "-" {
			s.value(p, end, s.levels[len(s.levels)-1].indent)
			return
		}
		s.pos = end + 1
		return
	}
	s.open(p-start, key)
	s.value(after+spaces(s.text[after:end]), end, p-start)
}

// open closes what ended before a key or item at this indentation, and opens it.
func (s *scout) open(indent int, key string) {
	for len(s.levels) > 0 {
		top := s.levels[len(s.levels)-1]
		// A list may stand at the indentation of its key.
		if top.indent < indent || top.indent == indent && key == "-" && top.key != "-" {
			break
		}
		s.levels = s.levels[:len(s.levels)-1]
	}
	s.levels = append(s.levels, level{indent, key})
}

func (s *scout) path() []string {
	path := make([]string, 0, len(s.levels)+4)
	for _, l := range s.levels {
		path = append(path, l.key)
	}
	return path
}

// key reads a key at p: its text and the offset behind its colon, or -1 when there is none.
func (s *scout) key(p, end int) (string, int) {
	switch c := s.text[p]; c {
	case '"', '\'':
		q := s.quoteEnd(p)
		if q < 0 || q > end {
			return "", -1
		}
		after := q + spaces(s.text[q:end])
		if after < end && s.text[after] == ':' && (after+1 == end || s.text[after+1] == ' ') {
			return s.text[p+1 : q-1], after + 1
		}
		return "", -1
	case '[', '{', '|', '>', '&', '*', '!', '%', '@', '`', '#':
		return "", -1
	}
	for i := p; i < end; i++ {
		if s.text[i] == '#' && i > p && s.text[i-1] == ' ' {
			return "", -1
		}
		if s.text[i] == ':' && (i+1 == end || s.text[i+1] == ' ') {
			return strings.TrimRight(s.text[p:i], " "), i + 1
		}
	}
	return "", -1
}

// value reads a value at p in block context and leaves pos behind it. indent is that of its key or item.
func (s *scout) value(p, end, indent int) {
	s.pos = end + 1
	if p >= end || s.text[p] == '#' {
		return
	}
	v := valueAt{p: p, path: s.path()}
	v.shape = s.schema.at(v.path)
	rest := s.text[p:end]
	switch c := rest[0]; {
	case strings.HasPrefix(rest, "{{"):
		s.trapLine(v, end, indent, trapBraces)
	case c == '&' && nameLength(rest[1:]) > 0 && (len(rest) == 1+nameLength(rest[1:]) || rest[1+nameLength(rest[1:])] == ' '):
		p += 1 + nameLength(rest[1:])
		s.value(p+spaces(s.text[p:end]), end, indent)
	case c == '*' && s.isAlias(rest, v.shape):
	case c == '!' && !v.shape.isExpression():
		s.tagged(v, end, indent)
	case strings.IndexByte("&*!@`", c) >= 0:
		s.trapLine(v, end, indent, trapStart)
	case c == '\'' || c == '"':
		s.quoted(v, indent)
	case c == '[' || c == '{':
		s.flow(v, indent)
	case c == '|' || c == '>':
		s.skipDeeper(indent)
	default:
		s.plain(v, end, indent)
	}
}

// tagged passes a tag, which the walker refuses by its name, and looks at the value behind it.
func (s *scout) tagged(v valueAt, end, indent int) {
	rest := s.text[v.p:end]
	tag, after, found := strings.Cut(rest, " ")
	if !found || strings.TrimSpace(after) == "" {
		return
	}
	if strings.HasPrefix(tag, "!!") {
		p := v.p + len(tag)
		s.value(p+spaces(s.text[p:end]), end, indent)
		return
	}
	s.trapLine(v, end, indent, trapStart)
}

// isAlias says whether rest is an alias and nothing else. Where an expression belongs its anchor must be in this file; else the
// walker says that there is none.
func (s *scout) isAlias(rest string, sh *shape) bool {
	n := nameLength(rest[1:])
	return n > 0 && (s.anchors[rest[1:1+n]] || !sh.isExpression()) && onlyComment(rest[1+n:])
}

// onlyComment says whether nothing but white space and a comment follows.
func onlyComment(rest string) bool {
	t := strings.TrimLeft(rest, " \t")
	return t == "" || t[0] == '#' && len(t) < len(rest)
}

// quoted reads a quoted value; nothing may follow it.
func (s *scout) quoted(v valueAt, indent int) {
	q := s.quoteEnd(v.p)
	if q < 0 {
		s.pos = len(s.text) // never closed: the parser says so
		return
	}
	end := s.lineEnd(q)
	s.pos = end + 1
	if rest := s.text[q:end]; !onlyComment(rest) {
		v.mark = q + spaces(rest)
		s.trapLine(v, end, indent, trapQuote)
	}
}

// plain reads a plain value with its further lines.
func (s *scout) plain(v valueAt, end, indent int) {
	text := s.text[v.p:end]
	v.shape = v.shape.scalar()
	expression := v.shape.isExpression()
	cut := commentStart(text)
	if cut >= 0 && expression && unfinished(text[:cut]) {
		v.mark = v.p + cut
		s.trapLine(v, end, indent, trapHash)
		return
	}
	if cut >= 0 {
		text = text[:cut]
	}
	if c := colonIn(text); c >= 0 {
		v.mark = v.p + c
		s.trapLine(v, end, indent, trapColon)
		return
	}
	if cut >= 0 {
		return // a comment ends the value
	}
	for s.pos < len(s.text) { // the lines that continue it
		next := s.lineEnd(s.pos)
		line := s.text[s.pos:next]
		trimmed := strings.TrimLeft(line, " ")
		if trimmed != "" && (len(line)-len(trimmed) <= indent || trimmed[0] == '#') {
			return
		}
		if c := colonIn(trimmed); c >= 0 && expression && (unfinished(text) || !isKey(trimmed[:c])) {
			v.mark = next - len(trimmed) + c
			s.trapLine(v, next, indent, trapColon)
			return
		}
		s.pos = next + 1
	}
}

// isKey says whether text before a colon looks like a key that is indented too far, and not like a part of an expression.
func isKey(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') })
}

// skipDeeper passes the lines of a block scalar: blank ones and those indented more than its key.
func (s *scout) skipDeeper(indent int) {
	for s.pos < len(s.text) {
		end := s.lineEnd(s.pos)
		line := s.text[s.pos:end]
		if n := spaces(line); n <= indent && n < len(line) {
			return
		}
		s.pos = end + 1
	}
}

// trapLine reports the value at v and blanks it up to end, with the lines that are indented below it.
func (s *scout) trapLine(v valueAt, end, indent int, t trap) {
	s.report(v, t)
	s.blanks = append(s.blanks, [2]int{v.p, end})
	s.out.skip[v.p] = true
	s.pos = end + 1
	from := s.pos
	s.skipDeeper(indent)
	if to := min(s.pos, len(s.text)); to > from {
		s.blanks = append(s.blanks, [2]int{from, to})
	}
}

// blanked is the text with the named values replaced: the first line of each by a word of the same length, more by spaces.
func (s *scout) blanked() string {
	if len(s.blanks) == 0 {
		return s.text
	}
	var b strings.Builder
	done := 0
	for _, r := range s.blanks {
		if r[1] <= done {
			continue
		}
		b.WriteString(s.text[done:max(r[0], done)])
		fill := byte('x')
		if !s.out.skip[r[0]] {
			fill = ' '
		}
		for _, c := range s.text[max(r[0], done):r[1]] {
			if c == '\n' {
				b.WriteByte('\n')
				fill = ' '
				continue
			}
			b.WriteByte(fill)
		}
		done = r[1]
	}
	b.WriteString(s.text[done:])
	return b.String()
}

func (s *scout) lineEnd(from int) int {
	if i := strings.IndexByte(s.text[from:], '\n'); i >= 0 {
		return from + i
	}
	return len(s.text)
}

// quoteEnd is the offset behind the quote that closes the one at p, or -1.
func (s *scout) quoteEnd(p int) int {
	for i := p + 1; i < len(s.text); i++ {
		switch c := s.text[i]; {
		case c == '\\' && s.text[p] == '"':
			i++
		case c == s.text[p] && c == '\'' && strings.HasPrefix(s.text[i:], "''"):
			i++
		case c == s.text[p]:
			return i + 1
		}
	}
	return -1
}

func spaces(s string) int { return len(s) - len(strings.TrimLeft(s, " ")) }

// commentStart is the offset of a # that begins a comment in a plain value, or -1.
func commentStart(s string) int {
	for i := 1; i < len(s); i++ {
		if s[i] == '#' && (s[i-1] == ' ' || s[i-1] == '\t') {
			return i
		}
	}
	return -1
}

// colonIn is the offset of a colon that YAML takes for the end of a key, or -1.
func colonIn(s string) int {
	s = strings.TrimRight(s, " \t")
	for i := range len(s) {
		if s[i] == ':' && (i+1 == len(s) || s[i+1] == ' ' || s[i+1] == '\t') {
			return i
		}
	}
	return -1
}

// unfinished says whether an expression cannot end here: a quote or bracket is open, or an operator waits for its right side.
func unfinished(expression string) bool {
	var open []byte
	for i := 0; i < len(expression); i++ {
		switch c := expression[i]; c {
		case '"', '\'', '`':
			n := stringEnd(expression[i:])
			if n < 0 {
				return true
			}
			i += n - 1
		case '(', '[', '{':
			open = append(open, c)
		case ')', ']', '}':
			if len(open) > 0 {
				open = open[:len(open)-1]
			}
		}
	}
	t := strings.TrimSpace(expression)
	return len(open) > 0 || t != "" && strings.IndexByte("=<>&|+-*/%!?:,.^", t[len(t)-1]) >= 0
}

// stringEnd is how long the string literal of the expression language is that s begins with, or -1.
func stringEnd(s string) int {
	for i := 1; i < len(s); i++ {
		if s[i] == '\\' && s[0] != '`' {
			i++
		} else if s[i] == s[0] {
			return i + 1
		}
	}
	return -1
}

func (s *scout) report(v valueAt, t trap) {
	at := v.mark
	if at == 0 {
		at = v.p
	}
	_, n := utf8.DecodeRuneInString(s.text[at:])
	code, problem, hint := t.words(v.shape, s.text[at:at+n])
	width := 1
	if t == trapBraces {
		width = 2
	}
	s.out.faults = append(s.out.faults, s.src.fault(s.src.placeAt(at), width, code, problem, hint))
}
