package lab

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

const (
	maxMail       = 64 << 20 // bytes of a mail, attachments and all
	maxRecipients = 1000
)

// mailReceiver takes every mail, for whomever it is and whoever logs in. It has two doors: at one a client may ask for TLS, at
// the other TLS comes first.
type mailReceiver struct {
	door, doorTLS *door
	server        *smtp.Server
	config        *tls.Config
}

func newMailReceiver(ctx context.Context, printer *Printer, logger *slog.Logger, config *tls.Config) (*mailReceiver, error) {
	m := &mailReceiver{config: config}
	var err error
	if m.door, err = openDoor(ctx); err != nil {
		return nil, err
	}
	if m.doorTLS, err = openDoor(ctx); err != nil {
		m.door.shut()
		return nil, err
	}
	m.server = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		g, ok := guestOf(c.Conn())
		if !ok {
			return nil, errStranger
		}
		return &mailSession{sink: g.caller().sink, printer: printer}, nil
	}))
	m.server.Domain = "localhost"
	m.server.MaxMessageBytes = maxMail
	m.server.MaxRecipients = maxRecipients
	m.server.AllowInsecureAuth = true
	m.server.EnableSMTPUTF8 = true
	m.server.TLSConfig = config
	m.server.ReadTimeout = 5 * time.Minute
	m.server.WriteTimeout = time.Minute
	m.server.ErrorLog = slog.NewLogLogger(logger.Handler(), slog.LevelDebug)
	return m, nil
}

// serve and serveTLS end when their door is shut, and with no other error.
func (m *mailReceiver) serve()    { _ = m.server.Serve(m.door) }
func (m *mailReceiver) serveTLS() { _ = m.server.Serve(tls.NewListener(m.doorTLS, m.config)) }

// stop cuts off whoever is connected and waits for the end of their sessions.
func (m *mailReceiver) stop(ctx context.Context) {
	m.door.shut()
	m.doorTLS.shut()
	// Nothing is left to wait for but goroutines whose connections are closed.
	_ = m.server.Shutdown(context.WithoutCancel(ctx))
}

// mailSession is one mail after another on one connection.
type mailSession struct {
	sink    SinkName
	printer *Printer
	to      []string
}

// AuthMechanisms are those that need no more than to be believed.
func (s *mailSession) AuthMechanisms() []string { return []string{sasl.Plain, sasl.Login} }

// Auth believes everybody.
func (s *mailSession) Auth(mechanism string) (sasl.Server, error) {
	switch mechanism {
	case sasl.Plain:
		return sasl.NewPlainServer(func(_, _, _ string) error { return nil }), nil
	case sasl.Login:
		return &loginServer{ask: []string{"Username:", "Password:"}}, nil
	}
	return nil, smtp.ErrAuthUnknownMechanism
}

// loginServer asks for a name and a password, and listens to neither.
type loginServer struct{ ask []string }

// Next asks the next question. A client may bring the answer to the first one unasked.
func (l *loginServer) Next(answer []byte) (challenge []byte, done bool, err error) {
	if len(l.ask) == 2 && answer != nil {
		l.ask = l.ask[1:]
	}
	if len(l.ask) == 0 {
		return nil, true, nil
	}
	challenge, l.ask = []byte(l.ask[0]), l.ask[1:]
	return challenge, false, nil
}

// Mail begins a mail.
func (s *mailSession) Mail(string, *smtp.MailOptions) error {
	s.to = nil
	return nil
}

// Rcpt adds a recipient.
func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = append(s.to, to)
	return nil
}

// Data takes the mail itself and prints it.
func (s *mailSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err // smtp.ErrDataTooLarge among them, which the client is told
	}
	s.printer.mail(s.sink, readMail(text, s.to))
	return nil
}

// Reset forgets the mail that was begun.
func (s *mailSession) Reset() { s.to = nil }

// Logout ends the session.
func (s *mailSession) Logout() error { return nil }
