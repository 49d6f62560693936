package email

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/wneessen/go-mail"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

// maxRecipients is what RFC 5321 makes every server take at once.
const maxRecipients = 100

// attemptHeader carries which attempt of a delivery a mail is, as in requests of the http sink.
const attemptHeader = "Millrace-Attempt"

// message is the mail of one event, or of several.
type message struct {
	from       mailbox
	recipients []mailbox // of to, cc and bcc, each once
	bytes      []byte
	odd        string // an address that needs SMTPUTF8; empty: none
}

// compose makes the mail. Whatever it cannot make is the event's fault, so the caller makes its errors Permanent. The same
// event makes the same mail at each attempt, but for the boundaries of its parts and the number of the attempt; so do the same events.
func (l *letter) compose(members []event.Delivery) (*message, error) {
	d := identity(members)
	in := &rules.Input{Event: d.Event}
	if l.digests {
		in.Body = list(members)
	}
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent())
	m, err := l.address(msg, in)
	if err != nil {
		return nil, err
	}
	subject, err := renderLine(l.subject, in)
	if err != nil {
		return nil, fmt.Errorf("subject: %w", err)
	}
	msg.SetGenHeader(mail.HeaderSubject, encode(subject, maxWord))
	msg.SetMessageIDWithValue(d.Key + "@" + m.from.domain)
	msg.SetDateWithValue(d.Event.Received.UTC())
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetGenHeader(attemptHeader, strconv.Itoa(d.Attempt))
	for _, h := range l.headers {
		value, err := renderLine(h.value, in)
		if err != nil {
			return nil, fmt.Errorf("headers.%s: %w", h.name, err)
		}
		msg.SetGenHeader(mail.Header(h.name), encode(value, maxToken))
	}
	if err := l.fill(msg, in); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if _, err := msg.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("the mail cannot be written: %w", err)
	}
	m.bytes = b.Bytes()
	return m, nil
}

// address sets the headers that hold addresses. They are written here, since go-mail would take a name such as
// =?utf-8?q?…?= for one that is encoded already.
func (l *letter) address(msg *mail.Msg, in *rules.Input) (*message, error) {
	from, err := l.from.render(in)
	if err == nil && from.local == "" {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("from: %w", err)
	}
	m := &message{from: from}
	seen := false // a recipient stands in a header
	msg.SetGenHeaderPreformatted("From", from.write())
	for _, list := range []struct {
		key, header string
		of          []mailboxTemplate
		receives    bool
	}{{"to", "To", l.to, true}, {"cc", "Cc", l.cc, true}, {"bcc", "", l.bcc, true}, {"reply_to", "Reply-To", l.replyTo, false}} {
		all, err := renderMailboxes(list.of, in)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", list.key, err)
		}
		if list.receives {
			m.add(all)
		}
		if len(all) > 0 && list.header != "" {
			msg.SetGenHeaderPreformatted(mail.Header(list.header), writeMailboxes(all))
			m.note(all)
			seen = seen || list.receives
		}
	}
	if !seen {
		msg.SetGenHeaderPreformatted("To", "undisclosed-recipients:;")
	}
	m.note(append([]mailbox{from}, m.recipients...))
	return m, m.check()
}

func renderMailboxes(list []mailboxTemplate, in *rules.Input) ([]mailbox, error) {
	var all []mailbox
	for _, t := range list {
		m, err := t.render(in)
		if err != nil {
			return nil, err
		}
		if m.local != "" {
			all = append(all, m)
		}
	}
	return all, nil
}

// add adds recipients that are not among them yet.
func (m *message) add(all []mailbox) {
	for _, r := range all {
		if !slices.ContainsFunc(m.recipients, func(o mailbox) bool { return o.address() == r.address() }) {
			m.recipients = append(m.recipients, r)
		}
	}
}

// note remembers an address that needs a server with SMTPUTF8.
func (m *message) note(all []mailbox) {
	for _, a := range all {
		if m.odd == "" && a.international() {
			m.odd = a.address()
		}
	}
}

func (m *message) check() error {
	if len(m.recipients) == 0 {
		return errors.New("the event yields no recipient: to, cc and bcc are empty")
	}
	if n := len(m.recipients); n > maxRecipients {
		return fmt.Errorf("the event yields %d recipients; one mail has at most %d", n, maxRecipients)
	}
	return nil
}

// fill adds the body and the attachments. Quoted-printable and base64 leave ASCII in short lines, which every server takes as it is.
func (l *letter) fill(msg *mail.Msg, in *rules.Input) error {
	if l.hasText {
		text, err := l.text.Render(in)
		if err != nil {
			return fmt.Errorf("text: %w", err)
		}
		msg.AddAlternativeString(mail.TypeTextPlain, validText(text))
	}
	if l.html != nil {
		text, err := l.html.render(in)
		if err != nil {
			return fmt.Errorf("html: %w", err)
		}
		msg.AddAlternativeString(mail.TypeTextHTML, validText(text))
	}
	for i := range l.attachments {
		f, err := l.attachments[i].render(in)
		if err != nil {
			return fmt.Errorf("attachments.%s: %w", l.attachments[i].key, err)
		}
		if err := msg.AttachReader(f.name, bytes.NewReader(f.content), f.header); err != nil {
			return fmt.Errorf("attachments.%s: %w", l.attachments[i].key, err)
		}
	}
	return nil
}

// validText replaces what is no UTF-8, so that the charset of the part is true.
func validText(s string) string { return string(bytes.ToValidUTF8([]byte(s), []byte("\uFFFD"))) }
