package webhook

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
)

// connection is a client that says exactly what a test wants.
type connection struct {
	t testing.TB
	*net.TCPConn
	in *bufio.Reader
}

func dial(t testing.TB, base string) *connection {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &connection{t, conn.(*net.TCPConn), bufio.NewReader(conn)}
}

// say writes lines that are joined by CRLF.
func (c *connection) say(lines ...string) {
	c.t.Helper()
	if _, err := io.WriteString(c, strings.Join(lines, "\r\n")); err != nil {
		c.t.Fatal(err)
	}
}

// hear reads the next answer.
func (c *connection) hear() answer {
	c.t.Helper()
	response, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return read(c.t, response)
}

// ended says whether the server closes the connection without another byte.
func (c *connection) ended() bool {
	_, err := c.in.ReadByte()
	return err != nil && !errors.Is(err, context.DeadlineExceeded)
}

const requestHead = "POST /hook HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"

func TestTruncatedBody(t *testing.T) {
	in := &inbox{}
	base := serve(t, in.emit, build(t, nil))
	for _, rest := range []string{"Content-Length: 9\r\n\r\n{\"a\":1}", "Transfer-Encoding: chunked\r\n\r\n9\r\n{\"a\":1}",
		"Transfer-Encoding: chunked\r\n\r\n7\r\n{\"a\":1}\r\n",
		"Content-Length: 200000\r\n\r\n" + strings.Repeat(" ", 100_000) + "1"} {
		c := dial(t, base)
		c.say(requestHead + rest)
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		checkProblem(t, c.hear(), 400, "malformed", "before its announced end; nothing was stored")
		if !c.ended() {
			t.Errorf("%.60q: the connection stays open", rest)
		}
	}
	if got := in.take(); len(got) > 0 {
		t.Errorf("stored %v", got)
	}
}

func TestBrokenChunks(t *testing.T) {
	in := &inbox{}
	base := serve(t, in.emit, build(t, nil))
	c := dial(t, base)
	c.say(requestHead+"Transfer-Encoding: chunked", "", "xyz", "{}", "0", "", "")
	checkProblem(t, c.hear(), 400, "malformed", "cannot be read")
	if got := in.take(); len(got) > 0 {
		t.Errorf("stored %v", got)
	}
}

func TestChunkedBodyWithoutLength(t *testing.T) {
	in := &inbox{}
	base := serve(t, in.emit, build(t, func(c *Config) { c.MaxBody = 10_000 }))
	c := dial(t, base)
	c.say(requestHead+"Transfer-Encoding: chunked", "", "3", "[1,", "2", "2]", "0", "", "")
	if got := c.hear(); got.status != http.StatusAccepted {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if got := in.take(); len(got) != 1 || string(got[0].Data) != "[1,2]" {
		t.Errorf("got %v", got)
	}
	for _, size := range []int{9_998, 9_999} { // with its quotes 10,000 and 10,001 bytes
		c.say(requestHead+"Transfer-Encoding: chunked", "", "1", `"`, fmt.Sprintf("%x", size), strings.Repeat("x", size), "1", `"`,
			"0", "", "")
		got := c.hear()
		if size == 9_998 {
			if stored := in.take(); got.status != http.StatusAccepted || len(stored) != 1 || len(stored[0].Data) != 10_000 {
				t.Errorf("got %d %s", got.status, got.body)
			}
			continue
		}
		checkProblem(t, got, 413, "too-large", "more than 10000 bytes")
	}
	if got := in.take(); len(got) > 0 {
		t.Errorf("stored %v", got)
	}
}

// A client that writes all of a body before it reads must still see the answer, and not a connection that was reset.
func TestTooLargeIsSeen(t *testing.T) {
	in := &inbox{}
	base := serve(t, in.emit, build(t, nil))
	const size = 8 << 20
	for name, head := range map[string]string{
		"announced": requestHead + fmt.Sprintf("Content-Length: %d\r\n\r\n", size),
		"chunked":   requestHead + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", size),
		"elsewhere": "POST /nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\n" + fmt.Sprintf("Content-Length: %d\r\n\r\n", size),
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, base)
			c.say(head + strings.Repeat("x", size))
			got := c.hear()
			if name == "elsewhere" {
				checkProblem(t, got, 404, "not-found", "/nowhere")
			} else {
				checkProblem(t, got, 413, "too-large", "more than 1048576 bytes")
			}
			if !got.closes || !c.ended() {
				t.Errorf("the connection stays open: %v", got.header)
			}
		})
	}
	if got := in.take(); len(got) > 0 {
		t.Errorf("stored %v", got)
	}
}

func TestDrainingEnds(t *testing.T) {
	in := &inbox{}
	s := build(t, nil)
	s.drainTimeout = 50 * time.Millisecond
	base := serve(t, in.emit, s)
	c := dial(t, base)
	c.say(requestHead + "Content-Length: 1000000000000\r\n\r\n")
	checkProblem(t, c.hear(), 413, "too-large", "more than 1048576 bytes")
	chunk := make([]byte, 64<<10)
	for {
		if _, err := c.Write(chunk); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				t.Error("the server reads for ever")
			}
			return
		}
	}
}

