// Package syslog receives the messages of syslog of many machines: RFC 5424 and RFC 3164 over UDP, TCP and TLS. Each message is one
// event. Over TCP both framings of RFC 6587 are taken, and each connection is found out by itself.
//
// Syslog has no acknowledgement, so that a sender never learns what was stored. A message is safe from its commit on. What the process
// has read is committed before Run returns; what a crash ends is what was in the buffers of the system and of the readers at
// that moment. While the log takes nothing, connections are not read, and datagrams pile up in the system's buffer until it drops
// some.
//
// One goroutine reads each connection and makes events (conn.go, frame.go), one gathers them (gather.go), and Run commits one batch after
// the other. Nobody has more than a chunk that waits for its turn, so that memory is bounded by the connections.
package syslog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

// Emit commits a batch: it is on disk when emit returns nil.
type Emit = func(context.Context, event.Batch) ([]string, error)

// Source receives at one address. All methods may be called concurrently.
type Source struct {
	config      Config
	reader      *rules.Syslog
	clock       event.Clock
	log         *slog.Logger
	newID       func(time.Time) string
	bound       func(protocol string, at net.Addr)
	messageTime time.Duration
	running     atomic.Bool
	counts      counts
	told        teller
}

// Option is a setting that the program makes, not the user.
type Option func(*Source)

// Logger is where the source tells where it listens, and what it refuses and loses. Without it nothing is told.
func Logger(l *slog.Logger) Option { return func(s *Source) { s.log = l } }

// Clock says when a message is received, and the source waits by it where no connection is read. Without it that is the machine's.
func Clock(c event.Clock) Option { return func(s *Source) { s.clock = c } }

// Bound is called by Run for each protocol once its address is bound.
func Bound(tell func(protocol string, at net.Addr)) Option { return func(s *Source) { s.bound = tell } }

// New checks the settings and opens nothing. Its error joins one *event.KeyError for each fault.
func New(c Config, options ...Option) (*Source, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	reader, err := rules.NewSyslog(c.Timezone)
	if err != nil {
		return nil, keyError("timezone", err)
	}
	s := &Source{
		config: c, reader: reader, clock: event.SystemClock{}, log: slog.New(slog.DiscardHandler), newID: (&event.UUIDs{}).Next, messageTime: messageTime,
		bound: func(string, net.Addr) {}, told: teller{kind: map[string]*told{}},
	}
	s.counts.protocols = make([]protocolCounts, len(c.Protocol))
	for i, p := range c.Protocol {
		s.counts.protocols[i].name = p
	}
	for _, o := range options {
		o(s)
	}
	return s, nil
}

// Address is where the source listens, as configured.
func (s *Source) Address() string { return s.config.Listen }

// Protocols are the protocols that it speaks.
func (s *Source) Protocols() []string { return s.config.Protocol }

// Move makes it listen elsewhere. It must be called before Run.
func (s *Source) Move(address string) { s.config.Listen = address }

// Exclusive names what no two sources may both have: the address, for each protocol of the network.
func (s *Source) Exclusive() []string {
	var all []string
	for _, p := range s.config.Protocol {
		if p == protocolTLS {
			p = protocolTCP
		}
		all = append(all, fmt.Sprintf("syslog %s address %s", p, s.config.Listen))
	}
	return all
}

// pauses of Run.
const (
	emitTime  = 5 * time.Second // after which a batch that the writer has not taken is withdrawn, and tried again
	retryMost = 5 * time.Second
)

// Run receives until ctx ends, and returns nil when what was read by then is committed, for which it has 5 seconds. While the log is
// full or busy it waits and tries the same batch again; after any other failure of emit it returns that. It may be called again
// when it has returned, not before.
func (s *Source) Run(ctx context.Context, emit Emit) error {
	if !s.running.CompareAndSwap(false, true) {
		return errors.New("the source is already running")
	}
	defer s.running.Store(false)
	quiet := context.WithoutCancel(ctx) // asking ctx for its end says that the source receives, which it does once it is bound
	l, err := s.listen(quiet)
	if err != nil {
		return err
	}
	stop, cancel := context.WithCancel(ctx)
	r := &run{Source: s, conns: newDoors(), sockets: newDoors(), chunks: make(chan chunk), quiet: quiet, ended: stop.Done()}
	var done sync.WaitGroup
	done.Go(func() {
		<-stop.Done()
		l.close()
		r.conns.stop()
		r.sockets.stop()
	})
	r.start(l)
	done.Go(func() {
		r.readers.Wait()
		l.closeSocket()
		close(r.chunks)
	})
	batches := make(chan []event.Event)
	done.Go(func() { gather(r.chunks, batches) })
	err = s.commitAll(ctx, emit, batches)
	cancel()
	for b := range batches {
		s.lose(b, err)
	}
	done.Wait()
	return err
}

