package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// server is one HTTP listener with its goroutine. It is bound before it serves, so that a port that is taken is found before
// anything has begun.
type server struct {
	key      string // of the configuration, for messages
	listener net.Listener
	http     *http.Server
	idle     idleConns
	served   chan struct{} // closed when Serve has ended

	mu       sync.Mutex // guards ended, and that no handler begins once it is set
	ended    bool
	handlers sync.WaitGroup // requests being answered
}

// bind opens the port of a listener. Nothing is accepted before serve.
func bind(ctx context.Context, key, address string) (*server, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s: %s is taken by another process; stop it, or choose another port", key, address)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s: this user may not listen on %s; choose a port above 1023", key, address)
	case err != nil:
		return nil, fmt.Errorf("%s: cannot listen on %s: %w", key, address, err)
	}
	return &server{key: key, listener: l, served: make(chan struct{})}, nil
}

// serve begins to answer requests. fail is called when the listener ends by itself.
func (s *server) serve(h http.Handler, maxHeader int, logger *slog.Logger, fail func(error)) {
	s.http = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if s.enter() {
				defer s.handlers.Done()
				h.ServeHTTP(w, r)
			}
		}),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    maxHeader,
		ConnState:         s.idle.state,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug), // broken requests of clients
	}
	go func() {
		err := s.http.Serve(s.listener)
		if !errors.Is(err, http.ErrServerClosed) {
			fail(fmt.Errorf("%s: %w", s.key, err))
		}
		close(s.served)
	}()
}

// stop refuses what is new, lets requests that were read be answered until ctx ends, and then cuts them off. No handler runs
// any more when it returns. A second stop does nothing.
func (s *server) stop(ctx context.Context) {
	if s.http == nil {
		_ = s.listener.Close() // bound, but never served
		return
	}
	s.idle.close()
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close() // it has nothing to say beyond what Shutdown said: not all were answered in time
	}
	<-s.served
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.handlers.Wait()
}

// enter says whether a request may still be answered; then it is one more of the handlers. Closing the listener and its
// connections alone does not tell: a request that was read may reach its handler afterwards.
func (s *server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	s.handlers.Add(1)
	return true
}

// address is where the listener really is, which matters for port 0.
func (s *server) address() string { return s.listener.Addr().String() }

// idleConns are connections on which nothing was read yet. http.Server.Shutdown waits seconds for them, as a request may be on
// its way; a browser that connects ahead of need would hold up every stop.
type idleConns struct {
	count atomic.Int64 // of conns: most requests come when there are none

	mu     sync.Mutex // guards all below, and changes of count
	conns  map[net.Conn]struct{}
	closed bool
}

func (i *idleConns) state(c net.Conn, state http.ConnState) {
	if state == http.StateIdle || state == http.StateActive && i.count.Load() == 0 {
		return // it is not among them; this comes for each request
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	defer func() { i.count.Store(int64(len(i.conns))) }()
	switch {
	case state != http.StateNew:
		delete(i.conns, c)
	case i.closed:
		_ = c.Close() // accepted in the last moment; the client sees what it would see a moment later
	default:
		if i.conns == nil {
			i.conns = map[net.Conn]struct{}{}
		}
		i.conns[c] = struct{}{}
	}
}

func (i *idleConns) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	for c := range i.conns {
		_ = c.Close()
	}
}
