package rules

import "github.com/millrace-run/millrace/event"

// Subject is an event on its way through pure stages. What a parse stage finds stays as places in the text of the event, until a
// stage needs the data as JSON or Finish is called: a line that the next filter drops is never written as JSON. It keeps its
// buffers between events, so one Subject for many events costs no memory for each. Not safe for concurrent use.
type Subject struct {
	Event event.Event // Data is the text that was parsed, and not the result, until Finish

	found  record
	parsed bool // found stands for the data
	input  Input
}

// Reset begins a new event.
func (s *Subject) Reset(ev event.Event) {
	s.Event, s.parsed = ev, false
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
	s.input.Event, s.input.found = &s.Event, nil
	if s.parsed {
		s.input.found = &s.found
	}
	return &s.input
}

// Apply runs a stage on an event by itself.
func (op Op) Apply(ev *event.Event) (keep bool, missing string, err error) {
	s := Subject{Event: *ev}
	if keep, missing, err = op(&s); err == nil {
		s.Finish()
		*ev = s.Event
	}
	return keep, missing, err
}
