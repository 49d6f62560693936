package millrace_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/app"
	"github.com/millrace-run/millrace/app/lab/tests"
)

// exampleFiles are the configurations that people are told to use.
func exampleFiles(t *testing.T) []string {
	t.Helper()
	files := []string{"pipelines.yaml"}
	for _, pattern := range []string{"examples/*/pipelines.yaml", "examples/*/*/pipelines.yaml"} {
		some, err := filepath.Glob(pattern)
		if err != nil || len(some) == 0 {
			t.Fatalf("no examples %s: %v", pattern, err)
		}
		files = append(files, some...)
	}
	return files
}

// exampleEnv is what examples tell to set.
func exampleEnv(name string) (string, bool) {
	value, ok := map[string]string{"HOST": "web-1"}[name]
	return value, ok
}

// readmeOf is the page of an example, which may have several configurations in folders below its own.
func readmeOf(file string) string {
	parts := strings.Split(filepath.ToSlash(file), "/")
	return filepath.Join(append(parts[:min(2, len(parts)-1)], "README.md")...)
}

// Every configuration that people are told to use has no fault and no warning, and every example says what it shows.
func TestExamples(t *testing.T) {
	for _, f := range exampleFiles(t) {
		if _, report := app.Load(app.Source{Path: f, Env: exampleEnv}); report.Text() != "" {
			t.Errorf("%s:\n%s", f, report.Text())
		}
		if _, err := os.Stat(readmeOf(f)); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
}

// Every such configuration has tests, in itself or beside it, and they pass.
func TestTestsOfExamples(t *testing.T) {
	for _, f := range exampleFiles(t) {
		if runTests(t, f) == 0 {
			t.Errorf("%s has no tests", f)
		}
	}
}

// runTests runs the tests of a configuration and returns how many there are.
func runTests(t *testing.T, file string) int {
	t.Helper()
	plan, report := app.Load(app.Source{Path: file, Env: exampleEnv, Tests: true})
	if plan == nil {
		t.Errorf("%s:\n%s", file, report.Text())
		return 0
	}
	var printed strings.Builder
	p := tests.Printer{Out: &printed}
	results, err := tests.Run(t.Context(), plan, tests.Options{Done: func(r tests.Result) { _ = p.Print(r) }})
	if err != nil || tests.Failed(results) > 0 {
		t.Errorf("%s: %d tests, %v\n%s", file, len(results), err, &printed)
	}
	return len(results)
}

// shown is what must come of the posts that the README of an example tells to do.
type shown struct {
	printed []string          // by dev, each somewhere
	files   map[string]string // a pattern of a file's name below .millrace/dev, and a line of it that holds all words
	never   []string          // neither printed nor in a file
	tallies []app.Tally
}

var examplesShow = map[string]shown{
	"orders": {
		printed: []string{"orders/archive  .millrace/dev/data/orders/", "reviews/list  .millrace/dev/data/reviews.ndjson ← "},
		files: map[string]string{
			"data/orders/*.ndjson": `"subject":"north" "type":"shop.order.created" "total_cents":74950 "email":"ada@example.com"`,
			"data/reviews.ndjson":  `"subject":"north" "type":"shop.order.created" "total_cents":74950 "email":"ada@example.com"`,
		},
		never: []string{"4111"},
		tallies: []app.Tally{
			{Pipeline: "orders", Received: 1}, {Pipeline: "orders", Sink: "archive", Delivered: 1},
			{Pipeline: "orders", Sink: "review", Delivered: 1},
			{Pipeline: "reviews", Received: 1}, {Pipeline: "reviews", Sink: "list", Delivered: 1},
		},
	},
	"collect": {
		printed: []string{"lines/archive  .millrace/dev/data/web-1/", "lines/errors  .millrace/dev/data/errors.ndjson ← "},
		files: map[string]string{
			"data/web-1/*.ndjson": `"source":"//web-1/logs/access.log" "id":"a1" "status":502`,
			"data/errors.ndjson":  `"source":"//web-1/logs/access.log" "id":"a1" "status":502`,
		},
		tallies: []app.Tally{
			{Pipeline: "lines", Received: 1}, {Pipeline: "lines", Sink: "archive", Delivered: 1}, {Pipeline: "lines", Sink: "errors", Delivered: 1},
		},
	},
	"logs": {
		printed: []string{"access-log/errors  .millrace/dev/data/errors-"},
		files:   map[string]string{"data/errors-*.ndjson": `"type":"millrace.line" "path":"/page/10" "status":502 "seconds":0.012`},
		never:   []string{"/page/1\"", "/page/20"},
		tallies: []app.Tally{
			{Pipeline: "access-log", Received: 3}, {Pipeline: "access-log", Sink: "errors", Delivered: 1},
			{Pipeline: "access-log", Sink: "screen", Delivered: 3},
		},
	},
	"task-queue": {
		printed: []string{"parcels/archive  .millrace/dev/data/parcels.ndjson ← ", "the parcel has no address"},
		files:   map[string]string{"../../labels.txt": "p-1 Ada, 12 Analytical Way"},
		tallies: []app.Tally{
			{Pipeline: "parcels", Received: 2}, {Pipeline: "parcels", Sink: "labels", Delivered: 1, DeadLetters: 1},
			{Pipeline: "parcels", Sink: "archive", Delivered: 2},
		},
	},
	"spike": {
		printed: []string{"tickets/seating  POST http://127.0.0.1:9001/seats", "type ticket.booked · id b-1 ", "type ticket.booked · id b-12 "},
		tallies: []app.Tally{{Pipeline: "tickets", Received: 12}, {Pipeline: "tickets", Sink: "seating", Delivered: 12}},
	},
	"etl": {
		printed: []string{
			"sales/warehouse  row of sales\n          receipt  n-1001\n          day      2026-11-19\n          article  pencil\n          quantity 3\n          total    2.4",
			"receipt  n-1002", "receipt  n-1003", "sales/returns  .millrace/dev/data/returns.ndjson ← ", "reason=on_error",
		},
		files: map[string]string{"data/returns.ndjson": `"subject":"envelope" "receipt":"n-1006" "quantity":-2 "total":-0.3`},
		never: []string{"receipt  n-1004", "receipt  n-1005"},
		tallies: []app.Tally{
			{Pipeline: "sales", Received: 5, DeadLetters: 1}, {Pipeline: "sales", Sink: "warehouse", Delivered: 3},
			{Pipeline: "sales", Sink: "returns", Delivered: 1},
		},
	},
	"outbox-table": {
		printed: []string{"shop/fulfilment  POST http://127.0.0.1:9001/orders", "type shop.order.placed · id e-1 · source /shop · subject ada",
			"shop/journal  .millrace/dev/data/journal.ndjson ← e-2 shop.order.cancelled"},
		tallies: []app.Tally{
			{Pipeline: "shop", Received: 2}, {Pipeline: "shop", Sink: "fulfilment", Delivered: 1}, {Pipeline: "shop", Sink: "journal", Delivered: 2},
		},
	},
	"email": {
		printed: []string{
			mailOf("welcome", "Accounts <accounts@example.com>", "ada@example.com", "Help <help@example.com>", "Confirm your address",
				"Hello Ada,", "", "confirm your address here:", "https://accounts.example.com/confirm?token=c0nfirm-4f1e2d3c5b6a"),
			mailOf("welcome", "Accounts <accounts@example.com>", "grace@example.com", "Help <help@example.com>", "Confirm your address",
				"Hello there,", "", "confirm your address here:", "https://accounts.example.com/confirm?token=c0nfirm-9e8d7c6b5a4f"),
			mailOf("reset", "Accounts <accounts@example.com>", "ada@example.com", "Help <help@example.com>", "Choose a new password",
				"Hello Ada,", "", "choose a new password within the hour:", "https://accounts.example.com/reset?token=r3set-0a9b8c7d6e5f",
				"+ text/html, 140 bytes"),
			mailOf("order", "Shop <shop@example.com>", "ada@example.com\n          Bcc      orders@example.com",
				"Orders <orders@example.com>", "Your order o-1",
				"Hello Ada,", "", "this is on its way to you:", "", "2 x Pencil & eraser", "1 x Paper <A4>", "", "Total: 24.50 EUR",
				"+ text/html, 144 bytes"),
			"mails/unknown  .millrace/dev/data/unknown.ndjson ← ",
			"reason=permanent status=0 attempts=1 err=\"text: data.token is missing",
		},
		files: map[string]string{"data/unknown.ndjson": `"type":"service.invoice" "id":"i-1"`},
		never: []string{"evil", "You won", "everybody"},
		tallies: []app.Tally{
			{Pipeline: "mails", Received: 6},
			{Pipeline: "mails", Sink: "welcome", Delivered: 2}, {Pipeline: "mails", Sink: "reset", Delivered: 1, DeadLetters: 1},
			{Pipeline: "mails", Sink: "order", Delivered: 1}, {Pipeline: "mails", Sink: "unknown", Delivered: 1},
		},
	},
}

// mailOf is a mail of the pipeline mails as dev prints it, from its sink to the last of the lines.
func mailOf(sink, from, to, replyTo, subject string, lines ...string) string {
	text := fmt.Sprintf("mails/%s  mail\nFrom     %s\nTo       %s\nReply-To %s\nSubject  %s\n\n%s\n",
		sink, from, strings.ReplaceAll(to, "\n          ", "\n"), replyTo, subject, strings.Join(lines, "\n"))
	return regexp.MustCompile(`\n(.)`).ReplaceAllString(text, "\n          $1")
}

// Every example is run as its README tells: what its input files hold is delivered, and nothing else is.
func TestExamplesLive(t *testing.T) {
	for _, f := range exampleFiles(t) {
		folder := filepath.Dir(f)
		if strings.Count(filepath.ToSlash(folder), "/") != 1 {
			continue // the first page's own file, which a test of the command runs at a terminal, and what needs another Millrace
		}
		t.Run(filepath.Base(folder), func(t *testing.T) {
			want, ok := examplesShow[filepath.Base(folder)]
			if !ok {
				t.Fatal("nothing is said of what it must show")
			}
			e := &liveExample{T: t}
			e.begin(folder)
			e.runAll()
			e.postAll()
			e.consumeAll()
			for _, text := range want.printed {
				e.until("printed "+text, func() error {
					if !strings.Contains(e.out.String(), text) {
						return errors.New("not yet")
					}
					return nil
				})
			}
			e.settled()
			if d := cmp.Diff(want.tallies, e.end()); d != "" {
				t.Errorf("delivered (-want +got):\n%s", d)
			}
			e.judge(want)
			if t.Failed() {
				t.Log(e.out.String())
			}
		})
	}
}

// liveExample is a copy of an example that runs.
type liveExample struct {
	*testing.T
	out     shared
	ports   *strings.Replacer
	console string
	stop    context.CancelFunc
	ended   chan error  // has the outcome once, then it is closed
	tallies []app.Tally // once it has ended
}

// shared is written by many and read meanwhile.
type shared struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// begin copies an example to a folder of its own, goes there, and starts it with free ports.
func (e *liveExample) begin(folder string) {
	e.Helper()
	there := e.TempDir()
	if err := os.CopyFS(there, os.DirFS(folder)); err != nil {
		e.Fatal(err)
	}
	e.Chdir(there)
	for _, left := range []string{"data", app.DevFolder} { // by somebody who tried the example in the tree
		if err := os.RemoveAll(left); err != nil {
			e.Fatal(err)
		}
	}
	hooks, admin := freePorts(e.T)
	e.ports = strings.NewReplacer("127.0.0.1:8080", hooks, "127.0.0.1:8081", admin)
	if err := os.WriteFile("pipelines.yaml", []byte(e.ports.Replace(read(e.T, "pipelines.yaml"))), 0o600); err != nil {
		e.Fatal(err)
	}
	e.start()
}

func (e *liveExample) start() {
	e.Helper()
	started := make(chan app.Started, 1)
	logger := slog.New(slog.NewTextHandler(&e.out, &slog.HandlerOptions{Level: slog.LevelWarn}))
	dev := &app.Dev{
		Source: app.Source{Path: "pipelines.yaml"}, Out: &e.out, Logger: logger,
		Started: func(s app.Started, _ []string) { started <- s },
	}
	ctx, stop := context.WithCancel(e.Context())
	e.stop, e.ended = stop, make(chan error, 1)
	go func() {
		var err error
		e.tallies, err = dev.Run(ctx)
		e.ended <- err
		close(e.ended)
	}()
	e.Cleanup(func() { // after a failure it runs still, in a folder that is about to go
		stop()
		for range e.ended {
		}
	})
	select {
	case s := <-started:
		e.console = s.Console
		if len(s.Webhooks) > 0 { // where somebody else took a port meanwhile, dev has another one
			e.ports = strings.NewReplacer("127.0.0.1:8080", regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(s.Webhooks[0].URL))
		}
	case err := <-e.ended:
		e.Fatalf("it ended: %v\n%s", err, e.out.String())
	}
}

// runAll runs the scripts that the README tells to run, as it tells.
func (e *liveExample) runAll() {
	e.Helper()
	for _, m := range regexp.MustCompile(`(?m)^sh (\w+\.sh) (\d+)$`).FindAllStringSubmatch(read(e.T, "README.md"), -1) {
		if out, err := exec.CommandContext(e.Context(), "sh", m[1], m[2]).CombinedOutput(); err != nil {
			e.Fatalf("%s: %v\n%s", m[0], err, out)
		}
	}
}

// postAll does what curl would do in the README, which must use every input file.
func (e *liveExample) postAll() {
	e.Helper()
	line := regexp.MustCompile(`(?m)^curl -i (\S+) -H '([^:']+): ([^']*)' -d @(\S+)$`)
	var posted []string
	for _, m := range line.FindAllStringSubmatch(e.ports.Replace(read(e.T, "README.md")), -1) {
		posted = append(posted, m[4])
		e.post(m[1], m[2], m[3], read(e.T, m[4]))
	}
	var inputs []string
	for _, pattern := range []string{"*.json", "events/*.json"} {
		some, err := filepath.Glob(pattern)
		if err != nil {
			e.Fatal(err)
		}
		inputs = append(inputs, some...)
	}
	slices.Sort(posted)
	slices.Sort(inputs)
	if d := cmp.Diff(inputs, posted); d != "" {
		e.Errorf("the README does not post its input files, each once (-files +posted):\n%s", d)
	}
}

// consumeAll works on queues as the README tells.
func (e *liveExample) consumeAll() {
	e.Helper()
	line := regexp.MustCompile(`(?m)^\S*millrace consume (\S+) --exec '([^']+)' --max (\d+)$`)
	for _, m := range line.FindAllStringSubmatch(read(e.T, "README.md"), -1) {
		most, _ := strconv.Atoi(m[3])
		c := app.Consumer{
			URL: app.QueueBelow(e.ports.Replace("http://127.0.0.1:8080"), m[1]), Workers: []app.Work{app.Exec(m[2], &e.out, &e.out)},
			Lease: time.Minute, Max: most, Logger: slog.New(slog.DiscardHandler),
		}
		if _, err := c.Run(e.Context()); err != nil {
			e.Fatalf("%s: %v", m[0], err)
		}
	}
}

func (e *liveExample) post(url, header, value, body string) {
	e.Helper()
	r, err := http.NewRequestWithContext(e.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		e.Fatal(err)
	}
	r.Header.Set(header, value)
	if status, answer := e.do(r); status != http.StatusAccepted || !strings.Contains(answer, `"ids"`) {
		e.Fatalf("%s: %d %s", url, status, answer)
	}
}

func (e *liveExample) do(r *http.Request) (int, string) {
	e.Helper()
	r.Close = true
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		e.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		e.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// settled waits until no sink has anything left to do, so that what nobody waited for would have been delivered too.
func (e *liveExample) settled() {
	e.Helper()
	e.until("settled", func() error {
		r, err := http.NewRequestWithContext(e.Context(), http.MethodGet, e.console+"api/v1/subscriptions", nil)
		if err != nil {
			e.Fatal(err)
		}
		_, body := e.do(r)
		var rows []struct{ Lag, Retrying, Cursor, Head int64 }
		if err := json.Unmarshal([]byte(body), &rows); err != nil || len(rows) == 0 {
			e.Fatalf("%v: %s", err, body)
		}
		for _, row := range rows {
			if row.Lag != 0 || row.Retrying != 0 || row.Cursor != row.Head {
				return errors.New(body)
			}
		}
		return nil
	})
}

// end stops it in order, and returns what it did.
func (e *liveExample) end() []app.Tally {
	e.Helper()
	e.stop()
	if err := <-e.ended; err != nil {
		e.Error(err)
	}
	return e.tallies
}

// judge looks at the files and at what must be nowhere.
func (e *liveExample) judge(want shown) {
	e.Helper()
	everything := e.out.String()
	for pattern, words := range want.files {
		files, err := filepath.Glob(filepath.Join(app.DevFiles, pattern))
		if err != nil || len(files) != 1 {
			e.Errorf("%s is %v, want one file (%v)", pattern, files, err)
			continue
		}
		text := read(e.T, files[0])
		everything += text
		for _, word := range strings.Fields(words) {
			if strings.Count(text, "\n") != 1 || !strings.Contains(text, word) {
				e.Errorf("%s: no %s, or not one line, in\n%s", pattern, word, text)
			}
		}
	}
	for _, text := range want.never {
		if strings.Contains(everything, text) {
			e.Errorf("%q came through", text)
		}
	}
	if _, err := os.Stat("data"); !errors.Is(err, os.ErrNotExist) {
		e.Errorf("dev wrote to the place of the real files: %v", err)
	}
}

// until asks again and again, and fails with the last answer.
func (e *liveExample) until(what string, ask func() error) {
	e.Helper()
	if err := eventually(ask); err != nil {
		e.Fatalf("%s: %v\n%s", what, err, e.out.String())
	}
}
