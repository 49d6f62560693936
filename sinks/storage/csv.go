package storage

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

// appendCells appends a line of csv. A column that fails is the event's fault.
func (f *form) appendCells(dst []byte, ev *event.Event) ([]byte, error) {
	in := &rules.Input{Event: ev}
	begin := len(dst)
	for i, c := range f.columns {
		text, number, err := c.Value.Text(in)
		if err != nil {
			return dst[:begin], fmt.Errorf("columns.%s: %w", c.Name, err)
		}
		if i > 0 {
			dst = append(dst, f.comma)
		}
		if f.defuse && !number && isFormula(text) {
			text = "'" + text
		}
		dst = f.appendCell(dst, text)
	}
	return f.endLine(dst, begin), nil
}

// isFormula says whether a spreadsheet would take a cell for a formula, which could call programs or send what is beside it.
func isFormula(text string) bool {
	return text != "" && strings.IndexByte("=+-@\t\r", text[0]) >= 0 && !isNumeric(text)
}

// appendCell quotes a cell where RFC 4180 asks for it, and where a reader could take its space away.
func (f *form) appendCell(dst []byte, text string) []byte {
	plain := !strings.ContainsAny(text, "\"\r\n") && strings.IndexByte(text, f.comma) < 0
	if plain && strings.TrimSpace(text) == text {
		return append(dst, text...)
	}
	dst = append(dst, '"')
	for {
		at := strings.IndexByte(text, '"')
		if at < 0 {
			break
		}
		dst = append(append(dst, text[:at]...), `""`...)
		text = text[at+1:]
	}
	return append(append(dst, text...), '"')
}

// endLine ends a line. One without a byte would be no line for most readers.
func (f *form) endLine(dst []byte, begin int) []byte {
	if len(dst) == begin {
		dst = append(dst, `""`...)
	}
	return append(dst, '\n')
}

func (f *form) headerLine() []byte {
	var line []byte
	for i, c := range f.columns {
		if i > 0 {
			line = append(line, f.comma)
		}
		line = f.appendCell(line, c.Name)
	}
	return bytes.Clone(f.endLine(line, 0))
}
