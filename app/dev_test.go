package app

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
)

func TestToLoopback(t *testing.T) {
	for address, want := range map[string]string{
		":8080": "127.0.0.1:8080", "0.0.0.0:8080": "127.0.0.1:8080", "[::]:8080": "127.0.0.1:8080", "192.0.2.1:80": "127.0.0.1:80",
		"shop.example.com:80": "127.0.0.1:80", "127.0.0.1:1": "127.0.0.1:1", "127.1.2.3:1": "127.1.2.3:1", "[::1]:1": "[::1]:1",
		"localhost:1": "localhost:1",
	} {
		if got, err := toLoopback(address); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", address, got, err, want)
		}
	}
}

// watched is what a run for development writes, with a way to wait for some of it.
type watched struct {
	mu   sync.Mutex // guards what follows
	text bytes.Buffer
	more *sync.Cond
}

func newWatched() *watched {
	w := &watched{}
	w.more = sync.NewCond(&w.mu)
	return w
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.more.Broadcast()
	return w.text.Write(p)
}

// until waits for a text; the test's own timeout ends it.
func (w *watched) until(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !strings.Contains(w.text.String(), text) {
		w.more.Wait()
	}
}

// development is a run for development in the present folder.
type development struct {
	out, logged *watched
	started     chan Started
	stop        context.CancelFunc
	ended       chan error
	tallies     []Tally // once it has ended
}

func startDev(t *testing.T, yaml string, reload bool) *development {
	t.Helper()
	save(t, yaml)
	d := &development{out: newWatched(), logged: newWatched(), started: make(chan Started, 3), ended: make(chan error, 1)}
	dev := &Dev{
		Source: Source{Path: "pipelines.yaml"}, Reload: reload, Out: d.out, Logger: slog.New(slog.NewTextHandler(d.logged, nil)),
		Started: func(s Started, _ []string) { d.started <- s },
	}
	ctx, stop := context.WithCancel(t.Context())
	d.stop = stop
	t.Cleanup(stop)
	go func() {
		var err error
		d.tallies, err = dev.Run(ctx)
		d.ended <- err
	}()
	return d
}

func (d *development) end(t *testing.T) {
	t.Helper()
	d.stop()
	if err := <-d.ended; err != nil {
		t.Fatal(err)
	}
}

func save(t *testing.T, yaml string) {
	t.Helper()
	if err := os.WriteFile("pipelines.yaml", []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A file that has no mistake and cannot be run all the same leaves the one before running.
func TestDevGoesOnWithTheFileBefore(t *testing.T) {
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:65535")
	if err != nil {
		t.Skipf("the last port is not to be had: %v", err)
	}
	defer taken.Close()
	t.Chdir(t.TempDir())
	file := func(listen, host string) string {
		return fmt.Sprintf(`
http: { listen: %q }
admin: { listen: "127.0.0.1:0" }
pipelines:
  orders:
    source: { webhook: { path: /orders } }
    sinks: { shop: { http: { url: "https://%s/" } } }
`, listen, host)
	}
	post := func(s Started) {
		t.Helper()
		if status, body := ask(t, "POST", s.Webhooks[0].URL, "{}"); status != http.StatusAccepted {
			t.Fatal(body)
		}
	}
	d := startDev(t, file("127.0.0.1:0", "one.example.com"), true)
	post(<-d.started)
	d.out.until("POST https://one.example.com/")
	save(t, file("127.0.0.1:65535", "two.example.com"))
	d.logged.until("the new file cannot be run, the one before goes on")
	post(<-d.started)
	save(t, file("127.0.0.1:0", "three.example.com"))
	post(<-d.started)
	d.out.until("POST https://three.example.com/")
	d.end(t)
	if strings.Contains(d.out.text.String(), "two.example.com") {
		t.Errorf("printed %s", d.out.text.String())
	}
	if len(d.tallies) != 2 || d.tallies[0].Received != 3 || d.tallies[1].Delivered != 3 {
		t.Errorf("tallies %+v", d.tallies)
	}
}
