package webhook

import (
	"net"
	"os"
	"sync"
	"time"
)

// Listener makes connections cheaper for a net/http server whose handlers are webhooks. During each request such a server moves the
// read deadline six times and reads ahead in a goroutine of its own, to cancel the request's context when the client goes away. A
// webhook does not look at that context: who went away gets stored what it sent.
//
// The server must have a ReadHeaderTimeout, and its handlers must set a read deadline before they read a body, as webhooks do. By
// that the read ahead is known, which has none.
func Listener(l net.Listener) net.Listener { return listener{l} }

type listener struct{ net.Listener }

// Accept is net.Listener.Accept.
func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if t, ok := c.(*net.TCPConn); ok {
		return newConn(t), nil
	}
	return c, err
}

// conn keeps the read deadline to itself until a read needs it, and lets the read ahead wait in place of the kernel.
type conn struct {
	*net.TCPConn

	mu      sync.Mutex // guards all below
	wanted  time.Time  // the read deadline as it was asked for
	set     time.Time  // and as the kernel's side has it
	reads   int        // that are under way there
	ahead   sync.Cond  // tells the read ahead that wanted or closed changed
	waiting bool       // it waits
	closed  bool
}

func newConn(c *net.TCPConn) *conn {
	k := &conn{TCPConn: c}
	k.ahead.L = &k.mu
	return k
}

// longAgo is behind the deadline by which net/http ends a read at once.
var longAgo = time.Unix(1<<20, 0)

// Read is net.Conn.Read, but for one byte without a deadline: that waits until there is a deadline. What has arrived by then stays
// for the next read.
func (c *conn) Read(p []byte) (int, error) {
	if err := c.begin(len(p) == 1); err != nil {
		return 0, err
	}
	n, err := c.TCPConn.Read(p)
	c.mu.Lock()
	c.reads--
	c.mu.Unlock()
	return n, err
}

// begin prepares a read, or says why there is none.
func (c *conn) begin(ahead bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ahead && c.wanted.IsZero() && !c.closed {
		c.waiting = true
		c.ahead.Wait()
		c.waiting = false
	}
	switch {
	case c.closed:
		return net.ErrClosed
	case ahead && c.wanted.Before(longAgo):
		return os.ErrDeadlineExceeded
	}
	if c.wanted != c.set {
		if err := c.TCPConn.SetReadDeadline(c.wanted); err != nil {
			return err
		}
		c.set = c.wanted
	}
	c.reads++
	return nil
}

// SetReadDeadline is net.Conn.SetReadDeadline. An error of a connection that is closed comes with the next read.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wanted = t
	if c.waiting {
		c.ahead.Broadcast()
	}
	if c.reads == 0 {
		return nil
	}
	c.set = t
	return c.TCPConn.SetReadDeadline(t)
}

// SetDeadline is net.Conn.SetDeadline.
func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// Close is net.Conn.Close. It ends a read ahead too.
func (c *conn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.ahead.Broadcast()
	c.mu.Unlock()
	return c.TCPConn.Close()
}
