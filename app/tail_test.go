package app

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The positions of a followed file are in the outbox: a second run goes on where the first one stopped.
func TestTailRunsTwice(t *testing.T) {
	t.Chdir(t.TempDir())
	plan, report := load(t, `
admin: { listen: "127.0.0.1:0" }
pipelines:
  lines:
    source: { tail: { path: "*.log" } }
    sinks: { all: { storage: { path: out.txt, content: data } } }
`)
	if plan == nil {
		t.Fatal(report.Text())
	}
	if got := Outline(plan)[0]; !strings.HasPrefix(got, "lines: tail /") || !strings.HasSuffix(got, "/*.log → all (storage)") {
		t.Errorf("outline: %s", got)
	}
	for i, text := range []string{"one\ntwo\n", "three\n"} {
		appendTo(t, "a.log", text)
		runUntil(t, plan, strings.Join([]string{"one\ntwo\n", "three\n"}[:i+1], ""))
	}
}

func TestTailMetrics(t *testing.T) {
	plan, report := load(t, `
pipelines:
  lines:
    source: { tail: { path: "*.log" } }
    sinks: { all: { storage: { path: out.txt } } }
`)
	if plan == nil {
		t.Fatal(report.Text())
	}
	in, err := newIntake(plan, quiet)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range families(in.stats()) {
		names = append(names, m.Name)
		if !m.Counter || len(m.Samples) != 1 || m.Samples[0].Labels[0] != "lines" || m.Samples[0].Value != 0 {
			t.Errorf("%+v", m)
		}
	}
	if d := cmp.Diff([]string{"millrace_tail_long_lines_total", "millrace_tail_losses_total", "millrace_tail_lost_bytes_total",
		"millrace_tail_replaced_total", "millrace_tail_problems_total"}, names); d != "" {
		t.Error(d)
	}
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// runUntil runs a plan until out.txt is what is wanted.
func runUntil(t *testing.T, plan *Plan, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, Options{Plan: plan, Logger: quiet}) }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var got []byte
	for string(got) != want {
		select {
		case <-tick.C:
			got, _ = os.ReadFile(filepath.Clean("out.txt")) // it may not be there yet
		case err := <-ended:
			t.Fatalf("it ended with %v, and %q was written", err, got)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if got, _ = os.ReadFile("out.txt"); string(got) != want {
		t.Errorf("%q", got)
	}
}
