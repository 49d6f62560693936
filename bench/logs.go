package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// throughput is how many megabytes of a log a run has read in a second.
const throughput = "MB/s"

// peak is the figure of all log cases that is no ratio.
var peak = figure{name: "peak memory", value: "memory", unit: "MB", must: new(64.0), aim: new(48.0), less: true}

// logCases read a log that is in the page cache and write what a filter keeps to a file.
func logCases() []benchCase {
	return []benchCase{
		{"logs", []figure{
			{name: "parse combined, status >= 500 ÷ grep", value: throughput, must: new(0.25), aim: new(0.75)}, peak,
		}, func(ctx context.Context, b *bench) (pair, error) { return openLogs(ctx, b, accessLog, "") }},
		{"logs-stored", []figure{
			{name: "the same, every line in the outbox first ÷ grep", value: throughput, must: new(0.10), aim: new(0.30)}, peak,
		}, func(ctx context.Context, b *bench) (pair, error) {
			return openLogs(ctx, b, accessLog, "    store: all\n")
		}},
		{"logs-json", []figure{
			{name: "JSON lines, a filter on two fields ÷ cat | wc -l", value: throughput, must: new(0.20), aim: new(0.40)}, peak,
		}, func(ctx context.Context, b *bench) (pair, error) { return openLogs(ctx, b, jsonLog, "") }},
	}
}

// logKind is a kind of log. A line that is kept holds its own number.
type logKind struct {
	name    string
	line    func(b []byte, n int, kept bool) []byte
	stages  string
	pattern string   // of grep, for the lines that are kept
	floor   []string // what is measured beside it; its last argument is the path
}

var accessLog = logKind{
	name: "access.log", line: appendCombined, pattern: `" 5[0-9][0-9] `, floor: []string{"grep", `" 5[0-9][0-9] `},
	stages: "      - parse: combined\n      - filter: 'data.status >= 500'\n      - map: 'data.path'\n",
}

var jsonLog = logKind{
	name: "lines.json", line: appendJSONLine, pattern: `"status":5.*"method":"POST"`,
	floor:  []string{"sh", "-c", `cat "$0" | wc -l`},
	stages: "      - parse: json\n      - filter: 'data.status >= 500 && data.method == \"POST\"'\n      - map: 'data.path'\n",
}

// appendCombined appends a line of a web server's log, 190 bytes long.
func appendCombined(b []byte, n int, kept bool) []byte {
	status := [...]int{200, 200, 200, 304, 404, 200, 301, 200}[n%8]
	if kept {
		status = 500 + n%5
	}
	b = fmt.Appendf(b, `198.51.%d.%d - - [20/Nov/2026:%02d:%02d:%02d +0000] "GET /items/%09d?page=%d HTTP/1.1" %d %d `+
		`"https://www.example.com/catalog/%d" "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox`,
		n%100, n*7%256, n/3600%24, n/60%60, n%60, n, n%10, status, 512+n*31%90000, n%1000)
	return b
}

// appendJSONLine appends a line of JSON, 300 bytes long.
func appendJSONLine(b []byte, n int, kept bool) []byte {
	status, method := [...]int{200, 500, 404, 200}[n%4], "GET"
	if n%3 == 0 && status < 500 {
		method = "POST"
	}
	if kept {
		status, method = 500+n%5, "POST"
	}
	return fmt.Appendf(b, `{"time":"2026-11-20T%02d:%02d:%02dZ","level":"info","host":"web-%d.example.com","client":"198.51.%d.%d",`+
		`"status":%d,"bytes":%d,"duration_ms":%d.%d,"method":"%s","path":"/items/%09d","user":null,"tags":["web","public"],`+
		`"upstream":{"name":"catalog","attempts":%d},"agent":"Mozilla/5.0 (X11; Linux x86_64)`,
		n/3600%24, n/60%60, n%60, n%16, n%100, n*7%256, status, 512+n*31%90000, n%400, n%10, method, n, 1+n%3)
}

// logs is a log on disk and what of it must come out.
type logs struct {
	logKind
	path  string
	size  int64
	lines int
	want  []int // the numbers of the lines that grep keeps
}

func openLogs(ctx context.Context, b *bench, k logKind, store string) (pair, error) {
	l := &logs{logKind: k, path: filepath.Join(b.dir, k.name)}
	p := pair{
		thing: func(ctx context.Context) (reading, error) { return l.pipe(ctx, b, store) },
		floor: func(ctx context.Context) (reading, error) { return l.plain(ctx, b.dir) },
		close: func() error { return os.Remove(l.path) },
	}
	err := l.write(int64(b.logSize) * 1_000_000)
	if err == nil {
		l.want, err = l.grep(ctx)
	}
	if err == nil && len(l.want)*50 < l.lines {
		err = fmt.Errorf("grep keeps %d of %d lines", len(l.want), l.lines)
	}
	return p, err
}

