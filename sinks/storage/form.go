package storage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
)

// The values of Format.
const (
	formatLines  = "lines"
	formatNDJSON = "ndjson"
	formatCSV    = "csv"
	formatJSON   = "json"
)

// form is how events stand in a file.
type form struct {
	format, content string
	columns         []Column
	comma           byte
	header          []byte // the first line of each file of csv; nil if it has none
	defuse          bool
	// id tells files that must not be mixed in one. It is in the state, with each file.
	id string
}

// newForm checks the settings. Its error joins one *event.KeyError for each fault.
func newForm(c Config, packing string) (form, error) {
	f := form{format: c.Format, content: c.Content, columns: c.Columns, comma: ',', defuse: c.Formulas != formulasKeep}
	suffix := suffixOf(c.Path.String(), packing)
	if f.format == "" {
		f.format = formatOf(suffix)
	}
	if err := errors.Join(c.checkWords(), f.checkCSV(c), f.checkContent()); err != nil {
		return form{}, err
	}
	switch f.format {
	case formatJSON:
		f.id = formatJSON
	case formatCSV:
		if suffix == ".tsv" {
			f.comma = '\t'
		}
		line := f.headerLine()
		f.id = formatCSV + ":" + hashOf(line)[:8]
		if c.Header {
			f.header, f.id = line, f.id+":header"
		}
	}
	return f, nil
}

func formatOf(suffix string) string {
	switch suffix {
	case ".ndjson", ".jsonl":
		return formatNDJSON
	case ".csv", ".tsv":
		return formatCSV
	case ".json":
		return formatJSON
	}
	return formatLines
}

// checkWords is for those who build a Config without the loader, which knows the words itself.
func (c Config) checkWords() error {
	var faults []error
	for _, w := range []struct{ key, value, valid string }{
		{"content", c.Content, "event, data, raw"},
		{"format", c.Format, ", lines, ndjson, csv, json"},
		{"formulas", c.Formulas, "defuse, keep"},
	} {
		if !strings.Contains(", "+w.valid+",", ", "+w.value+",") {
			faults = append(faults, keyError(w.key, fmt.Errorf("%q is none of %s", w.value, strings.TrimPrefix(w.valid, ", "))))
		}
	}
	return errors.Join(faults...)
}

func (f *form) checkCSV(c Config) error {
	if f.format == formatCSV {
		if len(c.Columns) == 0 {
			return keyError("columns", errors.New("csv needs columns, such as {id: id, total: data.total}"))
		}
		return nil
	}
	const only = "it is about csv: let the path end in .csv, or set format: csv"
	var faults []error
	for key, set := range map[string]bool{"columns": c.Columns != nil, "header": !c.Header, "formulas": c.Formulas == formulasKeep} {
		if set {
			faults = append(faults, keyError(key, errors.New(only)))
		}
	}
	return errors.Join(faults...)
}

func (f *form) checkContent() error {
	switch {
	case f.format == formatCSV && f.content != contentEvent:
		return keyError("content", errors.New("the columns say what is in a line of csv: leave it out"))
	case f.format == formatJSON && f.content == contentRaw:
		return keyError("content", errors.New("bytes as they are make no array of JSON: use data, or a path that does not end in .json"))
	}
	return nil
}

// append appends what an event is in the file, with the line feed that ends it; in an array of JSON with the comma before it. Its
// error is the event's fault.
func (f *form) append(dst []byte, ev *event.Event) ([]byte, error) {
	switch f.format {
	case formatCSV:
		return f.appendCells(dst, ev)
	case formatJSON:
		dst = append(dst, ",\n"...)
		if f.content == contentData {
			return codec.AppendDataLine(dst, ev), nil
		}
		return codec.EncodeJSON(dst, ev), nil
	}
	switch {
	case f.content == contentRaw:
		return append(dst, ev.Data...), nil
	case f.content == contentEvent:
		dst = codec.EncodeJSON(dst, ev)
	case f.format == formatNDJSON:
		dst = codec.AppendDataLine(dst, ev)
	default:
		dst = appendText(dst, ev)
	}
	return append(dst, '\n'), nil
}

// place makes of records what is written to a file whose last bytes are tail: with what a file begins with, or a line feed if
// the last line, which somebody else wrote, has no end. It may change records.
func (f *form) place(records, tail []byte) []byte {
	switch {
	case len(tail) == 0 && f.format == formatJSON:
		records[0] = '['
	case len(tail) == 0 && f.header != nil:
		return append(bytes.Clone(f.header), records...)
	case len(tail) > 0 && tail[len(tail)-1] != '\n' && f.format != formatJSON && f.content != contentRaw:
		return append([]byte{'\n'}, records...)
	}
	return records
}

// continues says whether a file that the sink does not know may be continued behind its end.
func (f *form) continues(file file, size int64) (bool, error) {
	switch {
	case size == 0 || f.format != formatJSON && f.header == nil:
		return true, nil
	case f.format == formatJSON || size < int64(len(f.header)):
		return false, nil
	}
	begin := make([]byte, len(f.header))
	if _, err := file.ReadAt(begin, 0); err != nil && size > int64(len(begin)) {
		return false, err
	}
	return bytes.Equal(begin, f.header), nil
}

// endOf is what stands at the end of a closed file of a form.
func endOf(id string) string {
	if id == formatJSON {
		return "\n]\n"
	}
	return ""
}

// isNumeric says whether a text is a number as a spreadsheet or JSON has it.
func isNumeric(text string) bool {
	digits := strings.TrimPrefix(text, "+")
	if len(digits) == len(text) {
		digits = strings.TrimPrefix(text, "-")
	}
	return digits != "" && digits[0] >= '0' && digits[0] <= '9' && json.Valid([]byte(digits))
}
