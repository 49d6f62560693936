package pipelines

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Format writes diagnostics for a person, one after the other with an empty line between them. The text ends in a line feed,
// or is empty when there is nothing to say.
func Format(ds []Diagnostic) string {
	var b strings.Builder
	for i, d := range ds {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(d.String())
	}
	return b.String()
}

// Faults says whether any of the diagnostics is more than a warning.
func Faults(ds []Diagnostic) bool {
	return slices.ContainsFunc(ds, func(d Diagnostic) bool { return !d.Warning })
}

// String is the diagnostic as a person sees it: place, code and problem; the line with a caret under the place; what to do;
// and where to read more. It ends in a line feed. A diagnostic of a whole file has no line.
func (d Diagnostic) String() string {
	var b strings.Builder
	level := "error"
	if d.Warning {
		level = "warning"
	}
	fmt.Fprintf(&b, "%s  %s  %s  %s\n", d.Place, level, d.Code, clean(d.Problem))
	if d.Place.Line > 0 {
		d.writeSnippet(&b)
	}
	if d.Hint != "" {
		fmt.Fprintf(&b, "  %s\n", clean(d.Hint))
	}
	fmt.Fprintf(&b, "  help: millrace docs %s\n", d.Code)
	return b.String()
}

// String is path:line:col, or the path alone for a whole file.
func (p Place) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
}

// snippetWidth is how many characters of a long line are shown around the place.
const snippetWidth = 120

func (d Diagnostic) writeSnippet(b *strings.Builder) {
	runes, col := window([]rune(d.Source), d.Place.Col-1)
	number := fmt.Sprint(d.Place.Line)
	fmt.Fprintf(b, "  %s | %s\n", number, clean(string(runes)))
	fmt.Fprintf(b, "  %s | ", strings.Repeat(" ", len(number)))
	for _, r := range runes[:min(col, len(runes))] {
		// A tab is repeated, so that the caret stands right whatever the width of a tab is.
		if r == '\t' {
			b.WriteByte('\t')
			continue
		}
		b.WriteString(strings.Repeat(" ", columns(r)))
	}
	marked := 0
	for i := col; i < col+d.Width && i < len(runes); i++ {
		marked += columns(runes[i])
	}
	b.WriteString(strings.Repeat("^", max(marked, 1)))
	b.WriteByte('\n')
}

// window cuts a long line to what stands around the index i; cut ends are marked. It returns the text and the new index.
func window(line []rune, i int) ([]rune, int) {
	i = min(max(i, 0), len(line))
	if len(line) <= snippetWidth {
		return line, i
	}
	from := max(0, min(i-snippetWidth/3, len(line)-snippetWidth))
	to := min(len(line), from+snippetWidth)
	out := slices.Clone(line[from:to])
	if from > 0 {
		out[0] = '…'
	}
	if to < len(line) {
		out[len(out)-1] = '…'
	}
	return out, i - from
}

// columns is how many columns of a terminal a character takes: none for marks that sit on the one before, two for the wide
// ones of East Asia and emoji, else one.
func columns(r rune) int {
	if r < 0x300 {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me) {
		return 0
	}
	for _, w := range wide {
		if r >= w[0] && r <= w[1] {
			return 2
		}
	}
	return 1
}

var wide = [][2]rune{{0x1100, 0x115F}, {0x2E80, 0x303E}, {0x3041, 0xA4CF}, {0xAC00, 0xD7A3}, {0xF900, 0xFAFF}, {0xFE30, 0xFE6F},
	{0xFF00, 0xFF60}, {0xFFE0, 0xFFE6}, {0x1F300, 0x1F64F}, {0x1F680, 0x1FAFF}, {0x20000, 0x3FFFD}}

// clean makes text safe for a terminal: what could move the cursor, change colors or turn the direction of writing shows as
// a replacement character of the same width.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		if unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// sortDiagnostics sorts by place and drops repetitions, which arise where an alias repeats a part of the file.
func sortDiagnostics(ds []Diagnostic) []Diagnostic {
	slices.SortStableFunc(ds, func(a, b Diagnostic) int {
		return cmp.Or(
			cmp.Compare(a.Place.File, b.Place.File), cmp.Compare(a.Place.Line, b.Place.Line), cmp.Compare(a.Place.Col, b.Place.Col),
			cmp.Compare(a.Code, b.Code), cmp.Compare(a.Problem, b.Problem))
	})
	return slices.CompactFunc(ds, func(a, b Diagnostic) bool {
		return a.Place == b.Place && a.Code == b.Code && a.Problem == b.Problem
	})
}
