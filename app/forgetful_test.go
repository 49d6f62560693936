package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/console"
	"github.com/millrace-run/millrace/event"
)

// destination is a place that answers as the test says, and remembers which events it took.
type destination struct {
	*httptest.Server
	status atomic.Int64
	took   chan string
	hold   chan struct{} // while it is not nil, an answer waits for its end
	asked  chan struct{}
}

func newDestination(t *testing.T, status int) *destination {
	d := &destination{took: make(chan string, 1000), asked: make(chan struct{}, 1000)}
	d.status.Store(int64(status))
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		d.asked <- struct{}{}
		if d.hold != nil {
			<-d.hold
		}
		code := int(d.status.Load())
		if code < 300 {
			d.took <- r.Header.Get("Ce-Id")
		}
		w.WriteHeader(code)
	}))
	t.Cleanup(d.Close)
	return d
}

// launched is a Millrace in this process whose log and tally can be read.
type launched struct {
	*running
	logged  *watched
	tallies []Tally // once it has ended
}

// launch runs a configuration until end is called.
func launch(t *testing.T, yaml string) *launched {
	t.Helper()
	plan, report := load(t, yaml)
	if plan == nil {
		t.Fatal(report.Text())
	}
	ctx, stop := context.WithCancel(t.Context())
	l := &launched{running: &running{t: t, stop: stop, ended: make(chan error, 1)}, logged: newWatched()}
	ready := make(chan Started, 1)
	logger := slog.New(slog.NewTextHandler(l.logged, nil))
	go func() {
		l.ended <- Run(ctx, Options{Plan: plan, Logger: logger, Version: "test", Started: func(s Started) { ready <- s },
			Stopped: func(all []Tally) { l.tallies = all }})
	}()
	select {
	case l.started = <-ready:
	case err := <-l.ended:
		t.Fatalf("it did not start: %v", err)
	}
	t.Cleanup(func() { l.end() })
	return l
}

// post sends an event with an id to the webhook of a pipeline, and returns the answer. A body that is no object is sent as bytes.
func (l *launched) post(pipeline, id, body string) *http.Response {
	l.t.Helper()
	i := slices.IndexFunc(l.started.Webhooks, func(w Webhook) bool { return w.Pipeline == pipeline })
	r, err := http.NewRequestWithContext(l.t.Context(), http.MethodPost, l.started.Webhooks[i].URL, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	if r.Header.Set("Content-Type", "application/json"); body[0] != '{' {
		r.Header.Set("Content-Type", "application/octet-stream")
	}
	r.Header.Set("Idempotency-Key", `"`+id+`"`)
	r.Close = true
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		l.t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		l.t.Fatal(err)
	}
	return res
}

// accepted posts what must be taken, and says whether the answer promises that it is durable.
func (l *launched) accepted(pipeline, id, body string) (durable string) {
	l.t.Helper()
	res := l.post(pipeline, id, body)
	if res.StatusCode != http.StatusAccepted {
		l.t.Fatalf("%s: %s", id, res.Status)
	}
	return res.Header.Get("Millrace-Durable")
}

// get reads JSON of the admin listener.
func (l *launched) get(path string, into any) {
	l.t.Helper()
	status, body := ask(l.t, "GET", l.started.Console+path, "")
	if status != http.StatusOK {
		l.t.Fatalf("%s: %d %s", path, status, body)
	}
	if err := json.Unmarshal([]byte(body), into); err != nil {
		l.t.Fatalf("%s: %v in %s", path, err, body)
	}
}

// metric reads a number without labels.
func (l *launched) metric(name string) float64 {
	l.t.Helper()
	_, all := ask(l.t, "GET", l.started.Console+"metrics", "")
	for line := range strings.Lines(all) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				l.t.Fatal(err)
			}
			return n
		}
	}
	l.t.Fatalf("there is no %s in\n%s", name, all)
	return 0
}

// standing waits until the subscription of a sink is as wanted, and returns it.
func (l *launched) standing(pipeline, sink string, wanted func(Subscription) bool) {
	l.t.Helper()
	eventually(l.t, pipeline+"/"+sink, func() error {
		var all []Subscription
		l.get("api/v1/subscriptions?pipeline="+pipeline+"&sink="+sink, &all)
		if !slices.ContainsFunc(all, wanted) {
			return fmt.Errorf("%+v", all)
		}
		return nil
	})
}

