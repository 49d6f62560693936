package rules

import (
	"unsafe"

	"github.com/millrace-run/millrace/event"
)

// Subject is an event on its way through pure stages. What a parse stage finds stays as places in the text of the event, until a
// stage needs the data as JSON or Finish is called: a line that the next filter drops is never written as JSON. It keeps its
// buffers between events, so one Subject for many events costs no memory for each. Not safe for concurrent use.
type Subject struct {
	Event event.Event // Data is the text that was parsed, and not the result, until Finish

	found   record
	parsed  bool   // found stands for the data
	indexed []byte // found has the members of these bytes, and they are JSON
	input   Input
}

// Reset begins a new event.
func (s *Subject) Reset(ev event.Event) {
	s.Event, s.parsed, s.indexed = ev, false, nil
}

// Begin begins a new event that the caller writes to the place that it returns; what was there is of no use.
func (s *Subject) Begin() *event.Event {
	s.parsed, s.indexed = false, nil
	return &s.Event
}

// Finish makes Event what the stages have made of it. It may be called more than once.
func (s *Subject) Finish() {
	if s.parsed {
		s.Event.Data = s.found.appendJSON(nil)
		s.parsed = false
	}
}

// in is what an expression sees of the subject. It is valid until the next call.
func (s *Subject) in() *Input {
	s.input.Event, s.input.found, s.input.known = &s.Event, nil, nil
	switch {
	case s.parsed:
		s.input.found = &s.found
	case s.indexed != nil && s.Event.DataContentType == jsonType && same(s.indexed, s.Event.Data):
		s.input.known = &s.found
	}
	return &s.input
}

// same says whether two slices are the same memory. Data is never changed in place, so it holds the same then.
func same(a, b []byte) bool { return len(a) == len(b) && unsafe.SliceData(a) == unsafe.SliceData(b) }

// Apply runs a stage on an event by itself.
func (op Op) Apply(ev *event.Event) (keep bool, missing string, err error) {
	s := Subject{Event: *ev}
	if keep, missing, err = op(&s); err == nil {
		s.Finish()
		*ev = s.Event
	}
	return keep, missing, err
}
