package email

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
)

// The stages at which a server can fail, in order.
var stages = []string{"banner", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "data", "end"}

// What a script may say instead of a reply.
const (
	drop  = "drop"
	stall = "stall"
	reset = "reset"
)

// script is a server that answers every stage well but for those it has something else for. Each answer is used once for each
// connection that gets there; an empty one is the usual.
type script struct {
	address string
	reached chan string // receives the stage at which it stalls

	mu      sync.Mutex // guards what follows
	answers map[string][]string
	seen    []string // commands
	mails   []string // accepted
}

func newScript(t testing.TB, answers map[string][]string) *script {
	t.Helper()
	s := &script{answers: answers, reached: make(chan string, 10)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				s.serve(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		conns.Wait()
	})
	return s
}

// plain is for a script that offers STARTTLS and knows none.
func plain(c *Config) { c.TLS = tlsNone }

func (s *script) next(stage string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.answers[stage]) == 0 {
		return ""
	}
	a := s.answers[stage][0]
	s.answers[stage] = s.answers[stage][1:]
	return a
}

// say answers a stage; false ends the connection.
func (s *script) say(c net.Conn, stage, usual string) bool {
	switch a := s.next(stage); a {
	case "":
		_, err := io.WriteString(c, usual+"\r\n")
		return err == nil
	case drop:
		return false
	case reset:
		_ = c.(*net.TCPConn).SetLinger(0)
		return false
	case stall:
		s.reached <- stage
		_, _ = io.Copy(io.Discard, c)
		return false
	default:
		_, err := io.WriteString(c, a+"\r\n")
		return err == nil && !strings.HasPrefix(a, "421")
	}
}

func (s *script) serve(c net.Conn) {
	r := bufio.NewReader(c)
	if !s.say(c, "banner", "220 ready") {
		return
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		s.mu.Lock()
		s.seen = append(s.seen, strings.TrimSpace(line))
		s.mu.Unlock()
		verb, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		usual := map[string]string{
			"EHLO": "250-hello\r\n250-STARTTLS\r\n250 AUTH PLAIN", "HELO": "502 no", "AUTH": "235 in", "DATA": "354 go", "QUIT": "221 bye",
		}[verb]
		if usual == "" {
			usual = "250 ok"
		}
		ok := s.say(c, verb, usual)
		if !ok || verb == "QUIT" || verb == "DATA" && !s.content(c, r) {
			return
		}
	}
}

// content reads a mail if DATA was answered with yes; otherwise the client does not send one.
func (s *script) content(c net.Conn, r *bufio.Reader) bool {
	if b, err := r.Peek(4); err != nil || string(b) == "RSET" || string(b) == "QUIT" {
		return err == nil
	}
	if s.peek("data") {
		return s.say(c, "data", "")
	}
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return false
		}
		if line == ".\r\n" {
			break
		}
		b.WriteString(line)
	}
	took := !s.peek("end")
	if took {
		s.mu.Lock()
		s.mails = append(s.mails, b.String())
		s.mu.Unlock()
	}
	return s.say(c, "end", "250 taken")
}

func (s *script) peek(stage string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.answers[stage]) > 0 && s.answers[stage][0] != ""
}

func (s *script) log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.seen, "\n")
}

func (s *script) accepted() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.mails...)
}

// TestStages fails every stage in every way. Afterwards the same delivery must be accepted, once, with the same Message-ID.
func TestStages(t *testing.T) {
	for _, stage := range stages {
		for _, what := range []string{"450 4.2.0 greylisted", "451 4.3.0 later", "421 4.3.2 going away", "554 5.7.1 no", drop, reset, stall, "garbage"} {
			if stage == "data" && what != drop && what != reset && what != stall {
				continue // a reply in the middle of the mail: see TestReplyInsideData
			}
			if stage == "STARTTLS" && what == reset {
				continue // nothing else than a drop to TLS
			}
			t.Run(stage+" "+what, func(t *testing.T) {
				s := newScript(t, map[string][]string{stage: {what}})
				sink := newSink(t, s.address, func(c *Config) {
					c.Username, c.Password = "millrace", "hunter2"
					c.TLS = tlsNone
					if stage == "STARTTLS" {
						c.TLS = tlsRequired
					}
				})
				f := attemptStage(t, sink, s, what)
				checkStage(t, f, stage, what)
				if strings.Contains(f.Error(), "hunter2") {
					t.Errorf("%v tells the password", f.Error())
				}
				if stage == "STARTTLS" {
					return // the script speaks no TLS
				}
				d := order()
				d.Attempt, d.Progress = 2, f.Progress
				if f.Class != event.PermanentClass {
					accept(t, sink, d)
				}
				mails := s.accepted()
				if f.Class == event.PermanentClass != (len(mails) == 0) || len(mails) > 1 {
					t.Fatalf("%d mails", len(mails))
				}
				if len(mails) == 1 && !strings.Contains(mails[0], "\r\nMessage-ID: <0123456789abcdef0123456789abcdef@example.com>\r\n") {
					t.Errorf("no stable Message-ID in\n%s", mails[0])
				}
			})
		}
	}
}