// bothKinds has two pipelines of either kind, and one more in front, so that their order matters.
func bothKinds(url string) string {
	return `
http: { listen: "127.0.0.1:0" }
admin: { listen: "127.0.0.1:0" }
pipelines:
  clicks:
    delivery: at_most_once
    source: { webhook: { path: /clicks } }
    sinks: { shop: { http: { url: "` + url + `" }, retry: { initial: 10ms, max: 20ms } } }
  orders:
    source: { webhook: { path: /orders } }
    sinks: { shop: { http: { url: "` + url + `" }, retry: { initial: 10ms, max: 20ms } } }
  views:
    delivery: at_most_once
    source: { webhook: { path: /views } }
    dedupe: {}
    sinks: { shop: { http: { url: "` + url + `" }, retry: { initial: 10ms, max: 20ms } } }
`
}

// Both kinds run in one process; what was accepted by the one survives a restart, what was accepted by the other is lost, counted and
// said.
func TestAtMostOnceBesideTheOutbox(t *testing.T) {
	t.Chdir(t.TempDir())
	d := newDestination(t, http.StatusServiceUnavailable)
	l := launch(t, bothKinds(d.URL))
	if !strings.HasPrefix(l.started.Data, "data/millrace.db; of clicks, views in memory only") || !l.started.Outbox {
		t.Errorf("it says the events are at %q", l.started.Data)
	}
	for _, c := range []struct{ pipeline, id, durable string }{
		{"clicks", "c-1", "no"}, {"clicks", "c-2", "no"}, {"orders", "o-1", ""}, {"views", "v-1", "no"}, {"views", "v-1", "no"},
	} {
		if got := l.accepted(c.pipeline, c.id, `{}`); got != c.durable {
			t.Errorf("%s: Millrace-Durable is %q, want %q", c.pipeline, got, c.durable)
		}
	}
	for _, pipeline := range []string{"clicks", "orders", "views"} {
		l.standing(pipeline, "shop", func(s Subscription) bool { return s.State == "down" && s.Durable == (pipeline == "orders") })
	}
	if status, body := ask(t, "GET", l.started.Console+"readyz?verbose", ""); status != http.StatusOK {
		t.Errorf("readyz: %d %s", status, body)
	}
	_, metrics := ask(t, "GET", l.started.Console+"metrics", "")
	for _, want := range []string{
		`millrace_pipeline_durable{pipeline="clicks"} 0`, `millrace_pipeline_durable{pipeline="orders"} 1`, "millrace_memory_events 3",
		"millrace_memory_max_events 100000", "millrace_memory_dead_letters_forgotten_total 0", `millrace_events_received_total{pipeline="clicks"} 2`,
		`millrace_events_received_total{pipeline="orders"} 1`, `millrace_events_duplicate_total{pipeline="views"} 1`, "millrace_outbox_used_bytes ",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in\n%s", want, metrics)
		}
	}
	l.end()
	for _, want := range []string{
		`level=WARN msg="events that were in memory only are lost" pipeline=clicks events=2 dead_letters=0`,
		`pipeline=views events=1 dead_letters=0`, "stopped; the outbox is closed",
	} {
		if !strings.Contains(l.logged.text.String(), want) {
			t.Errorf("no %s in\n%s", want, l.logged.text.String())
		}
	}
	want := []Tally{
		{Pipeline: "clicks", Received: 2, Lost: 2}, {Pipeline: "clicks", Sink: "shop"}, {Pipeline: "orders", Received: 1},
		{Pipeline: "orders", Sink: "shop"}, {Pipeline: "views", Received: 1, Duplicates: 1, Lost: 1}, {Pipeline: "views", Sink: "shop"},
	}
	if d := cmp.Diff(want, l.tallies); d != "" {
		t.Error(d)
	}

	d.status.Store(http.StatusOK)
	l = launch(t, bothKinds(d.URL))
	if got := <-d.took; got != "o-1" {
		t.Errorf("after the restart %s is delivered", got)
	}
	l.accepted("clicks", "c-3", `{}`)
	if got := <-d.took; got != "c-3" {
		t.Errorf("after the restart %s is delivered", got)
	}
	l.standing("clicks", "shop", func(s Subscription) bool { return s.Lag == 0 && s.Head == 1 })
	l.end()
	if strings.Contains(l.logged.text.String(), "are lost") {
		t.Error("nothing was lost")
	}
}

