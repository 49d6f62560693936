package codec

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/millrace-run/millrace/event"
)

// Media types of the JSON format.
const (
	TypeJSON  = "application/cloudevents+json"
	TypeBatch = "application/cloudevents-batch+json"
)

// encodeOverhead is what the JSON format adds to the text of an event with few extensions and nothing to escape.
const encodeOverhead = 160

// EncodeJSON appends e in the JSON format, on one line without a line feed at the end. It always succeeds and does not
// validate. JSON data is embedded as it is, without the white space between its tokens if that has a line break. Other
// text is a string. Base64 are bytes that are no text, data without a content type, and data that claims to be JSON and is not.
func EncodeJSON(dst []byte, e *event.Event) []byte {
	if need := e.Size() + encodeOverhead; cap(dst)-len(dst) < need {
		dst = slices.Grow(dst, max(need, len(dst))) // at once, and doubled where many events follow each other: append takes a quarter
	}
	dst = AppendString(append(dst, `{"specversion":"1.0","id":`...), e.ID)
	dst = AppendString(append(dst, `,"source":`...), e.Source)
	dst = AppendString(append(dst, `,"type":`...), e.Type)
	dst = appendOptional(dst, `,"subject":`, e.Subject)
	dst = appendOptional(dst, `,"time":`, e.Time)
	dst = appendOptional(dst, `,"datacontenttype":`, e.DataContentType)
	dst = appendOptional(dst, `,"dataschema":`, e.DataSchema)
	for _, x := range e.Extensions {
		dst = appendExtension(dst, x)
	}
	if e.Data != nil {
		dst = appendData(dst, e)
	}
	return append(dst, '}')
}

func appendOptional(dst []byte, name, text string) []byte {
	if text == "" {
		return dst
	}
	return AppendString(append(dst, name...), text)
}

func appendExtension(dst []byte, x event.Extension) []byte {
	dst = append(AppendString(append(dst, ','), x.Name), ':')
	if (x.Kind == event.Boolean || x.Kind == event.Integer) && valueProblem(x) == "" {
		return append(dst, x.Text...)
	}
	return AppendString(dst, x.Text)
}

func appendData(dst []byte, e *event.Event) []byte {
	switch representationOf(e) {
	case asValue:
		dst = append(dst, `,"data":`...)
		if bytes.IndexByte(e.Data, '\n') >= 0 || bytes.IndexByte(e.Data, '\r') >= 0 {
			return appendOneLine(dst, e.Data)
		}
		return append(dst, e.Data...)
	case asText:
		return AppendString(append(dst, `,"data":`...), string(e.Data))
	default:
		dst = base64.StdEncoding.AppendEncode(append(dst, `,"data_base64":"`...), e.Data)
		return append(dst, '"')
	}
}

// representation is how the JSON format holds an event's data.
type representation uint8

const (
	asBase64 representation = iota
	asValue
	asText
)

// representationOf goes by the content type as far as the bytes agree with it. Without one nothing may be assumed, whatever
// the bytes look like, and application/octet-stream promises nothing but bytes.
func representationOf(e *event.Event) representation {
	switch kind := mediaKind(e.DataContentType); {
	case kind == "" || kind == "application/octet-stream":
		return asBase64
	case e.IsJSON() && HasJSON(e):
		return asValue
	case !e.IsJSON() && utf8.Valid(e.Data):
		return asText
	}
	return asBase64
}

// HasJSON says whether the data of e is one JSON value, as CheckJSON without a bound of depth has it, whatever its content type.
func HasJSON(e *event.Event) bool { return e.MarkedJSON() || CheckJSON(e.Data, 0) == nil }

// mediaKind is a media type in lower case, without parameters.
func mediaKind(mediaType string) string {
	kind, _, _ := strings.Cut(mediaType, ";")
	return strings.ToLower(strings.TrimSpace(kind))
}

// EncodeBatch appends events as a JSON batch, on one line.
func EncodeBatch(dst []byte, events []event.Event) []byte {
	dst = append(dst, '[')
	for i := range events {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = EncodeJSON(dst, &events[i])
	}
	return append(dst, ']')
}

