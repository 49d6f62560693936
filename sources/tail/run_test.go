package tail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
)

// inbox is the log behind a running source.
type inbox struct {
	mu     sync.Mutex // guards all below
	state  map[string][]byte
	lines  []string
	fail   []error // of the next calls
	calls  int
	events chan struct{} // receives after each call
}

func (in *inbox) emit(_ context.Context, b event.Batch) ([]string, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.calls++
	defer func() {
		select {
		case in.events <- struct{}{}:
		default:
		}
	}()
	if len(in.fail) > 0 {
		err := in.fail[0]
		in.fail = in.fail[1:]
		return nil, err
	}
	for _, e := range b.All() {
		in.lines = append(in.lines, string(e.Data))
	}
	for k, v := range b.State {
		if v == nil {
			delete(in.state, k)
		} else {
			in.state[k] = v
		}
	}
	return make([]string, b.Len()), nil
}

// until waits until as many lines are there.
func (in *inbox) until(t *testing.T, n int) []string {
	t.Helper()
	end := time.After(20 * time.Second)
	for {
		in.mu.Lock()
		lines := in.lines
		in.mu.Unlock()
		if len(lines) >= n {
			return lines
		}
		select {
		case <-in.events:
		case <-end:
			t.Fatalf("%d lines instead of %d: %q", len(lines), n, lines)
		}
	}
}

// run starts a source on what in has committed, and returns what ends it.
func run(t *testing.T, r *rig, in *inbox, change ...func(*Source)) (stop func() error) {
	t.Helper()
	s, err := New(r.config)
	r.check(err)
	for _, c := range change {
		c(s)
	}
	in.mu.Lock()
	state := maps.Clone(in.state)
	in.mu.Unlock()
	r.check(s.Open(t.Context(), state, nil))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, in.emit) }()
	stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { _ = stop() })
	return stop
}

func newInbox() *inbox { return &inbox{state: map[string][]byte{}, events: make(chan struct{}, 1)} }

// A running source follows files, new folders and rotations, and goes on where it was after a stop.
func TestRun(t *testing.T) {
	r := newRig(t, t.TempDir(), "**/*.log")
	in := newInbox()
	stop := run(t, r, in)
	n := 0
	write := func(name string, lines int) {
		for range lines {
			r.write(name, fmt.Sprintf("line %d\n", n))
			n++
		}
	}
	write("a.log", 100)
	in.until(t, n)
	r.rename("a.log", "a.log.1")
	write("a.log", 100)
	in.until(t, n)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	write("a.log", 10)
	stop = run(t, r, in)
	lines := in.until(t, n)
	for i, l := range lines {
		if l != fmt.Sprintf("line %d", i) {
			t.Fatalf("line %d is %q", i, l)
		}
	}
	if err := stop(); err != nil || len(lines) != n {
		t.Errorf("%v, %d lines of %d", err, len(lines), n)
	}
}

// A log that is full or busy gets the same batch again; any other failure ends the run.
func TestRefusals(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	in := newInbox()
	in.fail = []error{event.ErrFull, fmt.Errorf("not now: %w", event.ErrBusy)}
	stop := run(t, r, in)
	r.write("a.log", "one\ntwo\n")
	in.until(t, 2)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	in.fail = []error{event.ErrUnknown}
	s, err := New(r.config)
	r.check(err)
	if err := s.Run(t.Context(), in.emit); err == nil {
		t.Error("it ran without its state")
	}
	r.check(s.Open(t.Context(), maps.Clone(in.state), nil))
	r.write("a.log", "three\n")
	if err := s.Run(t.Context(), in.emit); !errors.Is(err, event.ErrUnknown) {
		t.Errorf("%v", err)
	}
	stop = run(t, r, in)
	if lines := in.until(t, 3); len(lines) != 3 || lines[2] != "three" {
		t.Errorf("%q", lines)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// Where the system announces nothing, files are looked for in turn. The first look finds nothing, and says so.
func TestWithoutEvents(t *testing.T) {
	r := newRig(t, t.TempDir(), "new/*.log")
	in := newInbox()
	said := &told{}
	stop := run(t, r, in, func(s *Source) {
		s.log = slog.New(slog.NewTextHandler(said, nil))
		s.watch = func(log *slog.Logger) *watch {
			w := &watch{log: log, signal: make(chan struct{}, 1)}
			w.hint("", syscall.EMFILE)
			return w
		}
	})
	<-in.events // that it looked is committed
	r.check(os.Mkdir(r.path("new"), 0o700))
	r.write("new/a.log", "one\n")
	in.until(t, 1)
	r.write("new/a.log", "two\n")
	in.until(t, 2)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{"there is no file yet", "max_user_instances"} {
		if !strings.Contains(said.String(), words) {
			t.Errorf("%q is not said:\n%s", words, said)
		}
	}
}

// told is a log that may be read while it is written.
type told struct {
	mu sync.Mutex // guards b
	b  strings.Builder
}

func (s *told) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *told) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// What happens to files that nobody follows does not make the engine look.
func TestTouch(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	r.write("a.log", "one\n")
	r.want("one")
	for _, c := range []struct {
		name           string
		content, hurry bool
	}{
		{"other.txt", true, false}, {"other.txt", false, true}, {"b.log", true, true}, {"b.log.gz", false, false}, {"a.log", true, false},
	} {
		r.engine.hurry = false
		r.engine.touch(r.path(c.name), c.content)
		if r.engine.hurry != c.hurry {
			t.Errorf("%+v", c)
		}
	}
	r.write("a.log", "two\n")
	r.read() // it was touched
	if got := r.lines(); len(got) != 1 || got[0] != "two" {
		t.Errorf("%q", got)
	}
}

// A writer that rotates at speed, against a source that is stopped again and again: each line once, in order.
func TestRunUnderRotation(t *testing.T) {
	const lines, rotate = 20_000, 1500
	r := newRig(t, t.TempDir(), "a.log*")
	in := newInbox()
	wrote := make(chan error, 1)
	go func() { wrote <- writeRotated(r.path("a.log"), lines, rotate) }()
	for i := 1; i <= 5; i++ {
		stop := run(t, r, in)
		in.until(t, min(lines, lines*i/5-lines/10))
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	stop := run(t, r, in)
	got := in.until(t, lines)
	if err := stop(); err != nil || len(got) != lines {
		t.Fatalf("%d lines of %d, %v", len(got), lines, err)
	}
	for i, l := range got {
		if l != line(i) {
			t.Fatalf("line %d is %q, not %q", i, l, line(i))
		}
	}
}

// writeRotated rotates so fast that files may have equal times; then it is the name that tells: of two, the one with the larger
// number is the older, as where rotated files are counted up.
func writeRotated(path string, lines, rotate int) error {
	f, err := os.Create(path)
	for i := 0; i < lines && err == nil; i++ {
		if i > 0 && i%rotate == 0 {
			if err = errors.Join(f.Close(), os.Rename(path, fmt.Sprintf("%s.%d", path, 90_000-i))); err != nil {
				return err
			}
			if f, err = os.Create(path); err != nil {
				return err
			}
		}
		text := line(i) + "\n"
		_, err = f.WriteString(text[:len(text)/2]) // what is read may end anywhere
		if err == nil {
			_, err = f.WriteString(text[len(text)/2:])
		}
	}
	return errors.Join(err, f.Close())
}
