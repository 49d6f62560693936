package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace-run/millrace/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tb is what a rig needs of a test, or of a property.
type tb interface {
	Helper()
	Fatalf(format string, args ...any)
}

// clock stands still until it is moved.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func (c *clock) After(time.Duration) (<-chan time.Time, func()) { panic("nothing waits here") }

// rig is a source on real files with a clock that stands still, and the log behind it.
type rig struct {
	t      tb
	dir    string
	config Config
	clock  *clock
	limits limits
	source *Source
	reader *reader
	state  map[string][]byte // committed
	events []event.Event     // committed
	ids    map[string]bool
	log    bytes.Buffer
	fail   func() error // before each commit; nil: none fails
	after  func() error // behind each commit, when it has happened
}

func newRig(t tb, dir, pattern string, change ...func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, dir: dir, config: Defaults(), clock: &clock{time.Unix(1_700_000_000, 0)}, limits: usual, state: map[string][]byte{}, ids: map[string]bool{}}
	r.config.Path = filepath.Join(dir, pattern)
	for _, c := range change {
		c(&r.config)
	}
	r.start()
	return r
}

// start is what happens at a start of the process.
func (r *rig) start() {
	r.t.Helper()
	s, err := New(r.config, Clock(r.clock), Logger(slog.New(slog.NewTextHandler(&r.log, nil))))
	if err != nil {
		r.t.Fatalf("new: %v", err)
	}
	s.limits = r.limits
	if err := s.Open(context.Background(), maps.Clone(r.state), nil); err != nil {
		r.t.Fatalf("open: %v", err)
	}
	r.source = s
	if r.reader, err = newReader(s, s.state); err != nil {
		r.t.Fatalf("reader: %v", err)
	}
	r.reader.emit = r.commit
}

// commit is what the outbox does: all or nothing.
func (r *rig) commit(_ context.Context, b event.Batch) error {
	if r.fail != nil {
		if err := r.fail(); err != nil {
			return err
		}
	}
	for i, e := range b.Events {
		b.Complete(i, &e)
		if r.ids[e.ID] {
			r.t.Fatalf("the id %s comes twice", e.ID)
		}
		r.ids[e.ID] = true
		r.events = append(r.events, e)
	}
	for k, v := range b.State {
		if v == nil {
			delete(r.state, k)
		} else {
			r.state[k] = bytes.Clone(v)
		}
	}
	if r.after != nil {
		return r.after()
	}
	return nil
}

var errCrash = errors.New("crash")

// turn looks once. It is false when the process crashed meanwhile.
func (r *rig) turn() bool {
	r.t.Helper()
	err := r.reader.turn(context.Background())
	if err != nil && !errors.Is(err, errCrash) {
		r.t.Fatalf("turn: %v", err)
	}
	return err == nil
}

// settle looks, waits until all is stable, and looks again.
func (r *rig) settle() {
	r.t.Helper()
	r.turn()
	r.clock.now = r.clock.now.Add(r.config.Stable)
	r.turn()
}

func (r *rig) write(name, text string) {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		r.t.Fatalf("%v", err)
	}
}

// data is the data of all events that were committed since the last call.
func (r *rig) data() []string {
	var all []string
	for _, e := range r.events {
		all = append(all, string(e.Data))
	}
	r.events = nil
	return all
}

func (r *rig) want(records ...string) {
	r.t.Helper()
	if got := r.data(); fmt.Sprint(got) != fmt.Sprint(records) {
		r.t.Fatalf("got %q, want %q\n%s", got, records, r.log.String())
	}
}

func (r *rig) logged(text string) {
	r.t.Helper()
	if !strings.Contains(r.log.String(), text) {
		r.t.Fatalf("no %q in\n%s", text, r.log.String())
	}
	r.log.Reset()
}

func (r *rig) there(name string, want bool) {
	r.t.Helper()
	if exists(filepath.Join(r.dir, name)) != want {
		r.t.Fatalf("%s: there is %v, want %v", name, !want, want)
	}
}

func mkfifo(path string) error { return syscall.Mkfifo(path, 0o600) }
