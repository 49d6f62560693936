package webhook

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
)

// pair is a connection as the server has it, and the client's end of it.
func pair(t *testing.T) (server net.Conn, client *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := Listener(l).Accept()
		accepted <- c
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server = <-accepted
	t.Cleanup(func() { _, _ = c.Close(), server.Close() })
	if _, ok := server.(*conn); !ok {
		t.Fatalf("accepted a %T", server)
	}
	return server, c.(*net.TCPConn)
}

// reading begins a read of n bytes.
func reading(c net.Conn, n int) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(c, make([]byte, n))
		done <- err
	}()
	return done
}

// A read ahead ends with the deadline that net/http sets for that, before it began or later, and takes no byte.
func TestReadAhead(t *testing.T) {
	c, client := pair(t)
	if _, err := io.WriteString(client, "ab"); err != nil {
		t.Fatal(err)
	}
	for n := range 100 {
		_ = c.SetReadDeadline(time.Time{})
		ahead := reading(c, 1)
		for n%2 == 0 { // once for a read that waits, once for one that may be late
			c.(*conn).mu.Lock()
			waiting := c.(*conn).waiting
			c.(*conn).mu.Unlock()
			if waiting {
				break
			}
		}
		_ = c.SetReadDeadline(time.Unix(1, 0))
		if err := <-ahead; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("ended with %v", err)
		}
	}
	_ = c.SetReadDeadline(time.Time{})
	if err := <-reading(c, 2); err != nil {
		t.Errorf("what had arrived: %v", err)
	}
}

// A deadline that comes later makes a real read of a read ahead; Close ends both kinds.
func TestReadAheadBecomesARead(t *testing.T) {
	c, client := pair(t)
	ahead := reading(c, 1)
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(client, "x"); err != nil {
		t.Fatal(err)
	}
	if err := <-ahead; err != nil {
		t.Errorf("read: %v", err)
	}
	_ = c.SetReadDeadline(time.Time{})
	ahead = reading(c, 1)
	_ = c.Close()
	if err := <-ahead; !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed during a read ahead: %v", err)
	}
	if _, err := c.Read(make([]byte, 2)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed before a read: %v", err)
	}
}

// Deadlines hold for the reads behind them and for those under way, and can be taken back.
func TestReadDeadlines(t *testing.T) {
	c, client := pair(t)
	_ = c.SetReadDeadline(time.Now().Add(-time.Second))
	if err := <-reading(c, 2); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("set before: %v", err)
	}
	_ = c.SetDeadline(time.Time{})
	during := reading(c, 2)
	for {
		c.(*conn).mu.Lock()
		reads := c.(*conn).reads
		c.(*conn).mu.Unlock()
		if reads > 0 {
			break
		}
	}
	_ = c.SetReadDeadline(time.Unix(1, 0))
	if err := <-during; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("set during the read: %v", err)
	}
	_ = c.SetDeadline(time.Time{})
	if _, err := io.WriteString(client, "ab"); err != nil {
		t.Fatal(err)
	}
	if err := <-reading(c, 2); err != nil {
		t.Errorf("taken back: %v", err)
	}
}

// Requests that are sent without waiting for answers are answered one after the other, and a client that leaves while its request
// is stored does no harm to it.
func TestPipelinedRequests(t *testing.T) {
	stored := make(chan string, 8)
	emit := func(_ context.Context, b event.Batch) ([]string, error) {
		stored <- string(b.Events[0].Data)
		return []string{b.Events[0].ID}, nil
	}
	c := dial(t, serve(t, emit, build(t, nil)))
	one := requestHead + "Content-Length: 1\r\n\r\n"
	c.say(one + "1" + one + "2" + one + "3")
	for range 3 {
		if got := c.hear(); got.status != http.StatusAccepted {
			t.Errorf("got %d %s", got.status, got.body)
		}
	}
	c.say(one + "4" + one + "5")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1", "2", "3", "4"} {
		if got := <-stored; got != want {
			t.Errorf("stored %s, want %s", got, want)
		}
	}
}
