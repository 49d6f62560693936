package http

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
)

func TestNewTarget(t *testing.T) {
	for address, want := range map[string]target{
		"http://example.com":       {"http", "example.com", "example.com", "example.com:80", "example.com"},
		"https://example.com":      {"https", "example.com", "example.com", "example.com:443", "example.com"},
		"https://example.com:8443": {"https", "example.com:8443", "example.com", "example.com:8443", "example.com:8443"},
		"http://bücher.example:1": {"http", "bücher.example:1", "xn--bcher-kva.example", "xn--bcher-kva.example:1",
			"xn--bcher-kva.example:1"},
		"http://127.0.0.1":          {"http", "127.0.0.1", "127.0.0.1", "127.0.0.1:80", "127.0.0.1"},
		"http://[::1]":              {"http", "[::1]", "::1", "[::1]:80", "[::1]"},
		"http://[fe80::1%25eth0]:8": {"http", "[fe80::1%eth0]:8", "fe80::1%eth0", "[fe80::1%eth0]:8", "[fe80::1]:8"},
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := newTarget(u.Scheme, u); err != nil || got != want {
			t.Errorf("%s: %+v, want %+v: %v", address, got, want, err)
		}
	}
}

// counted is a server that serves each connection by a function of the number of the connection, from 1.
func counted(t *testing.T, serve func(n int64, c net.Conn)) (string, *atomic.Int64) {
	var n atomic.Int64
	return rawServer(t, func(c net.Conn) { serve(n.Add(1), c) }), &n
}

const taken = "HTTP/1.1 204 No Content\r\n\r\n"

// A connection that the destination closed, or at which it said something unasked, while it was idle costs neither a failure nor
// a second request.
func TestStaleConnectionIsReplaced(t *testing.T) {
	for name, leave := range map[string]func(c net.Conn){
		"closed": func(c net.Conn) { _ = c.Close() },
		"reset":  reset,
		"408": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int64
			idle, left := make(chan struct{}), make(chan struct{})
			address, conns := counted(t, func(_ int64, c net.Conn) {
				if readRequest(c) == nil {
					return
				}
				requests.Add(1)
				_, _ = io.WriteString(c, taken)
				<-idle
				leave(c)
				left <- struct{}{}
				_, _ = io.Copy(io.Discard, c)
			})
			s := newSink(t, address)
			for range 3 {
				if err := send(t, s, order()); err != nil {
					t.Error(err)
				}
				idle <- struct{}{}
				<-left
			}
			if requests.Load() != 3 || conns.Load() != 3 {
				t.Errorf("%d requests on %d connections for 3 attempts", requests.Load(), conns.Load())
			}
		})
	}
}

// How many connections two attempts take depends on the answer.
func TestConnectionIsKept(t *testing.T) {
	for answer, want := range map[string]int64{
		taken: 1,
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok":                              1,
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n":                                1,
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n":                      1,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n":   1,
		"HTTP/1.1 100 Continue\r\n\r\n" + taken:                                       1,
		"HTTP/1.1 503 No\r\nContent-Length: 2000\r\n\r\n" + strings.Repeat("x", 2000): 1,
		"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok":                              2,
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok":         2,
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 Smuggled\r\n\r\n": 2,
	} {
		address, conns := counted(t, func(_ int64, c net.Conn) {
			r := bufio.NewReader(c)
			for {
				req, err := nethttp.ReadRequest(r)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				if _, err := io.WriteString(c, answer); err != nil || req.Close {
					return
				}
			}
		})
		s := newSink(t, address)
		s.network.(*client).drainFor = 5 * time.Second
		for range 2 {
			err := send(t, s, order())
			if ok := answer[9] < '3'; (err == nil) != ok {
				t.Errorf("%.40q: %v", answer, err)
			}
		}
		if n := conns.Load(); n != want {
			t.Errorf("%q: %d connections, want %d", answer[:min(len(answer), 90)], n, want)
		}
	}
}

