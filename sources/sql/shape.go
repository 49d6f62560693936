package sql

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/millrace-run/millrace/databases"
	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
	"github.com/millrace-run/millrace/rules"
)

const jsonType = "application/json"

func escaped(name string) string { return (&url.URL{Path: name}).EscapedPath() }

// rowJSON appends all columns of a row as one JSON object.
func rowJSON(out []byte, columns []databases.Column, values [][]byte) []byte {
	out = append(out, '{')
	for i, c := range columns {
		if i > 0 {
			out = append(out, ',')
		}
		name, _ := json.Marshal(c.Name) // a string cannot fail
		value, _ := c.Value(values[i])
		out = append(append(append(out, name...), ':'), value...)
	}
	return append(out, '}')
}

// event makes the event of a row. Its expressions see the row as data. An attribute that cannot be made of a row is left out,
// or is what it is unless set: a row is never lost for it.
func (s *Source) event(id string, columns []databases.Column, values [][]byte) event.Event {
	e := event.Event{ID: id, Data: rowJSON(nil, columns, values), DataContentType: jsonType}
	s.attributes(&e)
	if s.Data == "" {
		return e
	}
	for i, c := range columns {
		if c.Name == s.Data {
			e.Data, e.DataContentType = dataOf(c.Value(values[i]))
		}
	}
	return e
}

// dataOf is the data of an event that is one column: text is JSON if it reads as JSON.
func dataOf(value []byte, kind databases.Kind) ([]byte, string) {
	var text string
	switch {
	case string(value) == "null" && kind != databases.JSON:
		return nil, ""
	case kind == databases.Bytes && json.Unmarshal(value, &text) == nil:
		if b, err := base64.StdEncoding.DecodeString(text); err == nil {
			return b, "application/octet-stream"
		}
	case kind == databases.Text && json.Unmarshal(value, &text) == nil:
		if codec.CheckJSON([]byte(text), 0) == nil {
			return []byte(text), jsonType
		}
		return []byte(text), "text/plain"
	}
	return append([]byte{}, value...), jsonType
}

// attributes sets those that the settings name, and those that an event must have.
func (s *Source) attributes(e *event.Event) {
	row := *e
	row.Source, row.Type = s.name, rowType
	in := &rules.Input{Event: &row}
	e.ID = s.render("id", &s.ID, in, row.ID)
	for _, a := range [...]struct {
		name  string
		of    *rules.Template
		into  *string
		other string
	}{{"type", &s.Type, &e.Type, rowType}, {"source", &s.Source, &e.Source, s.name}, {"subject", &s.Subject, &e.Subject, ""}} {
		if *a.into == "" { // else a test names it
			*a.into = s.render(a.name, a.of, in, a.other)
		}
	}
	for _, name := range s.order {
		subject := rules.Subject{Event: row}
		if _, _, err := s.ops[name](&subject); err != nil {
			s.missing(name, err)
		} else if x, ok := subject.Event.Extension(name); ok {
			e.SetExtension(x)
		}
	}
	if err := codec.Validate(e); err != nil {
		s.missing("of a row", err)
		*e = event.Event{ID: row.ID, Source: s.name, Type: rowType, Data: e.Data, DataContentType: e.DataContentType}
	}
}

func (s *Source) render(name string, t *rules.Template, in *rules.Input, other string) string {
	if t.String() == "" {
		return other
	}
	text, err := t.Render(in)
	if err == nil && strings.TrimSpace(text) == "" {
		err = fmt.Errorf("%s is empty", name)
	}
	if err != nil {
		s.missing(name, err)
		return other
	}
	return text
}

// missing tells, once for each attribute, that it cannot be made of some row.
func (s *Source) missing(name string, err error) {
	if !s.told[name] {
		s.told[name] = true
		s.log.Warn("an attribute cannot be made of a row and is left out; further ones are not told",
			"source", s.name, "attribute", name, "err", err)
	}
}

// Shape makes an event that stands in a test one of this source: its data is the row, and what it does not name is made of that.
func (s *Source) Shape(e *event.Event) {
	named := *e
	if e.DataContentType == "" && e.Data != nil {
		e.DataContentType = jsonType
	}
	if e.ID == "" {
		e.ID = s.idIn(e.Data)
	}
	s.attributes(e)
	if named.ID != "" {
		e.ID = named.ID
	}
	if s.Data == "" || named.DataContentType != "" {
		return
	}
	var row map[string]json.RawMessage
	if json.Unmarshal(e.Data, &row) == nil {
		kind := databases.Other
		if v := row[s.Data]; len(v) > 0 && v[0] == '"' {
			kind = databases.Text
		} else if v == nil {
			row[s.Data] = json.RawMessage("null")
		}
		e.Data, e.DataContentType = dataOf(row[s.Data], kind)
	}
}

// idIn is the id of a row that stands in a test, if it has the columns of after.
func (s *Source) idIn(data []byte) string {
	var row map[string]any
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.UseNumber()
	if d.Decode(&row) != nil {
		return ""
	}
	keys := make([]any, len(s.After))
	for i, name := range s.After {
		if keys[i] = row[name]; keys[i] == nil {
			return ""
		}
	}
	return idOf(keys)
}

// idOf is the id of a row unless the settings say another: the values of its key.
func idOf(keys []any) string {
	parts := make([]string, len(keys))
	for i, k := range keys {
		parts[i] = fmt.Sprint(k)
	}
	return strings.Join(parts, "/")
}
