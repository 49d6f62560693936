package records

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/millrace-run/millrace/event/codec"
)

// The types of columns.
const (
	typeString  = "string"
	typeInteger = "integer"
	typeNumber  = "number"
	typeBoolean = "boolean"
)

// CheckType says what is wrong with the name of a column's type, or nil.
func CheckType(name string) error {
	valid := []string{typeString, typeInteger, typeNumber, typeBoolean}
	if slices.Contains(valid, name) {
		return nil
	}
	return fmt.Errorf("%q is none of %s", name, strings.Join(valid, ", "))
}

// CheckDelimiter says what is wrong with the delimiter of CSV, or nil.
func CheckDelimiter(r rune) error {
	if r == '"' || r == '\r' || r == '\n' || r == 0 || r == utf8.RuneError || !utf8.ValidRune(r) {
		return fmt.Errorf("%q cannot divide columns", r)
	}
	return nil
}

// CheckColumns says what is wrong with the names of columns, or nil.
func CheckColumns(names []string) error {
	seen := make(map[string]bool, len(names))
	for i, name := range names {
		switch {
		case name == "":
			return fmt.Errorf("column %d has no name", i+1)
		case !utf8.ValidString(name):
			return fmt.Errorf("the name of column %d is not UTF-8", i+1)
		case seen[name]:
			return fmt.Errorf("two columns are named %q", name)
		}
		seen[name] = true
	}
	return nil
}

// table reads CSV.
type table struct {
	max   int64
	at    *Position // behind the last record
	base  Position  // where csv began
	csv   *csv.Reader
	limit *limit
	types []string
	names [][]byte // each as it stands in an object: {"a": or ,"b":
	text  []byte   // of the last record
}

// newTable reads the names of the columns and goes on at the position.
func newTable(src io.Reader, o Options, at *Position) (*table, error) {
	t := &table{max: o.Max, at: at, limit: &limit{in: src}}
	names, begin := o.Columns, Position{}
	buffer := bufio.NewReaderSize(t.limit, buffered)
	t.limit.allow(o.Max)
	if err := leaveMark(buffer, &begin); err != nil {
		return nil, err
	}
	t.begin(buffer, o.Delimiter, begin)
	if names == nil {
		first, err := t.csv.Read()
		if errors.Is(err, io.EOF) {
			return t, nil // without names there is no record either
		}
		if err != nil {
			return nil, t.fatal(err)
		}
		names = slices.Clone(first)
		begin = t.position(first)
	}
	if err := t.name(names, o.Types); err != nil {
		return nil, &Fault{Line: 1, Err: err, Fatal: true}
	}
	if t.csv.FieldsPerRecord = len(names); at.Offset <= begin.Offset {
		*at = begin
		return t, nil
	}
	return t, t.resume(src, buffer, o, *at)
}

// resume goes on behind records that an earlier reader has returned.
func (t *table) resume(src io.Reader, buffer *bufio.Reader, o Options, at Position) error {
	if _, ok := src.(io.Seeker); ok {
		if err := skip(src, at.Offset); err != nil {
			return err
		}
		buffer.Reset(t.limit)
	} else {
		// The reader of the names may have taken more than them, but all that it took is in the buffer or before it.
		t.limit.end = math.MaxInt64
		if _, err := io.CopyN(io.Discard, buffer, at.Offset-t.taken(buffer)); err != nil {
			return errors.Join(err, io.ErrUnexpectedEOF)
		}
	}
	columns := t.csv.FieldsPerRecord
	t.begin(buffer, o.Delimiter, at)
	t.csv.FieldsPerRecord = columns
	return nil
}

// taken is how many bytes of the stream were taken from the buffer.
func (t *table) taken(buffer *bufio.Reader) int64 { return t.limit.read - int64(buffer.Buffered()) }

func (t *table) begin(buffer *bufio.Reader, delimiter rune, at Position) {
	t.csv, t.base = csv.NewReader(buffer), at
	t.csv.Comma, t.csv.ReuseRecord = delimiter, true
}

// position is where csv stands behind a record. Records is that of the last one.
func (t *table) position(fields []string) Position {
	p := *t.at
	p.Offset = t.base.Offset + t.csv.InputOffset()
	if last := len(fields) - 1; last >= 0 {
		line, _ := t.csv.FieldPos(last)
		p.Lines = t.base.Lines + int64(line+strings.Count(fields[last], "\n"))
	}
	return p
}

// name takes the names of the columns and their types.
func (t *table) name(names []string, types map[string]string) error {
	if err := CheckColumns(names); err != nil {
		return err
	}
	for column := range types {
		if !slices.Contains(names, column) {
			return fmt.Errorf("types names the column %q, which is not there", column)
		}
	}
	for i, name := range names {
		open := byte(',')
		if i == 0 {
			open = '{'
		}
		t.names = append(t.names, append(codec.AppendString([]byte{open}, name), ':'))
		t.types = append(t.types, types[name])
	}
	return nil
}