// One id is one dead letter, of either log; commands find and change both.
func TestDeadLettersOfBothKinds(t *testing.T) {
	t.Chdir(t.TempDir())
	d := newDestination(t, http.StatusUnprocessableEntity)
	l := launch(t, bothKinds(d.URL))
	l.accepted("clicks", "c-1", `{}`)
	l.accepted("orders", "o-1", `{}`)
	var all []DeadLetter
	list := func(want int, query string) {
		t.Helper()
		eventually(t, "dead letters", func() error {
			all = nil
			if l.get("api/v1/dead-letters"+query, &all); len(all) != want {
				return fmt.Errorf("%+v", all)
			}
			return nil
		})
	}
	list(2, "")
	if all[0].ID != 1 || !all[0].Durable || all[0].EventID != "o-1" || all[1].ID != memoryLetters+1 || all[1].Durable || all[1].EventID != "c-1" {
		t.Errorf("%+v", all)
	}
	list(1, "?limit=1")
	if all[0].EventID != "o-1" {
		t.Errorf("the first is %+v", all)
	}
	list(1, "?after=1")
	list(1, "?pipeline=clicks")
	change := func(what, body, want string) {
		t.Helper()
		if status, got := ask(t, "POST", l.started.Console+"api/v1/dead-letters/"+what, body); status != http.StatusOK || !strings.Contains(got, want) {
			t.Errorf("%s %s: %d %s, want %s", what, body, status, got, want)
		}
	}
	d.status.Store(http.StatusOK)
	change("redrive", fmt.Sprintf(`{"ids":[%d]}`, memoryLetters+1), `"redriven":1`)
	if got := <-d.took; got != "c-1" {
		t.Errorf("%s is sent again", got)
	}
	list(1, "")
	d.status.Store(http.StatusUnprocessableEntity)
	l.accepted("views", "v-1", `{}`)
	list(2, "")
	change("drop", `{"all":true}`, `"dropped":2`)
	list(0, "")
}

// A pipeline that moves from the outbox into memory has subscriptions in both: what the outbox has is still seen, and nobody is sent it.
func TestMoveIntoMemory(t *testing.T) {
	t.Chdir(t.TempDir())
	d := newDestination(t, http.StatusUnprocessableEntity)
	l := launch(t, bothKinds(d.URL))
	l.accepted("orders", "o-1", `{}`)
	l.standing("orders", "shop", func(s Subscription) bool { return s.DeadLetters == 1 })
	l.end()

	moved := strings.Replace(bothKinds(d.URL), "  clicks:\n    delivery: at_most_once\n", "  clicks:\n", 1)
	moved = strings.Replace(moved, "  orders:\n", "  orders:\n    delivery: at_most_once\n", 1)
	l = launch(t, moved)
	l.accepted("orders", "o-2", `{}`)
	l.standing("orders", "shop", func(s Subscription) bool { return s.DeadLetters == 1 && !s.Durable })
	l.standing("orders", "shop", func(s Subscription) bool { return s.DeadLetters == 1 && s.Durable && s.State == console.StateRemoved })
	d.status.Store(http.StatusOK)
	if _, body := ask(t, "POST", l.started.Console+"api/v1/dead-letters/redrive", `{"all":true}`); !strings.Contains(body, `"redriven":1`) {
		t.Errorf("redrive: %s", body)
	}
	if got := <-d.took; got != "o-2" {
		t.Errorf("%s is sent again", got)
	}
	var all []DeadLetter
	if l.get("api/v1/dead-letters", &all); len(all) != 1 || all[0].EventID != "o-1" || !all[0].Durable {
		t.Errorf("%+v", all)
	}
	if status, body := ask(t, "GET", l.started.Console+"api/v1/events/o-1", ""); status != http.StatusOK || !strings.Contains(body, `"orders"`) {
		t.Errorf("an event of the outbox: %d %s", status, body)
	}
}

