package app

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

var quiet = slog.New(slog.DiscardHandler)

func TestBindSaysWhatToDo(t *testing.T) {
	taken, err := bind(t.Context(), "http.listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.stop(t.Context())
	for address, want := range map[string]string{
		taken.address():    "http.listen: " + taken.address() + " is taken by another process",
		"192.0.2.1:8080":   "http.listen: cannot listen on 192.0.2.1:8080",
		"127.0.0.1:nobody": "http.listen: cannot listen on 127.0.0.1:nobody",
	} {
		s, err := bind(t.Context(), "http.listen", address)
		if err == nil {
			s.stop(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// serving starts a server with a handler that answers when told to.
func serving(t *testing.T) (s *server, entered, release chan struct{}) {
	t.Helper()
	s, err := bind(t.Context(), "http.listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	entered, release = make(chan struct{}, 1), make(chan struct{})
	s.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
		w.WriteHeader(http.StatusAccepted)
	}), 64<<10, quiet, func(err error) { t.Errorf("the listener ended: %v", err) })
	return s, entered, release
}

// get asks in the background; the status is 0 when there was no answer.
func get(t *testing.T, s *server) <-chan int {
	t.Helper()
	status := make(chan int, 1)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.address()+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		res, err := client.Do(r)
		if err != nil {
			status <- 0
			return
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		status <- res.StatusCode
	}()
	return status
}

func TestStopAnswersWhatWasRead(t *testing.T) {
	s, entered, release := serving(t)
	status := get(t, s)
	<-entered
	stopped := make(chan struct{})
	go func() { s.stop(t.Context()); close(stopped) }()
	for { // the listener closes first
		c, err := net.Dial("tcp", s.address())
		if err != nil {
			break
		}
		_ = c.Close()
	}
	select {
	case <-stopped:
		t.Fatal("stop did not wait for the request")
	default:
	}
	close(release)
	if got := <-status; got != http.StatusAccepted {
		t.Errorf("the request that was read got %d", got)
	}
	<-stopped
}

func TestStopCutsOffWhatTakesTooLong(t *testing.T) {
	s, entered, _ := serving(t)
	status := get(t, s)
	<-entered
	over, cancel := context.WithCancel(t.Context())
	cancel()
	s.stop(over)
	if got := <-status; got != 0 {
		t.Errorf("a request that was cut off got %d", got)
	}
}

// A connection on which nothing was sent must not hold up a stop.
func TestStopDoesNotWaitForIdleConnections(t *testing.T) {
	s, entered, release := serving(t)
	c, err := net.Dial("tcp", s.address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	close(release)
	<-get(t, s) // accepted after the idle one, so that one is known too
	<-entered
	begun := time.Now()
	s.stop(t.Context())
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("stop took %v", took)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.As(err, new(*net.OpError)) {
		t.Errorf("the idle connection is open: %v", err)
	}
}
