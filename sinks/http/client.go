package http

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	nethttp "net/http"
	"os"
	"slices"
	"sync"
	"time"
)

const (
	maxIdle       = 1024        // connections kept open; more than any concurrency a machine of this size runs
	idleFor       = time.Minute // how long one is kept that nobody uses
	handshakeTime = 10 * time.Second
)

// exchanger makes one request and reads the beginning of its answer. It is what stands between the sink and the network.
type exchanger interface {
	// exchange sends a message and returns the answer, of which keep says how much of the body is kept. It makes one request at
	// most and returns when ctx ends. An error says that there is no status.
	exchange(ctx context.Context, m *message, keep keeper) (*reply, error)
	// close closes the connections that nobody uses; the exchanger stays usable.
	close()
}

// reply is what is kept of an answer.
type reply struct {
	status int
	header nethttp.Header
	text   []byte // the beginning of the body, as much as was asked for
	whole  bool   // text is all of the body
}

// keeper says how many bytes of a body are kept, by the status; and whether they are waited for as long as the attempt may take.
type keeper func(status int) (bytes int64, patient bool)

// client speaks HTTP/1.1 to one destination over connections of its own, each of which one attempt has at a time. It needs no
// goroutine for a connection: an attempt writes its request, then reads the answer, in the goroutine that it runs in.
type client struct {
	dial     func(ctx context.Context) (net.Conn, error)
	request  *nethttp.Request // tells ReadResponse the method
	drainFor time.Duration    // how long the rest of an answer is waited for
	now      func() time.Time

	mu     sync.Mutex // guards what follows
	idle   []*conn    // the one used last is at the end
	reaper *time.Timer
}

func newClient(method string, dial func(ctx context.Context) (net.Conn, error)) *client {
	return &client{dial: dial, request: &nethttp.Request{Method: method}, drainFor: time.Second, now: time.Now}
}

// exchange implements exchanger. A connection that was kept is looked at before it is used, and one that turns out closed when
// the first byte is written is replaced: the destination has got nothing of the request. What fails later is not repeated here.
func (c *client) exchange(ctx context.Context, m *message, keep keeper) (*reply, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for {
		k, err := c.get(ctx)
		if err != nil {
			return nil, timely(ctx, err)
		}
		a, again, err := c.over(ctx, k, m, keep)
		if err != nil && k.used && k.unwritten() && ctx.Err() == nil {
			continue
		}
		if again {
			c.put(k)
		}
		if err != nil {
			return nil, timely(ctx, err)
		}
		return a, nil
	}
}

// over makes the exchange on a connection and says whether that can be used again; otherwise it is closed.
func (c *client) over(ctx context.Context, k *conn, m *message, keep keeper) (a *reply, again bool, err error) {
	k.begin(ctx)
	stop := whenAborted(ctx, k.stop)
	sent := k.send(m)
	defer sent.wait()
	if a, err = k.glance(sent, keep); a != nil {
		return a, c.ends(k, sent, stop, true), nil
	}
	var res *nethttp.Response
	if err == nil {
		res, err = k.head(c.request)
	}
	if err != nil {
		_ = k.Close()
		stop()
		return nil, false, err
	}
	a = &reply{status: res.StatusCode, header: res.Header}
	whole := k.body(res, a, keep, c.drainFor, c.now)
	return a, c.ends(k, sent, stop, whole && !res.Close), nil
}

// ends is behind an answer: it says whether the connection can be used again, and closes it otherwise.
func (c *client) ends(k *conn, sent *sending, stop func() bool, clean bool) (again bool) {
	again = stop() && sent.done() && clean && k.in.Buffered() == 0
	if !again {
		_ = k.Close()
	}
	return again
}

// whenAborted makes f be called when ctx ends, where its deadline is kept by the connection itself. The router's contexts have a
// cheaper way for that than a timer and a channel for each attempt.
func whenAborted(ctx context.Context, f func()) (stop func() bool) {
	if a, ok := ctx.(interface {
		Aborted(f func()) (stop func() bool)
	}); ok {
		return a.Aborted(f)
	}
	return context.AfterFunc(ctx, f)
}

// timely makes an error of a connection whose time is over the one of the context that set it.
func timely(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if _, limited := ctx.Deadline(); limited && errors.Is(err, os.ErrDeadlineExceeded) {
		return context.DeadlineExceeded
	}
	return err
}

// get returns a connection: the one used last of those that are idle and alive, or a new one.
func (c *client) get(ctx context.Context) (*conn, error) {
	for {
		k := c.pop()
		if k == nil {
			break
		}
		if k.alive() {
			return k, nil
		}
		_ = k.Close()
	}
	n, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	return newConn(n), nil
}

func (c *client) pop() *conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.idle) - 1
	if n < 0 {
		return nil
	}
	k := c.idle[n]
	c.idle[n] = nil
	c.idle = c.idle[:n]
	return k
}

// put keeps a connection for the next attempt.
func (c *client) put(k *conn) {
	k.used, k.since = true, c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.idle) >= maxIdle {
		_ = k.Close()
		return
	}
	c.idle = append(c.idle, k)
	if c.reaper == nil {
		c.reaper = time.AfterFunc(idleFor, c.reap)
	}
}

// reap closes what was idle for too long, and comes again while anything is idle.
func (c *client) reap() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaper == nil {
		return // closed meanwhile
	}
	c.reaper = nil
	limit := c.now().Add(-idleFor)
	c.idle = slices.DeleteFunc(c.idle, func(k *conn) bool {
		if k.since.After(limit) {
			return false
		}
		_ = k.Close()
		return true
	})
	if len(c.idle) > 0 {
		c.reaper = time.AfterFunc(idleFor, c.reap)
	}
}

// close implements exchanger.
func (c *client) close() {
	c.mu.Lock()
	idle := c.idle
	c.idle = nil
	if c.reaper != nil {
		c.reaper.Stop()
		c.reaper = nil
	}
	c.mu.Unlock()
	for _, k := range idle {
		_ = k.Close()
	}
}

// dialer connects to a target by its name, with TLS for https.
func dialer(to target, denyPrivate bool) func(ctx context.Context) (net.Conn, error) {
	d := &net.Dialer{KeepAlive: 15 * time.Second}
	if denyPrivate {
		d.ControlContext = refusePrivate
	}
	config := &tls.Config{ServerName: to.name, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12}
	return func(ctx context.Context) (net.Conn, error) {
		c, err := d.DialContext(ctx, "tcp", to.dial)
		if err != nil || to.scheme != "https" {
			return c, err
		}
		return handshake(ctx, c, config)
	}
}

func handshake(ctx context.Context, c net.Conn, config *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	t := tls.Client(c, config)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return t, nil
}