// A file whose pipelines all do without an outbox opens none, and leaves one alone that is there.
func TestNoOutbox(t *testing.T) {
	t.Chdir(t.TempDir())
	yaml := strings.Replace(oneFile, "source:", "delivery: at_most_once\n    source:", 1)
	l := launch(t, yaml)
	if got := l.accepted("orders", "o-1", `{}`); got != "no" {
		t.Errorf("Millrace-Durable is %q", got)
	}
	holds(t, "data/orders.ndjson", "o-1")
	if status, _ := ask(t, "GET", l.started.Console+"api/v1/events/o-1", ""); status == http.StatusOK {
		t.Error("an event in memory was found")
	}
	l.end()
	files, err := os.ReadDir("data")
	if err != nil || len(files) != 1 {
		t.Errorf("data holds %v (%v)", files, err)
	}
	plan, _ := load(t, yaml)
	var unreachable *UnreachableError
	if _, err := OpenOffline(t.Context(), plan); !errors.As(err, &unreachable) || !strings.Contains(err.Error(), "at_most_once") {
		t.Error(err)
	}
	start(t, oneFile).end()
	l = launch(t, yaml)
	l.end()
	if !strings.Contains(l.logged.text.String(), `msg="there is an outbox, but no pipeline of the file needs one`) {
		t.Errorf("it says\n%s", l.logged.text.String())
	}
}

// The outbox in memory is no more durable, and says so.
func TestOutboxInMemorySaysSo(t *testing.T) {
	t.Chdir(t.TempDir())
	d := newDestination(t, http.StatusServiceUnavailable)
	l := launch(t, bothKinds(d.URL)+"outbox: { memory: {} }\n")
	for _, pipeline := range []string{"orders", "clicks"} {
		if got := l.accepted(pipeline, "x", `{}`); got != "no" {
			t.Errorf("%s: Millrace-Durable is %q", pipeline, got)
		}
		l.standing(pipeline, "shop", func(s Subscription) bool { return s.State == "down" && !s.Durable })
	}
	l.end()
	if !strings.Contains(l.logged.text.String(), "pipeline=orders events=1") {
		t.Errorf("it says\n%s", l.logged.text.String())
	}
}

// What is in flight at a stop may end within shutdown_timeout; then it is not lost.
func TestAtMostOnceEndsWhatIsInFlight(t *testing.T) {
	for _, c := range []struct {
		timeout string
		lost    int
	}{{"1m", 0}, {"1ms", 1}} {
		t.Run(c.timeout, func(t *testing.T) {
			t.Chdir(t.TempDir())
			d := newDestination(t, http.StatusOK)
			d.hold = make(chan struct{})
			l := launch(t, "shutdown_timeout: "+c.timeout+bothKinds(d.URL))
			l.accepted("clicks", "c-1", `{}`)
			<-d.asked
			l.stop()
			if c.lost == 0 {
				l.logged.until("msg=stopping")
				close(d.hold)
			} else {
				l.logged.until("events=1")
				defer close(d.hold)
			}
			l.end()
			if l.tallies[0].Lost != c.lost || l.tallies[1].Delivered != 1-c.lost {
				t.Errorf("%+v", l.tallies)
			}
		})
	}
}

// While a sink is down the memory fills: what has no room is refused or waits, durable pipelines do not notice, and when the sink is
// back all that was accepted arrives.
func TestMemoryFills(t *testing.T) {
	t.Chdir(t.TempDir())
	d := newDestination(t, http.StatusServiceUnavailable)
	slow := strings.ReplaceAll(bothKinds(d.URL), "initial: 10ms, max: 20ms", "initial: 1s, max: 1s") // each attempt carries a megabyte
	l := launch(t, slow+`
  lines:
    delivery: at_most_once
    source: { tail: { path: "*.log", start: end } }
    sinks: { all: { storage: { path: out.txt, content: data } } }
`)
	body := strings.Repeat("x", 1000<<10)
	accepted := 0
	for l.metric("millrace_memory_used_bytes")+float64(len(body)) < 0.9*l.metric("millrace_memory_max_bytes") {
		l.accepted("clicks", fmt.Sprint("c-", accepted), body)
		accepted++
	}
	if accepted < 50 {
		t.Errorf("only %d MB fit", accepted)
	}
	// A line waits where a request is refused after some seconds: there is no room for it either.
	appendTo(t, "a.log", strings.Repeat("y", 1000<<10)+"\n")
	res := l.post("clicks", "refused", body)
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" || res.Header.Get("Millrace-Durable") != "" {
		t.Errorf("%s %v", res.Status, res.Header)
	}
	if _, err := os.Stat("out.txt"); err == nil {
		t.Error("there was room for a line")
	}
	l.accepted("orders", "o-1", `{}`)
	d.status.Store(http.StatusOK)
	seen := map[string]bool{}
	for len(seen) < accepted+1 {
		seen[<-d.took] = true
	}
	if seen["refused"] {
		t.Error("what was refused is delivered")
	}
	for i := range accepted {
		if !seen[fmt.Sprint("c-", i)] {
			t.Errorf("c-%d was accepted and is not there", i)
		}
	}
	holds(t, "out.txt", "yyy")
	l.accepted("clicks", "again", body)
	if got := <-d.took; got != "again" {
		t.Errorf("%s came", got)
	}
}

