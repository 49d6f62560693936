package torture

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/millrace-run/millrace/internal/freeport"
)

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) { os.Exit(build(m)) }

func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "torture")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "millrace")
	cmd := exec.Command("go", "build", "-o", binary, "../cmd/millrace")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Printf("building the program: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// place is where one run of the program lives: its folder, its ports and its configuration. They outlive the process.
type place struct {
	t      *testing.T
	dir    string
	events string // address of the webhooks
	admin  string
	env    []string // beside the test's own
	prefix []string // a command that runs the program, such as strace
	base   int      // number of the next order that load sends
}

// newPlace writes a configuration with the given pipelines (YAML, indented by two) and outbox settings.
func newPlace(t *testing.T, outbox, pipelines string) *place {
	t.Helper()
	p := &place{t: t, dir: t.TempDir(), events: freePort(t), admin: freePort(t)}
	p.write(outbox, pipelines)
	return p
}

func (p *place) write(outbox, pipelines string) {
	p.t.Helper()
	text := fmt.Sprintf("http: { listen: %q }\nadmin: { listen: %q }\nshutdown_timeout: 2s\noutbox:\n  sqlite: { %s }\npipelines:\n%s",
		p.events, p.admin, outbox, pipelines)
	if err := os.WriteFile(filepath.Join(p.dir, "pipelines.yaml"), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// freePort is an address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	found, err := freeport.Find(1)
	if err != nil {
		t.Fatal(err)
	}
	return found[0]
}

// process is one run of the program.
type process struct {
	*place
	cmd    *exec.Cmd
	output *output
	exited chan struct{}
	err    error // of Wait, once exited is closed
}

// output collects what the program says; it may be read while the program runs.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// launch starts the program; it is killed at the end of the test if it still runs.
func (p *place) launch() *process {
	p.t.Helper()
	args := append(append([]string{}, p.prefix...), binary, "run", "-c", filepath.Join(p.dir, "pipelines.yaml"))
	r := &process{place: p, cmd: exec.Command(args[0], args[1:]...), output: &output{}, exited: make(chan struct{})}
	r.cmd.Dir, r.cmd.Env = p.dir, append(os.Environ(), p.env...)
	r.cmd.Stdout, r.cmd.Stderr = r.output, r.output
	if err := r.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() { r.err = r.cmd.Wait(); close(r.exited) }()
	p.t.Cleanup(func() { r.signal(syscall.SIGKILL); <-r.exited })
	return r
}

// start launches the program and waits until it is ready. It returns how long that took.
func (p *place) start() (*process, time.Duration) {
	p.t.Helper()
	begin := time.Now()
	r := p.launch()
	p.eventually(20*time.Second, "the program is ready", func() bool {
		select {
		case <-r.exited:
			p.t.Fatalf("the program ended at once: %v\n%s", r.err, r.output)
		default:
		}
		res, err := http.Get("http://" + p.admin + "/readyz")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == 200
	})
	return r, time.Since(begin)
}

func (r *process) signal(s syscall.Signal) { _ = r.cmd.Process.Signal(s) }

// kill is kill -9; it returns when the process is gone.
func (r *process) kill() {
	r.signal(syscall.SIGKILL)
	<-r.exited
}

// code waits for the end and returns the exit code.
func (r *process) code(within time.Duration) int {
	r.t.Helper()
	select {
	case <-r.exited:
		return r.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		r.t.Fatalf("the program still runs after %v:\n%s", within, r.output)
		return -1
	}
}

// eventually asks every 10 ms until ok, and fails the test after the deadline.
func (p *place) eventually(within time.Duration, what string, ok func() bool) {
	p.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	end := time.After(within)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			p.t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// post sends one order with the given id and returns the status; 0 if there was no answer.
func (p *place) post(client *http.Client, path, id string, total int) int {
	body := fmt.Sprintf(`{"id":%q,"total":%d,"note":%q}`, id, total, strings.Repeat(id+" ", 20))
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+p.events+path, strings.NewReader(body))
	if err != nil {
		p.t.Error(err)
		return 0
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header["idempotency-key"] = []string{`"` + id + `"`} // this spelling keeps net/http from sending it twice by itself
	res, err := client.Do(req)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return res.StatusCode
}

// load sends n orders at a rate from a number of clients and returns the ids that were answered with 202. An order that was not is
// sent again under a new id, since nobody knows whether it was stored. total(i) is the total of order i.
func (p *place) load(ctx context.Context, clients, n, rate int, total func(i int) int) (acked map[string]int) {
	acked = map[string]int{}
	var mu sync.Mutex
	work := make(chan int)
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
			defer client.CloseIdleConnections()
			for i := range work {
				if id := p.deliver(ctx, client, i, total(i)); id != "" {
					mu.Lock()
					acked[id] = total(i)
					mu.Unlock()
				}
			}
		})
	}
	begin := time.Now()
	for i := 0; i < n && ctx.Err() == nil; i++ {
		if wait := time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(rate))); wait > time.Millisecond {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
		}
		work <- i
	}
	close(work)
	all.Wait()
	p.base += n
	return acked
}

