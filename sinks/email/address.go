package email

import (
	"errors"
	"fmt"
	"net/mail"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

// Bounds in bytes. They are looked at before anything is parsed: what comes out of an event must not cost more than its length.
const (
	maxAddress = 1000 // of a rendered value; a mailbox with its name
	maxLocal   = 64   // RFC 5321, 4.5.3.1.1
	maxDomain  = 253
	maxName    = 500
)

// mailbox is a checked address. Its zero value stands for none.
type mailbox struct {
	name   string // may be empty; valid UTF-8 without control characters
	local  string // without quotes
	domain string // ASCII, lower case
}

// address is the form for commands and headers. Quotes stand only around dots that would not be valid without them; no other
// character that needs quotes is accepted, so that nothing in an address can be taken for the end of it.
func (m mailbox) address() string {
	local := m.local
	if strings.HasPrefix(local, ".") || strings.HasSuffix(local, ".") || strings.Contains(local, "..") {
		local = `"` + local + `"`
	}
	return local + "@" + m.domain
}

// international says that the address needs a server with SMTPUTF8. A domain never does: it is written in its ASCII form.
func (m mailbox) international() bool {
	return strings.ContainsFunc(m.local, func(r rune) bool { return r >= utf8.RuneSelf })
}

// mailboxTemplate is a template of one mailbox, taken apart where it was written: what an expression yields becomes part of the
// name or of the address, and cannot move the border between them.
type mailboxTemplate struct {
	template      rules.Template
	name, address string // with holes
}

func compileMailboxes(key string, list []rules.Template) ([]mailboxTemplate, error) {
	all := make([]mailboxTemplate, len(list))
	var errs []error
	for i, t := range list {
		var err error
		if all[i], err = compileMailbox(t); err != nil {
			place := key
			if len(list) > 1 {
				place = key + "." + strconv.Itoa(i)
			}
			errs = append(errs, &event.KeyError{Key: place, Err: err})
		}
	}
	return all, errors.Join(errs...)
}

func compileMailbox(t rules.Template) (mailboxTemplate, error) {
	text, _, err := skeleton(t)
	if err != nil {
		return mailboxTemplate{}, err
	}
	m := mailboxTemplate{template: t, address: strings.TrimSpace(text)}
	if err := checkLine(m.address); err != nil {
		return mailboxTemplate{}, err
	}
	if before, ok := strings.CutSuffix(m.address, ">"); ok {
		at := strings.LastIndexByte(before, '<')
		if at < 0 {
			return mailboxTemplate{}, errors.New("there is a > without <")
		}
		m.name, m.address = strings.TrimSpace(before[:at]), strings.TrimSpace(before[at+1:])
		if m.name, err = literalName(m.name); err != nil {
			return mailboxTemplate{}, err
		}
	}
	if _, literal := t.Literal(); literal {
		_, err = m.render(&rules.Input{})
	}
	return m, err
}

// literalName takes the quotes off a name.
func literalName(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	a, err := mail.ParseAddress(text + " <a@example.com>")
	if err != nil {
		return "", fmt.Errorf("the name %s must be in double quotes", shown(text))
	}
	return a.Name, nil
}

// render fills the template in. A mailbox without an address is the zero value. Its error quotes the value that is at fault.
func (t mailboxTemplate) render(in *rules.Input) (mailbox, error) {
	var pairs []string
	var fault error
	_, err := t.template.RenderEscaped(in, func(s string) string {
		if err := checkLine(s); err != nil && fault == nil {
			fault = fmt.Errorf("%s: %w", shown(s), err)
		}
		if len(s) > maxAddress && fault == nil {
			fault = fmt.Errorf("%s is longer than %d bytes", shown(s), maxAddress)
		}
		pairs = append(pairs, hole(len(pairs)/2), s)
		return ""
	})
	if err := errors.Join(err, fault); err != nil {
		return mailbox{}, err
	}
	fill := strings.NewReplacer(pairs...)
	address := strings.TrimSpace(fill.Replace(t.address))
	if address == "" {
		return mailbox{}, nil
	}
	if len(pairs) == 2 && t.address == hole(0) {
		return parseMailbox(address)
	}
	m, err := parseAddress(address)
	if m.name = strings.TrimSpace(fill.Replace(t.name)); err == nil && len(m.name) > maxName {
		err = fmt.Errorf("the name %s is longer than %d bytes", shown(m.name), maxName)
	}
	return m, err
}

// parseMailbox reads a whole value: an address, or Name <address>. A list is not one: whoever fills in a form must not choose how
// many people get mail.
func parseMailbox(text string) (mailbox, error) {
	m, err := parseAddress(text)
	if err == nil {
		return m, nil
	}
	a, parseErr := mail.ParseAddress(text)
	if parseErr != nil {
		return mailbox{}, err
	}
	if m, err = parseAddress(a.Address); err != nil {
		return mailbox{}, err
	}
	if err := checkLine(a.Name); err != nil {
		return mailbox{}, fmt.Errorf("the name of %s: %w", shown(text), err)
	}
	if len(a.Name) > maxName {
		return mailbox{}, fmt.Errorf("the name %s is longer than %d bytes", shown(a.Name), maxName)
	}
	m.name = a.Name
	return m, nil
}

// parseAddress reads local@domain.
func parseAddress(text string) (mailbox, error) {
	at := strings.LastIndexByte(text, '@')
	if at < 0 {
		return mailbox{}, fmt.Errorf("%s is not an address: it has no @", shown(text))
	}
	local := text[:at]
	if len(local) > 2 && local[0] == '"' && local[len(local)-1] == '"' {
		local = local[1 : len(local)-1]
	}
	if err := checkLocal(local); err != nil {
		return mailbox{}, fmt.Errorf("%s is not an address: %w", shown(text), err)
	}
	domain, err := checkDomain(text[at+1:])
	if err != nil {
		return mailbox{}, fmt.Errorf("%s is not an address: the domain %w", shown(text), err)
	}
	return mailbox{local: local, domain: domain}, nil
}

func checkLocal(local string) error {
	if local == "" {
		return errors.New("nothing stands before the @")
	}
	if len(local) > maxLocal {
		return fmt.Errorf("more than %d bytes stand before the @", maxLocal)
	}
	for _, r := range local {
		if r < utf8.RuneSelf && r != '.' && !isAtom(byte(r)) || r >= utf8.RuneSelf && !isInternational(r) {
			return fmt.Errorf("it has %q before the @", r)
		}
	}
	return nil
}

// isAtom is RFC 5322's atext: what an address may hold without quotes.
func isAtom(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

func isInternational(r rune) bool {
	return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsNumber(r) || unicode.IsSymbol(r))
}

// checkDomain returns a host name in ASCII and lower case. Its error goes on behind "the domain".
func checkDomain(domain string) (string, error) {
	if domain == "" {
		return "", errors.New("is missing")
	}
	if len(domain) > maxAddress {
		return "", errors.New("is too long")
	}
	if strings.ContainsFunc(domain, func(r rune) bool { return r >= utf8.RuneSelf }) {
		ascii, err := idna.Lookup.ToASCII(domain)
		if err != nil {
			return "", errors.New("is not a valid international name")
		}
		domain = ascii
	}
	if len(domain) > maxDomain {
		return "", fmt.Errorf("is longer than %d bytes", maxDomain)
	}
	domain = strings.ToLower(domain)
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return "", errors.New("is not a host name")
		}
	}
	return domain, nil
}

// shown quotes the beginning of a value for a message.
func shown(s string) string {
	const most = 60
	if len(s) > most {
		cut := most
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	return strconv.Quote(s)
}