func TestExpectContinue(t *testing.T) {
	in := &inbox{}
	base := serve(t, in.emit, build(t, nil))
	c := dial(t, base)
	c.say(requestHead + "Expect: 100-continue\r\nContent-Length: 2000000\r\n\r\n")
	started := time.Now()
	checkProblem(t, c.hear(), 413, "too-large", "more than 1048576 bytes")
	if !c.ended() || time.Since(started) > 900*time.Millisecond {
		t.Error("the server waits for a body that it did not ask for")
	}
	c = dial(t, base)
	c.say(requestHead + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
	if line, err := c.in.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	if _, err := c.in.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	c.say("{}")
	if got := c.hear(); got.status != http.StatusAccepted {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

func TestSlowBody(t *testing.T) {
	in := &inbox{}
	base := serve(t, in.emit, build(t, func(c *Config) { c.ReadTimeout = 50 * time.Millisecond }))
	for _, rest := range []string{"Content-Length: 9\r\n\r\n{\"a\":", "Transfer-Encoding: chunked\r\n\r\n7\r\n{\"a\":"} {
		c := dial(t, base)
		c.say(requestHead + rest)
		checkProblem(t, c.hear(), 408, "timeout", "read_timeout; nothing was stored")
		if !c.ended() {
			t.Error("the connection stays open")
		}
	}
	if got := in.take(); len(got) > 0 {
		t.Errorf("stored %v", got)
	}
}

// The deadline of one request must not reach the next on the connection, nor the wait for the log.
func TestTheReadDeadlineEndsWithTheBody(t *testing.T) {
	in := &inbox{}
	const readTimeout = 50 * time.Millisecond
	canceled := make(chan bool, 2)
	emit := func(ctx context.Context, b event.Batch) ([]string, error) {
		<-time.After(2 * readTimeout) // deadlines of sockets are real time
		canceled <- ctx.Err() != nil
		return in.emit(ctx, b)
	}
	base := serve(t, emit, build(t, func(c *Config) { c.ReadTimeout = readTimeout }))
	c := dial(t, base)
	for range 2 {
		c.say(requestHead + "Content-Length: 2\r\n\r\n{}")
		if got := c.hear(); got.status != http.StatusAccepted {
			t.Errorf("got %d %s", got.status, got.body)
		}
		if <-canceled {
			t.Error("the deadline of the body canceled the append")
		}
	}
}

func TestTheConnectionGoesOnAfterARefusal(t *testing.T) {
	in := &inbox{}
	base := serve(t, in.emit, build(t, nil))
	c := dial(t, base)
	for range 3 {
		c.say(requestHead + "Content-Length: 2\r\n\r\n{]")
		checkProblem(t, c.hear(), 400, "malformed", "byte 1")
		c.say(requestHead + "Content-Length: 2\r\n\r\n{}")
		if got := c.hear(); got.status != http.StatusAccepted {
			t.Errorf("got %d %s", got.status, got.body)
		}
	}
	if got := in.take(); len(got) != 3 {
		t.Errorf("got %v", got)
	}
}

// net/http refuses messages whose end is in doubt; nothing of them may arrive.
func TestDoubtfulFraming(t *testing.T) {
	in := &inbox{}
	base := serve(t, in.emit, build(t, nil))
	for _, head := range []string{
		"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
		"Content-Length: -1\r\n\r\n{}",
		"Content-Length: two\r\n\r\n{}",
		"Transfer-Encoding: gzip\r\n\r\n{}",
		"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
	} {
		c := dial(t, base)
		c.say(requestHead + head)
		if got := c.hear(); got.status < 400 {
			t.Errorf("%q: got %d", head, got.status)
		}
		if !c.ended() {
			t.Errorf("%q: the connection stays open", head)
		}
	}
	if got := in.take(); len(got) > 0 {
		t.Errorf("stored %v", got)
	}
	// With both, the chunks count, and what the length claims is not taken for a second request.
	c := dial(t, base)
	c.say(requestHead+"Content-Length: 100", "Transfer-Encoding: chunked", "", "2", "{}", "0", "", "")
	if got := c.hear(); got.status != http.StatusAccepted {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if got := in.take(); len(got) != 1 || string(got[0].Data) != "{}" {
		t.Errorf("got %v", got)
	}
}

// A client may close its side behind the request and still wait for the answer.
func TestHalfClosedClientIsAnswered(t *testing.T) {
	in := &inbox{}
	closed := make(chan struct{})
	emit := func(ctx context.Context, b event.Batch) ([]string, error) {
		<-closed
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return in.emit(ctx, b)
	}
	base := serve(t, emit, build(t, nil))
	c := dial(t, base)
	c.say(requestHead + "Connection: close\r\nContent-Length: 2\r\n\r\n{}")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	close(closed)
	if got := c.hear(); got.status != http.StatusAccepted {
		t.Errorf("got %d %s", got.status, got.body)
	}
}
