package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/millrace-run/millrace/bench/internal/load"
	"github.com/millrace-run/millrace/internal/freeport"
)

// errUnsupported is what a case ends with when the binary refuses its file, because it asks for a key that this version does not
// have.
var errUnsupported = errors.New("not supported by this binary")

// place is the folder, the ports and the configuration of one run of the program. They outlive the process.
type place struct {
	binary string
	dir    string
	events string // address of the webhook
	admin  string
}

// newPlace writes a configuration into a new folder of the bench and has the program validate it. settings are those of the outbox
// beside its path, each with a comma before it; pipeline is the text of the pipeline orders below its source, indented by four.
func (b *bench) newPlace(ctx context.Context, settings, pipeline string) (*place, error) {
	dir, err := os.MkdirTemp(b.dir, "millrace-")
	if err != nil {
		return nil, err
	}
	p := &place{binary: b.binary, dir: dir}
	for _, port := range []*string{&p.events, &p.admin} {
		if *port, err = freeAddress(); err != nil {
			return nil, err
		}
	}
	if err := p.configure(ctx, settings, pipeline); err != nil {
		return nil, errors.Join(err, p.remove())
	}
	return p, nil
}

// configure replaces the configuration.
func (p *place) configure(ctx context.Context, settings, pipeline string) error {
	text := fmt.Sprintf(`http: { listen: %q }
admin: { listen: %q }
outbox:
  sqlite: { path: data/millrace.db, max_size: 200GiB%s }
pipelines:
  orders:
    source: { webhook: { path: /orders, type: order.created } }
%s`, p.events, p.admin, settings, pipeline)
	return p.write(ctx, text)
}

// write puts a configuration in place and has the program validate it.
func (p *place) write(ctx context.Context, text string) error {
	if err := os.WriteFile(p.file(), []byte(text), 0o600); err != nil {
		return err
	}
	said, err := p.command(ctx, "validate").Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 3 {
		fault, _, _ := strings.Cut(string(said), "\n")
		return fmt.Errorf("%w: %s", errUnsupported, strings.TrimPrefix(fault, p.file()+":"))
	}
	return err
}

func (p *place) file() string { return filepath.Join(p.dir, "pipelines.yaml") }

func (p *place) command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, p.binary, append(args, "-c", p.file())...)
	c.Dir = p.dir
	return c
}

// remove deletes everything that the place has on disk.
func (p *place) remove() error { return os.RemoveAll(p.dir) }

// walSize is the size of the write-ahead log in bytes.
func (p *place) walSize() int64 {
	info, err := os.Stat(filepath.Join(p.dir, "data", "millrace.db-wal"))
	if err != nil {
		return 0
	}
	return info.Size()
}

// load sends orders to the webhook.
func (p *place) load(ctx context.Context, o load.Options) (load.Result, error) {
	o.Address, o.Path = p.events, "/orders"
	return load.Run(ctx, o)
}

// process is a running server, of this project or a floor.
type process struct {
	cmd     *exec.Cmd
	said    *tail
	exited  chan struct{}
	err     error         // of its end, once exited is closed
	startup time.Duration // from exec until it was ready
}

// start runs a command until it answers 200 at url.
func start(ctx context.Context, cmd *exec.Cmd, url string) (*process, error) {
	p := &process{cmd: cmd, said: &tail{}, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.said, p.said
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.err = cmd.Wait(); close(p.exited) }()
	if err := p.ready(ctx, url); err != nil {
		p.kill()
		return nil, fmt.Errorf("%w\n%s", err, p.said)
	}
	p.startup = time.Since(begin)
	return p, nil
}

func (p *process) ready(ctx context.Context, url string) error {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if answer, err := client.Do(request); err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode < 300 {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-p.exited:
			return fmt.Errorf("%s ended before it was ready: %w", p.cmd.Path, p.err)
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", p.cmd.Path, ctx.Err())
		}
	}
}

// start runs the program in its place until it is ready.
func (p *place) start(ctx context.Context) (*process, error) {
	return start(ctx, p.command(ctx, "run"), "http://"+p.admin+"/readyz")
}

// stop ends the process as a person would and waits for it; kill is kill -9.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // one that has ended needs none
	select {
	case <-p.exited:
	case <-time.After(30 * time.Second):
		p.kill()
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w\n%s", p.cmd.Path, p.err, p.said)
	}
	return nil
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// cpu is the processor time that the process has used so far.
func (p *process) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The name in parentheses may hold spaces; user and system time are the 12th and 13th field behind it.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", p.cmd.Process.Pid, text)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	const tick = time.Second / 100 // USER_HZ is 100 on every Linux that Go runs on
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}

// memory is the resident size of the process in bytes.
func (p *process) memory() (float64, error) { return p.status("VmRSS:") }

// peak is the largest that its resident size ever was.
func (p *process) peak() (float64, error) { return p.status("VmHWM:") }

func (p *process) status(field string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), field)
	var kilobytes float64
	if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
		return 0, fmt.Errorf("/proc/%d/status: %s %w", p.cmd.Process.Pid, field, err)
	}
	return kilobytes * 1024, nil
}

// rows is how many events have a row of their own, as the running program tells.
func (p *place) rows(ctx context.Context) (int, error) {
	said, err := p.command(ctx, "subscriptions", "list", "-o", "json").Output()
	if err != nil {
		return 0, err
	}
	var all []struct {
		Retrying    int `json:"retrying"`
		DeadLetters int `json:"dead_letters"`
	}
	if err := json.Unmarshal(said, &all); err != nil {
		return 0, err
	}
	n := 0
	for _, s := range all {
		n += s.Retrying + s.DeadLetters
	}
	return n, nil
}

// tail keeps the last of what a process says, for the error that it may end with.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	const most = 4 << 10
	t.text = append(t.text, b...)
	t.text = t.text[max(0, len(t.text)-most):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// freeAddress is an address that nobody listens on.
func freeAddress() (string, error) {
	found, err := freeport.Find(1)
	if err != nil {
		return "", err
	}
	return found[0], nil
}
