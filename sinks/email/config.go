package email

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

// Config is what a user may set. An empty TLS means offered where the server is on this machine, required elsewhere.
type Config struct {
	Server      string                    `yaml:"server,required" doc:"smtp://host[:25] or smtps://host[:465]"`
	TLS         string                    `yaml:"tls,oneof=required|offered|none" doc:"required: STARTTLS or nothing is sent (the default beyond loopback); offered: if the server has it; none"`
	Username    string                    `yaml:"username" doc:"to log in with; never sent without TLS beyond loopback"`
	Password    string                    `yaml:"password,secret" doc:"to log in with"`
	From        rules.Template            `yaml:"from,required,digest" doc:"the sender: address, or Name <address>"`
	To          []rules.Template          `yaml:"to,digest" doc:"recipients, one address each; what is empty is left out"`
	Cc          []rules.Template          `yaml:"cc,digest" doc:"further recipients that everyone sees"`
	Bcc         []rules.Template          `yaml:"bcc,digest" doc:"further recipients that no one sees"`
	ReplyTo     []rules.Template          `yaml:"reply_to,digest" doc:"where answers go"`
	Subject     rules.Template            `yaml:"subject,required,digest" doc:"one line"`
	Text        rules.Template            `yaml:"text,digest" doc:"the body as plain text"`
	HTML        rules.Template            `yaml:"html,digest" doc:"the body as HTML; what an expression yields is escaped for its place"`
	Headers     map[string]rules.Template `yaml:"headers,secret,digest" doc:"further headers by name"`
	Attachments map[string]rules.Template `yaml:"attachments,digest" doc:"content by file name (which may hold expressions too): text, or data:<type>;base64,{{ … }}"`
}

// The values of TLS.
const (
	tlsRequired = "required"
	tlsOffered  = "offered"
	tlsNone     = "none"
)

// Defaults returns the settings that apply where a user sets none.
func Defaults() Config { return Config{} }

// server is whom the sink talks to, whatever an event holds.
type server struct {
	host     string // without port and brackets
	address  string // host:port, as it is dialed
	implicit bool   // smtps: TLS from the first byte
	loopback bool
	policy   string
	insecure bool // the certificate is not looked at
}

// letter is what of the settings makes a mail.
type letter struct {
	from                 mailboxTemplate
	to, cc, bcc, replyTo []mailboxTemplate
	subject, text        rules.Template
	hasText              bool
	html                 *page // nil: none
	headers              []header
	attachments          []attachment
	digests              bool // a template asks for the events of the mail as a list
}

func (c Config) check() (server, letter, error) {
	to, serverErr := c.checkServer()
	l := letter{subject: c.Subject, text: c.Text, hasText: c.Text.String() != ""}
	var fromErr, toErr, ccErr, bccErr, replyErr, headerErr, attachmentErr, htmlErr error
	l.from, fromErr = compileMailbox(c.From)
	if c.From.String() == "" {
		fromErr = errors.New("required")
	}
	l.to, toErr = compileMailboxes("to", c.To)
	l.cc, ccErr = compileMailboxes("cc", c.Cc)
	l.bcc, bccErr = compileMailboxes("bcc", c.Bcc)
	l.replyTo, replyErr = compileMailboxes("reply_to", c.ReplyTo)
	if toErr == nil && ccErr == nil && bccErr == nil && len(l.to)+len(l.cc)+len(l.bcc) == 0 {
		toErr = keyError("to", errors.New("required: there is no recipient in to, cc or bcc"))
	}
	if c.HTML.String() != "" {
		l.html, htmlErr = compilePage(c.HTML)
	}
	var textErr error
	if !l.hasText && c.HTML.String() == "" {
		textErr = errors.New("required: a mail needs text, html or both")
	}
	l.headers, headerErr = checkHeaders(c.Headers)
	l.attachments, attachmentErr = checkAttachments(c.Attachments)
	l.digests = c.uses(l.attachments, func(name string) bool { return name == "events" }) != nil
	return to, l, errors.Join(serverErr, keyError("from", fromErr), toErr, ccErr, bccErr, replyErr,
		keyError("subject", checkSubject(c.Subject)), keyError("text", textErr), keyError("html", htmlErr), headerErr, attachmentErr)
}

// keyError keeps nil a nil interface.
func keyError(key string, err error) error {
	if err == nil {
		return nil
	}
	return &event.KeyError{Key: key, Err: err}
}

func (c Config) checkServer() (server, error) {
	to, err := parseServer(c.Server)
	if err != nil {
		return server{}, keyError("server", err)
	}
	var tlsErr, userErr error
	to.policy = cmp.Or(c.TLS, tlsRequired)
	if c.TLS == "" && to.loopback && !to.implicit {
		to.policy = tlsOffered
	}
	switch to.policy {
	case tlsRequired, tlsOffered, tlsNone:
		if to.implicit && to.policy != tlsRequired {
			tlsErr = fmt.Errorf("%s contradicts smtps://, which is always encrypted", to.policy)
		}
	default:
		tlsErr = fmt.Errorf("%q is none of required, offered, none", c.TLS)
	}
	switch {
	case c.Username == "" && c.Password != "":
		userErr = keyError("username", errors.New("required, because there is a password"))
	case c.Username != "" && c.Password == "":
		userErr = keyError("password", errors.New("required, because there is a username"))
	case c.Username != "" && to.policy == tlsNone && !to.loopback:
		tlsErr = errors.New("none would send the password in the clear: a login beyond this machine needs TLS")
	}
	// Where plain text would do as well, a certificate that nobody vouches for is no reason to send nothing; but a password
	// is shown beyond this machine only to a server that proved its name.
	to.insecure = to.policy == tlsOffered && (c.Username == "" || to.loopback)
	return to, errors.Join(keyError("tls", tlsErr), userErr)
}

// parseServer reads the server's URL. No error quotes it, for it may hold a password.
func parseServer(text string) (server, error) {
	if text == "" {
		return server{}, errors.New("required")
	}
	if strings.Contains(text, "{{") {
		return server{}, errors.New("it must be literal: no event chooses who is talked to")
	}
	scheme, rest, _ := strings.Cut(text, "://")
	scheme = strings.ToLower(scheme)
	if scheme != "smtp" && scheme != "smtps" {
		return server{}, errors.New("it must begin with smtp:// or smtps://")
	}
	if strings.Contains(rest, "@") {
		return server{}, errors.New("a user name or password does not belong in the URL: use username and password")
	}
	u, err := url.Parse(scheme + "://" + rest)
	if err != nil {
		return server{}, errors.New("the host or port is not valid")
	}
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery || strings.Contains(rest, "#") {
		return server{}, errors.New("nothing may follow host and port")
	}
	return newServer(u, scheme == "smtps")
}

func newServer(u *url.URL, implicit bool) (server, error) {
	host, port := u.Hostname(), u.Port()
	addr, err := netip.ParseAddr(host)
	if err != nil {
		if host, err = checkDomain(host); err != nil {
			return server{}, fmt.Errorf("the host %w", err)
		}
	}
	if port == "" {
		if strings.HasSuffix(u.Host, ":") {
			return server{}, errors.New("the port is missing behind the colon")
		}
		port = "25"
		if implicit {
			port = "465"
		}
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return server{}, fmt.Errorf("port %q is not between 1 and 65535", port)
	}
	return server{
		host: host, address: net.JoinHostPort(host, port), implicit: implicit,
		loopback: host == "localhost" || addr.Unmap().IsLoopback(),
	}, nil
}