// write makes the log. One line in fifty is kept, and the last one is.
func (l *logs) write(size int64) (err error) {
	f, err := os.Create(l.path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	width := map[string]int{accessLog.name: 190, jsonLog.name: 300}[l.name]
	l.lines = max(1, int(size)/width)
	for n := range l.lines {
		line := l.line(w.AvailableBuffer(), n, n%50 == 7 || n == l.lines-1)
		closing := map[string]string{accessLog.name: "\"\n", jsonLog.name: "\"}\n"}[l.name]
		line = append(line, strings.Repeat("x", max(0, width-len(line)-len(closing)))+closing...)
		l.size += int64(len(line))
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return w.Flush()
}

// grep finds the numbers of the lines that must come out, with another program than the one under test.
func (l *logs) grep(ctx context.Context) ([]int, error) {
	c := exec.CommandContext(ctx, "grep", l.pattern, l.path)
	c.Env = append(os.Environ(), "LC_ALL=C")
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("grep: %w", err)
	}
	return numbers(out)
}

// numbers reads the number of each line.
func numbers(text []byte) (all []int, err error) {
	for line := range bytes.Lines(text) {
		_, rest, ok := bytes.Cut(line, []byte("/items/"))
		if !ok || len(rest) < 9 {
			return nil, fmt.Errorf("a line without its number: %q", line)
		}
		n, err := strconv.Atoi(string(rest[:9]))
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}

// plain measures the floor, which writes to a file.
func (l *logs) plain(ctx context.Context, dir string) (_ reading, err error) {
	out, err := os.CreateTemp(dir, "floor-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, out.Close(), os.Remove(out.Name())) }()
	c := exec.CommandContext(ctx, l.floor[0], append(l.floor[1:], l.path)...)
	c.Env, c.Stdout = append(os.Environ(), "LC_ALL=C"), out
	begin := time.Now()
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w", l.floor[0], err)
	}
	took := time.Since(begin)
	used := c.ProcessState.UserTime() + c.ProcessState.SystemTime()
	return l.reading(took, used), nil
}

func (l *logs) reading(took, used time.Duration) reading {
	return reading{throughput: float64(l.size) / 1e6 / took.Seconds(), cpu: micros(used) / float64(l.lines)}
}

// pipe runs the program from its start until every line that must come out is in the file, and looks whether it is the right ones,
// each once and in order, once it has stopped.
func (l *logs) pipe(ctx context.Context, b *bench, store string) (r reading, err error) {
	p, err := b.newLogPlace(ctx, l, store)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.remove()) }()
	begin := time.Now()
	server, err := p.start(ctx)
	if err != nil {
		return nil, err
	}
	out := filepath.Join(p.dir, "out.log")
	if err = awaitLines(ctx, out, len(l.want)); err == nil {
		took := time.Since(begin)
		used, err1 := server.cpu()
		memory, err2 := server.peak()
		r, err = l.reading(took, used), errors.Join(err1, err2)
		r["memory"] = memory / 1e6
	}
	if err = errors.Join(err, server.stop()); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, server.said)
	}
	return r, l.verify(out)
}

// newLogPlace is a place whose only pipeline follows the log.
func (b *bench) newLogPlace(ctx context.Context, l *logs, store string) (*place, error) {
	dir, err := os.MkdirTemp(b.dir, "millrace-")
	if err != nil {
		return nil, err
	}
	p := &place{binary: b.binary, dir: dir}
	if p.admin, err = freeAddress(); err == nil {
		err = p.write(ctx, fmt.Sprintf(`admin: { listen: %q }
outbox:
  sqlite: { path: data/millrace.db, max_size: 200GiB }
pipelines:
  lines:
    source: { tail: { path: %q } }
%s    stages:
%s    sinks:
      out: { storage: { path: out.log, content: data } }
`, p.admin, l.path, store, l.stages))
	}
	if err != nil {
		return nil, errors.Join(err, p.remove())
	}
	return p, nil
}

// awaitLines waits until a file that grows has so many lines.
func awaitLines(ctx context.Context, path string, lines int) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	var f *os.File
	defer func() {
		if f != nil {
			_ = f.Close()
		}
	}()
	room, seen := make([]byte, 256<<10), 0
	for seen < lines {
		if f == nil {
			f, _ = os.Open(path) // it may not be there yet
		}
		n := 0
		if f != nil {
			var err error
			if n, err = f.Read(room); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			seen += bytes.Count(room[:n], []byte("\n"))
		}
		if n == 0 {
			if err := pause(ctx, 2*time.Millisecond); err != nil {
				return fmt.Errorf("%d of %d lines came out: %w", seen, lines, err)
			}
		}
	}
	return nil
}

// verify compares what came out with what grep keeps.
func (l *logs) verify(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	got, err := numbers(text)
	if err != nil {
		return err
	}
	if len(got) != len(l.want) {
		return fmt.Errorf("%d lines came out, grep keeps %d", len(got), len(l.want))
	}
	for i := range got {
		if got[i] != l.want[i] {
			return fmt.Errorf("line %d that came out is number %d, grep has %d", i+1, got[i], l.want[i])
		}
	}
	return nil
}
