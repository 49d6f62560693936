package app

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace-run/millrace/internal/freeport"
)

// running is a Millrace in this process, with all that it has of its own: ports, an outbox, files.
type running struct {
	t       *testing.T
	started Started
	stop    context.CancelFunc
	ended   chan error
}

// start runs a configuration in the present folder and waits until everything runs.
func start(t *testing.T, yaml string) *running {
	t.Helper()
	plan, report := load(t, yaml)
	if plan == nil {
		t.Fatal(report.Text())
	}
	ctx, stop := context.WithCancel(t.Context())
	r := &running{t: t, stop: stop, ended: make(chan error, 1)}
	ready := make(chan Started, 1)
	go func() {
		r.ended <- Run(ctx, Options{Plan: plan, Logger: quiet, Version: "test", Started: func(s Started) { ready <- s }})
	}()
	select {
	case r.started = <-ready:
	case err := <-r.ended:
		t.Fatalf("it did not start: %v", err)
	}
	t.Cleanup(func() { r.end() })
	return r
}

// load writes a configuration into a folder of its own and loads it.
func load(t *testing.T, yaml string) (*Plan, Report) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pipelines.yaml")
	if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(Source{Path: path})
}

// end stops it in order; a second call does nothing.
func (r *running) end() {
	r.t.Helper()
	r.stop()
	if err, ok := <-r.ended; ok && err != nil {
		r.t.Errorf("it ended with %v", err)
	}
	select {
	case <-r.ended:
	default:
		close(r.ended)
	}
}

// ask sends a request and returns status and body.
func ask(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Close = true
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// eventually asks until there is no error.
func eventually(t *testing.T, what string, ask func() error) {
	t.Helper()
	over, again := time.After(time.Minute), time.NewTicker(10*time.Millisecond)
	defer again.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-over:
			t.Fatalf("%s: %v", what, err)
		case <-again.C:
		}
	}
}

// holds waits until a file holds a text.
func holds(t *testing.T, path, text string) {
	t.Helper()
	eventually(t, path, func() error {
		b, err := os.ReadFile(path)
		if err == nil && !strings.Contains(string(b), text) {
			err = errors.New(text + " is not in " + string(b))
		}
		return err
	})
}

// TestFirstMinute does what README.md asks a newcomer to do, with the file that is there and the example that is printed.
func TestFirstMinute(t *testing.T) {
	file, err := os.ReadFile("../pipelines.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, engine := range []string{"sqlite: { path: data/millrace.db, max_size: 1GiB }", "memory: {}"} {
		t.Run(engine, func(t *testing.T) {
			t.Chdir(t.TempDir())
			web, admin := freeAddress(t), freeAddress(t)
			yaml := strings.NewReplacer("127.0.0.1:8080", web, "127.0.0.1:8081", admin,
				"sqlite: { path: data/millrace.db, max_size: 1GiB }", engine).Replace(string(file))
			d := startDev(t, yaml, false)
			started := <-d.started
			hook := started.Webhooks[0]
			if hook.URL != "http://"+web+"/orders" || started.Console != "http://"+admin+"/" {
				t.Errorf("it says %+v", started)
			}
			if status, body := ask(t, hook.Method, hook.URL, hook.Example); status != http.StatusAccepted {
				t.Fatalf("%d %s", status, body)
			}
			holds(t, DevFiles+"/data/orders.ndjson", `"total_cents":12000`)
			holds(t, DevFiles+"/data/warehouse.ndjson", `"total_cents":12000`)
			d.out.until("Order o-1 is on its way")
			d.out.until("POST http://" + web + "/warehouse")
			eventually(t, "readyz", func() error {
				if status, body := ask(t, "GET", started.Console+"readyz?verbose", ""); status != http.StatusOK {
					return errors.New(body)
				}
				return nil
			})
			d.end(t)
			if _, err := http.Get(started.Console); err == nil {
				t.Error("the admin listener answers after the end")
			}
			if _, err := os.Stat("data"); err == nil {
				t.Error("it wrote to data/")
			}
		})
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	found, err := freeport.Find(1)
	if err != nil {
		t.Fatal(err)
	}
	return found[0]
}

const oneFile = `
http: { listen: "127.0.0.1:0" }
admin: { listen: "127.0.0.1:0" }
pipelines:
  orders:
    source:
      webhook: { path: "/shops/{shop}/orders" }
    sinks:
      archive: { storage: { path: data/orders.ndjson } }
`

// A second process on one outbox is kept out and changes nothing; so is one whose port is taken.
func TestStartRefused(t *testing.T) {
	t.Chdir(t.TempDir())
	r := start(t, oneFile)
	if got := r.started.Webhooks[0].URL; strings.ContainsAny(got, "{}") {
		t.Errorf("nobody can paste %s", got)
	}
	for _, c := range []struct{ yaml, want string }{
		{oneFile, "in use by process"},
		{strings.Replace(oneFile, `http: { listen: "127.0.0.1:0" }`, `http: { listen: "`+r.address()+`" }
outbox: { sqlite: { path: data/other.db } }`, 1), "http.listen: " + r.address() + " is taken by another process"},
	} {
		plan, report := load(t, c.yaml)
		if plan == nil {
			t.Fatal(report.Text())
		}
		err := Run(t.Context(), Options{Plan: plan, Logger: quiet, Started: func(Started) { t.Error("it started") }})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
	if status, body := ask(t, "POST", r.started.Webhooks[0].URL, `{}`); status != http.StatusAccepted {
		t.Errorf("the first one suffered: %d %s", status, body)
	}
}

func (r *running) address() string {
	host, _, _ := strings.Cut(strings.TrimPrefix(r.started.Webhooks[0].URL, "http://"), "/")
	return host
}

// The context may end at any moment of a start, and that is an orderly end too.
func TestStopBeforeStart(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, yaml := range []string{oneFile, oneFile + "outbox: { memory: {} }\n"} { // the second looks at the context later
		plan, report := load(t, yaml)
		if plan == nil {
			t.Fatal(report.Text())
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("terminated received")) // what the command says; some report the cause, some that it was canceled
		if err := Run(ctx, Options{Plan: plan, Logger: quiet}); err != nil {
			t.Error(err)
		}
	}
}

func TestLoadRefusesAnOpenAdminListener(t *testing.T) {
	plan, report := load(t, strings.Replace(oneFile, `admin: { listen: "127.0.0.1:0" }`, `admin: { listen: ":8081" }`, 1))
	if plan != nil || !strings.Contains(report.Text(), "E0133") {
		t.Errorf("%v %s", plan, report.Text())
	}
}

func TestOfflineMakesNoOutbox(t *testing.T) {
	t.Chdir(t.TempDir())
	plan, _ := load(t, oneFile)
	if _, err := OpenOffline(t.Context(), plan); err == nil || !strings.Contains(err.Error(), "there is no outbox at data/millrace.db") {
		t.Error(err)
	}
	if _, err := os.Stat("data"); err == nil {
		t.Error("a folder was made")
	}
	plan, _ = load(t, oneFile+"outbox: { memory: {} }\n")
	if _, err := OpenOffline(t.Context(), plan); err == nil || !strings.Contains(err.Error(), "memory") {
		t.Error(err)
	}
}
