package main

import (
	"context"
	"strings"
	"syscall"
	"testing"

	"github.com/millrace-run/millrace/app"
)

func TestBanner(t *testing.T) {
	got := banner(app.Started{
		Webhooks: []app.Webhook{
			{Pipeline: "orders", Method: "POST", URL: "http://127.0.0.1:8080/orders", ContentType: "application/json", Example: `{"note":"it's"}`},
			{Pipeline: "w", Method: "POST", URL: "http://127.0.0.1:8080/w", ContentType: "application/json", Example: `{}`},
		},
		Console: "http://127.0.0.1:8081/", Data: "data/millrace.db",
	})
	for _, line := range []string{
		"  webhooks  POST http://127.0.0.1:8080/orders  → orders\n",
		"            POST http://127.0.0.1:8080/w       → w\n",
		"  console   http://127.0.0.1:8081/\n",
		"  events    data/millrace.db\n",
		`  curl -i http://127.0.0.1:8080/orders -H 'Content-Type: application/json' -d '{"note":"it'\''s"}'` + "\n",
	} {
		if !strings.Contains(got, line) {
			t.Errorf("no %q in\n%s", line, got)
		}
	}
}

// The first signal asks for an orderly stop and the second one ends at once, with the code a shell gives to that signal.
func TestSignals(t *testing.T) {
	exits := make(chan int, 1)
	ctx, stop := withSignals(t.Context(), func(code int) { exits <- code })
	defer stop()
	send(t, syscall.SIGTERM)
	<-ctx.Done()
	if cause := context.Cause(ctx); !strings.Contains(cause.Error(), "terminated") {
		t.Errorf("the cause is %v", cause)
	}
	send(t, syscall.SIGINT)
	if code := <-exits; code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
}

func send(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(syscall.Getpid(), s); err != nil {
		t.Fatal(err)
	}
}
