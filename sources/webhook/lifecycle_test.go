package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-run/millrace/event"
)

// request hands a post to the source without a connection.
func request(ctx context.Context, s *Source) answer {
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/hook", strings.NewReader("{}"))
	r.Header.Set("Content-Type", jsonType)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return answer{status: w.Code, header: w.Header(), body: w.Body.String()}
}

func TestRefusesWhileItDoesNotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &inbox{}
		s := build(t, nil)
		closed := func(when string) {
			got := request(t.Context(), s)
			checkProblem(t, got, 503, "not-running", "nothing was stored")
			if got.header.Get("Retry-After") == "" {
				t.Errorf("%s: no Retry-After", when)
			}
		}
		closed("before Run")
		for range 2 { // Run may be called again
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- s.Run(ctx, in.emit) }()
			synctest.Wait()
			if got := request(t.Context(), s); got.status != http.StatusAccepted {
				t.Errorf("got %d %s", got.status, got.body)
			}
			if err := s.Run(ctx, in.emit); err == nil {
				t.Error("it runs twice at once")
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			closed("after Run")
		}
		if got := in.take(); len(got) != 2 {
			t.Errorf("got %v", got)
		}
	})
}

func TestRunWaitsForRequestsThatWereRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := build(t, nil)
		commit := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		ended, answered := make(chan error, 1), make(chan answer, 1)
		go func() {
			ended <- s.Run(ctx, func(context.Context, event.Batch) ([]string, error) { <-commit; return []string{"x"}, nil })
		}()
		synctest.Wait()
		go func() { answered <- request(t.Context(), s) }()
		synctest.Wait()
		cancel()
		synctest.Wait()
		select {
		case <-ended:
			t.Error("Run ended before the request was answered")
		case <-answered:
			t.Error("answered before the commit")
		default:
		}
		checkProblem(t, request(t.Context(), s), 503, "not-running", "nothing was stored")
		close(commit)
		synctest.Wait()
		if got := <-answered; got.status != http.StatusAccepted {
			t.Errorf("got %d %s", got.status, got.body)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestAnAppendIsWithdrawnAfterFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := build(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		go s.Run(ctx, func(ctx context.Context, _ event.Batch) ([]string, error) { //nolint:errcheck // it ends with ctx
			<-ctx.Done()
			return nil, fmt.Errorf("withdrawn: %w", event.ErrBusy)
		})
		synctest.Wait()
		started := time.Now()
		checkProblem(t, request(t.Context(), s), 503, "outbox-busy", "nothing was stored")
		if took := time.Since(started); took != 5*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// One that is in a commit is waited for, however long that takes, and its yes counts.
func TestACommitIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := build(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		go s.Run(ctx, func(ctx context.Context, b event.Batch) ([]string, error) { //nolint:errcheck // it ends with ctx
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			<-time.After(time.Minute)
			return []string{b.Events[0].ID}, nil
		})
		synctest.Wait()
		gone, leave := context.WithCancel(t.Context())
		leave() // a client that is gone changes nothing either
		if got := request(gone, s); got.status != http.StatusAccepted || got.body != `{"ids":["id-1"]}`+"\n" {
			t.Errorf("got %d %s", got.status, got.body)
		}
	})
}

func TestAPanicIsSeen(t *testing.T) {
	s := build(t, nil)
	var log syncBuffer
	mux, err := NewMux(s)
	if err != nil {
		t.Fatal(err)
	}
	mux.Logger = slog.New(slog.NewTextHandler(&log, nil))
	base := serveHandler(t, mux, mux.MaxHeaderBytes(), func(context.Context, event.Batch) ([]string, error) { panic("boom") }, s)
	c := dial(t, base)
	c.say(requestHead + "Content-Length: 2\r\n\r\n{}")
	if !c.ended() {
		t.Error("a request that broke its handler has an answer")
	}
	if text := log.String(); !strings.Contains(text, "level=ERROR") || !strings.Contains(text,
		"err=boom") || !strings.Contains(text, "lifecycle_test.go") {
		t.Errorf("got %s", text)
	}
	s.gate.close() // does not hang: the request that broke has left
}

// syncBuffer is a buffer that a handler writes while a test reads.
type syncBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestManyClients(t *testing.T) {
	in := &inbox{}
	c := Defaults()
	c.Path = "/hook"
	s, err := New(c) // with its own ids
	if err != nil {
		t.Fatal(err)
	}
	base := serve(t, in.emit, s)
	const clients, posts = 8, 50
	failed := make(chan error, clients)
	for i := range clients {
		go func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for n := range posts {
				response, err := client.Post(base+"/hook", jsonType, strings.NewReader(fmt.Sprintf("[%d,%d]", i, n)))
				if err == nil && response.StatusCode != http.StatusAccepted {
					err = errors.New(response.Status)
				}
				if err == nil {
					err = response.Body.Close()
				}
				if err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
	}
	for range clients {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	ids, bodies := map[string]bool{}, map[string]bool{}
	for _, e := range in.take() {
		ids[e.ID], bodies[string(e.Data)] = true, true
	}
	if len(ids) != clients*posts || len(bodies) != clients*posts {
		t.Errorf("got %d ids and %d bodies", len(ids), len(bodies))
	}
}
