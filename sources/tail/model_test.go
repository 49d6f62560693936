package tail

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/millrace-run/millrace/event"
)

// model is what a program of file actions has written, and what may be missing from the output: the lines of a file that was
// deleted or truncated when nobody could read them any more.
type model struct {
	rig
	next    int
	logs    map[string]*written // by the name of the log: what its live file holds
	all     map[int]bool        // every whole line
	maybe   map[int]bool        // those that may be missing
	counted bool                // a loss may be counted
}

// written are the numbers of the whole lines in a file, and its unfinished one.
type written struct {
	lines []int
	part  int // 0: none
}

func newModel(t tb, dir, pattern string, ahead bool) *model {
	m := &model{logs: map[string]*written{}, all: map[int]bool{}, maybe: map[int]bool{}}
	m.rig = *newRig(t, dir, pattern)
	m.limits = limits{open: 3, chunk: 64, events: 7, bytes: 300, turn: 1000}
	m.ahead = ahead
	m.start()
	return m
}

func (m *model) append(log string, n int, torn bool) {
	w := m.logs[log]
	if w == nil {
		w = &written{}
		m.logs[log] = w
	}
	var text strings.Builder
	for range n {
		if w.part != 0 {
			text.WriteString("-end\n")
			w.lines = append(w.lines, w.part)
			m.all[w.part] = true
			w.part = 0
			continue
		}
		m.next++
		fmt.Fprintf(&text, "%d %s-end\n", m.next, strings.Repeat("y", m.next*7%90))
		w.lines = append(w.lines, m.next)
		m.all[m.next] = true
	}
	if torn && w.part == 0 {
		m.next++
		fmt.Fprintf(&text, "%d %s", m.next, strings.Repeat("y", m.next*7%90))
		w.part = m.next
	}
	m.write(log, text.String())
}

// lost says that what a file held can no longer be read.
func (m *model) lost(w *written) {
	for _, n := range w.lines {
		if !m.has(n) {
			m.maybe[n] = true
			m.counted = true
		}
	}
	if w.part != 0 {
		m.maybe[w.part] = true
		m.counted = true
	}
}

func (m *model) has(n int) bool {
	return slices.ContainsFunc(m.events, func(e event.Event) bool { return number(string(e.Data)) == n })
}

func number(data string) int {
	head, _, _ := strings.Cut(data, " ")
	n, err := strconv.Atoi(head)
	if err != nil {
		return -1
	}
	return n
}

// verify: each line is there once, whole, in the order of its log; what is missing could not be read.
func (m *model) verify() {
	m.t.Helper()
	seen := map[int]int{}
	for _, e := range m.events {
		data := string(e.Data)
		n := number(data)
		whole := fmt.Sprintf("%d %s-end", n, strings.Repeat("y", n*7%90))
		// The rest of a file that is finished is an event as it is.
		if data != whole && (m.all[n] || !strings.HasPrefix(whole, data)) {
			m.t.Fatalf("torn: %q", data)
		}
		if seen[n]++; seen[n] > 1 {
			m.t.Fatalf("line %d is there %d times", n, seen[n])
		}
	}
	for n := range m.all {
		if seen[n] == 0 && !m.maybe[n] {
			m.t.Fatalf("line %d is missing; there are %d of %d", n, len(seen), len(m.all))
		}
	}
	last := map[string]int{}
	for _, e := range m.events {
		log, _, _ := strings.Cut(e.Source[len(m.dir)+1:], ".log")
		n := number(string(e.Data))
		if m.all[n] && n < last[log] {
			m.t.Fatalf("line %d of %s comes after line %d", n, log, last[log])
		}
		last[log] = max(last[log], n)
	}
	if c := m.counts.read(); c.Losses > 0 && !m.counted {
		m.t.Fatalf("losses that are none: %+v", c)
	}
}

func (m *model) exists(name string) bool {
	_, err := os.Lstat(m.path(name))
	return err == nil
}

// rotate renames the files of a log, the oldest of which is deleted when it was read.
func (m *model) rotate(log string) {
	const most = 4
	if !m.exists(log) {
		return
	}
	if m.exists(log + "." + strconv.Itoa(most)) {
		m.look() // what was rotated so often was read: else it would be lost
		m.remove(log + "." + strconv.Itoa(most))
	}
	for i := most - 1; i >= 1; i-- {
		if m.exists(log + "." + strconv.Itoa(i)) {
			m.rename(log+"."+strconv.Itoa(i), log+"."+strconv.Itoa(i+1))
		}
	}
	m.rename(log, log+".1")
	if w := m.logs[log]; w != nil && w.part != 0 {
		m.maybe[w.part] = true
	}
	delete(m.logs, log)
}