// run is what lives as long as one Run.
type run struct {
	*Source
	readers        sync.WaitGroup
	conns, sockets *doors
	chunks         chan chunk // closed when all readers have ended
	quiet          context.Context
	ended          <-chan struct{}
}

// listeners are what a run has bound; any may be nil.
type listeners struct {
	stream   net.Listener
	protocol string
	tls      *tls.Config
	socket   *net.UDPConn
}

// close lets nobody in any more. The socket of datagrams is read to its end first.
func (l *listeners) close() {
	if l.stream != nil {
		_ = l.stream.Close() // it has nothing to write
	}
}

func (l *listeners) closeSocket() {
	if l.socket != nil {
		_ = l.socket.Close() // it has nothing to write
	}
}

func (s *Source) listen(ctx context.Context) (*listeners, error) {
	l := &listeners{}
	for _, p := range s.config.Protocol {
		at, err := s.bind(ctx, l, p)
		if err != nil {
			l.close()
			l.closeSocket()
			return nil, fmt.Errorf("listen on %s at %s: %w", p, s.config.Listen, err)
		}
		s.log.Info("syslog is received", "protocol", p, "address", at.String())
		s.bound(p, at)
	}
	return l, nil
}

func (s *Source) bind(ctx context.Context, l *listeners, protocol string) (net.Addr, error) {
	var with net.ListenConfig
	if protocol == protocolUDP {
		c, err := with.ListenPacket(ctx, "udp", s.config.Listen)
		if err != nil {
			return nil, err
		}
		l.socket = c.(*net.UDPConn) // ListenPacket makes no other for udp
		// Neither is needed for receiving: with less room more is dropped, and some systems do not count.
		if err := errors.Join(l.socket.SetReadBuffer(receiveBuffer), countDrops(l.socket)); err != nil {
			s.log.Warn("the system does not take a setting of the socket", "err", err)
		}
		return c.LocalAddr(), nil
	}
	if protocol == protocolTLS {
		config, err := s.config.TLS.load()
		if err != nil {
			return nil, err
		}
		l.tls = config
	}
	stream, err := with.Listen(ctx, "tcp", s.config.Listen)
	if err != nil {
		return nil, err
	}
	l.stream, l.protocol = stream, protocol
	return stream.Addr(), nil
}

func (r *run) start(l *listeners) {
	if l.stream != nil {
		r.readers.Go(func() { r.accept(l.stream, l.protocol, l.tls) })
	}
	if l.socket != nil {
		r.sockets.add(l.socket, 0)
		r.readers.Go(func() { r.datagrams(l.socket) })
	}
}

// commitAll commits batches until there are no more, or the log is over. What is left when ctx ends has emitTime in all.
func (s *Source) commitAll(ctx context.Context, emit Emit, batches <-chan []event.Event) error {
	var end time.Time
	for events := range batches {
		err := s.commit(ctx, &end, emit, events)
		if err == nil {
			continue
		}
		s.lose(events, err)
		if ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// commit commits one batch, however long that takes; once ctx has ended it is tried once, until end.
func (s *Source) commit(ctx context.Context, end *time.Time, emit Emit, events []event.Event) error {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, retryMost) {
		until, last := time.Now().Add(emitTime), ctx.Err() != nil
		if last && end.IsZero() {
			*end = until
		} else if last {
			until = *end
		}
		attempt, cancel := context.WithDeadline(context.WithoutCancel(ctx), until)
		_, err := emit(attempt, event.Batch{Events: events})
		cancel()
		if err == nil || last || !errors.Is(err, event.ErrFull) && !errors.Is(err, event.ErrBusy) {
			return err
		}
		s.told.warn(s.log, s.clock.Now(), "the outbox takes no messages, connections are not read", "err", err)
		again, release := s.clock.After(pause)
		select {
		case <-again:
		case <-ctx.Done():
		}
		release()
	}
}

// lose counts what was read and cannot be stored.
func (s *Source) lose(events []event.Event, err error) {
	s.counts.lost.Add(int64(len(events)))
	s.log.Error("messages that were read could not be stored", "lost", len(events), "err", err)
}