// DecodeJSON reads one event in the JSON format. The event's JSON data is the part of data that held it, so data must not be
// changed afterwards. maxDepth bounds the nesting of the event's data (not counting the event around it); 0 sets no
// bound. Data without datacontenttype gets application/json, which is what it means in this format. Errors
// are a *SyntaxError or an *AttributeError.
func DecodeJSON(data []byte, maxDepth int) (event.Event, error) {
	c := checker{data: data, maxDepth: maxDepth}
	if !c.begin() {
		return event.Event{}, c.err()
	}
	e, err := c.event()
	if err != nil {
		return event.Event{}, err
	}
	if !c.end() {
		return event.Event{}, c.err()
	}
	return e, nil
}

// DecodeBatch is DecodeJSON for a JSON batch: an array of events, which may be empty. It returns all events or an error, which
// names the first event that is at fault, counting from 1.
func DecodeBatch(data []byte, maxDepth int) ([]event.Event, error) {
	c := checker{data: data, maxDepth: maxDepth}
	if !c.begin() {
		return nil, c.err()
	}
	if c.peek() != '[' {
		return nil, &SyntaxError{Offset: c.pos, Problem: "a batch of CloudEvents is a JSON array"}
	}
	events := []event.Event{}
	for more := c.first(']'); more; more = c.next(']') {
		e, err := c.event()
		if err != nil {
			return nil, fmt.Errorf("event %d: %w", len(events)+1, err)
		}
		events = append(events, e)
	}
	if c.problem != "" || !c.end() {
		return nil, c.err()
	}
	return events, nil
}

// envelope holds the raw values of an event's members; nil is absent.
type envelope struct {
	specversion, id, source, typ, subject, time, contentType, schema []byte
	data, base64                                                     []byte
	extensions                                                       []member
}

type member struct {
	name  string
	value []byte
}

// event takes an event.
func (c *checker) event() (event.Event, error) {
	m, err := c.envelope()
	if err != nil {
		return event.Event{}, err
	}
	var e event.Event
	if err := m.attributes(&e); err != nil {
		return event.Event{}, err
	}
	if err := m.addData(&e); err != nil {
		return event.Event{}, err
	}
	if err := Validate(&e); err != nil {
		return event.Event{}, err
	}
	return e, nil
}

// envelope takes an event's object and sorts its members. Its own nesting does not count.
func (c *checker) envelope() (*envelope, error) {
	if c.peek() != '{' {
		return nil, &SyntaxError{Offset: c.pos, Problem: "a CloudEvent is a JSON object"}
	}
	m := new(envelope)
	for more := c.first('}'); more; more = c.next('}') {
		c.peek()
		start := c.pos
		if !c.key() {
			break
		}
		name, ok := memberName(c.data[start:c.pos])
		if !ok {
			return nil, &AttributeError{string(name), "a name consists of lower-case letters and digits"}
		}
		c.peek()
		start = c.pos
		if !c.whole() {
			break
		}
		m.add(name, c.data[start:c.pos:c.pos])
	}
	if c.problem != "" {
		return nil, c.err()
	}
	return m, nil
}

// memberName returns the name in a valid `"name" :`; or its bytes as they are and false, if it holds half a surrogate pair.
func memberName(text []byte) ([]byte, bool) {
	quoted := text[:bytes.LastIndexByte(text, '"')+1]
	raw := quoted[1 : len(quoted)-1]
	if indexEscape(raw, 0) == len(raw) {
		return raw, true
	}
	name, ok := unquote(quoted)
	if !ok {
		return raw, false
	}
	return []byte(name), true
}

// add keeps a member unless there was one of the name before.
func (m *envelope) add(name, value []byte) {
	if known := m.known(name); known == nil {
		m.extensions = append(m.extensions, member{string(name), value})
	} else if *known == nil {
		*known = value
	}
}

func (m *envelope) known(name []byte) *[]byte {
	switch string(name) {
	case "specversion":
		return &m.specversion
	case "id":
		return &m.id
	case "source":
		return &m.source
	case "type":
		return &m.typ
	case "subject":
		return &m.subject
	case "time":
		return &m.time
	case "datacontenttype":
		return &m.contentType
	case "dataschema":
		return &m.schema
	case "data":
		return &m.data
	case "data_base64":
		return &m.base64
	}
	return nil
}

