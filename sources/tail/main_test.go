package tail

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/millrace-run/millrace/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tb is what a rig needs of a test, or of a property.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// rig is an engine on real files with a clock that stands still, and the log behind it.
type rig struct {
	t      tb
	dir    string
	config Config
	now    time.Time
	limits limits
	engine *engine
	counts counts
	log    *slog.Logger
	state  map[string][]byte // committed
	events []event.Event     // committed
	ids    map[string]bool
	taken  int // events that lines returned
	disk   disk

	ahead    bool // batches are prepared, and joined while one is committed
	follower *follower
	turns    int
}

// kept is what a pipeline makes of a batch: it keeps one line in five, and the test remembers all. Len and Size are of those kept.
type kept struct {
	all       []event.Event
	len, size int
}

func (k *kept) Len() int  { return k.len }
func (k *kept) Size() int { return k.size }
func (k *kept) Own() bool { return true }

func (k *kept) Join(other event.Prepared) {
	next := other.(*kept)
	k.all, k.len, k.size = append(k.all, next.all...), k.len+next.len, k.size+next.size
}

func keep(b event.Batch) (event.Prepared, error) {
	k := &kept{all: b.All()}
	for i := range k.all {
		e := &k.all[i]
		e.Data = bytes.Clone(e.Data)
		if number(string(e.Data))%5 == 0 {
			k.len, k.size = k.len+1, k.size+len(e.Data)
		}
	}
	return k, nil
}

func newRig(t tb, dir, pattern string, change ...func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, dir: dir, config: Defaults(), now: time.Unix(1_700_000_000, 0), limits: usual}
	r.state, r.ids = map[string][]byte{}, map[string]bool{}
	r.log, r.disk = slog.New(slog.DiscardHandler), systemDisk{}
	r.config.Path = filepath.Join(dir, pattern)
	for _, c := range change {
		c(&r.config)
	}
	r.start()
	return r
}

// start makes an engine of what is committed, as after a crash.
func (r *rig) start() {
	r.t.Helper()
	if r.engine != nil {
		r.engine.closeAll()
	}
	s, err := r.config.check()
	if err != nil {
		r.t.Fatal(err)
	}
	if r.engine, err = newEngine(s, r.disk, r.log, &r.counts, maps.Clone(r.state)); err != nil {
		r.t.Fatal(err)
	}
	r.engine.limits = r.limits
	r.follower = &follower{engine: r.engine, prepare: keep, batches: make(chan event.Batch, 1)}
}

// take commits a batch, or holds it while another is committed, which takes every other turn.
func (r *rig) take(b event.Batch) {
	r.t.Helper()
	if !r.ahead {
		r.commit(b)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	if r.turns++; r.turns%2 == 0 {
		cancel()
		r.follower.batches <- event.Batch{} // nobody takes another
	}
	r.check(r.follower.hold(ctx, b, r.now))
	cancel()
	r.drain()
}

// drain commits what was handed out.
func (r *rig) drain() {
	r.t.Helper()
	select {
	case b := <-r.follower.batches:
		r.commit(b)
	default:
	}
}

// commit is what the log does with a batch.
func (r *rig) commit(b event.Batch) {
	r.t.Helper()
	events := b.All()
	if b.Prepared != nil {
		events = b.Prepared.(*kept).all
	}
	for _, e := range events {
		if r.ids[e.ID] {
			r.t.Fatalf("the id %s of %q is there twice", e.ID, e.Data)
		}
		r.ids[e.ID] = true
	}
	r.events = append(r.events, events...)
	for k, v := range b.State {
		if v == nil {
			delete(r.state, k)
		} else {
			r.state[k] = v
		}
	}
}

// look looks, reads all that there is and commits it.
func (r *rig) look() {
	r.t.Helper()
	r.engine.look(r.now)
	r.read()
}

func (r *rig) read() {
	r.t.Helper()
	for n := 0; ; n++ {
		b, ok := r.engine.next(r.now)
		switch {
		case ok:
			r.take(b)
		case r.follower.held != nil:
			r.follower.release(context.Background())
			r.drain()
		case !r.engine.busy():
			return
		}
		if n > 100_000 {
			r.t.Fatal("it never ends")
		}
	}
}

// pass lets time go by, with the looks that a follower would make.
func (r *rig) pass(d time.Duration) {
	r.t.Helper()
	for end := r.now.Add(d); r.now.Before(end); r.look() {
		r.now = r.now.Add(min(time.Second, end.Sub(r.now)))
	}
}

// lines are the data of the events since the last call.
func (r *rig) lines() []string {
	var all []string
	for _, e := range r.events[r.taken:] {
		all = append(all, string(e.Data))
	}
	r.taken = len(r.events)
	return all
}

// want looks and compares the new events.
func (r *rig) want(lines ...string) {
	r.t.Helper()
	r.look()
	if d := cmp.Diff(lines, r.lines()); d != "" {
		r.t.Fatalf("%s", d)
	}
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// write appends to a file, which it makes if need be.
func (r *rig) write(name, text string) {
	r.t.Helper()
	f, err := os.OpenFile(r.path(name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	r.check(err)
	_, err = f.WriteString(text)
	r.check(err)
	r.check(f.Close())
}

func (r *rig) rename(from, to string) { r.t.Helper(); r.check(os.Rename(r.path(from), r.path(to))) }
func (r *rig) remove(name string)     { r.t.Helper(); r.check(os.Remove(r.path(name))) }
func (r *rig) truncate(name string)   { r.t.Helper(); r.check(os.Truncate(r.path(name), 0)) }

func (r *rig) copy(from, to string) {
	r.t.Helper()
	b, err := os.ReadFile(r.path(from))
	r.check(err)
	r.check(os.WriteFile(r.path(to), b, 0o600))
}

// numbered are lines from a to b, each of its own, longer than a few bytes.
func numbered(a, b int) string {
	var s strings.Builder
	for i := a; i < b; i++ {
		s.WriteString(line(i) + "\n")
	}
	return s.String()
}

func line(i int) string {
	return "line " + strings.Repeat("x", i%37) + " " + time.Duration(i).String()
}

func split(text string) []string { return strings.Split(strings.TrimSuffix(text, "\n"), "\n") }
