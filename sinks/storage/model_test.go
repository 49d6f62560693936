package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

// world is a sink on a disk, with the part of the router that keeps its state and its backlog.
type world struct {
	t      tb
	disk   *disk
	sink   *Sink
	limits limits
	path   rules.Template
	state  map[string][]byte
	owed   []event.Delivery // not settled, in offset order
	lines  map[string][]string
	before map[string]string // what stood in files that are not the sink's
	size   int               // of a batch

	after  fault         // of the process after the next crash
	config func(*Config) // nil for a sink that closes no file
	clock  *dial
}

func newWorld(t tb, path rules.Template, size int) *world {
	return &world{
		t: t, disk: newDisk(), path: path, state: map[string][]byte{}, lines: map[string][]string{},
		before: map[string]string{}, size: size, clock: newDial(),
	}
}

// bySubject is a path that puts an event into the file of its subject.
func bySubject(t tb) rules.Template { return template(t, "/files/{{ subject }}.ndjson") }

// foreign puts a file there that the sink did not make.
func (w *world) foreign(name, content string) {
	w.disk.put(name, content)
	w.before[name] = content
}

// owe adds events for the named files.
func (w *world) owe(names ...string) {
	for _, name := range names {
		n := len(w.owed) + len(w.settledLines())
		w.owed = append(w.owed, deliveryTo(name, n))
	}
}

func deliveryTo(name string, n int) event.Delivery {
	folder, base := path.Split(name)
	return event.Delivery{Event: &event.Event{
		ID: fmt.Sprintf("e-%04d", n), Source: "/s", Type: strings.TrimSuffix(folder, "/x/"), Subject: strings.TrimSuffix(base, ".ndjson"),
		DataContentType: "application/json",
		Data:            fmt.Appendf(nil, `{"n":%d,"fill":"%s"}`, n, strings.Repeat("x", n%7*40)),
	}}
}

// fileOf is where the paths of the scenarios put an event: in the root, or in <type>/x if it has a type.
func fileOf(ev *event.Event) string {
	if ev.Type == "" {
		return ev.Subject + ".ndjson"
	}
	return path.Join(ev.Type, "x", ev.Subject+".ndjson")
}

func (w *world) settledLines() []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(w.lines)) {
		all = append(all, w.lines[name]...)
	}
	return all
}

func (w *world) save(_ context.Context, changes event.Changes) error {
	happens, err := w.disk.step("save")
	if happens {
		w.apply(changes)
	}
	return err
}

func (w *world) apply(changes event.Changes) {
	for k, v := range changes {
		if v == nil {
			delete(w.state, k)
		} else {
			w.state[k] = bytes.Clone(v)
		}
	}
}

// open starts the sink on the committed state. It fails only by a crash.
func (w *world) open() error {
	c := Defaults()
	c.Path = w.path
	if w.config != nil {
		w.config(&c)
	}
	if w.sink == nil {
		s, err := New(c, Clock(w.clock))
		if err != nil {
			w.t.Fatal(err)
		}
		s.mount, s.inline, s.keeper.packer = w.disk.mount, true, wrap
		if w.limits != (limits{}) {
			s.limits = w.limits
		}
		w.sink = s
	}
	err := w.sink.Open(w.t.Context(), maps.Clone(w.state), w.save)
	if w.disk.dead {
		return errCrash
	}
	return err
}

// deliver hands over one batch and commits the answer. errCrash says that the process ended on the way; another error that the
// commit failed, and the sink was opened again.
func (w *world) deliver() error {
	batch := slices.Clone(w.owed[:min(w.size, len(w.owed))])
	out := w.sink.Deliver(w.t.Context(), batch)
	if w.disk.dead {
		return errCrash
	}
	happens, err := w.disk.step("commit")
	if happens {
		w.apply(out.Changes)
		w.settle(batch, out.Verdicts)
	}
	if errors.Is(err, errCrash) {
		return err
	}
	if err != nil || w.config != nil && slices.ContainsFunc(out.Verdicts, func(v error) bool { return v != nil }) {
		err = w.open()
	}
	if err == nil && w.config != nil {
		err = w.keep()
	}
	return err
}

