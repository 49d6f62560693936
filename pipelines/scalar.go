package pipelines

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// end is the byte offset behind a plain or quoted scalar.
func (n *node) end() int {
	from := n.src.offset(n.at.Line, n.at.Col)
	if n.absent || n.kind != scalarNode {
		return from
	}
	_, end, ok := n.align()
	if !ok {
		return from
	}
	return end
}

// textPlace is the place of the byte at offset off of the scalar's text: where the user wrote it, through quotes, escapes,
// indentation and folds. When that cannot be found it is the start of the scalar.
func (n *node) textPlace(off int) Place {
	offsets, _, ok := n.align()
	if !ok || off < 0 || off >= len(offsets) {
		return n.at
	}
	return n.src.placeAt(offsets[off])
}

// align finds for each byte of the scalar's text the byte of the file that it came from. offsets has one more element, for the
// end of the text; end is behind the scalar with its quotes. It walks text and file together, so an answer that is ok is
// exact; not ok means that the two do not match.
func (n *node) align() (offsets []int, end int, ok bool) {
	a := &aligner{file: n.src.text, pos: n.src.offset(n.at.Line, n.at.Col), text: n.text}
	switch n.style {
	case plainStyle:
		ok = a.run(a.plainStep)
		end = a.pos
	case singleStyle, doubleStyle:
		quote, step := byte('\''), a.singleStep
		if n.style == doubleStyle {
			quote, step = '"', a.doubleStep
		}
		ok = a.take(quote) && a.run(step) && a.skipFold() && a.take(quote)
		end = a.pos
	default:
		ok = a.header() && a.run(a.blockStep)
		end = a.pos
	}
	return append(a.offsets, a.last), end, ok
}

// aligner walks the text of a scalar and the file that it stands in together.
type aligner struct {
	file    string
	pos     int
	text    string
	i       int
	indent  int // of a block scalar
	offsets []int
	last    int // the place of the text's end
}

// run calls step until the whole text is found. step consumes at least one byte of the text, or fails.
func (a *aligner) run(step func() bool) bool {
	a.offsets = make([]int, 0, len(a.text)+1)
	for a.i < len(a.text) {
		if !step() {
			return false
		}
	}
	a.last = a.pos
	return true
}

func (a *aligner) take(c byte) bool {
	if a.pos < len(a.file) && a.file[a.pos] == c {
		a.pos++
		return true
	}
	return false
}

// emit says that the next n bytes of the text came from the file's bytes at from.
func (a *aligner) emit(n, from int) {
	for range n {
		a.offsets = append(a.offsets, from)
	}
	a.i += n
}

// same takes one character that is the same in both.
func (a *aligner) same() bool {
	_, n := utf8.DecodeRuneInString(a.text[a.i:])
	if !strings.HasPrefix(a.file[a.pos:], a.text[a.i:a.i+n]) {
		return false
	}
	for k := range n {
		a.offsets = append(a.offsets, a.pos+k)
	}
	a.i += n
	a.pos += n
	return true
}

// fold takes a line break within a flow scalar: one is a space, k more are k line feeds. It reports whether there was one.
func (a *aligner) fold() bool {
	end, breaks := a.afterFold()
	if breaks == 0 {
		return false
	}
	want := " "
	if breaks > 1 {
		want = strings.Repeat("\n", breaks-1)
	}
	if !strings.HasPrefix(a.text[a.i:], want) {
		return false
	}
	a.emit(len(want), a.pos)
	a.pos = end
	return true
}

// afterFold looks over white space and line breaks; breaks is how many there are.
func (a *aligner) afterFold() (end, breaks int) {
	for end = a.pos; end < len(a.file); end++ {
		switch a.file[end] {
		case '\n':
			breaks++
		case ' ', '\t':
		default:
			return end, breaks
		}
	}
	return end, breaks
}

// skipFold passes line breaks that the text does not show, before a closing quote.
func (a *aligner) skipFold() bool {
	if end, breaks := a.afterFold(); breaks > 0 && a.i == len(a.text) {
		a.pos = end
	}
	return true
}

func (a *aligner) plainStep() bool { return a.fold() || a.same() }

func (a *aligner) singleStep() bool {
	if strings.HasPrefix(a.file[a.pos:], "''") && a.text[a.i] == '\'' {
		a.emit(1, a.pos)
		a.pos += 2
		return true
	}
	return a.fold() || a.same()
}

func (a *aligner) doubleStep() bool {
	if a.pos >= len(a.file) {
		return false
	}
	if a.file[a.pos] != '\\' {
		return a.fold() || a.same()
	}
	value, n := unescape(a.file[a.pos:])
	if n == 0 || !strings.HasPrefix(a.text[a.i:], value) {
		return false
	}
	a.emit(len(value), a.pos)
	a.pos += n
	return true
}