func attemptStage(t *testing.T, sink *Sink, s *script, what string) event.Failure {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- sink.Deliver(ctx, []event.Delivery{order()}).Verdicts[0] }()
	if what == stall {
		<-s.reached
		cancel()
	}
	err := <-done
	if err == nil {
		t.Fatal("accepted")
	}
	return event.VerdictOf(err)
}

// checkStage says what the verdict must be: nothing before MAIL speaks of the event.
func checkStage(t *testing.T, f event.Failure, stage, what string) {
	t.Helper()
	early := stage == "banner" || stage == "EHLO" || stage == "STARTTLS" || stage == "AUTH"
	class, status := event.UnavailableClass, 0
	switch what[0] {
	case '4', '5':
		_, _ = fmt.Sscan(what, &status)
		if !early && what[0] == '4' && status != 421 {
			class = event.Counted
		}
		if !early && what[0] == '5' {
			class = event.PermanentClass
		}
	}
	if stage == "EHLO" && what == "garbage" {
		status, what = 502, "502 no" // of HELO, which is tried then
	}
	if f.Class != class || f.Status != status || f.After != 0 || f.Refused {
		t.Errorf("class %d status %d, want %d %d: %+v", f.Class, f.Status, class, status, f)
	}
	if status != 0 && string(f.Answer) != what[4:] {
		t.Errorf("answer %q", f.Answer)
	}
}

func TestReplyInsideData(t *testing.T) {
	s := newScript(t, map[string][]string{"data": {"552 too much\r\n421 bye"}})
	d := order()
	d.Event.Data = fmt.Appendf(nil, `{"id":"1","name":"%s","email":"a@example.com"}`, strings.Repeat("a b", 100))
	f := failure(t, newSink(t, s.address, plain), d, event.PermanentClass)
	if f.Status != 552 {
		t.Errorf("%+v", f)
	}
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	if f := failure(t, newSink(t, address), order(), event.UnavailableClass); !f.Refused {
		t.Errorf("%+v", f)
	}
}

func TestEndlessReply(t *testing.T) {
	s := newScript(t, map[string][]string{"EHLO": {strings.Repeat("250-x\r\n", 1<<17) + "250 x"}})
	f := failure(t, newSink(t, s.address), order(), event.UnavailableClass)
	if !strings.Contains(f.Error(), "does not end") {
		t.Error(f.Error())
	}
}

func TestHostileReply(t *testing.T) {
	s := newScript(t, map[string][]string{"RCPT": {"550-\x1b[31m" + strings.Repeat("ü", 2000) + "\r\n550 \x00end"}})
	f := failure(t, newSink(t, s.address, plain), order(), event.PermanentClass)
	if len(f.Answer) > maxAnswer || len(f.Error()) > 2*maxError || strings.ContainsAny(f.Error()+string(f.Answer), "\x1b\x00\r\n") {
		t.Errorf("%q %q", f.Error(), f.Answer)
	}
}

// An idle session that the server gave up costs neither a failure nor a mail.
func TestIdleSessionBreaks(t *testing.T) {
	for stage, what := range map[string]string{"RSET": drop, "MAIL": "421 enough"} {
		answers := map[string][]string{stage: {what}}
		if stage == "MAIL" {
			answers = map[string][]string{stage: {"", what}} // the first mail passes
		}
		s := newScript(t, answers)
		sink := newSink(t, s.address, plain)
		for range 3 {
			accept(t, sink, order())
		}
		if n := len(s.accepted()); n != 3 {
			t.Errorf("%s: %d mails", stage, n)
		}
		if n := strings.Count(s.log(), "EHLO"); n != 2 {
			t.Errorf("%s: %d connections, want 2", stage, n)
		}
	}
}

// A session that stays idle says goodbye.
func TestIdleSessionEnds(t *testing.T) {
	s := newScript(t, map[string][]string{"QUIT": {stall}})
	sink := newSink(t, s.address, plain)
	sink.idle.idleFor = time.Millisecond
	accept(t, sink, order())
	<-s.reached
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	if sink.idle.take() != nil {
		t.Error("a session is left")
	}
}