// A destination may refuse what is too large before it has read it.
func TestEarlyAnswerToALargeBody(t *testing.T) {
	for _, name := range []string{"and closes", "and stays open"} {
		t.Run(name, func(t *testing.T) {
			over := make(chan struct{})
			defer close(over)
			address := rawServer(t, func(c net.Conn) {
				_, _ = c.Read(make([]byte, 1<<10))
				_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
				if name == "and closes" {
					_ = c.(*net.TCPConn).CloseWrite()
					_, _ = io.Copy(io.Discard, c)
					return
				}
				<-over
			})
			d := order()
			d.Event.Data = bytes.Repeat([]byte("x"), 32<<20)
			if f := failure(t, newSink(t, address), d, event.PermanentClass); f.Status != 413 {
				t.Errorf("%+v", f)
			}
		})
	}
}

func TestTLS(t *testing.T) {
	var conns atomic.Int64
	srv := httptest.NewUnstartedServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.ProtoMajor != 1 {
			w.WriteHeader(500)
		}
	}))
	srv.EnableHTTP2, srv.Config.ErrorLog = true, log.New(io.Discard, "", 0)
	srv.Config.ConnState = func(_ net.Conn, state nethttp.ConnState) {
		if state == nethttp.StateNew {
			conns.Add(1)
		}
	}
	srv.StartTLS()
	defer srv.Close()
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	for name, ok := range map[string]bool{"example.com": true, "127.0.0.1": true, "other.example": false} {
		c := Defaults()
		c.URL = template(t, srv.URL)
		s, err := New(c, Dial(func(ctx context.Context, _, address string) (net.Conn, error) {
			n, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			if err != nil {
				return nil, err
			}
			return handshake(ctx, n, &tls.Config{ServerName: name, RootCAs: roots, NextProtos: []string{"http/1.1"}})
		}))
		if err != nil {
			t.Fatal(err)
		}
		conns.Store(0)
		for range 3 {
			if err := send(t, s, order()); (err == nil) != ok {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n := conns.Load(); ok && n != 1 {
			t.Errorf("%s: %d connections", name, n)
		}
		_ = s.Close()
	}
	// The certificates of the machine do not vouch for this server.
	f := failure(t, newSink(t, srv.URL), order(), event.UnavailableClass)
	var unknown x509.UnknownAuthorityError
	if !errors.As(f.Err, &unknown) {
		t.Errorf("%v", f.Err)
	}
}

// gathered sends in one piece what is written up to a flush.
type gathered struct {
	net.Conn
	held []byte
}

func (g *gathered) Write(p []byte) (int, error) {
	g.held = append(g.held, p...)
	return len(p), nil
}

func (g *gathered) flush() {
	_, _ = g.Conn.Write(g.held)
	g.held = nil
}

// What comes unasked with an answer is no answer to the next request, also where TLS has read it off the connection already.
func TestUnaskedAnswerBehindTLS(t *testing.T) {
	srv := httptest.NewUnstartedServer(nil)
	srv.StartTLS()
	cert, roots := srv.TLS.Certificates[0], x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	srv.Close()
	var requests atomic.Int64
	address, conns := counted(t, func(n int64, c net.Conn) {
		g := &gathered{Conn: c}
		s := tls.Server(&flushed{g}, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
		if readRequest(s) == nil {
			return
		}
		requests.Add(1)
		_, _ = io.WriteString(s, taken)
		if n == 1 {
			_, _ = io.WriteString(s, taken)
		}
		g.flush()
		_, _ = io.Copy(io.Discard, s)
	})
	c := Defaults()
	c.URL = template(t, "https"+strings.TrimPrefix(address, "http"))
	s, err := New(c, Dial(func(ctx context.Context, _, address string) (net.Conn, error) {
		n, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		return handshake(ctx, n, &tls.Config{ServerName: "example.com", RootCAs: roots})
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 2 {
		if err := send(t, s, order()); err != nil {
			t.Error(err)
		}
	}
	if requests.Load() != 2 || conns.Load() != 2 {
		t.Errorf("%d requests on %d connections for 2 attempts", requests.Load(), conns.Load())
	}
}

// flushed sends what is held before it reads, as the handshake needs it.
type flushed struct{ *gathered }

func (f *flushed) Read(p []byte) (int, error) {
	f.flush()
	return f.Conn.Read(p)
}

// The time of an attempt is the bound of all that it waits for, also of the rest of an answer.
func TestRestOfAnAnswerHearsTheDeadline(t *testing.T) {
	s := newSink(t, rawServer(t, answer("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx")))
	s.network.(*client).drainFor = 20 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	attempt := &abortable{Context: ctx, called: make(chan func(), 1)} // the connection alone keeps its deadline
	if err := s.Deliver(attempt, []event.Delivery{order()}).Verdicts[0]; err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

// piped hides what a connection is, as one that goes through something else would.
type piped struct{ net.Conn }

// Where the system cannot tell whether a connection is alive, it is used once.
func TestConnectionThatCannotBeLookedAt(t *testing.T) {
	address, conns := counted(t, func(_ int64, c net.Conn) {
		readRequest(c)
		_, _ = io.WriteString(c, taken)
		_, _ = io.Copy(io.Discard, c)
	})
	c := Defaults()
	c.URL = template(t, address)
	s, err := New(c, Dial(func(ctx context.Context, _, address string) (net.Conn, error) {
		n, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		return piped{n}, err
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 2 {
		if err := send(t, s, order()); err != nil {
			t.Error(err)
		}
	}
	if n := conns.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	address, _ := counted(t, func(_ int64, c net.Conn) {
		readRequest(c)
		_, _ = io.WriteString(c, taken)
		_, _ = io.Copy(io.Discard, c)
	})
	s := newSink(t, address)
	c := s.network.(*client)
	now := time.Now()
	c.now = func() time.Time { return now }
	if err := send(t, s, order()); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		pass time.Duration
		left int
	}{{idleFor - time.Second, 1}, {2 * time.Second, 0}} {
		now = now.Add(step.pass)
		c.reap()
		if len(c.idle) != step.left || (c.reaper != nil) != (step.left > 0) {
			t.Errorf("%d connections are idle after %v", len(c.idle), step.pass)
		}
	}
	c.reap() // a timer that fired just before close
	if c.reaper != nil {
		t.Error("the timer runs on without a connection")
	}
}

// Those who end attempts in a way of their own are heard as a context is.
func TestAborted(t *testing.T) {
	reached := make(chan struct{})
	address := rawServer(t, func(c net.Conn) {
		readRequest(c)
		close(reached)
		_, _ = io.Copy(io.Discard, c)
	})
	ctx := &abortable{Context: t.Context(), called: make(chan func(), 1)}
	go func() {
		abort := <-ctx.called
		<-reached
		abort()
	}()
	err := newSink(t, address).Deliver(ctx, []event.Delivery{order()}).Verdicts[0]
	if f := event.VerdictOf(err); f.Class != event.UnavailableClass || !ctx.stopped {
		t.Errorf("%+v", f)
	}
}

type abortable struct {
	context.Context
	called  chan func()
	stopped bool
}

func (a *abortable) Aborted(f func()) (stop func() bool) {
	a.called <- f
	return func() bool {
		a.stopped = true
		return false
	}
}

func TestLongRequestsArriveWhole(t *testing.T) {
	address, next := capture(t)
	for _, size := range []int{inlineMax - 2000, inlineMax, inlineMax + 1, 1 << 20} {
		d := order()
		d.Event.Data = fmt.Appendf(nil, "%0*d", size, 7)
		if err := send(t, newSink(t, address), d); err != nil {
			t.Fatal(err)
		}
		if r := next(); !bytes.Equal(r.body, d.Event.Data) {
			t.Errorf("%d of %d bytes", len(r.body), size)
		}
	}
}
