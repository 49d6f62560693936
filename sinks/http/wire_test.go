package http

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

// rawServer answers connections with a function and returns its URL. The function's connection is closed when it returns and at
// the latest when the test ends.
func rawServer(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	var mu sync.Mutex // guards conns
	conns := map[net.Conn]bool{}
	wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns[c] = true
			mu.Unlock()
			wait.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		wait.Wait()
	})
	return "http://" + l.Addr().String()
}

func readRequest(c net.Conn) *nethttp.Request {
	r, err := nethttp.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return nil
	}
	_, _ = io.Copy(io.Discard, r.Body)
	return r
}

func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}

// answer serves a connection by one write of text, then waits for the other side to close.
func answer(text string) func(net.Conn) {
	return func(c net.Conn) {
		if readRequest(c) == nil {
			return
		}
		_, _ = io.WriteString(c, text)
		_, _ = io.Copy(io.Discard, c)
	}
}

func endless(c net.Conn, head, piece string) {
	if readRequest(c) == nil {
		return
	}
	if _, err := io.WriteString(c, head); err != nil {
		return
	}
	for {
		if _, err := io.WriteString(c, piece); err != nil {
			return
		}
	}
}

func TestWire(t *testing.T) {
	const kib = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	long := strings.Repeat(kib, 1024)
	for _, c := range []struct {
		name   string
		serve  func(net.Conn)
		class  event.Class
		ok     bool
		status int
		answer int // length
	}{
		{"resets at once", reset, event.UnavailableClass, false, 0, 0},
		{"closes at once", func(net.Conn) {}, event.UnavailableClass, false, 0, 0},
		{"resets after the request", func(c net.Conn) { readRequest(c); reset(c) }, event.UnavailableClass, false, 0, 0},
		{"resets in the headers", func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Le")
			reset(c)
		}, event.UnavailableClass, false, 0, 0},
		{"200 then reset", func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
			reset(c)
		}, 0, true, 200, 0},
		{"200 then close in a chunk", func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhalf")
		}, 0, true, 200, 0},
		{"bad chunk behind 200", answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), 0, true, 200, 0},
		{"500 cut off", func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 500 Oops\r\nContent-Length: 1000\r\n\r\nhalf")
		}, event.UnavailableClass, false, 500, 4},
		{"endless 200", func(c net.Conn) { endless(c, "HTTP/1.1 200 OK\r\n\r\n", long) }, 0, true, 200, 0},
		{"endless 422", func(c net.Conn) { endless(c, "HTTP/1.1 422 No\r\n\r\n", long) }, event.PermanentClass, false, 422, 1024},
		{"declared huge 400", answer("HTTP/1.1 400 No\r\nContent-Length: 99999999999\r\n\r\n" + long),
			event.PermanentClass, false, 400, 1024},
		{"slow drip behind 200", answer("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx"), 0, true, 200, 0},
		{"slow drip behind 503", answer("HTTP/1.1 503 No\r\nContent-Length: 1000\r\n\r\nxyz"), event.UnavailableClass, false, 503, 3},
		{"garbage", answer("SSH-2.0-OpenSSH_9.9\r\n\r\n"), event.UnavailableClass, false, 0, 0},
		{"long garbage", answer(strings.Repeat("\x00\xff\x1b[31m", 4000) + "\r\n\r\n"), event.UnavailableClass, false, 0, 0},
		{"garbage status", answer("HTTP/1.1 20x OK\r\n\r\n"), event.UnavailableClass, false, 0, 0},
		{"1xx first", answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n" +
			"HTTP/1.1 204 No Content\r\n\r\n"), 0, true, 204, 0},
		{"1xx for ever", func(c net.Conn) { endless(c, "", "HTTP/1.1 102 Processing\r\n\r\n") }, event.UnavailableClass, false, 0, 0},
		{"huge header", func(c net.Conn) { endless(c, "HTTP/1.1 200 OK\r\nX: ", long) }, event.UnavailableClass, false, 0, 0},
		{"many headers", func(c net.Conn) { endless(c, "HTTP/1.1 200 OK\r\n", "X-Y: "+kib+"\r\n") }, event.UnavailableClass, false, 0, 0},
		{"gzip is not unpacked", answer("HTTP/1.1 400 No\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n\x1f\x8b\x08\x00\x00"),
			event.PermanentClass, false, 400, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSink(t, rawServer(t, c.serve))
			s.network.(*client).drainFor = 50 * time.Millisecond
			err := send(t, s, order())
			if c.ok {
				if err != nil {
					t.Errorf("want success: %v", err)
				}
				return
			}
			if err == nil {
				t.Fatal("accepted")
			}
			f := event.VerdictOf(err)
			if f.Class != c.class || f.Status != c.status || len(f.Answer) != c.answer || f.Refused {
				t.Errorf("class %d status %d answer %d bytes, want %d %d %d: %v",
					f.Class, f.Status, len(f.Answer), c.class, c.status, c.answer, err)
			}
			if len(err.Error()) > maxError+100 || strings.ContainsAny(err.Error(), "\x00\x1b\n") {
				t.Errorf("error text %q", err.Error())
			}
		})
	}
}

func TestNeverAnswers(t *testing.T) {
	url := rawServer(t, func(c net.Conn) {
		readRequest(c)
		_, _ = io.Copy(io.Discard, c)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := newSink(t, url).Deliver(ctx, []event.Delivery{order()}).Verdicts[0]
	if err == nil {
		t.Fatal("accepted")
	}
	f := event.VerdictOf(err)
	if f.Class != event.UnavailableClass || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(f.Error(), "no answer in") {
		t.Errorf("%+v", f)
	}
}

// A connection that the destination closed while it was idle must cost neither a failure nor a second request.
func TestAttemptIsOneRequest(t *testing.T) {
	var requests atomic.Int64
	url := rawServer(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			req, err := nethttp.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			requests.Add(1)
			if requests.Load() == 2 {
				return // read, and closed without an answer: it may have been taken
			}
			_, _ = fmt.Fprint(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	})
	for _, c := range []struct {
		data []byte
		set  string // one more header
	}{{[]byte(`{"a":1}`), "X-More"}, {nil, "X-More"}, {[]byte(`{"a":1}`), "X-Idempotency-Key"}} {
		requests.Store(0)
		s := newSink(t, url, func(o *Config) { o.Headers = map[string]rules.Template{c.set: template(t, "x")} })
		d := order()
		d.Event.Data = c.data
		if err := send(t, s, d); err != nil {
			t.Fatal(err)
		}
		failure(t, s, d, event.UnavailableClass)
		if n := requests.Load(); n != 2 {
			t.Errorf("data %q and %s: %d requests for 2 attempts", c.data, c.set, n)
		}
	}
}

func TestBatchStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	url := rawServer(t, func(c net.Conn) {
		readRequest(c)
		cancel()
		_, _ = io.Copy(io.Discard, c)
	})
	for i, err := range newSink(t, url).Deliver(ctx, []event.Delivery{order(), order(), order()}).Verdicts {
		if f := event.VerdictOf(err); f.Class != event.UnavailableClass {
			t.Errorf("event %d: %+v", i, f)
		}
	}
}

func TestLargeBodyArrives(t *testing.T) {
	url, next := capture(t)
	d := order()
	d.Event.Data = bytes.Repeat([]byte{0, 1, 2, 0xff}, 1<<18)
	if err := send(t, newSink(t, url), d); err != nil {
		t.Fatal(err)
	}
	if r := next(); !bytes.Equal(r.body, d.Event.Data) {
		t.Errorf("%d bytes arrived", len(r.body))
	}
}
