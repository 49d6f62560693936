package main

import (
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"unicode"

	"golang.org/x/term"
)

// table prints lines of cells in columns, the first line is the header. On a terminal a line that is too long is cut: the last
// column is the one that can be longest.
func table(w io.Writer, lines [][]string) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, line := range lines {
		for i := range line {
			line[i] = plain(line[i])
		}
		say(t, "%s\n", strings.Join(line, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	width := terminalWidth(w)
	for line := range strings.Lines(b.String()) {
		say(w, "%s\n", cut(strings.TrimRight(line, " \n"), width))
	}
	return nil
}

// plain keeps text of others from moving the cursor or breaking a line of the table.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '·'
		}
		return r
	}, s)
}

// cut shortens a line to a number of places on the screen; 0 is no bound.
func cut(s string, width int) string {
	if width <= 0 {
		return s
	}
	used, keep := 0, 0 // keep is where the cut would be, with a place left for the ellipsis
	for i, r := range s {
		if used < width {
			keep = i
		}
		used += cells(r)
		if used > width {
			return s[:keep] + "…"
		}
	}
	return s
}

// wide are the blocks whose characters take two places on a screen.
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x1100, Hi: 0x115f, Stride: 1}, {Lo: 0x2e80, Hi: 0xa4cf, Stride: 1}, {Lo: 0xac00, Hi: 0xd7a3, Stride: 1},
		{Lo: 0xf900, Hi: 0xfaff, Stride: 1}, {Lo: 0xfe30, Hi: 0xfe6f, Stride: 1}, {Lo: 0xff00, Hi: 0xff60, Stride: 1},
		{Lo: 0xffe0, Hi: 0xffe6, Stride: 1},
	},
	R32: []unicode.Range32{{Lo: 0x1f300, Hi: 0x1faff, Stride: 1}, {Lo: 0x20000, Hi: 0x3fffd, Stride: 1}},
}

// cells is how much room a character takes.
func cells(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case unicode.Is(wide, r):
		return 2
	}
	return 1
}

// terminalWidth is how many places a line has where w leads to a terminal, else 0.
func terminalWidth(w io.Writer) int {
	if f, ok := w.(*os.File); ok && isTerminal(w) {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			return width
		}
	}
	return 0
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