func TestLoginsThatFail(t *testing.T) {
	login := func(c *Config) { c.TLS, c.Username, c.Password = tlsOffered, "millrace", "hunter2" }
	for name, c := range map[string]struct {
		answers map[string][]string
		want    string
	}{
		"no AUTH":         {map[string][]string{"EHLO": {"250 hello"}}, "offers none"},
		"other mechanism": {map[string][]string{"EHLO": {"250-hello\r\n250 AUTH XOAUTH2"}}, "offers none"},
		"echo": {map[string][]string{"EHLO": {"250-hello\r\n250 AUTH PLAIN"},
			"AUTH": {"535 hunter2 AG1pbGxyYWNlAGh1bnRlcjI="}}, "AUTH answered 535"},
		"echo as a question": {map[string][]string{"EHLO": {"250-hello\r\n250 AUTH LOGIN"}, "AUTH": {"334 VXNlcm5hbWU6"},
			"bWlsbHJhY2U=": {"334 UGFzc3dvcmQ6"}, "aHVudGVyMg==": {"334 aHVudGVyMg=="}}, "asks for more"},
	} {
		s := newScript(t, c.answers)
		f := failure(t, newSink(t, s.address, login), order(), event.UnavailableClass)
		if text := f.Error() + string(f.Answer); !strings.Contains(text, c.want) || strings.Contains(text, "hunter2") ||
			strings.Contains(text, "AG1pb") {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// A server without TLS gets nothing where TLS is required, whatever it would take.
func TestNothingWithoutTLS(t *testing.T) {
	s := newScript(t, map[string][]string{"EHLO": {"250-hello\r\n250 AUTH PLAIN"}})
	sink := newSink(t, s.address, func(c *Config) { c.TLS, c.Username, c.Password = tlsRequired, "millrace", "hunter2" })
	f := failure(t, sink, order(), event.UnavailableClass)
	if !strings.Contains(f.Error(), "STARTTLS") || strings.ContainsAny(s.log(), "@\n") {
		t.Errorf("%v; sent:\n%s", f.Error(), s.log())
	}
}

// The password goes out in the clear only to this machine, even if the file's name for it says otherwise.
func TestPasswordStaysHere(t *testing.T) {
	sink := newSink(t, "192.0.2.1", func(c *Config) { c.TLS, c.Username, c.Password = tlsOffered, "millrace", "hunter2" })
	here, there := net.Pipe()
	defer here.Close()
	go func() {
		defer there.Close()
		_, _ = io.WriteString(there, "220 ready\r\n")
		r := bufio.NewReader(there)
		_, _ = r.ReadString('\n')
		_, _ = io.WriteString(there, "250-hello\r\n250 AUTH PLAIN\r\n")
		if line, err := r.ReadString('\n'); err == nil {
			t.Errorf("it went on with %q", line)
		}
	}()
	err := sink.greet(t.Context(), &session{conn: &conn{Conn: here, left: maxReply}})
	if err == nil || !strings.Contains(err.Error(), "password was not sent") {
		t.Error(err)
	}
}

// A certificate that nobody vouches for is enough on this machine only, not where the file's name for it leads elsewhere.
func TestPasswordStaysHereInTLS(t *testing.T) {
	cert, _ := certificate(t)
	sink := newSink(t, "localhost", func(c *Config) { c.TLS, c.Username, c.Password = tlsOffered, "millrace", "hunter2" })
	here, there := net.Pipe()
	defer here.Close()
	served := make(chan struct{})
	go func() {
		defer close(served)
		defer there.Close()
		_, _ = io.WriteString(there, "220 ready\r\n")
		r := bufio.NewReader(there)
		_, _ = r.ReadString('\n')
		_, _ = io.WriteString(there, "250-hello\r\n250 STARTTLS\r\n")
		_, _ = r.ReadString('\n')
		_, _ = io.WriteString(there, "220 go\r\n")
		encrypted := tls.Server(there, cert)
		r = bufio.NewReader(encrypted)
		_, _ = r.ReadString('\n')
		_, _ = io.WriteString(encrypted, "250-hello\r\n250 AUTH PLAIN\r\n")
		if line, err := r.ReadString('\n'); err == nil {
			t.Errorf("it went on with %q", line)
		}
	}()
	err := sink.greet(t.Context(), &session{conn: &conn{Conn: here, left: maxReply}})
	_ = here.Close()
	<-served
	if err == nil || !strings.Contains(err.Error(), "password was not sent") {
		t.Error(err)
	}
}