// deliver posts order i until it is accepted or ctx ends.
func (p *place) deliver(ctx context.Context, client *http.Client, i, total int) string {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		id := fmt.Sprintf("o-%d-%d", p.base+i, attempt)
		if p.post(client, "/orders", id, total) == http.StatusAccepted {
			return id
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return ""
}

// receiver is an HTTP destination that notes everything it accepts.
type receiver struct {
	server *http.Server
	url    string

	mu       sync.Mutex
	answer   func(id string) int // nil answers 200
	got      map[string]int      // accepted deliveries by event id
	first    []string            // event ids in the order in which they were first accepted
	keys     map[string]string   // idempotency key by event id
	totals   map[string]int      // by event id, of the delivery that was accepted last
	problems []string
	lags     []time.Duration // from the event's time to its acceptance here
	hang     chan struct{}   // not nil: nothing is answered until it is closed
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{url: "http://" + l.Addr().String(), got: map[string]int{}, keys: map[string]string{}, totals: map[string]int{}}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() { _ = r.server.Serve(l); close(done) }()
	t.Cleanup(func() { _ = r.server.Close(); <-done })
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var order struct {
		ID, Note string
		Total    int
	}
	err := json.NewDecoder(req.Body).Decode(&order)
	id := req.Header.Get("Ce-Id")
	if r.hang != nil {
		select {
		case <-r.hang:
		case <-req.Context().Done():
			return
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil || order.ID != id || order.Note != strings.Repeat(id+" ", 20) {
		r.problems = append(r.problems, fmt.Sprintf("event %q arrived as %+v: %v", id, order, err))
	}
	status := http.StatusOK
	if r.answer != nil {
		status = r.answer(id)
	}
	if key := req.Header.Get("Idempotency-Key"); r.keys[id] == "" {
		r.keys[id] = key
	} else if r.keys[id] != key {
		r.problems = append(r.problems, fmt.Sprintf("event %q came with the keys %s and %s", id, r.keys[id], key))
	}
	if status == http.StatusOK {
		r.totals[id] = order.Total
		if r.got[id]++; r.got[id] == 1 {
			r.first = append(r.first, id)
		}
		if at, err := time.Parse(time.RFC3339Nano, req.Header.Get("Ce-Time")); err == nil {
			r.lags = append(r.lags, time.Since(at))
		}
	}
	w.WriteHeader(status)
}

func (r *receiver) answers(f func(id string) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

// missing counts the wanted ids that did not arrive.
func (r *receiver) missing(want map[string]int, wants func(total int) bool) (missing []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, total := range want {
		if wants(total) && r.got[id] == 0 {
			missing = append(missing, id)
		}
	}
	return missing
}

// duplicates counts deliveries beyond the first.
func (r *receiver) duplicates() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, times := range r.got {
		n += times - 1
	}
	return n
}

func (r *receiver) check(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, p := range r.problems {
		if i < 5 {
			t.Error(p)
		}
	}
}

// archive reads a storage sink's file: how often each id stands in it. Every line must be a whole event.
func archive(t *testing.T, path string) map[string]int {
	t.Helper()
	return archiveLines(t, path, false)
}

// archiveLines is archive; while the program writes, or after it was killed, the last line may be torn.
func archiveLines(t *testing.T, path string, torn bool) map[string]int {
	t.Helper()
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]int{}
	lines := bytes.Split(b, []byte("\n"))
	if last := len(lines) - 1; !torn && len(lines[last]) != 0 {
		t.Errorf("%s ends in a torn line: %.100q", path, lines[last])
	}
	for _, line := range lines[:len(lines)-1] {
		var e struct {
			ID   string
			Data struct{ ID, Note string }
		}
		if err := json.Unmarshal(line, &e); err != nil || e.Data.ID != e.ID || e.Data.Note != strings.Repeat(e.ID+" ", 20) {
			t.Fatalf("%s has a torn line: %v: %.100q", path, err, line)
		}
		ids[e.ID]++
	}
	return ids
}

// command runs the program's own command line beside the instance.
func (p *place) command(args ...string) string {
	p.t.Helper()
	cmd := exec.Command(binary, append(args, "-c", filepath.Join(p.dir, "pipelines.yaml"))...)
	cmd.Dir = p.dir
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		_ = errors.As(err, &exit)
		p.t.Fatalf("millrace %v: %v\n%s%s", args, err, out, exit.Stderr)
	}
	return string(out)
}
