// Package email sends each event as one mail, or several as one digest.
//
// A mail goes to all of its recipients in one transaction; each of them is answered for by itself. Who was accepted is not mailed
// again: the failure's progress names them, so that the next attempt and a redrive reach only the others. A refusal with 5yz is
// for good, 4yz is tried again and counts, and with the default retry settings goes on for more than nine hours. Whatever says
// nothing about the event is Unavailable: a connection that fails, stalls or breaks, any refusal before MAIL (banner, EHLO,
// STARTTLS, AUTH), 421, and the wish for a login or for TLS. When the server goes silent after the end of the mail it may have taken it:
// it is sent again, with the same Message-ID, <key@domain of from>, which lets the receiver drop the second. Date is when the
// event was received, so that it is the same too.
//
// What an event holds cannot become a header, a command or markup. An address is one address; names and subjects are encoded;
// a control character or a line break in any of them makes the delivery Permanent. HTML is escaped for its context.
package email

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/millrace-run/millrace/event"
)

// Sink sends mail through one server. All methods may be called concurrently.
type Sink struct {
	to       server
	letter   letter
	username string
	password string
	batched  bool
	single   error          // why it cannot put several events into one mail; nil: it can
	roots    *x509.CertPool // nil: the system's
	dial     func(ctx context.Context, scheme, address string) (net.Conn, error)
	idle     *pool
}

// New checks the settings and returns the sink. It connects to nothing. Its error joins one *event.KeyError for each fault.
func New(c Config, options ...Option) (*Sink, error) {
	to, letter, err := c.check()
	if err != nil {
		return nil, err
	}
	s := &Sink{to: to, letter: letter, single: c.uses(letter.attachments, func(name string) bool { return name != "events" }), username: c.Username, password: c.Password, dial: network, idle: newPool(5 * time.Second)}
	for _, o := range options {
		o(s)
	}
	return s, nil
}

// Deliver sends the events one after another and answers a verdict for each. It returns when ctx ends; what was not answered by
// then is Unavailable.
func (s *Sink) Deliver(ctx context.Context, batch []event.Delivery) event.Settling {
	settling := event.Settling{Verdicts: make([]error, len(batch)), Statuses: make([]int, len(batch))}
	for _, mail := range s.mails(batch) {
		s.deliver(ctx, batch, mail, &settling)
	}
	return settling
}

// deliver sends some of the events as one mail.
func (s *Sink) deliver(ctx context.Context, batch []event.Delivery, of []int, settling *event.Settling) {
	members := make([]event.Delivery, len(of))
	for i, at := range of {
		members[i] = batch[at]
	}
	verdict, content := s.attempt(ctx, members)
	if content && len(of) > 1 {
		s.deliver(ctx, batch, of[:len(of)/2], settling)
		s.deliver(ctx, batch, of[len(of)/2:], settling)
		return
	}
	for _, at := range of {
		if settling.Verdicts[at] = verdict; verdict == nil {
			settling.Statuses[at] = replyTaken
		}
	}
}

// replyTaken is how a server says that it has taken a mail.
const replyTaken = 250

// Close ends the sessions that nobody uses. The sink stays usable; Close may be called more than once.
func (s *Sink) Close() error {
	s.idle.close()
	return nil
}

// attempt sends one mail of events with the same progress. content says that the failure is one of what is in the mail: of several
// events it does not tell which.
func (s *Sink) attempt(ctx context.Context, members []event.Delivery) (verdict error, content bool) {
	p := readProgress(members[0].Progress)
	m, err := s.letter.compose(members)
	if err != nil {
		return permanent(err, p), true
	}
	if err := ctx.Err(); err != nil {
		return s.unavailable(ctx, errors.New("not begun"), p), false
	}
	out := &result{replies: map[string]*refusal{}}
	if open := p.open(m.recipients); len(open) > 0 {
		if err := s.send(ctx, m, open, p, out); err != nil {
			return s.unavailable(ctx, err, p), false
		}
	}
	return s.verdict(m, out, p), out.content
}

// send makes one transaction. What it learns about recipients goes to p and out; its error says that it learned nothing about the
// rest of them.
func (s *Sink) send(ctx context.Context, m *message, open []mailbox, p *progress, out *result) error {
	se, err := s.begin(ctx, m)
	if se == nil {
		return err
	}
	var willing []mailbox
	if err != nil {
		err = out.settle(open, err, p)
	} else if willing, err = se.recipients(open, p, out); err == nil && len(willing) > 0 {
		if err = se.data(m.bytes); err == nil {
			for _, r := range willing {
				p.Accepted[r.address()] = true
			}
		} else {
			err = out.settle(willing, err, p)
		}
	}
	if err != nil {
		se.close()
		return err
	}
	s.idle.put(se)
	return nil
}

// begin gets a session that has been told of the mail. One that was idle may be dead or may have served as much as the server
// allows, which says nothing about this mail: anything but a yes makes it give way to a new one. An error together with a
// session is the answer to MAIL.
func (s *Sink) begin(ctx context.Context, m *message) (*session, error) {
	if se := s.idle.take(); se != nil {
		se.guard(ctx)
		if se.client.Reset() == nil && se.mail(m) == nil {
			return se, nil
		}
		se.close()
	}
	se, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	return se, se.mail(m)
}

// recipients names the recipients and returns those that the server takes.
func (se *session) recipients(open []mailbox, p *progress, out *result) ([]mailbox, error) {
	var willing []mailbox
	for _, r := range open {
		err := failed("RCPT", se.client.Rcpt("<"+r.address()+">"))
		if err == nil {
			willing = append(willing, r)
		} else if err := out.settle([]mailbox{r}, err, p); err != nil {
			return nil, err
		}
	}
	return willing, nil
}

// settle notes a refusal for each of the recipients, or returns the error if it says nothing about them.
func (out *result) settle(of []mailbox, err error, p *progress) error {
	var r *refusal
	if !errors.As(err, &r) || r.class() == event.UnavailableClass {
		return err
	}
	for _, one := range of {
		address := one.address()
		if r.class() == event.PermanentClass {
			out.content = out.content || strings.HasSuffix(r.stage, "DATA")
			p.refuse(address, r)
			continue
		}
		out.later = append(out.later, address)
		out.replies[address] = r
	}
	return nil
}