func (w *world) settle(batch []event.Delivery, verdicts []error) {
	var left []event.Delivery
	for i, d := range batch {
		if verdicts[i] != nil {
			if f := event.VerdictOf(verdicts[i]); f.Class != event.UnavailableClass {
				w.t.Errorf("event %s: class %d: %v", d.Event.ID, f.Class, verdicts[i])
			}
			left = append(left, d)
			continue
		}
		name := fileOf(d.Event)
		w.lines[name] = append(w.lines[name], w.recordOf(d.Event))
	}
	w.owed = append(left, w.owed[len(batch):]...)
}

// want is what must be in the files: what stood there, and every settled line once and in order.
func (w *world) want() map[string]string {
	want := maps.Clone(w.before)
	for name, lines := range w.lines {
		if old := want[name]; old != "" && !strings.HasSuffix(old, "\n") {
			want[name] += "\n"
		}
		want[name] += strings.Join(lines, "")
	}
	return want
}

// check compares files and model. Behind an Open there may be empty files that no settled event is in yet.
func (w *world) check(when string) {
	w.t.Helper()
	if w.config != nil {
		w.checkClosed(when)
		return
	}
	got, want := w.disk.files(), w.want()
	for name, content := range got {
		if content == "" && want[name] == "" {
			delete(got, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			w.t.Fatalf("%s: %s holds\n%s\nwant\n%s", when, name, got[name], want[name])
		}
		delete(got, name)
	}
	if len(got) > 0 {
		w.t.Fatalf("%s: further files %v", when, got)
	}
}

// reboot starts a new process after a crash and compares.
func (w *world) reboot(power bool, r *rand.Rand, then fault) error {
	w.disk.restart(power, r)
	w.disk.fault = then
	w.sink = nil
	if err := w.open(); err != nil {
		return err
	}
	if w.disk.fault.at == 0 {
		w.check("after Open")
	}
	return nil
}

// finish delivers all that is owed. Crashes restart the process without further faults.
func (w *world) finish(power bool, r *rand.Rand) {
	w.t.Helper()
	for turn := 0; len(w.owed) > 0; turn++ {
		if turn > 1000 {
			w.t.Fatal("no progress")
		}
		if err := w.deliver(); errors.Is(err, errCrash) {
			if err := w.reboot(power, r, w.then()); err != nil && !errors.Is(err, errCrash) {
				w.t.Fatal(err)
			}
		} else if err != nil {
			w.t.Fatal(err)
		}
	}
	if w.config != nil {
		w.closeAll(power, r)
	}
}

// then is the fault of the next process, which has one at most.
func (w *world) then() fault {
	f := w.after
	w.after = fault{}
	return f
}

// scenarios are deliveries whose every step is made to fail.
var scenarios = []struct {
	name, path string
	build      func(w *world)
	batches    func(w *world)
}{
	{"create", "{{ subject }}.ndjson", nil, func(w *world) { w.owe("a.ndjson", "a.ndjson") }},
	{"append", "{{ subject }}.ndjson", func(w *world) {
		w.owe("a.ndjson", "a.ndjson", "a.ndjson")
	}, func(w *world) { w.owe("a.ndjson", "a.ndjson", "a.ndjson", "a.ndjson", "a.ndjson") }},
	{"two files", "{{ subject }}.ndjson", func(w *world) { w.owe("a.ndjson") }, func(w *world) {
		w.owe("a.ndjson", "b.ndjson", "a.ndjson", "b.ndjson", "b.ndjson", "a.ndjson")
	}},
	{"nested folders", "{{ type }}/x/{{ subject }}.ndjson", nil, func(w *world) {
		w.owe("a/x/1.ndjson", "a/x/2.ndjson", "b/x/1.ndjson", "a/x/1.ndjson", "b/x/1.ndjson")
	}},
	{"behind a foreign file", "{{ subject }}.ndjson", func(w *world) { w.foreign("a.ndjson", "theirs\ntorn") }, func(w *world) {
		w.owe("a.ndjson", "a.ndjson", "a.ndjson", "a.ndjson")
	}},
}

// TestEveryStep fails and crashes each step of each scenario, in every way, and expects each event once and whole.
func TestEveryStep(t *testing.T) {
	for _, c := range scenarios {
		t.Run(c.name, func(t *testing.T) {
			where := template(t, "/files/"+c.path)
			start := func() *world {
				w := newWorld(t, where, 3)
				w.prepare(c.build)
				c.batches(w)
				return w
			}
			probe := start()
			probe.finish(false, nil)
			steps := probe.disk.steps
			if steps < 5 {
				t.Fatalf("only %d steps: %v", steps, probe.disk.trace)
			}
			t.Logf("%d steps", steps)
			for n := 1; n <= steps; n++ {
				for _, applied := range []bool{false, true} {
					everyFault(start, n, applied, allFaults)
				}
			}
		})
	}
}

func (w *world) prepare(build func(*world)) {
	if build != nil {
		build(w)
	}
	if err := w.open(); err != nil {
		w.t.Fatal(err)
	}
	w.finish(false, nil)
	w.disk.steps, w.disk.trace = 0, nil
}

// faults are the ways in which a step fails: by each error for so many steps, and by crashes, with power lost in various ways.
type faults struct {
	errs  []error
	times []int
	seeds uint64
}

// allFaults fail once, with the cut that follows, and for a while.
var allFaults = faults{errs: []error{syscall.EIO, syscall.ENOSPC}, times: []int{1, 2, 9}, seeds: 6}

func everyFault(start func() *world, n int, applied bool, all faults) {
	for _, err := range all.errs {
		for _, times := range all.times {
			w := start()
			w.disk.fault = fault{at: n, times: times, applied: applied, err: err}
			w.finish(false, nil)
			w.check(fmt.Sprintf("step %d fails %d times (applied %v)", n, times, applied))
			// The disk has recovered; what is settled must survive the loss of power too.
			if err := w.reboot(true, nil, fault{}); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	for seed := range all.seeds {
		power, r := seed > 0, (*rand.Rand)(nil)
		if seed > 1 {
			r = rand.New(rand.NewPCG(seed, uint64(n)))
		}
		w := start()
		w.disk.fault = fault{at: n, crash: true, applied: applied}
		w.finish(power, r)
		w.check(fmt.Sprintf("step %d crashes (applied %v, seed %d)", n, applied, seed))
		if err := w.reboot(true, nil, fault{}); err != nil {
			w.t.Fatal(err)
		}
		w.finish(true, nil)
		w.check(fmt.Sprintf("the power goes after step %d crashed (applied %v, seed %d)", n, applied, seed))
	}
}

// TestEveryStepOfRecovery crashes each step of the recovery that follows a crash in each step.
func TestEveryStepOfRecovery(t *testing.T) {
	where := bySubject(t)
	start := func() *world {
		w := newWorld(t, where, 4)
		w.prepare(func(w *world) { w.owe("a.ndjson", "b.ndjson") })
		w.owe("a.ndjson", "b.ndjson", "c.ndjson", "a.ndjson", "b.ndjson")
		return w
	}
	probe := start()
	probe.finish(false, nil)
	for n := 1; n <= probe.disk.steps; n++ {
		for m := 1; m <= 8; m++ {
			for _, power := range []bool{false, true} {
				w := start()
				w.disk.fault = fault{at: n, crash: true}
				for w.deliver() == nil {
				}
				r := rand.New(rand.NewPCG(uint64(n), uint64(m)))
				err := w.reboot(power, r, fault{at: m, crash: true})
				if err == nil {
					w.finish(power, r)
				} else if err := w.reboot(power, r, fault{}); err != nil {
					t.Fatal(err)
				}
				w.finish(power, r)
				w.check(fmt.Sprintf("crash at %d, then at %d, power %v", n, m, power))
			}
		}
	}
}
