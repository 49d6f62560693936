package pipelines

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxFile is the most bytes that a file may have. Nobody writes such a file by hand; a bound keeps a mistaken path (a log, a
// disk image) and hostile input cheap.
const maxFile = 1 << 20

// source is the text of one file, cut into lines. Lines and columns count from 1, columns in characters (code points).
type source struct {
	path  string
	text  string // without a byte order mark, lines end in \n
	lines []int  // byte offset of the start of each line

	// The last answer of offset. Places are asked for in the order of the file, so a step from the last one is short even
	// when the whole file is one line.
	lastLine, lastCol, lastOff int

	masks  map[int][]mask // by line: what must not be shown
	masked map[int]string // lines with their masks on
}

// mask is a range of columns that holds a secret: from (included) to (not included; 0 is the end of the line).
type mask struct{ from, to int }

// newSource takes the bytes of a file as an editor shows them: a byte order mark is dropped, \r\n is \n. What is no text at
// all is a fault.
func newSource(path string, data []byte) (*source, *Diagnostic) {
	s := &source{path: path, masks: map[int][]mask{}, masked: map[int]string{}}
	if len(data) > maxFile {
		return s, tooLarge(path, int64(len(data)))
	}
	if bytes.HasPrefix(data, []byte{0xFF, 0xFE}) || bytes.HasPrefix(data, []byte{0xFE, 0xFF}) {
		return s, s.whole(codeEncoding, "the file is UTF-16, not UTF-8", "save it as UTF-8")
	}
	data = bytes.TrimPrefix(data, []byte("\xEF\xBB\xBF"))
	s.setText(strings.ReplaceAll(string(data), "\r\n", "\n"))
	if d := s.checkCharacters(); d != nil {
		return s, d
	}
	return s, nil
}

func (s *source) setText(text string) {
	s.text = text
	s.lines = append(s.lines[:0], 0)
	for i := range len(text) {
		if text[i] == '\n' {
			s.lines = append(s.lines, i+1)
		}
	}
}

// checkCharacters finds the first character that YAML does not allow.
func (s *source) checkCharacters() *Diagnostic {
	for i, r := range s.text {
		problem := ""
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s.text[i:], "\uFFFD"):
			problem = "a byte that is not UTF-8"
		case r == '\r':
			problem = "a carriage return without a line feed"
		case r < ' ' && r != '\n' && r != '\t', r == 0x7F, r >= 0x80 && r < 0xA0 && r != 0x85:
			problem = fmt.Sprintf("the control character U+%04X", r)
		case r == '\uFEFF':
			problem = "a byte order mark inside the text"
		}
		if problem == "" {
			continue
		}
		d := s.fault(s.placeAt(i), 1, codeEncoding, problem, "save the file as UTF-8 text")
		return &d
	}
	return nil
}

// whole is a fault of the file as such, without a line.
func (s *source) whole(code, problem, hint string) *Diagnostic {
	return &Diagnostic{Place: Place{File: s.path}, Code: code, Problem: problem, Hint: hint, Width: 1}
}

// fault is a fault at a place. The line is added at the end, when all secrets are known.
func (s *source) fault(at Place, width int, code, problem, hint string) Diagnostic {
	return Diagnostic{Place: at, Code: code, Problem: problem, Hint: hint, Width: max(width, 1)}
}

// line returns a line without its end; beyond the last it is empty.
func (s *source) line(n int) string {
	if n < 1 || n > len(s.lines) {
		return ""
	}
	end := len(s.text)
	if n < len(s.lines) {
		end = s.lines[n] - 1
	}
	return s.text[s.lines[n-1]:end]
}

// placeAt is the place of a byte offset.
func (s *source) placeAt(off int) Place {
	lo, hi := 0, len(s.lines)
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; s.lines[mid] <= off {
			lo = mid
		} else {
			hi = mid
		}
	}
	from, col := s.lines[lo], 1
	if s.lastLine == lo+1 && s.lastOff <= off {
		from, col = s.lastOff, s.lastCol
	}
	col += utf8.RuneCountInString(s.text[from:off])
	s.lastLine, s.lastCol, s.lastOff = lo+1, col, off
	return Place{File: s.path, Line: lo + 1, Col: col}
}

// offset is the byte offset of a place, at most the end of its line.
func (s *source) offset(line, col int) int {
	if line < 1 {
		return 0
	}
	if line > len(s.lines) {
		return len(s.text)
	}
	off, at := s.lines[line-1], 1
	if s.lastLine == line && s.lastCol <= col {
		off, at = s.lastOff, s.lastCol
	}
	for at < col && off < len(s.text) && s.text[off] != '\n' {
		_, n := utf8.DecodeRuneInString(s.text[off:])
		off += n
		at++
	}
	s.lastLine, s.lastCol, s.lastOff = line, at, off
	return off
}

// maskRange hides the text between two byte offsets in everything that is shown.
func (s *source) maskRange(from, to int) {
	a, b := s.placeAt(from), s.placeAt(to)
	for n := a.Line; n <= b.Line; n++ {
		m := mask{from: 1}
		if n == a.Line {
			m.from = a.Col
		}
		if n == b.Line {
			m.to = b.Col
		}
		s.masks[n] = append(s.masks[n], m)
		delete(s.masked, n)
	}
}

// shown is a line as it may be shown: secrets are asterisks of the same width.
func (s *source) shown(n int) string {
	text := s.line(n)
	if len(s.masks[n]) == 0 {
		return text
	}
	if done, ok := s.masked[n]; ok {
		return done
	}
	runes := []rune(text)
	for _, m := range s.masks[n] {
		to := m.to
		if to == 0 || to > len(runes)+1 {
			to = len(runes) + 1
		}
		for i := m.from; i < to; i++ {
			if runes[i-1] != ' ' || m.from > 1 {
				runes[i-1] = '*'
			}
		}
	}
	s.masked[n] = string(runes)
	return s.masked[n]
}
