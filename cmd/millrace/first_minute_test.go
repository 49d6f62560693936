package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// firstMinute is how long somebody waits who has just typed the first command, and the line that it prints.
const firstMinute = 10 * time.Second

// banners is the line that the banner says to paste. A shell takes it apart as here, since nothing in it is quoted twice.
var banners = regexp.MustCompile(`(?m)^  curl -i (http://\S+) -H '([A-Za-z-]+): ([^']+)' -d '([^']+)'\r?$`)

// Who runs the file of the first page and pastes what is printed sees the order at every sink, on the same terminal.
func TestFirstMinute(t *testing.T) {
	keyboard, tty := terminal(t)
	program, err := exec.LookPath("millrace")
	if err != nil {
		t.Fatal(err)
	}
	dir := firstFile(t)
	begun := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), firstMinute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "dev", "-c", "pipelines.yaml")
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, tty, tty, tty
	cmd.Env = append(os.Environ(), "TERM=xterm", "NO_COLOR=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = tty.Close() // the program has it; when it ends nobody has, and reading ends too
	s := &screen{in: keyboard}
	s.until(t, "Ctrl-C stops it in order.")
	paste(ctx, t, s.seen.String())
	for _, text := range []string{
		"  orders/archive  .millrace/dev/data/orders.ndjson ← ",
		"  warehouse/received  .millrace/dev/data/warehouse.ndjson ← ",
		"  orders/confirmation  mail\r\n",
		"  To       orders@example.com\r\n",
		"  Subject  Order o-1 is on its way\r\n",
		"  Thank you, customer. The total is 120.\r\n",
	} {
		s.until(t, text)
	}
	if took := time.Since(begun); took >= firstMinute {
		t.Errorf("it took %s", took)
	}
	if _, err := io.WriteString(keyboard, "\x03"); err != nil {
		t.Fatal(err)
	}
	s.until(t, "--keep goes on with them.")
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, &s.seen)
	}
	for _, file := range []string{"orders", "warehouse"} {
		b, err := os.ReadFile(filepath.Join(dir, ".millrace", "dev", "data", file+".ndjson"))
		if err != nil || strings.Count(string(b), "\n") != 1 || !strings.Contains(string(b), `"total_cents":12000`) {
			t.Errorf("%s: %v, want the order in one line, is\n%s", file, err, b)
		}
	}
}

// firstFile is a folder with the file of the first page, with ports that are free.
func firstFile(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "pipelines.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 2)
	text := strings.NewReplacer("127.0.0.1:8080", "127.0.0.1:"+ports[0], "127.0.0.1:8081", "127.0.0.1:"+ports[1]).Replace(string(b))
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pipelines.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// paste does what the line of the banner does, with the client of Go, since a machine may have no curl.
func paste(ctx context.Context, t *testing.T, banner string) {
	t.Helper()
	m := banners.FindStringSubmatch(banner)
	if m == nil {
		t.Fatalf("there is nothing to paste in\n%s", banner)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, m[1], strings.NewReader(m[4]))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(m[2], m[3])
	r.Close = true
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusAccepted {
		t.Fatalf("%s: %d %s %v", m[0], res.StatusCode, b, err)
	}
}