// Positions in memory are forgotten at a stop: what was written meanwhile is left out, and nothing comes twice.
func TestTailForgets(t *testing.T) {
	t.Chdir(t.TempDir())
	yaml := `
admin: { listen: "127.0.0.1:0" }
pipelines:
  lines:
    delivery: at_most_once
    source: { tail: { path: "*.log", start: end } }
    sinks: { all: { storage: { path: out.txt, content: data } } }
`
	appendTo(t, "a.log", "before\n")
	n := 0
	for _, run := range []string{"first", "second"} {
		l := launch(t, yaml)
		eventually(t, "out.txt", func() error { // lines that are written before the first look at the folder are left out too
			n++
			appendTo(t, "a.log", fmt.Sprintf("%s %d\n", run, n))
			if got, _ := os.ReadFile("out.txt"); !strings.Contains(string(got), run) {
				return fmt.Errorf("no %s in %q", run, got)
			}
			return nil
		})
		l.end()
		appendTo(t, "a.log", "between\n")
	}
	got, err := os.ReadFile("out.txt")
	if err != nil || strings.Contains(string(got), "before") || strings.Contains(string(got), "between") {
		t.Errorf("%q %v", got, err)
	}
	lines := strings.Fields(strings.NewReplacer("first ", "", "second ", "").Replace(string(got)))
	if slices.Sort(lines); len(slices.Compact(lines)) != strings.Count(string(got), "\n") {
		t.Errorf("a line came twice: %q", got)
	}
	if _, report := load(t, strings.Replace(yaml, ", start: end", "", 1)); !strings.Contains(report.Text(), "write start: end") {
		t.Errorf("from the beginning: %s", report.Text())
	}
	if _, report := load(t, strings.Replace(yaml, `tail: { path: "*.log", start: end }`, `file: { path: "*.log" }`, 1)); !strings.Contains(
		report.Text(), "a source of type file needs the outbox to remember what it has read") {
		t.Errorf("files: %s", report.Text())
	}
	_, report := load(t, strings.Replace(yaml, "start: end", "start: beginning", 1))
	if !strings.Contains(report.Text(), ":6:45  error  E0131  start: delivery: at_most_once forgets") {
		t.Errorf("from the beginning: %s", report.Text())
	}
}

// In development a file without an outbox makes none either.
func TestDevWithoutOutbox(t *testing.T) {
	t.Chdir(t.TempDir())
	d := startDev(t, strings.Replace(oneFile, "source:", "delivery: at_most_once\n    source:", 1), false)
	s := <-d.started
	if status, body := ask(t, "POST", s.Webhooks[0].URL, `{}`); status != http.StatusAccepted {
		t.Fatalf("%d %s", status, body)
	}
	d.out.until("orders/archive")
	d.end(t)
	if _, err := os.Stat(DevOutbox); err == nil || s.Outbox {
		t.Error("there is an outbox")
	}
}

// The joined log keeps to a limit across its parts.
func TestJoinedLimit(t *testing.T) {
	var j joined
	for range 2 {
		j = append(j, &flow{plan: twoSinks})
	}
	for limit, want := range map[int][]int{0: {0, 0}, 1: {1}, 2: {2}, 3: {3, 1}} {
		var asked []int
		n, err := j.each(event.DeadQuery{Limit: limit}, func(_ *flow, q event.DeadQuery) (int, error) {
			asked = append(asked, q.Limit)
			return 2, nil // also where that is more than it was asked for
		})
		if err != nil || n < limit || !slices.Equal(asked, want) {
			t.Errorf("limit %d: %d, asked %v, want %v", limit, n, asked, want)
		}
	}
}
