package syslog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace-run/millrace/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// inbox is the log behind a source.
type inbox struct {
	mu     sync.Mutex // guards all below
	events []event.Event
	sizes  []int // of the batches
	fail   error
	tried  int
	more   chan struct{} // receives after each call
	hold   chan struct{} // a call waits until it is closed; nil for none
}

func newInbox() *inbox { return &inbox{more: make(chan struct{}, 1)} }

func (in *inbox) emit(ctx context.Context, b event.Batch) ([]string, error) {
	in.mu.Lock()
	hold := in.hold
	in.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, event.ErrBusy
		}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	defer func() {
		select {
		case in.more <- struct{}{}:
		default:
		}
	}()
	in.tried++
	if in.fail != nil {
		return nil, in.fail
	}
	in.events, in.sizes = append(in.events, b.Events...), append(in.sizes, len(b.Events))
	return make([]string, len(b.Events)), nil
}

func (in *inbox) set(change func()) {
	in.mu.Lock()
	defer in.mu.Unlock()
	change()
}

// until waits until a condition holds, which is asked after each batch.
func (in *inbox) until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	end := time.After(20 * time.Second)
	for {
		in.mu.Lock()
		ok := holds()
		in.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-in.more:
		case <-end:
			t.Fatalf("%s: not within 20 seconds", what)
		}
	}
}

// wait waits for n events, and returns all there are.
func (in *inbox) wait(t testing.TB, n int) []event.Event {
	t.Helper()
	in.until(t, fmt.Sprintf("%d events", n), func() bool { return len(in.events) >= n })
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.events
}

// server is a source that runs.
type server struct {
	*Source
	*inbox
	at   map[string]string // by protocol
	stop func() error
}

// serve runs a source on a free port of this machine until the test ends.
func serve(t testing.TB, change func(*Config), options ...Option) *server {
	t.Helper()
	c := Defaults()
	c.Listen, c.Protocol = "127.0.0.1:0", []string{"tcp"}
	if change != nil {
		change(&c)
	}
	s := &server{inbox: newInbox(), at: map[string]string{}}
	bound := make(chan [2]string, len(c.Protocol))
	var err error
	s.Source, err = New(c, append(options, Bound(func(p string, a net.Addr) { bound <- [2]string{p, a.String()} }))...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, s.emit) }()
	s.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { _ = s.stop() })
	for range c.Protocol {
		select {
		case b := <-bound:
			s.at[b[0]] = b[1]
		case err := <-ended:
			ended <- err
			t.Fatal(err)
		}
	}
	return s
}

// dial connects, and closes when the test ends.
func (s *server) dial(t testing.TB, network string) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), network, s.at[network])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func write(t testing.TB, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

// closed waits until the other side has closed a connection.
func closed(t testing.TB, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	_, err := c.Read(b[:])
	var timeout net.Error
	if err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("it is still open: %v", err)
	}
}

// counted waits until a count has a value, which nothing announces.
func (s *server) counted(t testing.TB, holds func(Counts) bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(20 * time.Second)
	for !holds(s.Counts()) {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%+v", s.Counts())
		}
	}
}
