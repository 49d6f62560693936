package email

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/millrace-run/millrace/event"
)

const (
	maxAnswer = 1 << 10 // bytes of a reply that are kept
	maxError  = 512     // bytes of an error's text, which may quote what the server sent
)

// A server that says "later" about an event (greylisting, a full mailbox) counts, and the retries of a sink that sets nothing
// would end after some two hours. From the eleventh such answer on, when they have reached their longest pause anyway, the next
// attempt waits for an hour: the twenty take more than nine hours.
const (
	patientAfter = 11
	patience     = time.Hour
)

// class sorts a reply. Before MAIL no reply says anything about an event. After it 5yz does, except where the server wants a login
// or encryption that it did not get, and 4yz counts, except for 421: the server goes away.
func (r *refusal) class() event.Class {
	switch {
	case r.early, r.code == 421, r.code == 530, r.code == 534, r.code == 535, r.code == 538:
		return event.UnavailableClass
	case r.code >= 400 && r.code <= 499:
		return event.Counted
	case r.code >= 500 && r.code <= 599, r.code == 0:
		return event.PermanentClass
	}
	return event.UnavailableClass // no reply that belongs here: whoever answers does not speak SMTP with us
}

// unavailable is the verdict of an attempt that ended without an answer for its recipients.
func (s *Sink) unavailable(ctx context.Context, err error, p *progress) error {
	f := &event.Failure{
		Class: event.UnavailableClass, Refused: errors.Is(err, syscall.ECONNREFUSED), Progress: p.bytes(),
		Err: &tidyError{prefix: s.to.address + ": ", err: err},
	}
	if end := ctx.Err(); end != nil && !isRefusal(err) {
		f.Err = &tidyError{prefix: s.to.address + ": no answer in time: ", err: fmt.Errorf("%w: %w", err, end)}
	}
	var r *refusal
	if errors.As(err, &r) {
		f.Status, f.Answer = r.code, []byte(clean(r.text, maxAnswer))
	}
	return f
}

// tidyError bounds and cleans the text of an error that may quote the server or an event.
type tidyError struct {
	prefix string
	err    error
}

func (e *tidyError) Error() string { return clean(e.prefix+e.err.Error(), maxError) }

func (e *tidyError) Unwrap() error { return e.err }

// permanent is the verdict of a fault of the event itself.
func permanent(err error, p *progress) error {
	return &event.Failure{Class: event.PermanentClass, Err: &tidyError{err: err}, Progress: p.bytes()}
}

// result is what became of the recipients of one attempt.
type result struct {
	later   []string // those that must wait, in order
	replies map[string]*refusal
	content bool // the mail itself was refused for good, not a recipient
}

// verdict sums up an attempt that had an answer for every recipient. While one of them waits, the event does; then those that
// were refused make a dead letter that names them.
func (s *Sink) verdict(m *message, later *result, p *progress) error {
	if len(later.later) > 0 {
		p.Later++
		f := s.failure(event.Counted, later.later, later.replies)
		if p.Later >= patientAfter {
			f.After = patience
		}
		f.Progress = p.bytes()
		return f
	}
	var refused []string
	replies := map[string]*refusal{}
	for _, r := range m.recipients {
		if n, ok := p.Refused[r.address()]; ok {
			refused = append(refused, r.address())
			replies[r.address()] = n.refusal()
		}
	}
	if len(refused) == 0 {
		return nil
	}
	p.Refused, p.Later = nil, 0
	f := s.failure(event.PermanentClass, refused, replies)
	f.Progress = p.bytes()
	return f
}

func (s *Sink) failure(class event.Class, addresses []string, replies map[string]*refusal) *event.Failure {
	first := replies[addresses[0]]
	said := make([]string, len(addresses))
	for i, a := range addresses {
		said[i] = a + ": " + replies[a].Error()
	}
	return &event.Failure{
		Class: class, Status: first.code, Answer: []byte(clean(first.text, maxAnswer)),
		Err: errors.New(clean(s.to.address+": "+strings.Join(said, "; "), 2*maxError)),
	}
}

// clean makes one printable line of at most n bytes of what a server sent.
func clean(s string, n int) string {
	s = strings.ToValidUTF8(s[:min(len(s), n)], "")
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}
