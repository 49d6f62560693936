package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace-run/millrace/app"
)

// terminal opens a pseudo-terminal: what a program writes to tty can be read from the other end, and what is typed there reaches it.
func terminal(t *testing.T) (keyboard, tty *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("there is no pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Skipf("the pseudo-terminal cannot be unlocked: %v", err)
	}
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("the pseudo-terminal has no other end: %v", err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	return keyboard, tty
}

// screen reads a terminal until a text is there, and returns all that it read.
type screen struct {
	in   io.Reader
	seen bytes.Buffer
}

func (s *screen) until(t *testing.T, text string) {
	t.Helper()
	b := make([]byte, 4096)
	for !strings.Contains(s.seen.String(), text) {
		n, err := s.in.Read(b)
		s.seen.Write(b[:n])
		if err != nil {
			t.Fatalf("%v before %q in\n%s", err, text, &s.seen)
		}
	}
}

// On a terminal a delivery is in color, and Ctrl-C ends the run with a summary. Nothing that an event holds moves the cursor.
func TestDevOnATerminal(t *testing.T) {
	keyboard, tty := terminal(t)
	program, err := exec.LookPath("millrace")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pipelines.yaml"), []byte(`
http: { listen: "127.0.0.1:0" }
admin: { listen: "127.0.0.1:0" }
pipelines:
  orders:
    source: { webhook: { path: /orders } }
    sinks: { shop: { http: { url: "https://shop.example.com/" } } }
`), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "dev")
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, tty, tty, tty
	cmd.Env = append(os.Environ(), "TERM=xterm", "NO_COLOR=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = tty.Close() // the program has it; when it ends nobody has
	s := &screen{in: keyboard}
	s.until(t, "Ctrl-C stops it in order.")
	_, rest, _ := strings.Cut(s.seen.String(), "curl -i ")
	url, _, _ := strings.Cut(rest, " ")
	status, answer, err := request(http.MethodPost, url, `{"id":"o-1","note":"\u001b[2Jx","del":"`+"\x7f"+`"}`)
	if err != nil || status != http.StatusAccepted {
		t.Fatalf("%s: %d %s %v", url, status, answer, err)
	}
	s.until(t, "\x1b[36mhttps://shop.example.com/\x1b[0m")
	s.until(t, "\x1b[34m\"note\"\x1b[0m: \x1b[32m\"\\u001b[2Jx\"\x1b[0m")
	s.until(t, `"\u007f"`)
	if _, err := io.WriteString(keyboard, "\x03"); err != nil {
		t.Fatal(err)
	}
	s.until(t, "orders/shop  1 event delivered")
	s.until(t, "--keep goes on with them.")
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, &s.seen)
	}
}

func TestSummary(t *testing.T) {
	done := []app.Tally{{Pipeline: "a", Received: 1, Duplicates: 2}, {Pipeline: "a", Sink: "long-name", Delivered: 2, DeadLetters: 3}}
	got := summary(done, 61*time.Second+time.Millisecond, true)
	want := "\nStopped after 1m1s.\n\n  a            1 event received, 2 duplicates left out\n  a/long-name  2 events delivered, 3 dead letters\n\n" +
		".millrace/dev.db and .millrace/dev stay until the next start; --keep goes on with them.\n"
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
	got = summary([]app.Tally{{Pipeline: "a", Received: 3, Lost: 2}}, time.Second, false)
	want = "\nStopped after 1s.\n\n  a  3 events received, 2 events lost that were in memory only\n\n" +
		".millrace/dev stays until the next start; --keep goes on with it.\n"
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
