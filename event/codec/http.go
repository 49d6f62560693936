package codec

import (
	"net/http"
	"slices"
	"strings"

	"github.com/millrace-run/millrace/event"
)

// Mode is how an HTTP message carries CloudEvents.
type Mode uint8

// The modes of the HTTP binding.
const (
	None       Mode = iota // the message does not present itself as a CloudEvent
	Binary                 // attributes in ce- headers, data in the body
	Structured             // one event in the JSON format
	Batch                  // a JSON batch
	Foreign                // a format of CloudEvents other than JSON, which this package does not read
)

// Detect says how a message with these headers presents itself. The content type decides; without a media type of
// CloudEvents, any of the headers of the required attributes makes it binary mode, complete or not.
func Detect(h http.Header) Mode {
	if values := h["Content-Type"]; len(values) > 0 && hasPrefixFold(values[0], "application/cloudevents") {
		switch mediaKind(values[0]) {
		case TypeJSON:
			return Structured
		case TypeBatch:
			return Batch
		}
		return Foreign
	}
	for _, name := range [...]string{"Ce-Specversion", "Ce-Id", "Ce-Source", "Ce-Type"} {
		if _, ok := h[name]; ok {
			return Binary
		}
	}
	return None
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// WriteBinary sets the headers of e in binary mode; the body is e.Data. Headers of attributes that e does not have are left
// as they are, so h should hold no others with ce-. It does not validate: net/http refuses a content type that no header can carry.
func WriteBinary(h http.Header, e *event.Event) {
	h["Ce-Specversion"] = []string{"1.0"}
	h["Ce-Id"] = []string{encodeHeader(e.ID)}
	h["Ce-Source"] = []string{encodeHeader(e.Source)}
	h["Ce-Type"] = []string{encodeHeader(e.Type)}
	for _, a := range [...]struct{ name, text string }{{"Ce-Subject", e.Subject}, {"Ce-Time", e.Time}, {"Ce-Dataschema",
		e.DataSchema}} {
		if a.text != "" {
			h[a.name] = []string{encodeHeader(a.text)}
		}
	}
	if e.DataContentType != "" {
		h["Content-Type"] = []string{e.DataContentType}
	}
	for _, x := range e.Extensions {
		h[http.CanonicalHeaderKey("ce-"+x.Name)] = []string{encodeHeader(x.Text)}
	}
}

// WriteStructured appends e in structured mode to dst, which is the body, and sets the content type.
func WriteStructured(h http.Header, dst []byte, e *event.Event) []byte {
	h["Content-Type"] = []string{TypeJSON}
	return EncodeJSON(dst, e)
}

// WriteBatch appends events as a batch to dst, which is the body, and sets the content type.
func WriteBatch(h http.Header, dst []byte, events []event.Event) []byte {
	h["Content-Type"] = []string{TypeBatch}
	return EncodeBatch(dst, events)
}

// ReadBinary reads an event in binary mode. body becomes its data and must not be changed afterwards; an empty body is no data,
// because HTTP cannot tell the two apart. It does not look into the body. The keys of h must be in canonical form, as
// net/http has them. Its error is an *AttributeError.
func ReadBinary(h http.Header, body []byte) (event.Event, error) {
	var e event.Event
	version := ""
	for key, values := range h {
		if len(key) < 3 || key[:3] != "Ce-" {
			continue
		}
		name := strings.ToLower(key[3:])
		text, problem := headerValue(name, values)
		if problem != "" {
			return event.Event{}, &AttributeError{name, problem}
		}
		setAttribute(&e, &version, name, text)
	}
	if err := checkVersion(version); err != nil {
		return event.Event{}, err
	}
	e.DataContentType = h.Get("Content-Type")
	if len(body) > 0 {
		e.Data = body
	}
	slices.SortFunc(e.Extensions, func(a, b event.Extension) int { return strings.Compare(a.Name, b.Name) })
	if err := Validate(&e); err != nil {
		return event.Event{}, err
	}
	return e, nil
}

func headerValue(name string, values []string) (text, problem string) {
	if len(values) != 1 {
		return "", "the header was sent more than once"
	}
	if text, problem = decodeHeader(values[0]); problem != "" {
		return "", problem
	}
	switch name {
	case "id", "source", "type", "specversion", "subject", "time", "dataschema":
		if text == "" {
			return "", "must not be empty; leave the header out"
		}
	case "datacontenttype":
		return "", "belongs into the header Content-Type"
	}
	return text, ""
}

func setAttribute(e *event.Event, version *string, name, text string) {
	switch name {
	case "specversion":
		*version = text
	case "id":
		e.ID = text
	case "source":
		e.Source = text
	case "type":
		e.Type = text
	case "subject":
		e.Subject = text
	case "time":
		e.Time = text
	case "dataschema":
		e.DataSchema = text
	default:
		e.Extensions = append(e.Extensions, event.Extension{Name: name, Text: text})
	}
}