func (m *envelope) attributes(e *event.Event) error {
	version, err := attribute("specversion", m.specversion)
	if err == nil {
		err = checkVersion(version)
	}
	for _, a := range [...]struct {
		name  string
		value []byte
		into  *string
	}{
		{"id", m.id, &e.ID},
		{"source", m.source, &e.Source},
		{"type", m.typ, &e.Type},
		{"subject", m.subject, &e.Subject},
		{"time", m.time, &e.Time},
		{"datacontenttype", m.contentType, &e.DataContentType},
		{"dataschema", m.schema, &e.DataSchema},
	} {
		if err == nil {
			*a.into, err = attribute(a.name, a.value)
		}
	}
	if err == nil {
		e.Extensions, err = m.decodeExtensions()
	}
	return err
}

func checkVersion(version string) error {
	switch version {
	case "1.0":
		return nil
	case "":
		return &AttributeError{"specversion", "is missing"}
	}
	return &AttributeError{"specversion", fmt.Sprintf("must be 1.0, not %q", version)}
}

// attribute reads an attribute's text; null and an absent member are the empty string, which itself is refused.
func attribute(name string, value []byte) (string, error) {
	if value == nil || value[0] == 'n' {
		return "", nil
	}
	if value[0] != '"' {
		return "", &AttributeError{name, "must be a string"}
	}
	s, ok := unquote(value)
	if !ok {
		return "", &AttributeError{name, "contains half a surrogate pair"}
	}
	if s == "" {
		return "", &AttributeError{name, emptyProblem(name)}
	}
	return s, nil
}

// emptyProblem tells what to do about an empty attribute: three of them cannot be left out.
func emptyProblem(name string) string {
	if name == "id" || name == "source" || name == "type" {
		return "must not be empty"
	}
	return "must not be empty; leave it out"
}

// decodeExtensions returns the extensions sorted by name; of repeated ones the first in the text.
func (m *envelope) decodeExtensions() ([]event.Extension, error) {
	slices.SortStableFunc(m.extensions, func(a, b member) int { return strings.Compare(a.name, b.name) })
	all := slices.CompactFunc(m.extensions, func(a, b member) bool { return a.name == b.name })
	var xs []event.Extension
	for _, x := range all {
		if x.value[0] == 'n' {
			if problem := NameProblem(x.name); problem != "" {
				return nil, &AttributeError{x.name, problem}
			}
			continue
		}
		kind, text, problem := extensionValue(x.value)
		if problem != "" {
			return nil, &AttributeError{x.name, problem}
		}
		if xs == nil {
			xs = make([]event.Extension, 0, len(all))
		}
		xs = append(xs, event.Extension{Name: x.name, Kind: kind, Text: text})
	}
	return xs, nil
}

func extensionValue(value []byte) (kind event.Kind, text, problem string) {
	switch value[0] {
	case '"':
		s, ok := unquote(value)
		if !ok {
			return 0, "", "contains half a surrogate pair"
		}
		return event.String, s, ""
	case 't', 'f':
		return event.Boolean, string(value), ""
	case '{', '[':
		return 0, "", "must be a string, a boolean or an integer"
	}
	return event.Integer, string(value), integerProblem(string(value))
}

// addData sets the data of e from its members. An explicit null is JSON data, except where datacontenttype says that the data
// is not JSON: there it stands for no data.
func (m *envelope) addData(e *event.Event) error {
	if m.base64 != nil && m.base64[0] == 'n' {
		m.base64 = nil
	}
	switch {
	case m.data != nil && m.base64 != nil:
		return &AttributeError{"data", "data and data_base64 exclude each other"}
	case m.base64 != nil:
		return addBase64(e, m.base64)
	case m.data == nil:
		return nil
	case e.IsJSON():
		if e.DataContentType == "" {
			e.DataContentType = "application/json"
		}
		e.Data = m.data
		e.MarkJSON()
		return nil
	case m.data[0] == 'n':
		return nil
	case m.data[0] != '"':
		return &AttributeError{"data", "must be a string, because datacontenttype is not JSON"}
	}
	s, ok := unquote(m.data)
	if !ok {
		return &AttributeError{"data", "contains half a surrogate pair"}
	}
	e.Data = []byte(s)
	return nil
}

func addBase64(e *event.Event, value []byte) error {
	if value[0] != '"' {
		return &AttributeError{"data_base64", "must be a string"}
	}
	text, ok := unquote(value)
	if !ok {
		return &AttributeError{"data_base64", "is not base64"}
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return &AttributeError{"data_base64", "is not base64: " + err.Error()}
	}
	e.Data = data
	return nil
}
