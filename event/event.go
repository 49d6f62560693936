// Package event holds the vocabulary of Millrace: the event itself, the verdicts of a delivery, and every type that
// crosses a seam between two packages. It imports the standard library only and does no I/O.
package event

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Event is one CloudEvents 1.0 event (https://github.com/cloudevents/spec, version 1.0.2).
//
// Attributes are kept as the text they arrived in: a time is not reformatted, an integer keeps its digits. The empty string
// means that an optional attribute is absent, which the specification allows because no attribute may be empty.
// An Event is a value; its Extensions and Data are shared by copies and must not be changed in place.
type Event struct {
	ID     string // required
	Source string // required, a URI-reference
	Type   string // required

	Subject         string
	Time            string // RFC 3339, as received
	DataContentType string // media type of Data; empty means unknown
	DataSchema      string

	Extensions []Extension // sorted by name, names unique

	// Data is the payload, byte for byte as it was accepted. nil means that the event has no data; an empty, non-nil slice is
	// data of length zero.
	Data []byte

	// Ran names the pure stages that ran before the event was stored, in their order; nil for none. It is no CloudEvents attribute.
	Ran []string

	// Received is when Millrace accepted the event, in UTC. It is not a CloudEvents attribute.
	Received time.Time

	// Checked is what is known about Data beyond its bytes: see MarkJSON. It is no part of what the event says.
	Checked Mark
}

// Mark names bytes by their place in memory. The zero mark names none.
type Mark struct {
	first *byte
	size  int
}

// Equal is true: events that say the same are equal, whatever was found out about them.
func (Mark) Equal(Mark) bool { return true }

// Format writes nothing, for the same reason: events that say the same print the same.
func (Mark) Format(fmt.State, rune) {}

// MarkJSON notes that Data was checked and is one value of JSON (RFC 8259, UTF-8), with white space around it at most. So it need
// not be checked again for each sink. The mark is of these very bytes: it holds for copies of the event, and no longer once Data is
// replaced. It is never stored: what is read from disk has none.
func (e *Event) MarkJSON() {
	if len(e.Data) > 0 {
		e.Checked = Mark{&e.Data[0], len(e.Data)}
	}
}

// MarkedJSON says whether MarkJSON was called for what Data is now. False says nothing about it.
func (e *Event) MarkedJSON() bool {
	return len(e.Data) > 0 && e.Checked == Mark{&e.Data[0], len(e.Data)}
}

// Extension is one CloudEvents extension attribute.
type Extension struct {
	Name string // lower-case letters and digits
	Kind Kind
	Text string // the canonical string form, or the text as received
}

// Kind is the CloudEvents type of an extension's value. HTTP headers carry no types, so what came in binary mode is a String.
type Kind uint8

// The types of the CloudEvents type system. JSON tells apart only Boolean, Integer and String.
const (
	String Kind = iota
	Boolean
	Integer
	Binary
	URI
	URIReference
	Timestamp
)

// Extension returns the value of an extension attribute and whether the event has it.
func (e *Event) Extension(name string) (Extension, bool) {
	i, ok := e.find(name)
	if !ok {
		return Extension{}, false
	}
	return e.Extensions[i], true
}

// SetExtension sets or replaces an extension. It copies the slice, so that other copies of the event keep theirs.
func (e *Event) SetExtension(x Extension) {
	i, ok := e.find(x.Name)
	if ok {
		e.Extensions = slices.Clone(e.Extensions)
		e.Extensions[i] = x
		return
	}
	e.Extensions = slices.Insert(append(make([]Extension, 0, len(e.Extensions)+1), e.Extensions...), i, x)
}

// RemoveExtension removes an extension, if the event has it. It copies the slice.
func (e *Event) RemoveExtension(name string) {
	if i, ok := e.find(name); ok {
		e.Extensions = slices.Delete(slices.Clone(e.Extensions), i, i+1)
	}
}

func (e *Event) find(name string) (int, bool) {
	return slices.BinarySearchFunc(e.Extensions, name, func(x Extension, n string) int { return strings.Compare(x.Name, n) })
}

// Size is about how many bytes the event holds in memory: its text and data, without Go's overhead.
func (e *Event) Size() int {
	n := len(e.ID) + len(e.Source) + len(e.Type) + len(e.Subject) + len(e.Time) + len(e.DataContentType) + len(e.DataSchema) + len(e.Data)
	for _, x := range e.Extensions {
		n += len(x.Name) + len(x.Text)
	}
	return n
}

// Detached is a copy that shares no memory with e. An event is often a small piece of something large: of a
// file, of a row in a log. Whoever keeps a few of many keeps copies.
func (e *Event) Detached() Event {
	d := *e
	d.Data, d.Extensions, d.Ran = bytes.Clone(e.Data), slices.Clone(e.Extensions), slices.Clone(e.Ran)
	texts := []*string{&d.ID, &d.Source, &d.Type, &d.Subject, &d.Time, &d.DataContentType, &d.DataSchema}
	for i := range d.Extensions {
		texts = append(texts, &d.Extensions[i].Name, &d.Extensions[i].Text)
	}
	for i := range d.Ran {
		texts = append(texts, &d.Ran[i])
	}
	var all strings.Builder
	all.Grow(e.Size() - len(e.Data))
	for _, t := range texts {
		all.WriteString(*t)
	}
	rest := all.String()
	for _, t := range texts {
		*t, rest = rest[:len(*t)], rest[len(*t):]
	}
	return d
}

// IsJSON says whether the data is JSON by its content type: application/json, text/json or anything that ends in +json or
// /json, parameters ignored. A missing content type counts as JSON, as the CloudEvents JSON format has it.
func (e *Event) IsJSON() bool { return IsJSONType(e.DataContentType) }

// IsJSONType is IsJSON for a media type.
func IsJSONType(mediaType string) bool {
	t, _, _ := strings.Cut(mediaType, ";")
	t = strings.ToLower(strings.TrimSpace(t))
	return t == "" || strings.HasSuffix(t, "/json") || strings.HasSuffix(t, "+json")
}
