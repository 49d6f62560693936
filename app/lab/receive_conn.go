package lab

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
)

// caller says who connects to a receiver, and where it thinks it connects to.
type caller struct {
	sink    SinkName
	scheme  string // http, https, smtp or smtps
	address string // host:port, as the sink asked for it
}

// door is a listener on loopback that lets in only those who come through its dial: they say a secret and who they are in the
// first line, which the protocol behind it does not see.
type door struct {
	net.Listener
	secret string

	mu     sync.Mutex // guards conns, and that none is added once it is nil
	conns  map[*guest]struct{}
	closed bool
}

func openDoor(ctx context.Context) (*door, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("the built-in receivers cannot listen on 127.0.0.1: %w", err)
	}
	return &door{Listener: l, secret: rand.Text(), conns: map[*guest]struct{}{}}, nil
}

// dial connects to the door.
func (d *door) dial(ctx context.Context, from caller) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.Addr().String())
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(c, "%s %s %s %s %s\n", d.secret, from.sink.Pipeline, from.sink.Sink, from.scheme, from.address); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Accept returns the next connection; who it is shows when it is first read.
func (d *door) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	g := &guest{Conn: c, door: d, in: bufio.NewReaderSize(c, 4<<10)}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errors.Join(net.ErrClosed, c.Close())
	}
	d.conns[g] = struct{}{}
	return g, nil
}

// shut closes the listener and every connection. A second one does nothing.
func (d *door) shut() {
	_ = d.Listener.Close()
	d.mu.Lock()
	d.closed = true
	all := d.conns
	d.conns = nil
	d.mu.Unlock()
	for g := range all {
		_ = g.Conn.Close()
	}
}

// guest is a connection that came through a door.
type guest struct {
	net.Conn
	door *door
	in   *bufio.Reader

	mu    sync.Mutex // guards from
	from  caller
	known bool // read by Read only
}

var errStranger = errors.New("only the sinks of this process may connect here")

// Read reads what comes behind the first line.
func (g *guest) Read(p []byte) (int, error) {
	if !g.known {
		if err := g.introduce(); err != nil {
			return 0, err
		}
		g.known = true
	}
	return g.in.Read(p)
}

func (g *guest) introduce() error {
	line, err := g.in.ReadSlice('\n')
	if err != nil {
		return err
	}
	said := strings.Fields(string(line))
	if len(said) != 5 || said[0] != g.door.secret {
		return errStranger
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.from = caller{SinkName{Pipeline: said[1], Sink: said[2]}, said[3], said[4]}
	return nil
}

// caller is who it is, once something was read.
func (g *guest) caller() caller {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.from
}

// Close closes the connection.
func (g *guest) Close() error {
	g.door.mu.Lock()
	delete(g.door.conns, g)
	g.door.mu.Unlock()
	return g.Conn.Close()
}

// guestOf finds the guest below the TLS of a connection.
func guestOf(c net.Conn) (*guest, bool) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	g, ok := c.(*guest)
	return g, ok
}
