package databasetest

import (
	"bytes"
	"net"
	"strings"
	"sync"
	"testing"
)

// Proxy stands between a program and a server, and breaks what is between them. Its methods may be called concurrently.
type Proxy struct {
	listener net.Listener
	to       string
	serving  sync.WaitGroup

	mu    sync.Mutex // guards what follows
	conns map[net.Conn]bool
	down  bool
	cut   string        // a statement whose answer is lost
	gate  chan struct{} // not nil: nothing passes to the server until it is closed
	held  chan struct{} // receives when something is held at the gate
}

// NewProxy returns a proxy for a server, and its URL in place of the server's.
func NewProxy(t testing.TB, s *Server, url string) (*Proxy, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: l, to: s.Address(), conns: map[net.Conn]bool{}}
	p.serving.Go(p.serve)
	return p, strings.Replace(url, s.Address(), l.Addr().String(), 1)
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() {
	_ = p.listener.Close()
	p.Down()
	p.mu.Lock()
	p.open()
	p.mu.Unlock()
	p.serving.Wait()
}

// Down breaks every connection, and each new one at once, until Up.
func (p *Proxy) Down() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
	for c := range p.conns {
		_ = c.Close()
	}
}

// Up lets connections pass again.
func (p *Proxy) Up() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}

// Cut passes a statement that holds this text on to the server, once, and breaks the connection in place of the answer.
func (p *Proxy) Cut(statement string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = statement
}

// Stall holds what goes to the server until release is called. reached receives when something is held.
func (p *Proxy) Stall() (reached <-chan struct{}, release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate, p.held = make(chan struct{}), make(chan struct{}, 1)
	return p.held, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.open()
	}
}

func (p *Proxy) open() {
	if p.gate != nil {
		close(p.gate)
		p.gate = nil
	}
}

func (p *Proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.to)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[server] = true, true
		if p.down {
			_, _ = client.Close(), server.Close()
		}
		p.mu.Unlock()
		var lost lost
		p.serving.Go(func() { p.pass(client, server, p.outward(&lost)) })
		p.serving.Go(func() { p.pass(server, client, lost.inward) })
	}
}

// pass moves bytes until one side is gone; look may refuse to let them pass.
func (p *Proxy) pass(from, to net.Conn, look func(b []byte) bool) {
	room := make([]byte, 64<<10)
	for {
		n, err := from.Read(room)
		if n > 0 && look(room[:n]) {
			_, err2 := to.Write(room[:n])
			if err == nil {
				err = err2
			}
		} else if n > 0 {
			break
		}
		if err != nil {
			break
		}
	}
	_, _ = from.Close(), to.Close()
	p.mu.Lock()
	delete(p.conns, from)
	delete(p.conns, to)
	p.mu.Unlock()
}

// lost says whether the next answer of a connection is lost.
type lost struct {
	mu  sync.Mutex
	yes bool
}

func (l *lost) inward([]byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.yes
}

func (p *Proxy) outward(l *lost) func([]byte) bool {
	return func(b []byte) bool {
		p.mu.Lock()
		gate := p.gate
		if gate != nil {
			select {
			case p.held <- struct{}{}:
			default:
			}
		}
		if p.cut != "" && bytes.Contains(b, []byte(p.cut)) {
			p.cut = ""
			l.mu.Lock()
			l.yes = true
			l.mu.Unlock()
		}
		p.mu.Unlock()
		if gate != nil {
			<-gate
		}
		return true
	}
}
