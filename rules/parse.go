package rules

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// ParseOptions are the settings of a parse stage.
type ParseOptions struct {
	Format    string            // one of ParseFormats
	From      string            // the path of the text; data when empty
	Into      string            // the path of the result; data when empty
	Columns   []string          // csv: the names of the fields, in their order
	Delimiter string            // csv: one character; a comma when empty
	Pattern   string            // regex: an RE2 expression with named groups
	Types     map[string]string // regex, csv, logfmt: name to string, int, float, bool or auto
	Timezone  string            // syslog: of times that name none, such as Europe/Berlin; UTC when empty
}

// ParseFormats are the formats of Parse.
var ParseFormats = []string{"json", "logfmt", "common", "combined", "syslog", "csv", "regex"}

// lineParser finds the members of a text. It is safe for concurrent use; what it finds shares the memory of the text.
type lineParser func(line string, s *Subject, into *record) error // s only to know when the event was received

// Parse makes the text at From the value at Into. A text that is not in the format is an error of the stage and leaves the event as it
// was. Its error is a *ParseFault.
//
// Where both paths are data, which is the default, the result replaces the text and the content type becomes application/json; it is
// written as JSON only when something needs it (see Subject). json takes any value, the others give an object.
func Parse(o ParseOptions) (Op, error) {
	from, into, err := parsePaths(o)
	if err != nil {
		return nil, err
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Format == "json" {
		return func(s *Subject) (bool, string, error) { return parseJSON(s, from, into) }, nil
	}
	p, err := o.parser()
	if err != nil {
		return nil, err
	}
	return func(s *Subject) (bool, string, error) { return parseRecord(s, p, from, into) }, nil
}

// ParseFault says which setting of a parse stage cannot be used.
type ParseFault struct {
	Key string
	Err error
}

// Error is "key: cause".
func (f *ParseFault) Error() string { return f.Key + ": " + f.Err.Error() }

// Unwrap returns the cause.
func (f *ParseFault) Unwrap() error { return f.Err }

func parsePaths(o ParseOptions) (from, into target, err error) {
	for _, p := range []struct {
		key, path string
		to        *target
	}{{"from", o.From, &from}, {"into", o.Into, &into}} {
		if p.path == "" {
			p.path = "data"
		}
		t, fault := parseTarget(p.path)
		if fault != nil {
			return from, into, &ParseFault{p.key, fault}
		}
		if !t.whole && t.path == nil {
			return from, into, &ParseFault{p.key, errors.New("expected data or a path below it, such as data.message")}
		}
		*p.to = t
	}
	return from, into, nil
}

// check holds that a setting belongs to the format, since one that has no effect is a mistake.
func (o ParseOptions) check() error {
	if !slices.Contains(ParseFormats, o.Format) {
		return &ParseFault{"format", fmt.Errorf("expected one of %s", strings.Join(ParseFormats, ", "))}
	}
	for _, s := range []struct {
		key     string
		given   bool
		formats string
	}{
		{"columns", o.Columns != nil, "csv"},
		{"delimiter", o.Delimiter != "", "csv"},
		{"pattern", o.Pattern != "", "regex"},
		{"types", o.Types != nil, "csv regex logfmt"},
		{"timezone", o.Timezone != "", "syslog"},
	} {
		if s.given && !slices.Contains(strings.Fields(s.formats), o.Format) {
			return &ParseFault{s.key, fmt.Errorf("has no meaning for the format %s", o.Format)}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.Types)) {
		if kind := o.Types[name]; !slices.Contains(valueTypes, kind) {
			return &ParseFault{"types", fmt.Errorf("%s: expected one of %s", name, strings.Join(valueTypes, ", "))}
		}
	}
	return nil
}

var valueTypes = []string{"string", "int", "float", "bool", "auto"}

func (o ParseOptions) parser() (lineParser, error) {
	switch o.Format {
	case "common", "combined":
		return webParser(o.Format == "combined"), nil
	case "logfmt":
		return logfmtParser(o.Types), nil
	case "csv":
		return csvParser(o)
	case "regex":
		return regexParser(o)
	}
	zone, err := time.LoadLocation(o.Timezone) // empty is UTC
	if err != nil {
		return nil, &ParseFault{"timezone", errors.New("not a time zone of this machine, such as Europe/Berlin")}
	}
	return syslogParser(zone), nil
}

// parseJSON takes the text as JSON, byte for byte.
func parseJSON(s *Subject, from, into target) (bool, string, error) {
	line, err := s.text(from)
	if err != nil {
		return false, "", err
	}
	value := bytesOf(line)
	if s.indexed = nil; s.found.membersOf(value) {
		s.indexed = value
		return true, "", s.put(into, value)
	}
	var check scanner
	if err := check.scan(value, nil); err != nil {
		return false, "", fault("the text is %s: %v", sizeWord(value), err)
	}
	return true, "", s.put(into, value)
}

func parseRecord(s *Subject, p lineParser, from, into target) (bool, string, error) {
	line, err := s.text(from)
	if err != nil {
		return false, "", err
	}
	s.indexed = nil
	s.found.reset()
	if err := p(line, s, &s.found); err != nil {
		return false, "", err
	}
	if into.whole {
		s.parsed, s.Event.DataContentType = true, jsonType
		return true, "", nil
	}
	return true, "", s.put(into, s.found.appendJSON(nil))
}

// text is the text at a path. That there is none is an error, for then there is nothing to parse.
func (s *Subject) text(from target) (string, error) {
	s.Finish()
	ev := &s.Event
	isJSON := ev.DataContentType != "text/plain" && ev.IsJSON() && (ev.DataContentType != "" || !from.whole)
	switch {
	case ev.Data == nil:
		return "", fault("the event has no data")
	case !isJSON && from.whole:
		return alias(ev.Data), nil
	case !isJSON:
		return "", fault("%s: the data is %s, not JSON", from.text, ev.DataContentType)
	}
	raw, err := valueAt(ev.Data, from.path)
	switch {
	case err != nil:
		return "", err
	case raw == nil:
		return "", fault("%s is missing", from.text)
	case raw[0] != '"':
		return "", fault("%s is no text", from.text)
	}
	return textOf(raw[1:len(raw)-1], strings.IndexByte(alias(raw), '\\') >= 0), nil
}

// valueAt is the value at a path of JSON; nil where there is none.
func valueAt(b []byte, path []step) ([]byte, error) {
	var w tree
	at := w.add(path)
	s := scanner{spans: make([]span, w.slots), seen: make([]bool, w.members)}
	if err := s.scan(b, w.want); err != nil {
		return nil, fault("the data is %s: %v", sizeWord(b), err)
	}
	if s.spans[at].end == 0 {
		return nil, nil
	}
	return b[s.spans[at].start:s.spans[at].end], nil
}

// put writes a result, as the data or into it.
func (s *Subject) put(into target, result []byte) error {
	if into.whole {
		s.Event.Data, s.Event.DataContentType = result, jsonType
		return nil
	}
	if !s.Event.IsJSON() {
		return fault("%s: the data is %s, not JSON", into.text, s.Event.DataContentType)
	}
	data, err := setIn(s.Event.Data, into.path, result)
	if err != nil {
		return fmt.Errorf("%s: %w", into.text, err)
	}
	s.Event.Data = data
	return nil
}
