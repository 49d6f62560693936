package millrace_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace-run/millrace/internal/freeport"
)

// The tutorial is done as a reader would do it: its files are written, its commands run, and what they print is what it shows.
// Only the ports are others.
func TestTutorial(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("the tutorial needs curl")
	}
	root := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(root, "bin", "millrace"), "./cmd/millrace")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r := &reader{T: t, folder: filepath.Join(root, "tutorial")}
	r.hooks, r.admin = freePorts(t)
	if err := os.Mkdir(r.folder, 0o700); err != nil {
		t.Fatal(err)
	}
	blocks := r.blocks(read(t, "docs/tutorial.md"))
	for i, b := range blocks {
		shown := ""
		if i+1 < len(blocks) && blocks[i+1].kind == "text" {
			shown = blocks[i+1].body
		}
		r.do(b, shown)
	}
	r.stop()
}

// reader is somebody who does the tutorial.
type reader struct {
	*testing.T
	folder, hooks, admin string
	running              *exec.Cmd
}

type block struct{ kind, body string }

// blocks are the fenced blocks of a page, with the reader's own ports.
func (r *reader) blocks(page string) []block {
	r.Helper()
	ports := strings.NewReplacer("127.0.0.1:8080", r.hooks, "127.0.0.1:8081", r.admin)
	var all []block
	for _, m := range regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$").FindAllStringSubmatch(page, -1) {
		all = append(all, block{m[1], ports.Replace(m[2])})
	}
	if len(all) < 10 {
		r.Fatalf("%d blocks", len(all))
	}
	return all
}

func (r *reader) do(b block, shown string) {
	r.Helper()
	switch {
	case b.kind == "text" || strings.Contains(b.body, "make build"): // built in another way, into the same place
	case b.kind == "yaml":
		listen := fmt.Sprintf("http: { listen: %q }\nadmin: { listen: %q }\n", r.hooks, r.admin)
		if err := os.WriteFile(filepath.Join(r.folder, "pipelines.yaml"), []byte(listen+b.body), 0o600); err != nil {
			r.Fatal(err)
		}
	case strings.HasSuffix(strings.TrimSpace(b.body), "millrace run"):
		r.stop()
		r.run(b.body)
	default:
		r.check(b.body, shown)
	}
}

// check runs a block until it prints what the page shows. What changes something is run once.
func (r *reader) check(commands, shown string) {
	r.Helper()
	want := pattern(shown)
	reads := strings.HasPrefix(commands, "cat ") || strings.Contains(commands, "dead-letters list") || strings.Contains(commands, "/metrics")
	r.until(commands, func() error {
		out, err := r.command(r.Context(), commands).CombinedOutput()
		if text := strings.TrimSpace(string(out)); shown != "" && !want.MatchString(text) || err != nil && !reads {
			err = fmt.Errorf("%s\nprinted\n%s\nand the page shows\n%s\n(its error: %v)", commands, text, shown, err)
			if !reads {
				r.Fatal(err)
			}
			return err
		}
		return nil
	})
}

// pattern is what a page shows, where … stands for any text within a line.
func pattern(shown string) *regexp.Regexp {
	return regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSpace(shown)), "…", ".*") + "$")
}

func (r *reader) command(ctx context.Context, commands string) *exec.Cmd {
	c := exec.CommandContext(ctx, "sh", "-ec", commands)
	c.Dir = r.folder
	c.Env = append(os.Environ(), "MILLRACE_ADMIN=", "NO_PROXY=*")
	return c
}

// run starts Millrace and waits until it is ready.
func (r *reader) run(commands string) {
	r.Helper()
	r.running = r.command(context.WithoutCancel(r.Context()), "exec "+commands)
	if err := r.running.Start(); err != nil {
		r.Fatal(err)
	}
	started := r.running
	r.Cleanup(func() { _ = started.Process.Kill() })
	r.until("ready", func() error {
		res, err := http.Get("http://" + r.admin + "/readyz")
		if err == nil {
			res.Body.Close()
			if res.StatusCode != http.StatusOK {
				err = fmt.Errorf("answered %s", res.Status)
			}
		}
		return err
	})
}

// stop is Ctrl-C.
func (r *reader) stop() {
	r.Helper()
	if r.running == nil {
		return
	}
	if err := r.running.Process.Signal(syscall.SIGINT); err != nil {
		r.Fatal(err)
	}
	if err := r.running.Wait(); err != nil {
		r.Fatalf("millrace run ended with %v", err)
	}
	r.running = nil
}

// until asks again and again, and fails with the last answer.
func (r *reader) until(what string, ask func() error) {
	r.Helper()
	if err := eventually(ask); err != nil {
		r.Fatalf("%s: %v", what, err)
	}
}

// eventually asks again and again for at most 30 seconds, and returns the last answer.
func eventually(ask func() error) error {
	over := time.After(30 * time.Second)
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-over:
			return err
		case <-again.C:
		}
	}
}

// freePorts are two addresses that nobody listens on.
func freePorts(t *testing.T) (one, other string) {
	t.Helper()
	found, err := freeport.Find(2)
	if err != nil {
		t.Fatal(err)
	}
	return found[0], found[1]
}