// next returns a record as a JSON object.
func (t *table) next(s *slab) ([]byte, error) {
	if t.names == nil {
		return nil, io.EOF
	}
	begun := t.csv.InputOffset()
	t.limit.allow(t.max)
	fields, err := t.csv.Read()
	if errors.Is(err, io.EOF) {
		return nil, io.EOF
	}
	*t.at = t.position(fields)
	if err != nil {
		return nil, t.fault(err)
	}
	first, _ := t.csv.FieldPos(0)
	line := t.base.Lines + int64(first)
	if size := t.csv.InputOffset() - begun; size > t.max {
		return nil, &Fault{Line: line, Err: fmt.Errorf("%w (%d bytes)", errTooLong, t.max)}
	}
	if t.text, err = t.object(t.text[:0], fields); err != nil {
		return nil, &Fault{Line: line, Err: err}
	}
	t.at.Records++
	return s.keep(t.text), nil
}

// fault says what is wrong with a record that csv could not read.
func (t *table) fault(err error) error {
	var parse *csv.ParseError
	if !errors.As(err, &parse) {
		return t.fatal(err)
	}
	t.at.Lines = max(t.at.Lines, t.base.Lines+int64(parse.Line))
	f := &Fault{Line: t.base.Lines + int64(parse.StartLine), Err: parse.Err}
	if errors.Is(parse.Err, csv.ErrFieldCount) {
		f.Err = fmt.Errorf("it has not as many columns as there are names (%d)", len(t.names))
	}
	return f
}

// fatal makes a fault of what is wrong with the text, and leaves errors of the stream as they are.
func (t *table) fatal(err error) error {
	var parse *csv.ParseError
	switch {
	case errors.As(err, &parse):
		return &Fault{Line: t.base.Lines + int64(parse.StartLine), Err: parse.Err, Fatal: true}
	case errors.Is(err, errTooLong):
		return &Fault{Err: fmt.Errorf("a record, maybe one in which a quote is not closed: %w (%d bytes)", errTooLong, t.max), Fatal: true}
	}
	return err
}

// object appends a record as a JSON object.
func (t *table) object(dst []byte, fields []string) ([]byte, error) {
	for i, text := range fields {
		dst = append(dst, t.names[i]...)
		var err error
		if dst, err = appendTyped(dst, text, t.types[i]); err != nil {
			name := strings.Trim(string(t.names[i]), "{,:")
			return nil, fmt.Errorf("column %s: %w", name, err)
		}
	}
	return append(dst, '}'), nil
}

// appendTyped appends a value as JSON. An empty one is null, unless it is text.
func appendTyped(dst []byte, text, kind string) ([]byte, error) {
	if kind == "" || kind == typeString {
		if !utf8.ValidString(text) {
			return nil, errors.New("it is not UTF-8")
		}
		return codec.AppendString(dst, text), nil
	}
	text = strings.TrimSpace(text)
	if text == "" {
		return append(dst, "null"...), nil
	}
	switch kind {
	case typeBoolean:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return nil, fmt.Errorf("%.40q is not a boolean", text)
		}
		return strconv.AppendBool(dst, b), nil
	case typeInteger:
		digits, ok := integer(text)
		if !ok {
			return nil, fmt.Errorf("%.40q is not an integer", text)
		}
		return append(dst, digits...), nil
	}
	return appendNumber(dst, text)
}

// integer is the digits of a number as JSON has them: no plus, no zeros before it.
func integer(text string) (string, bool) {
	digits, sign := strings.TrimPrefix(text, "+"), ""
	if digits == text {
		if digits = strings.TrimPrefix(text, "-"); digits != text {
			sign = "-"
		}
	}
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return "", false
	}
	if digits = strings.TrimLeft(digits, "0"); digits == "" {
		return "0", true
	}
	return sign + digits, true
}

// appendNumber keeps the text of a number that is one in JSON too, so that no digit is lost.
func appendNumber(dst []byte, text string) ([]byte, error) {
	if (text[0] == '-' || text[0] >= '0' && text[0] <= '9') && codec.CheckJSON([]byte(text), 1) == nil {
		return append(dst, text...), nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) || strings.ContainsAny(text, "xXpP_") {
		return nil, fmt.Errorf("%.40q is not a number", text)
	}
	b, err := json.Marshal(f)
	return append(dst, b...), err
}

// limit bounds what is read for one record, so that a quote which is never closed does not fill the memory.
type limit struct {
	in   io.Reader
	read int64
	end  int64
}

// allow allows a record of n bytes, beside what a buffer reads ahead.
func (l *limit) allow(n int64) { l.end = l.read + n + buffered }

// Read is that of the stream.
func (l *limit) Read(p []byte) (int, error) {
	if l.read >= l.end {
		return 0, errTooLong
	}
	n, err := l.in.Read(p)
	l.read += int64(n)
	return n, err
}
