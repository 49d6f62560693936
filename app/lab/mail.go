package lab

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/emersion/go-message"
	"github.com/emersion/go-message/mail"
)

// Mail is a mail as a person reads it.
type Mail struct {
	From, To, Cc, ReplyTo, Subject string
	Others                         []string // recipients that To and Cc do not name
	Text                           []byte   // the text part
	HasText                        bool
	Parts                          []Part // all other parts
	Broken                         string // why the mail could not be read to its end; empty if it could
}

// Part is a part of a mail that is named and not shown.
type Part struct {
	Type string
	Name string // of a file; empty for none
	Size int64
}

// readMail takes a mail apart. Whatever is wrong with it, what could be read is there.
func readMail(text []byte, recipients []string) Mail {
	r, err := mail.CreateReader(bytes.NewReader(text))
	if r == nil {
		return Mail{Others: recipients, Broken: err.Error()}
	}
	m := Mail{
		From: people(r, "From"), To: people(r, "To"), Cc: people(r, "Cc"), ReplyTo: people(r, "Reply-To"),
		Subject: headerText(r, "Subject"),
	}
	m.Others = unnamed(recipients, append(addresses(r, "To"), addresses(r, "Cc")...))
	for {
		part, err := r.NextPart()
		if part == nil {
			if !errors.Is(err, io.EOF) {
				m.Broken = err.Error()
			}
			return m
		}
		if err := m.add(part); err != nil {
			m.Broken = err.Error()
			return m
		}
	}
}

// headerText is a header with its encoded words decoded, or as it is when they cannot be.
func headerText(r *mail.Reader, name string) string {
	text, err := r.Header.Text(name)
	if err != nil {
		return r.Header.Get(name)
	}
	return text
}

// people is a header of addresses as one would write them, or as it is when it cannot be read.
func people(r *mail.Reader, name string) string {
	list, err := r.Header.AddressList(name)
	if err != nil {
		return headerText(r, name)
	}
	all := make([]string, len(list))
	for i, a := range list {
		if all[i] = a.Address; a.Name != "" {
			all[i] = a.Name + " <" + a.Address + ">"
		}
	}
	return strings.Join(all, ", ")
}

func addresses(r *mail.Reader, name string) []string {
	list, _ := r.Header.AddressList(name) // one that cannot be read names nobody
	all := make([]string, len(list))
	for i, a := range list {
		all[i] = a.Address
	}
	return all
}

func unnamed(recipients, named []string) []string {
	var others []string
	for _, r := range recipients {
		known := false
		for _, n := range named {
			known = known || strings.EqualFold(r, n)
		}
		if !known {
			others = append(others, r)
		}
	}
	return others
}

// add takes the first text part as the text, and any other by its name.
func (m *Mail) add(p *mail.Part) error {
	kind, name := partType(p)
	if kind == "text/plain" && name == "" && !m.HasText {
		text, size, err := readSome(p.Body)
		m.Text, m.HasText = text, true
		if size > int64(len(text)) {
			m.Parts = append(m.Parts, Part{Type: "more text", Size: size - int64(len(text))})
		}
		return unreadable(err)
	}
	size, err := io.Copy(io.Discard, p.Body)
	m.Parts = append(m.Parts, Part{kind, name, size})
	return unreadable(err)
}

func partType(p *mail.Part) (kind, name string) {
	switch h := p.Header.(type) {
	case *mail.InlineHeader:
		kind, _, _ = h.ContentType()
	case *mail.AttachmentHeader:
		kind, _, _ = h.ContentType()
		name, _ = h.Filename() // one that cannot be read has no name
	}
	return kind, name
}

// unreadable leaves out what only says that a character set or an encoding is unknown: the bytes are there.
func unreadable(err error) error {
	if err != nil && (message.IsUnknownCharset(err) || message.IsUnknownEncoding(err)) {
		return nil
	}
	return err
}
