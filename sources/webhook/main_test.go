package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stopped is a clock that always says noon.
type stopped struct{ event.SystemClock }

var noon = time.Date(2026, 1, 2, 12, 0, 0, 5e8, time.UTC)

const noonText = "2026-01-02T12:00:00.5Z"

func (stopped) Now() time.Time { return noon }

// inbox is the log behind a source: it keeps what was emitted, or fails.
type inbox struct {
	mu     sync.Mutex // guards all below
	events []event.Event
	bodies []string // of batches that have one
	fail   error
}

func (in *inbox) emit(_ context.Context, b event.Batch) ([]string, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.fail != nil {
		return nil, in.fail
	}
	in.events = append(in.events, b.Events...)
	if b.Body != nil {
		in.bodies = append(in.bodies, string(b.Body))
	}
	ids := make([]string, len(b.Events))
	for i, e := range b.Events {
		ids[i] = e.ID
	}
	return ids, nil
}

// take returns what came since the last call.
func (in *inbox) take() []event.Event {
	in.mu.Lock()
	defer in.mu.Unlock()
	taken := in.events
	in.events = nil
	return taken
}

func (in *inbox) failWith(err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.fail = err
}

// build makes a source at /hook with ids id-1, id-2 and so on; change may be nil.
func build(t testing.TB, change func(*Config)) *Source {
	t.Helper()
	c := Defaults()
	c.Path = "/hook"
	if change != nil {
		change(&c)
	}
	var mu sync.Mutex
	n := 0
	s, err := NewWith(c, stopped{}, func() string {
		mu.Lock()
		defer mu.Unlock()
		n++
		return fmt.Sprintf("id-%d", n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// template compiles a template as the loader does.
func template(t testing.TB, text string) rules.Template {
	t.Helper()
	compiled, err := rules.CompileTemplate(text, rules.Options{Scope: rules.IntakeScope})
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// compile compiles an expression as the loader does.
func compile(t testing.TB, text string) *rules.Expr {
	t.Helper()
	compiled, err := rules.Compile(text, rules.Options{Scope: rules.IntakeScope})
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// serve runs sources behind a real server until the test ends, and returns its URL.
func serve(t testing.TB, emit func(context.Context, event.Batch) ([]string, error), sources ...*Source) string {
	t.Helper()
	mux, err := NewMux(sources...)
	if err != nil {
		t.Fatal(err)
	}
	return serveHandler(t, mux, mux.MaxHeaderBytes(), emit, sources...)
}

func serveHandler(t testing.TB, h http.Handler, maxHeader int, emit func(context.Context, event.Batch) ([]string, error),
	sources ...*Source) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, s := range sources {
		if !s.gate.open(emit) { // Run does the same; opening here leaves no moment at which the test could come too early
			t.Fatal("the source is running")
		}
		running.Go(func() {
			<-ctx.Done()
			s.gate.close()
		})
	}
	server := httptest.NewUnstartedServer(h)
	server.Config.MaxHeaderBytes = maxHeader
	server.Config.ReadHeaderTimeout = time.Minute
	server.Listener = Listener(server.Listener)
	server.Start()
	t.Cleanup(func() {
		cancel()
		server.Close()
		running.Wait()
	})
	return server.URL
}

// post sends a request. headers are pairs; the body has a Content-Length.
func post(t testing.TB, url, body string, headers ...string) answer {
	t.Helper()
	return send(t, http.MethodPost, url, strings.NewReader(body), headers...)
}

// answer is a response that was read.
type answer struct {
	status int
	header http.Header
	body   string
	closes bool // the server announced that it closes the connection
}

func send(t testing.TB, method, url string, body io.Reader, headers ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return read(t, response)
}

func read(t testing.TB, response *http.Response) answer {
	t.Helper()
	text, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(text), response.Close}
}

// checkProblem compares a refusal with what it must be, in every member.
func checkProblem(t testing.TB, got answer, status int, name, detail string) {
	t.Helper()
	var p struct {
		Type, Title, Detail string
		Status              int
	}
	if err := json.Unmarshal([]byte(got.body), &p); err != nil {
		t.Fatalf("status %d: %q is no problem: %v", got.status, got.body, err)
	}
	if got.status != status || p.Status != status || p.Type != "urn:millrace:problem:"+name || p.Title == "" || !strings.Contains(p.Detail, detail) {
		t.Errorf("got %d %s\nwant %d %s with …%s…", got.status, got.body, status, name, detail)
	}
	if kind := got.header.Get("Content-Type"); kind != "application/problem+json" {
		t.Errorf("got Content-Type %s", kind)
	}
}