// escapes are those of YAML's double quotes that are one character.
var escapes = map[byte]string{'0': "\x00", 'a': "\a", 'b': "\b", 't': "\t", '\t': "\t", 'n': "\n", 'v': "\v", 'f': "\f", 'r': "\r",
	'e': "\x1b", ' ': " ", '"': `"`, '/': "/", '\\': `\`, 'N': "\u0085", '_': "\u00a0", 'L': "\u2028", 'P': "\u2029"}

// unescape reads the escape that s begins with: its value and how long it is; 0 if it is none.
func unescape(s string) (string, int) {
	if len(s) < 2 {
		return "", 0
	}
	if v, ok := escapes[s[1]]; ok {
		return v, 2
	}
	if s[1] == '\n' { // an escaped line break is nothing
		return "", 2 + len(s[2:]) - len(strings.TrimLeft(s[2:], " \t"))
	}
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[s[1]]
	if digits == 0 || len(s) < 2+digits {
		return "", 0
	}
	code, err := strconv.ParseUint(s[2:2+digits], 16, 32)
	if err != nil {
		return "", 0
	}
	return string(rune(code)), 2 + digits
}

// header takes the first line of a block scalar and finds the indentation of its text.
func (a *aligner) header() bool {
	line, rest, found := strings.Cut(a.file[a.pos:], "\n")
	if !found || line == "" {
		return false
	}
	explicit := 0
	for _, c := range line[1:min(len(line), 3)] {
		if c >= '1' && c <= '9' {
			explicit = int(c - '0')
		}
	}
	start := a.pos
	a.pos += len(line) + 1
	a.last = a.pos
	for l := range strings.SplitSeq(rest, "\n") {
		if trimmed := strings.TrimLeft(l, " "); trimmed != "" {
			a.indent = len(l) - len(trimmed)
			break
		}
	}
	if explicit > 0 {
		a.indent = a.explicitIndent(start, explicit)
	}
	return a.skipIndent()
}

// explicitIndent is the indentation that a number in the header asks for: relative to the line of the key.
func (a *aligner) explicitIndent(start, n int) int {
	from := strings.LastIndexByte(a.file[:start], '\n') + 1
	line := a.file[from:start]
	parent := len(line) - len(strings.TrimLeft(line, " "))
	for rest := line[parent:]; strings.HasPrefix(rest, "- "); rest = line[parent:] {
		parent += len(rest) - len(strings.TrimLeft(rest[1:], " "))
	}
	return parent + n
}

func (a *aligner) skipIndent() bool {
	n := 0
	for n < a.indent && a.pos+n < len(a.file) && a.file[a.pos+n] == ' ' {
		n++
	}
	a.pos += n
	return true
}

// blockStep takes a character of a line, or a line's end, which the text shows as line feeds or (folded) as a space.
func (a *aligner) blockStep() bool {
	if a.pos >= len(a.file) {
		return a.tail()
	}
	if a.file[a.pos] != '\n' {
		return a.same()
	}
	if c := a.text[a.i]; c != '\n' && c != ' ' {
		return false
	}
	if a.text[a.i] == ' ' { // folded: one break
		a.emit(1, a.pos)
		a.pos++
		return a.skipIndent()
	}
	feeds := len(a.text[a.i:]) - len(strings.TrimLeft(a.text[a.i:], "\n"))
	end, breaks := a.blankLines()
	if feeds > breaks {
		return a.tail()
	}
	a.emit(feeds, a.pos)
	a.pos = end
	return a.skipIndent()
}

// blankLines looks over a line's end and the blank lines after it.
func (a *aligner) blankLines() (end, breaks int) {
	end = a.pos
	for end < len(a.file) && a.file[end] == '\n' {
		end++
		breaks++
		next := end + len(a.file[end:]) - len(strings.TrimLeft(a.file[end:], " "))
		if next >= len(a.file) || a.file[next] != '\n' {
			return end, breaks
		}
		if next-end > a.indent { // spaces beyond the indentation are text
			return end, breaks
		}
		end = next
	}
	return end, breaks
}

// tail takes line feeds at the end of the text that the file does not show one by one.
func (a *aligner) tail() bool {
	if strings.Trim(a.text[a.i:], "\n") != "" {
		return false
	}
	a.emit(len(a.text)-a.i, a.pos)
	return true
}

// lineCol turns a line and a column (in characters) of a text into a byte offset in it.
func lineCol(text string, line, col int) int {
	off := 0
	for range line - 1 {
		i := strings.IndexByte(text[off:], '\n')
		if i < 0 {
			return len(text)
		}
		off += i + 1
	}
	for range col - 1 {
		if off >= len(text) {
			return len(text)
		}
		_, n := utf8.DecodeRuneInString(text[off:])
		off += n
	}
	return off
}

// quote writes a value of the file into a message: shortened, in double quotes.
func quote(s string) string {
	if r := []rune(s); len(r) > 60 {
		s = string(slices.Concat(r[:59], []rune("…")))
	}
	return strconv.Quote(s)
}
