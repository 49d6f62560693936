package torture

import (
	"bytes"
	"io"
	"net"
	"net/mail"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// mailbox is a mail server on a fixed address that can be taken away and put back. It notes each mail that it said yes to.
type mailbox struct {
	address string
	server  *smtp.Server
	done    chan struct{}

	mu  sync.Mutex
	ids map[string][]string // Message-IDs by subject
}

func (m *mailbox) open(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", m.address)
	if err != nil {
		t.Fatal(err)
	}
	m.address = l.Addr().String()
	m.server = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return m, nil }))
	m.server.Domain = "mail.example.com"
	m.done = make(chan struct{})
	server, done := m.server, m.done
	go func() { _ = server.Serve(l); close(done) }()
}

// shut takes the server away, in the middle of whatever it does.
func (m *mailbox) shut() {
	_ = m.server.Close()
	<-m.done
}

func (m *mailbox) Reset()                               {}
func (m *mailbox) Logout() error                        { return nil }
func (m *mailbox) Mail(string, *smtp.MailOptions) error { return nil }
func (m *mailbox) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (m *mailbox) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	letter, err := mail.ReadMessage(bytes.NewReader(b))
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	subject := letter.Header.Get("Subject")
	m.ids[subject] = append(m.ids[subject], letter.Header.Get("Message-Id"))
	return nil
}

// TestMailOutage takes the mail server away for a minute under a hundred mails a second: each arrives once, and what was in doubt when
// the server went comes again under the same Message-ID.
func TestMailOutage(t *testing.T) {
	outage, rate := 60, 100
	if testing.Short() {
		outage = 5
	}
	box := &mailbox{address: "127.0.0.1:0", ids: map[string][]string{}}
	box.open(t)
	p := newPlace(t, "path: data/millrace.db", orders+`
      mail:
        email: { server: "smtp://`+box.address+`", from: shop@example.com, to: "{{ data.id }}@example.com", subject: "{{ data.id }}", text: "Thank you." }
`)
	p.start()
	acked := p.load(t.Context(), 8, 5*rate, rate, func(int) int { return 1 })
	sent := make(chan map[string]int)
	go func() { sent <- p.load(t.Context(), 8, (outage+5)*rate, rate, func(int) int { return 1 }) }()
	<-time.After(time.Second)
	box.shut()
	<-time.After(time.Duration(outage) * time.Second)
	box.open(t)
	t.Cleanup(box.shut)
	for id, total := range <-sent {
		acked[id] = total
	}
	p.eventually(30*time.Second, "every mail arrived", func() bool {
		box.mu.Lock()
		defer box.mu.Unlock()
		for id := range acked {
			if len(box.ids[id]) == 0 {
				return false
			}
		}
		return true
	})
	again := 0
	for subject, ids := range box.ids {
		for _, id := range ids {
			if id != ids[0] {
				t.Errorf("%s came as %v", subject, ids)
			}
		}
		again += len(ids) - 1
	}
	if letters := p.deadLetters(); len(letters) != 0 || again > 4 {
		t.Errorf("%d dead letters, %d mails came again; in flight were at most 4", len(letters), again)
	}
	t.Logf("%d mails, %d of them twice under one Message-ID", len(acked), again)
}
