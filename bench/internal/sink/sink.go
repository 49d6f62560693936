// Package sink is the far end of a benchmark: an HTTP server that counts, for each of its paths, which orders arrived, and
// misbehaves as it is told.
package sink

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace-run/millrace/bench/internal/load"
	"github.com/millrace-run/millrace/bench/internal/wire"
)

// Faults say how a path misbehaves. The zero value takes everything at once.
type Faults struct {
	Status      int           // answered instead of 204, with Probability
	Probability float64       // 0 to 1
	Delay       time.Duration // before every answer
	Reset       float64       // the probability that the connection is cut instead of an answer
	Until       time.Time     // when it behaves again; zero is never
}

// Server is a running sink. Its methods may be called concurrently.
type Server struct {
	listener net.Listener
	done     chan struct{} // closed by Close
	closing  sync.Once
	closed   error // what closing gave
	all      sync.WaitGroup

	mu    sync.Mutex // guards what follows
	paths map[string]*Path
	conns map[net.Conn]bool // nil once closed
}

// Listen starts a server on address (host:port, port 0 chooses one). Whoever starts it must Close it.
func Listen(address string) (*Server, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	s := &Server{listener: l, done: make(chan struct{}), paths: map[string]*Path{}, conns: map[net.Conn]bool{}}
	s.all.Go(s.accept)
	return s, nil
}

// Address is where it listens.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Close refuses connections from now on, cuts those there are and waits for their end. It may be called more than once. What was
// counted can still be asked for.
func (s *Server) Close() error {
	s.closing.Do(func() {
		close(s.done)
		s.closed = s.listener.Close()
		s.mu.Lock()
		for c := range s.conns {
			_ = c.Close() // to cut it is the purpose
		}
		s.conns = nil
		s.mu.Unlock()
		s.all.Wait()
	})
	return s.closed
}

// Path returns what is known of a path; it is made when it is first asked for or posted to.
func (s *Server) Path(name string) *Path {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.paths[name]
	if p == nil {
		p = &Path{}
		p.faults.Store(&Faults{})
		s.paths[name] = p
	}
	return p
}

// Take makes this server count into the paths of another, for a sink that comes back at its address.
func (s *Server) Take(from *Server) {
	from.mu.Lock()
	defer from.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, p := range from.paths {
		s.paths[name] = p
	}
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return // closed
		}
		s.mu.Lock()
		if s.conns == nil {
			s.mu.Unlock()
			_ = conn.Close()
			return
		}
		s.conns[conn] = true
		s.mu.Unlock()
		s.all.Go(func() { s.serve(conn) })
	}
}

func (s *Server) serve(conn net.Conn) {
	defer s.forget(conn)
	var (
		m    wire.Message
		r    = bufio.NewReaderSize(conn, 8<<10)
		path *Path
		last string
	)
	carryOn := func() error { return write(conn, "HTTP/1.1 100 Continue\r\n\r\n") }
	for m.Read(r, carryOn) == nil {
		if name := m.Path(); path == nil || string(name) != last {
			last = string(name)
			path = s.Path(last)
		}
		status := path.decide(s.done)
		if status == 0 {
			return
		}
		path.count(m.Body, status)
		if write(conn, answers[status]) != nil || m.Close {
			return
		}
	}
}

func (s *Server) forget(conn net.Conn) {
	_ = conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

func write(c net.Conn, text string) error {
	_, err := c.Write([]byte(text))
	return err
}

// answers are made once, so that an answer is one write.
var answers = func() (all [600]string) {
	for status := range all {
		all[status] = fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Length: 0\r\n\r\n", status, "-")
	}
	all[204] = "HTTP/1.1 204 No Content\r\n\r\n"
	return all
}()

// Path counts what was posted to it. Its methods may be called concurrently.
type Path struct {
	faults atomic.Pointer[Faults]

	mu    sync.Mutex // guards what follows
	seen  bitmap
	tally Tally
}

// Tally is what arrived at a path. Orders that were refused are not counted as arrived.
type Tally struct {
	Distinct   int            // orders by number
	Duplicates int            // orders that had arrived before
	Requests   int            // that were taken
	Refused    int            // requests that were answered otherwise, or cut
	Strange    int            // requests without an order in them
	Latency    load.Histogram // from the time an order was due to its first arrival
	Last       time.Time      // when the last new order arrived
}

// Misbehave sets the faults from now on.
func (p *Path) Misbehave(f Faults) { p.faults.Store(&f) }

// Tally returns a copy of the counts.
func (p *Path) Tally() Tally {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tally
}

// Distinct is how many orders have arrived.
func (p *Path) Distinct() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tally.Distinct
}

// Has says whether an order has arrived.
func (p *Path) Has(number int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen.has(number)
}

// TakeLatency returns the latencies since it was last called.
func (p *Path) TakeLatency() load.Histogram {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.tally.Latency
	p.tally.Latency = load.Histogram{}
	return h
}

// Wait waits until n distinct orders have arrived.
func (p *Path) Wait(ctx context.Context, n int) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for p.Distinct() < n {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%d of %d orders arrived", p.Distinct(), n), ctx.Err())
		}
	}
	return nil
}

// decide chooses the status of a request, after its delay; 0 cuts the connection. Only what it refuses is counted here.
func (p *Path) decide(done <-chan struct{}) int {
	f := p.faults.Load()
	if *f == (Faults{}) || !f.Until.IsZero() && time.Now().After(f.Until) {
		return 204
	}
	if f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-done:
			return 0
		}
	}
	switch {
	case rand.Float64() < f.Reset:
		p.refused()
		return 0
	case rand.Float64() < f.Probability:
		return f.Status
	}
	return 204
}

func (p *Path) refused() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tally.Refused++
}

// count counts the orders of a request that was answered with status.
func (p *Path) count(body []byte, status int) {
	if status >= 300 {
		p.refused()
		return
	}
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tally.Requests++
	number, due, rest, ok := load.Tag(body)
	if !ok {
		p.tally.Strange++
	}
	for ; ok; number, due, rest, ok = load.Tag(rest) {
		if !p.seen.add(number) {
			p.tally.Duplicates++
			continue
		}
		p.tally.Distinct++
		p.tally.Last = now
		p.tally.Latency.Add(now.Sub(due))
	}
}

// bitmap is a set of small numbers.
type bitmap []uint64

func (b bitmap) has(n int) bool { return n/64 < len(b) && b[n/64]&(1<<(n%64)) != 0 }

// add says whether n is new.
func (b *bitmap) add(n int) bool {
	for n/64 >= len(*b) {
		*b = append(*b, make([]uint64, max(1024, len(*b)))...)
	}
	if b.has(n) {
		return false
	}
	(*b)[n/64] |= 1 << (n % 64)
	return true
}
