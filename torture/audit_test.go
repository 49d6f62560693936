package torture

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }

// call is one system call of a trace: what it was, on what, when it began and ended (line numbers), and whether it succeeded.
type call struct {
	name, file, text string
	begin, end       int
	ok               bool
}

// TestAckFollowsSync traces the program and checks for every 202 that the WAL pages that hold its event were written, then synced,
// and only then the answer was sent.
func TestAckFollowsSync(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed; it is the only way to see the order of sync and answer from outside")
	}
	p := newPlace(t, "path: data/millrace.db", orders)
	trace := filepath.Join(p.dir, "trace")
	p.prefix = []string{"strace", "-f", "-y", "-s", "20000", "-o", trace, "-e", "trace=pwrite64,fsync,fdatasync,write,writev,sendto"}
	r, _ := p.start()
	acked := p.load(t.Context(), 8, 400, 400, func(int) int { return 1 })
	stop(t, r)
	written, syncs, answers := readTrace(t, trace)
	if len(acked) != 400 || len(answers) < 400 {
		t.Fatalf("%d orders acknowledged, %d answers in the trace", len(acked), len(answers))
	}
	for id := range acked {
		answer, ok := answers[id]
		if !ok {
			t.Fatalf("no answer for %s in the trace", id)
		}
		if !syncedBetween(written[id], syncs, answer) {
			t.Errorf("order %s was answered at line %d, before a sync of what holds it (written at line %d)", id, answer, written[id])
		}
	}
	t.Logf("%d answers, %d syncs of the WAL, each answer behind the sync of its event", len(answers), len(syncs))
}

// stop ends a traced program: strace passes no signals on, so its child gets it.
func stop(t *testing.T, r *process) {
	t.Helper()
	children, err := os.ReadFile("/proc/" + itoa(r.cmd.Process.Pid) + "/task/" + itoa(r.cmd.Process.Pid) + "/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, child := range strings.Fields(string(children)) {
		pid, err := strconv.Atoi(child)
		if err == nil {
			err = syscall.Kill(pid, syscall.SIGTERM)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	r.code(20 * time.Second)
}

func syncedBetween(written int, syncs []call, answer int) bool {
	for _, s := range syncs {
		if written > 0 && s.begin > written && s.end < answer {
			return true
		}
	}
	return false
}

var (
	orderID  = regexp.MustCompile(`o-\d+-\d+`)
	complete = regexp.MustCompile(`^(\d+) +(\w+)\((?:\d+<([^>]*)>)?(.*)\) += (-?\d+)`)
	begun    = regexp.MustCompile(`^(\d+) +(\w+)\((?:\d+<([^>]*)>)?(.*) <unfinished \.\.\.>$`)
	resumed  = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>.* = (-?\d+)`)
)

// readTrace returns where each order's id was first written to the WAL (the end of that call), the successful syncs of the WAL, and
// where each order's answer began to be sent.
func readTrace(t *testing.T, path string) (written map[string]int, syncs []call, answers map[string]int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	written, answers = map[string]int{}, map[string]int{}
	done := func(c call) {
		wal := strings.HasSuffix(c.file, "-wal")
		switch {
		case wal && c.name == "pwrite64" && c.ok:
			for _, id := range orderID.FindAllString(c.text, -1) {
				if written[id] == 0 {
					written[id] = c.end
				}
			}
		case wal && strings.HasSuffix(c.name, "sync") && c.ok:
			syncs = append(syncs, c)
		case strings.Contains(c.text, "HTTP/1.1 202"):
			for _, id := range orderID.FindAllString(c.text, -1) {
				answers[id] = c.begin
			}
		}
	}
	open := map[string]call{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if m := begun.FindStringSubmatch(line); m != nil {
			open[m[1]] = call{name: m[2], file: m[3], text: m[4], begin: n}
		} else if m := resumed.FindStringSubmatch(line); m != nil {
			c := open[m[1]]
			c.end, c.ok = n, !strings.HasPrefix(m[3], "-")
			done(c)
		} else if m := complete.FindStringSubmatch(line); m != nil {
			done(call{name: m[2], file: m[3], text: m[4], begin: n, end: n, ok: !strings.HasPrefix(m[5], "-")})
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return written, syncs, answers
}