// swap makes a link lead to a new file.
func (m *model) swap(log string) {
	m.next++
	target := "target-" + strconv.Itoa(m.next)
	m.write(target, "")
	m.check(os.Symlink(target, m.path("link")))
	m.rename("link", log)
	if w := m.logs[log]; w != nil && w.part != 0 {
		m.maybe[w.part] = true
	}
	delete(m.logs, log)
}

// program runs random actions on two logs. Partial lines are finished by their own file only.
func program(t *rapid.T, pattern string, ahead bool) {
	dir, err := os.MkdirTemp("", "tail")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	m := newModel(t, dir, pattern, ahead)
	defer func() { m.engine.closeAll() }()
	logs := rapid.SampledFrom([]string{"a.log", "b.log"})
	inside := strings.HasSuffix(pattern, ".log*")
	actions := map[string]func(*rapid.T){
		"write": func(t *rapid.T) {
			m.append(logs.Draw(t, "log"), rapid.IntRange(1, 12).Draw(t, "lines"), rapid.Bool().Draw(t, "torn"))
		},
		"write more": func(t *rapid.T) { m.append(logs.Draw(t, "log"), rapid.IntRange(1, 40).Draw(t, "lines"), false) },
		"rotate": func(t *rapid.T) {
			log := logs.Draw(t, "log")
			if !inside {
				m.look() // of a file that comes and goes outside of the glob between two looks nobody knows
			}
			m.rotate(log)
		},
		"truncate": func(t *rapid.T) {
			log := logs.Draw(t, "log")
			if w := m.logs[log]; w != nil {
				m.lost(w)
				m.truncate(log)
				delete(m.logs, log)
			}
		},
		"delete": func(t *rapid.T) {
			log := logs.Draw(t, "log")
			if w := m.logs[log]; w != nil {
				m.lost(w)
				m.remove(log)
				delete(m.logs, log)
			}
		},
		"write to a link": func(t *rapid.T) {
			if m.exists("c.log") {
				m.append("c.log", rapid.IntRange(1, 12).Draw(t, "lines"), rapid.Bool().Draw(t, "torn"))
			}
		},
		"swap a link": func(*rapid.T) {
			m.look() // of a target that came and went between two looks nobody knows
			m.swap("c.log")
		},
		"look":  func(*rapid.T) { m.look() },
		"pass":  func(t *rapid.T) { m.pass(time.Duration(rapid.IntRange(1, 9).Draw(t, "seconds")) * time.Second) },
		"crash": func(*rapid.T) { m.start() },
		"interrupt": func(t *rapid.T) { // some batches are committed, the others are not
			m.engine.look(m.now)
			for range rapid.IntRange(0, 4).Draw(t, "batches") {
				if b, ok := m.engine.next(m.now); ok {
					m.take(b)
				}
			}
			m.engine.next(m.now)
			m.start()
		},
	}
	if !inside {
		actions["copytruncate"] = func(t *rapid.T) {
			log := logs.Draw(t, "log")
			if w := m.logs[log]; w != nil {
				m.look() // a truncation that nobody saw leaves no trace in a file that was never read
				if w.part == 0 && rapid.Bool().Draw(t, "unread") {
					m.append(log, 5, false)
				}
				if w.part != 0 {
					m.maybe[w.part] = true
				}
				m.copy(log, log+"-"+strconv.Itoa(m.next))
				m.truncate(log)
				delete(m.logs, log)
				m.look() // else a second one could take its place before
			}
		}
	}
	t.Repeat(actions)
	m.pass(15 * time.Second)
	m.verify()
	// It goes on from here, and positions are of files that exist.
	m.start()
	m.pass(15 * time.Second)
	m.verify()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.state) > len(files)+1 {
		t.Fatalf("%d positions of %d files", len(m.state), len(files))
	}
}

func TestPrograms(t *testing.T) {
	for _, pattern := range []string{"*.log", "*.log*"} {
		t.Run(pattern, func(t *testing.T) { rapid.Check(t, func(t *rapid.T) { program(t, pattern, false) }) })
	}
	t.Run("ahead", func(t *testing.T) { rapid.Check(t, func(t *rapid.T) { program(t, "*.log*", true) }) })
}
