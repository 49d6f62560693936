package email

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	gomessage "github.com/emersion/go-message"
	"github.com/emersion/go-message/mail"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"go.uber.org/goleak"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func template(t testing.TB, source string) rules.Template {
	t.Helper()
	c, err := rules.CompileTemplate(source, rules.Options{})
	if err != nil {
		t.Fatalf("template %q: %v", source, err)
	}
	return c
}

func templates(t testing.TB, sources ...string) []rules.Template {
	t.Helper()
	all := make([]rules.Template, len(sources))
	for i, s := range sources {
		all[i] = template(t, s)
	}
	return all
}

// settings are those of a shop that tells a customer.
func settings(t testing.TB, address string) Config {
	t.Helper()
	c := Defaults()
	c.Server = "smtp://" + address
	c.From = template(t, "Shop <shop@example.com>")
	c.To = templates(t, "{{ data.name ?? '' }} <{{ data.email }}>")
	c.Subject = template(t, "Order {{ data.id }}")
	c.Text = template(t, "Thank you, {{ data.name ?? 'customer' }}.\n")
	return c
}

func newSink(t testing.TB, address string, change ...func(*Config)) *Sink {
	t.Helper()
	c := settings(t, address)
	for _, f := range change {
		f(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func order() event.Delivery {
	return withData(`{"id":"o-1","name":"Zoë","email":"zoe@example.com"}`)
}

func withData(data string) event.Delivery {
	ev := &event.Event{
		ID: "o-1", Source: "/shop", Type: "shop.order", DataContentType: "application/json", Data: []byte(data),
		Received: time.Date(2026, 3, 4, 11, 0, 0, 0, time.UTC),
	}
	return event.Delivery{Event: ev, Key: "0123456789abcdef0123456789abcdef", Attempt: 1}
}

// send delivers one event within 10 s.
func send(t testing.TB, s *Sink, d event.Delivery) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	out := s.Deliver(ctx, []event.Delivery{d})
	if len(out.Verdicts) != 1 || out.Changes != nil {
		t.Fatalf("settling %+v", out)
	}
	if out.Verdicts[0] == nil && out.Status(0) != 250 {
		t.Errorf("the receipt of a success would have the status %d", out.Status(0))
	}
	return out.Verdicts[0]
}

func accept(t testing.TB, s *Sink, d event.Delivery) {
	t.Helper()
	if err := send(t, s, d); err != nil {
		t.Fatal(err)
	}
}

// failure delivers one event and returns the verdict, which must be a failure of a class.
func failure(t testing.TB, s *Sink, d event.Delivery, class event.Class) event.Failure {
	t.Helper()
	err := send(t, s, d)
	if err == nil {
		t.Fatal("accepted")
	}
	f := event.VerdictOf(err)
	if f.Class != class {
		t.Errorf("class %d, want %d: %v", f.Class, class, err)
	}
	return f
}

// received is one mail as the server took it.
type received struct {
	from  string
	to    []string
	utf8  bool
	bytes []byte
	tls   bool
}

// post is a real SMTP server. Its hooks may refuse; they are set before the first mail.
type post struct {
	server   *smtp.Server
	address  string
	password string // asked for when not empty
	wait     func() // until all connections of a closed server have ended

	mu    sync.Mutex // guards what follows
	mails []received
	conns int
	rcpt  func(to string) error
	data  func() error
}

func newPost(t testing.TB, change ...func(*smtp.Server)) *post {
	t.Helper()
	p := &post{}
	p.server = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.conns++
		return &postSession{post: p, conn: c}, nil
	}))
	p.server.AllowInsecureAuth = true
	p.server.ErrorLog = log.New(io.Discard, "", 0)
	for _, f := range change {
		f(p.server)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.address = l.Addr().String()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = p.server.Serve(l)
	}()
	p.wait = func() {
		_ = l.Close() // the server does not know it yet if it was closed before it began to serve
		<-ended
		_ = p.server.Shutdown(t.Context())
	}
	t.Cleanup(func() {
		_ = p.server.Close()
		p.wait()
	})
	return p
}

func (p *post) all() []received {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]received(nil), p.mails...)
}

func (p *post) connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conns
}

// onRcpt makes the server ask f about each recipient.
func (p *post) onRcpt(f func(to string) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rcpt = f
}

// last is the mail that came last.
func (p *post) last(t testing.TB) received {
	t.Helper()
	all := p.all()
	if len(all) == 0 {
		t.Fatal("no mail came")
	}
	return all[len(all)-1]
}

type postSession struct {
	post *post
	conn *smtp.Conn
	mail received
	in   bool
}

func (s *postSession) AuthMechanisms() []string {
	if s.post.password == "" {
		return nil
	}
	return []string{sasl.Plain}
}

func (s *postSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != "millrace" || password != s.post.password {
			return &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "wrong: " + password}
		}
		s.in = true
		return nil
	}), nil
}

func (s *postSession) Mail(from string, o *smtp.MailOptions) error {
	if s.post.password != "" && !s.in {
		return &smtp.SMTPError{Code: 530, Message: "log in first"}
	}
	_, encrypted := s.conn.TLSConnectionState()
	s.mail = received{from: from, utf8: o.UTF8, tls: encrypted}
	return nil
}

func (s *postSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.post.mu.Lock()
	f := s.post.rcpt
	s.post.mu.Unlock()
	if f != nil {
		if err := f(to); err != nil {
			return err
		}
	}
	s.mail.to = append(s.mail.to, to)
	return nil
}

func (s *postSession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.post.mu.Lock()
	f := s.post.data
	s.post.mu.Unlock()
	if f != nil {
		if err := f(); err != nil {
			return err
		}
	}
	s.mail.bytes = b
	s.post.mu.Lock()
	defer s.post.mu.Unlock()
	s.post.mails = append(s.post.mails, s.mail)
	return nil
}

func (s *postSession) Reset()        { s.mail = received{} }
func (s *postSession) Logout() error { return nil }

// part is a leaf of a mail.
type part struct {
	typ, name string
	params    map[string]string
	body      []byte
}

// read parses a mail with a library that did not write it.
func read(t testing.TB, b []byte) (*mail.Header, []part) {
	t.Helper()
	e, err := gomessage.Read(bytes.NewReader(b))
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	var parts []part
	err = e.Walk(func(_ []int, e *gomessage.Entity, err error) error {
		if err != nil {
			return err
		}
		typ, params, err := e.Header.ContentType()
		if err != nil || e.MultipartReader() != nil {
			return err
		}
		body, err := io.ReadAll(e.Body)
		name, _ := (&mail.AttachmentHeader{Header: e.Header}).Filename()
		parts = append(parts, part{typ: typ, params: params, name: name, body: body})
		return err
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	return &mail.Header{Header: e.Header}, parts
}

// certificate makes a certificate for 127.0.0.1 and those who trust it.
func certificate(t testing.TB) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	made := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail.example.com"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, &made, &made, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, roots
}
