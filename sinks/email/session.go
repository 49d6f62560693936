package email

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail/smtp"
)

// maxReply bounds what a server may send in answer to one write, a TLS handshake included.
const maxReply = 256 << 10

// session is a conversation with the server, past login.
type session struct {
	conn    *conn
	client  *smtp.Client
	release func() bool // from guard
}

// conn bounds what is read, since the reader above it takes lines of any length.
type conn struct {
	net.Conn
	left int
}

func (c *conn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errors.New("the server's answer does not end")
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	c.left = maxReply
	return c.Conn.Write(p)
}

// refusal is a reply that is not the one hoped for.
type refusal struct {
	stage string
	code  int // 0: not the server but its abilities refuse
	text  string
	early bool // it came before the mail was spoken of
}

func (r *refusal) Error() string {
	if r.code == 0 {
		return r.text
	}
	return clean(fmt.Sprintf("%s answered %d %s", r.stage, r.code, r.text), maxError)
}

// failed names the stage of an error and makes a refusal of a reply.
func failed(stage string, err error) error {
	if err == nil {
		return nil
	}
	var reply *textproto.Error
	if errors.As(err, &reply) {
		return &refusal{stage: stage, code: reply.Code, text: reply.Msg}
	}
	return fmt.Errorf("%s: %w", stage, err)
}

// early marks a refusal as one that says nothing about any mail.
func early(stage string, err error) error {
	err = failed(stage, err)
	var r *refusal
	if errors.As(err, &r) {
		r.early = true
	}
	return err
}

// guard makes the session hear ctx, until release. release is false when ctx has ended, and the connection with it.
func (se *session) guard(ctx context.Context) {
	c := se.conn.Conn
	se.release = context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
}

// close ends the session without a word.
func (se *session) close() {
	if se.release != nil {
		se.release()
	}
	_ = se.conn.Close()
}

// quit ends an idle session politely, within a second.
func (se *session) quit() {
	_ = se.conn.SetDeadline(time.Now().Add(time.Second))
	_ = se.client.Quit()
	_ = se.conn.Close()
}

// connect opens a session.
func (s *Sink) connect(ctx context.Context) (*session, error) {
	raw, err := s.dial(ctx, s.to.scheme(), s.to.address)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	se := &session{conn: &conn{Conn: raw, left: maxReply}}
	se.guard(ctx)
	if err := s.greet(ctx, se); err != nil {
		se.close()
		return nil, err
	}
	return se, nil
}

// greet goes from the banner to the login.
func (s *Sink) greet(ctx context.Context, se *session) error {
	var wire net.Conn = se.conn
	if s.to.implicit {
		encrypted := tls.Client(se.conn, s.tlsConfig())
		if err := encrypted.HandshakeContext(ctx); err != nil {
			return fmt.Errorf("TLS: %w", err)
		}
		wire = encrypted
	}
	var err error
	if se.client, err = smtp.NewClient(wire, s.to.host); err != nil {
		return early("banner", err)
	}
	if err := se.client.Hello(localName(se.conn.LocalAddr())); err != nil {
		return early("EHLO", err)
	}
	if !s.to.implicit && s.to.policy != tlsNone {
		if err := s.startTLS(se); err != nil {
			return err
		}
	}
	return s.login(se)
}

func (s *Sink) startTLS(se *session) error {
	if offered, _ := se.client.Extension("STARTTLS"); !offered {
		if s.to.policy == tlsRequired {
			return errors.New("STARTTLS: the server does not offer it and tls is required; nothing was sent")
		}
		return nil
	}
	return early("STARTTLS", se.client.StartTLS(s.tlsConfig()))
}

func (s *Sink) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: s.to.host, RootCAs: s.roots,
		InsecureSkipVerify: s.to.insecure, //nolint:gosec // only where plain text would do as well, see checkServer
	}
}

// login sends the password over TLS only, or to this very machine, whatever the name of the server resolved to.
func (s *Sink) login(se *session) error {
	if s.username == "" {
		return nil
	}
	remote, _ := se.conn.RemoteAddr().(*net.TCPAddr)
	_, encrypted := se.client.TLSConnectionState()
	here := remote != nil && remote.IP.IsLoopback()
	switch {
	case !encrypted && !here:
		return errors.New("AUTH: the connection is not encrypted; the password was not sent")
	case s.to.insecure && !here:
		return errors.New("AUTH: the server is not this machine and did not prove its name; the password was not sent")
	}
	_, offered := se.client.Extension("AUTH")
	mechanisms := strings.Fields(strings.ToUpper(offered))
	auth := s.mechanism(mechanisms)
	if auth == nil {
		return fmt.Errorf("AUTH: the server offers none of PLAIN, LOGIN and CRAM-MD5 but %s; the password was not sent",
			clean(strconv.Quote(offered), 100))
	}
	err := early("AUTH", se.client.Auth(auth))
	if errors.Is(err, smtp.ErrUnexpectedServerResponse) {
		// The library quotes what the server asks, which may be what it was told.
		return errors.New("AUTH: the server asks for more than a user name and a password")
	}
	var r *refusal
	if errors.As(err, &r) {
		r.text = s.redact(r.text)
	}
	return err
}

// localName is how we call ourselves: this machine's name if a server can take it for one, else its address.
func localName(local net.Addr) string {
	if name, err := os.Hostname(); err == nil && strings.Contains(name, ".") {
		if name, err = checkDomain(name); err == nil {
			return name
		}
	}
	if tcp, ok := local.(*net.TCPAddr); ok {
		if v4 := tcp.IP.To4(); v4 != nil {
			return "[" + v4.String() + "]"
		}
		return "[IPv6:" + tcp.IP.String() + "]"
	}
	return "localhost"
}

// mail announces a mail to the server.
func (se *session) mail(m *message) error {
	if utf8, _ := se.client.Extension("SMTPUTF8"); m.odd != "" && !utf8 {
		return &refusal{text: fmt.Sprintf("%s needs a server with SMTPUTF8, which this one is not", shown(m.odd))}
	}
	if _, size := se.client.Extension("SIZE"); size != "" {
		if most, err := strconv.Atoi(strings.TrimSpace(size)); err == nil && most > 0 && len(m.bytes) > most {
			return &refusal{text: fmt.Sprintf("the mail has %d bytes, the server takes %d", len(m.bytes), most)}
		}
	}
	// Without need SMTPUTF8 would keep the mail from every relay that lacks it.
	se.client.SkipSMTPUTF8(m.odd == "")
	return failed("MAIL", se.client.Mail("<"+m.from.address()+">"))
}

// data sends the content and waits for the server to take it. Only nil means that it did.
func (se *session) data(content []byte) error {
	w, err := se.client.Data()
	if err != nil {
		return failed("DATA", err)
	}
	if _, err := w.Write(content); err != nil {
		// A server that has seen enough says why before it hangs up.
		if reply := failed("DATA", w.Close()); isRefusal(reply) {
			return reply
		}
		return failed("DATA", err)
	}
	return failed("end of DATA", w.Close())
}

func isRefusal(err error) bool {
	var r *refusal
	return errors.As(err, &r)
}
