package torture

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestManyFiles follows 1,000 files in one folder that are replaced wave by wave: 2,000 files in all, or 10,000 where
// MILLRACE_TORTURE is set. Each line arrives once, and neither descriptors nor memory grow with the files that were.
func TestManyFiles(t *testing.T) {
	const files = 1000
	waves := 2
	if os.Getenv("MILLRACE_TORTURE") != "" {
		waves = 10
	}
	if testing.Short() {
		waves = 1
	}
	p := newPlace(t, "path: data/millrace.db", `
  lines:
    source: { tail: { path: "logs/*.log" } }
    sinks:
      all: { storage: { path: data/all.log, content: data } }
`)
	logs := filepath.Join(p.dir, "logs")
	if err := os.Mkdir(logs, 0o700); err != nil {
		t.Fatal(err)
	}
	r, _ := p.start()
	written := map[string]bool{}
	for wave := range waves {
		for i := range files {
			line := fmt.Sprintf("line of file %d in wave %d", i, wave)
			written[line] = true
			if err := os.WriteFile(filepath.Join(logs, fmt.Sprintf("%d-%d.log", wave, i)), []byte(line+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		p.eventually(60*time.Second, "every line is there", func() bool { return len(stored(t, p)) >= len(written) })
		if n := descriptors(t, r); n > 400 {
			t.Errorf("wave %d: %d descriptors are open", wave, n)
		}
		if mb := resident(t, r); mb > 100 {
			t.Errorf("wave %d: %d MB are resident", wave, mb)
		}
		for i := range files {
			if err := os.Remove(filepath.Join(logs, fmt.Sprintf("%d-%d.log", wave, i))); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.signal(syscall.SIGTERM)
	if code := r.code(10 * time.Second); code != 0 {
		t.Errorf("exit code %d:\n%s", code, r.output)
	}
	got := stored(t, p)
	for _, line := range got {
		if !written[line] {
			t.Fatalf("%q is there twice, or was never written", line)
		}
		delete(written, line)
	}
	if len(written) > 0 {
		t.Errorf("%d lines are missing", len(written))
	}
	t.Logf("%d files", waves*files)
}

// stored are the whole lines of the output.
func stored(t *testing.T, p *place) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, "data", "all.log"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	if len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// descriptors is how many files and sockets the program has open.
func descriptors(t *testing.T, r *process) int {
	t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

// resident is the memory of the program in megabytes.
func resident(t *testing.T, r *process) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kb := 0
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		t.Fatal(err)
	}
	return kb / 1000
}
