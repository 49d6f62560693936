package syslog

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

const (
	handshakeTime = 10 * time.Second
	messageTime   = time.Minute            // from the first byte of a message to its last
	stopTime      = 100 * time.Millisecond // how long what has arrived is still read at the end
	acceptPause   = 200 * time.Millisecond // after a failure such as too many open files
)

// doors are the listeners and connections of a run.
type doors struct {
	mu     sync.Mutex // guards all below
	stopAt time.Time  // zero until the end
	open   map[stoppable]struct{}
}

// stoppable is a connection, or the socket of datagrams.
type stoppable interface{ SetReadDeadline(time.Time) error }

func newDoors() *doors { return &doors{open: map[stoppable]struct{}{}} }

// add takes a connection, unless there are limit already.
func (d *doors) add(c stoppable, limit int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if limit > 0 && len(d.open) >= limit {
		return false
	}
	d.open[c] = struct{}{}
	return true
}

func (d *doors) remove(c stoppable) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.open, c)
}

// until sets the end of the next read; at the end of the run it is soon, whatever is asked for.
func (d *doors) until(c stoppable, t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.stopAt.IsZero() {
		t = d.stopAt
	}
	return c.SetReadDeadline(t)
}

// stop ends all reads soon.
func (d *doors) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopAt = time.Now().Add(stopTime)
	for c := range d.open {
		_ = c.SetReadDeadline(d.stopAt) // one that fails is closed, and nobody reads from it
	}
}

func (d *doors) stopped() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.stopAt.IsZero()
}

// accept serves each connection of a listener until the listener is closed. A nil config is plain TCP.
func (r *run) accept(l net.Listener, protocol string, config *tls.Config) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			r.told.warn(r.log, r.clock.Now(), "a connection cannot be taken", "err", err)
			if !r.pause(acceptPause) {
				return
			}
			continue
		}
		if !r.conns.add(c, r.config.MaxConnections) {
			r.refuse(ReasonConnections, addressOf(c.RemoteAddr()).String(), errors.New("max_connections are open"))
			_ = c.Close()
			continue
		}
		r.counts.connections.Add(1)
		r.readers.Go(func() {
			defer r.counts.connections.Add(-1)
			defer r.conns.remove(c)
			r.serve(c, protocol, config)
		})
	}
}

// serve reads a connection to its end. What closes it concerns no other.
func (r *run) serve(c net.Conn, protocol string, config *tls.Config) {
	s := &stream{run: r, conn: c, in: c, maker: r.newMaker(protocol, addressOf(c.RemoteAddr())), frames: newFramer(int(r.config.MaxMessage))}
	defer func() { _ = s.in.Close() }() // nothing is written that could be lost
	if config != nil && !s.handshake(config) {
		return
	}
	for s.read() {
	}
	s.finish()
}

// stream is one connection that is read.
type stream struct {
	*run
	conn   net.Conn // the one of TCP, which has the deadline
	in     net.Conn // conn, or TLS on it
	maker  *maker
	frames *framer
	begun  time.Time // when the first byte of a message came whose last did not; zero for none
	full   chunk
}

func (s *stream) handshake(config *tls.Config) bool {
	c := tls.Server(s.conn, config)
	s.in = c
	end := time.Now().Add(handshakeTime)
	err := errors.Join(s.conns.until(s.conn, end), s.conn.SetWriteDeadline(end))
	if err == nil {
		err = c.HandshakeContext(s.quiet)
	}
	if err != nil {
		if !s.conns.stopped() {
			s.refuse(ReasonHandshake, s.maker.peer, err)
		}
		return false
	}
	return s.conn.SetWriteDeadline(time.Time{}) == nil
}

// read reads once and hands on the messages that are complete. It is false when the connection is at its end.
func (s *stream) read() bool {
	if s.conns.until(s.conn, s.deadline()) != nil {
		return false
	}
	n, err := s.in.Read(s.frames.space())
	s.frames.filled(n)
	fault := s.take()
	s.flush()
	switch {
	case fault != nil:
		reason := ReasonFraming
		if errors.Is(fault, errEndless) {
			reason = ReasonTooLong
		}
		s.refuse(reason, s.maker.peer, fault)
		s.frames = newFramer(int(s.config.MaxMessage)) // what is left means nothing
		return false
	case errors.Is(err, os.ErrDeadlineExceeded) && !s.conns.stopped():
		s.late()
		return false
	}
	return err == nil
}

// deadline is when the next bytes must have come.
func (s *stream) deadline() time.Time {
	end := time.Now().Add(s.config.IdleTimeout)
	if s.begun.IsZero() {
		return end
	}
	if message := s.begun.Add(s.messageTime); message.Before(end) {
		return message
	}
	return end
}

func (s *stream) late() {
	if s.begun.IsZero() {
		s.refuse(ReasonIdle, s.maker.peer, errors.New("nothing came within idle_timeout"))
		return
	}
	s.refuse(ReasonSlow, s.maker.peer, errors.New("the end of a message did not come"))
}

// take makes events of all messages that are complete.
func (s *stream) take() error {
	took := false
	for {
		m, ok, err := s.frames.next()
		if !ok || err != nil {
			if !s.frames.begun() {
				s.begun = time.Time{}
			} else if took || s.begun.IsZero() {
				s.begun = time.Now()
			}
			return err
		}
		took = true
		s.add(m)
	}
}

func (s *stream) add(m message) {
	s.full.add(s.maker.make(m))
	if len(s.full.events) >= chunkEvents || s.full.size >= batchBytes {
		s.flush()
	}
}

// flush hands on what was taken. It waits while a batch is full, so that the connection is not read meanwhile.
func (s *stream) flush() {
	if len(s.full.events) > 0 {
		s.chunks <- s.full
		s.full = chunk{}
	}
}

// finish takes the line that the connection ended with.
func (s *stream) finish() {
	m, whole := s.frames.rest()
	if !whole {
		s.counts.incomplete.Add(1)
	}
	if len(m.text) > 0 {
		s.add(m)
		s.flush()
	}
}

// pause waits; it is false when the run ends.
func (r *run) pause(d time.Duration) bool {
	again, release := r.clock.After(d)
	defer release()
	select {
	case <-again:
		return true
	case <-r.ended:
		return false
	}
}
