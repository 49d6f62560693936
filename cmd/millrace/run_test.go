package main

import (
	"context"
	"log"
	"log/slog"
	"os"
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

// What net/http writes with the package log is a line of our log, and only for those who debug.
func TestLogOfLibraries(t *testing.T) {
	t.Cleanup(func() { log.SetOutput(os.Stderr); log.SetFlags(log.LstdFlags) })
	for level, want := range map[slog.Level]string{slog.LevelInfo: "", slog.LevelDebug: `level=DEBUG msg="out of turn"`} {
		var b strings.Builder
		logLibraries(slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: level})))
		log.Print("out of turn")
		if got := b.String(); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: %q", level, got)
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
