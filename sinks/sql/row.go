package sql

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/millrace-run/millrace/databases"
	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
	"github.com/millrace-run/millrace/rules"
)

// row is an event as it is written. Its values are those of databases.Conn.
type row struct {
	at     int // its place in the batch
	values []any
}

// rows are the events of one delivery as rows, made one after the other.
type rows struct {
	*settings
	batch    []event.Delivery
	verdicts []error // of the batch; an event that cannot be a row is Permanent
	look     *rules.Look
}

// all are all rows of the batch.
func (r *rows) all() []row {
	made := make([]row, 0, len(r.batch))
	for at := range r.batch {
		if values := make([]any, len(r.columns)); r.make(at, values) {
			made = append(made, row{at, values})
		}
	}
	return made
}

// make fills in the values of an event. False says that it cannot be a row, and is told so.
func (r *rows) make(at int, values []any) bool {
	e := r.batch[at].Event
	in := r.look.At(e)
	for i := range r.columns {
		c := &r.columns[i]
		v, err := c.of(e, in)
		if err == nil {
			v, err = r.value(c, v)
		}
		if err == nil && v == nil && r.inKey[i] {
			err = errNullKey
		}
		if err != nil {
			r.verdicts[at] = event.Permanent(fmt.Errorf("column %q: %w", c.Name, err))
			return false
		}
		values[i] = v
	}
	return true
}

// of is the value of a column. The data as a whole is written as it came, without being taken apart.
func (c *Column) of(e *event.Event, in *rules.Input) (any, error) {
	if c.Value.String() == "data" && e.IsJSON() && codec.HasJSON(e) {
		if text := bytes.TrimSpace(e.Data); text[0] == '{' || text[0] == '[' {
			return json.RawMessage(text), nil
		}
	}
	v, _, err := c.Value.Scalar(in)
	return v, err
}

var (
	errNullKey = errors.New("it is part of key and must not be null")

	errNUL  = errors.New("the text has a NUL character, which PostgreSQL cannot store")
	errUTF8 = errors.New("the text is not UTF-8; declare the column as bytea or blob to write bytes")
)

// value turns what an expression yields into what a connection takes.
func (s *settings) value(c *Column, v any) (any, error) {
	sqlite := s.address.Engine() == databases.SQLite
	switch w := v.(type) {
	case bool:
		if sqlite {
			return map[bool]int64{true: 1}[w], nil
		}
	case json.Number:
		if sqlite {
			return real(string(w)), nil
		}
		return string(w), nil
	case json.RawMessage:
		v = string(w)
	case time.Time:
		v = w.Format(time.RFC3339Nano)
	}
	text, ok := v.(string)
	switch {
	case !ok:
		return v, nil
	case c.holdsBytes():
		return []byte(text), nil
	case !utf8.ValidString(text):
		return nil, errUTF8
	case !sqlite && strings.IndexByte(text, 0) >= 0:
		return nil, errNUL
	}
	return text, nil
}

var digitsOnly = strings.NewReplacer(".", "", "-", "")

// realDigits are so many digits that a float64 gives back each of them.
const realDigits = 15

// real is a number as SQLite keeps it: a float64, or text where digits would be lost.
func real(text string) any {
	mantissa, _, _ := strings.Cut(strings.ToLower(text), "e")
	digits := strings.TrimLeft(digitsOnly.Replace(mantissa), "0")
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || len(digits) > realDigits || f == 0 && digits != "" {
		return text
	}
	return f
}

// last leaves one row of each key: the last one, or the first where rows that are there are left alone.
func (s *settings) last(rows []row) []row {
	if s.conflict == onError {
		return rows
	}
	at := make(map[string]int, len(rows))
	of := make([]string, len(rows))
	for i, r := range rows {
		of[i] = s.keyOf(r)
		if _, ok := at[of[i]]; !ok || s.conflict == onUpdate {
			at[of[i]] = i
		}
	}
	if len(at) == len(rows) {
		return rows
	}
	some := make([]row, 0, len(at))
	for i, r := range rows {
		if at[of[i]] == i {
			some = append(some, r)
		}
	}
	return some
}

// keyOf is the same text for rows with the same key.
func (s *settings) keyOf(r row) string {
	var key []byte
	for _, i := range s.key {
		text, _ := databases.AppendText(nil, r.values[i]) // it is not null
		key = append(strconv.AppendInt(key, int64(len(text)), 10), ' ')
		key = append(key, text...)
	}
	return string(key)
}
