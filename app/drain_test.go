package app

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
)

// input makes a text the standard input of this process.
func input(t *testing.T, text string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	before := os.Stdin
	os.Stdin = r
	t.Cleanup(func() {
		os.Stdin = before
		_ = r.Close()
	})
	go func() {
		_, _ = w.WriteString(text)
		_ = w.Close()
	}()
}

// runToTheEnd runs a configuration until it ends by itself, and returns why, with what it did.
func runToTheEnd(t *testing.T, ctx context.Context, yaml string) (done []Tally, err error) { //nolint:revive // t belongs first
	t.Helper()
	plan, report := load(t, yaml)
	if plan == nil {
		t.Fatal(report.Text())
	}
	err = Run(ctx, Options{Plan: plan, Logger: quiet, Version: "test", Stopped: func(all []Tally) { done = all }})
	return done, err
}

const drained = `
admin: { listen: "127.0.0.1:0" }
OUTBOX
pipelines:
  in:
    source: { stdin: {} }
    sinks:
      slow:
        http: { url: "URL" }
        retry: { initial: 10ms, max: 20ms }
      file: { storage: { path: out.ndjson } }
`

// The end of the input is the end of the process, but not before every sink has everything: retries are waited for.
func TestEndsWhenAllIsDelivered(t *testing.T) {
	for _, outbox := range []string{"", "outbox: { memory: {} }"} {
		t.Chdir(t.TempDir())
		var calls atomic.Int64
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if n := calls.Add(1); n <= 4 {
				w.WriteHeader([]int{503, 503, 400, 500}[n-1])
			}
		}))
		input(t, "a\nb\nc\n")
		done, err := runToTheEnd(t, t.Context(), strings.NewReplacer("URL", s.URL, "OUTBOX", outbox).Replace(drained))
		s.Close()
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range done {
			switch {
			case d.Sink == "slow" && (d.Delivered != 2 || d.DeadLetters != 1), d.Sink == "file" && d.Delivered != 3, d.Sink == "" && d.Received != 3:
				t.Errorf("%+v", d)
			}
		}
	}
}

// What cannot be delivered is waited for until somebody stops it, and stays pending then.
func TestEndWaitsForASinkThatIsDown(t *testing.T) {
	t.Chdir(t.TempDir())
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var calls atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 20 {
			stop()
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer s.Close()
	input(t, "a\n")
	if _, err := runToTheEnd(t, ctx, strings.NewReplacer("URL", s.URL, "OUTBOX", "").Replace(drained)); err != nil {
		t.Error(err)
	}
	if calls.Load() < 20 {
		t.Errorf("it ended after %d attempts", calls.Load())
	}
}

// A destination that is gone for good is not waited for: its events stay for the next start.
func TestEndLeavesWhatIsPaused(t *testing.T) {
	t.Chdir(t.TempDir())
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }))
	defer s.Close()
	input(t, "a\nb\n")
	if _, err := runToTheEnd(t, t.Context(), strings.NewReplacer("URL", s.URL, "OUTBOX", "").Replace(drained)); err != nil {
		t.Error(err)
	}
}
