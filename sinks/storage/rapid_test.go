package storage

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/millrace-run/millrace/event"
)

// TestModel delivers random batches to random files under random crashes and failures, with few files open and few in the state,
// and compares with the model after every start and at the end.
func TestModel(t *testing.T) {
	where := bySubject(t)
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt, where, rapid.IntRange(1, 6).Draw(rt, "batch"))
		w.limits = limits{open: rapid.IntRange(1, 3).Draw(rt, "open"), known: 4, keep: 2}
		if rapid.Bool().Draw(rt, "foreign") {
			w.foreign("f0.ndjson", rapid.SampledFrom([]string{"theirs\n", "theirs\ntorn", ""}).Draw(rt, "content"))
		}
		if err := w.open(); err != nil {
			rt.Fatal(err)
		}
		for range rapid.IntRange(1, 12).Draw(rt, "rounds") {
			w.round(rt)
		}
		w.disk.fault = fault{}
		w.finish(false, nil)
		w.check("at the end")
	})
}

func (w *world) round(rt *rapid.T) {
	for _, n := range rapid.SliceOfN(rapid.IntRange(0, 7), 1, 10).Draw(rt, "files") {
		w.owe(fmt.Sprintf("f%d.ndjson", n))
	}
	power := rapid.Bool().Draw(rt, "power")
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
	w.disk.fault = fault{}
	if at := rapid.IntRange(0, 40).Draw(rt, "at"); at > 0 {
		w.disk.fault = fault{
			at: w.disk.steps + at, times: rapid.IntRange(1, 5).Draw(rt, "times"), crash: rapid.Bool().Draw(rt, "crash"),
			applied: rapid.Bool().Draw(rt, "applied"), err: syscall.EIO,
		}
	}
	w.finish(power, r)
	w.check("after a round")
	if rapid.Bool().Draw(rt, "ends") {
		_ = w.sink.Finish(rt.Context()) // it may fail, and the process ends nevertheless
		if err := w.reboot(power, r, fault{}); err != nil {
			rt.Fatal(err)
		}
	}
}

// TestInterference moves, deletes, empties and lengthens files while nothing is unsettled, between random deliveries and
// restarts. Wherever the lines are then, each is there once, and none is torn.
func TestInterference(t *testing.T) {
	where := bySubject(t)
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt, where, 4)
		w.limits = limits{open: 2, known: 4, keep: 2}
		if err := w.open(); err != nil {
			rt.Fatal(err)
		}
		want := map[string]int{}
		for i := range rapid.IntRange(1, 12).Draw(rt, "rounds") {
			for _, n := range rapid.SliceOfN(rapid.IntRange(0, 5), 1, 6).Draw(rt, "files") {
				w.owe(fmt.Sprintf("f%d.ndjson", n))
			}
			for _, d := range w.owed {
				want[string(appendLine(nil, d.Event))]++
			}
			w.finish(false, nil)
			ends := rapid.Bool().Draw(rt, "ends")
			if ends {
				if err := w.sink.Finish(rt.Context()); err != nil {
					rt.Fatal(err)
				}
			}
			w.interfere(rt, i, want)
			if ends || rapid.Bool().Draw(rt, "restart") {
				w.disk.restart(rapid.Bool().Draw(rt, "power"), nil)
				w.sink = nil
				if err := w.open(); err != nil {
					rt.Fatal(err)
				}
			}
		}
		w.compareLines(rt, want)
	})
}

// interfere does one thing to one file and takes the lines that it destroyed off the expectation.
func (w *world) interfere(rt *rapid.T, i int, want map[string]int) {
	files := w.disk.files()
	name := rapid.SampledFrom(slices.Sorted(maps.Keys(files))).Draw(rt, "file")
	destroyed := func() {
		for line := range strings.Lines(files[name]) {
			delete(want, line)
		}
	}
	n, err := w.disk.find(name)
	if err != nil {
		rt.Fatal(err)
	}
	switch rapid.IntRange(0, 6).Draw(rt, "what") {
	case 0:
		w.disk.move(name, fmt.Sprintf("old-%d", i))
	case 1:
		w.disk.move(name, fmt.Sprintf("old-%d", i))
		w.disk.put(name, rapid.SampledFrom([]string{"", "another\n"}).Draw(rt, "instead"))
	case 2:
		w.disk.take(name)
		destroyed()
	case 3:
		w.disk.put(name, "")
		destroyed()
	case 4:
		w.disk.take(name)
		destroyed()
		w.disk.put(name, strings.Repeat("#", rapid.IntRange(0, 2000).Draw(rt, "size"))+"\n")
		if !slices.ContainsFunc(w.sink.opened, func(e *entry) bool { return e.Ino == n.inode }) {
			another, _ := w.disk.find(name)
			another.inode = n.inode // a file system may give the next file the number of one that is deleted and not open
		}
	case 5:
		w.disk.put(name, files[name]+"theirs\n")
	}
}

func (w *world) compareLines(rt *rapid.T, want map[string]int) {
	got := map[string]int{}
	for name, content := range w.disk.files() {
		for line := range strings.Lines(content) {
			if strings.HasPrefix(line, "{") {
				got[line]++
			} else if strings.Contains(line, "{") {
				rt.Errorf("%s: a line begins within another: %q", name, line)
			}
		}
	}
	for line, n := range want {
		if got[line] != n {
			rt.Errorf("%d times, want %d: %s", got[line], n, line)
		}
		delete(got, line)
	}
	for line, n := range got {
		rt.Errorf("%d times, want none: %s", n, line)
	}
}

// A write that fails is cut off at once, so that readers do not see half a line until the disk recovers.
func TestFailedWriteIsCutAtOnce(t *testing.T) {
	w := newWorld(t, bySubject(t), 10)
	w.prepare(func(w *world) { w.owe("a.ndjson") })
	before := w.disk.files()["a.ndjson"]
	w.owe("a.ndjson", "a.ndjson")
	w.disk.fault = fault{at: 1, err: syscall.ENOSPC}
	if err := w.deliver(); err != nil || len(w.owed) != 2 {
		t.Fatalf("%v, %d owed, steps %v", err, len(w.owed), w.disk.trace)
	}
	if got := w.disk.files()["a.ndjson"]; got != before || !strings.HasPrefix(w.disk.trace[0], "write") {
		t.Errorf("%q, want %q; steps %v", got, before, w.disk.trace)
	}
}

// Bytes that somebody else wrote and did not sync are synced before the state says that they are there.
func TestForeignBytesAreSynced(t *testing.T) {
	w := newWorld(t, bySubject(t), 10)
	w.foreign("a.ndjson", "theirs\n")
	n, err := w.disk.find("a.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	n.durable = nil
	for i := range n.dirty {
		n.dirty[i] = true
	}
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	w.owe("a.ndjson")
	w.disk.fault = fault{at: 4, crash: true}
	if err := w.deliver(); !errors.Is(err, errCrash) || !strings.HasPrefix(w.disk.trace[3], "write") {
		t.Fatalf("%v, steps %v", err, w.disk.trace)
	}
	if err := w.reboot(true, nil, fault{}); err != nil {
		t.Fatal(err)
	}
	w.finish(false, nil)
	w.check("after the power is back")
}

func TestFailuresAreUnavailableAndNameTheFile(t *testing.T) {
	w := newWorld(t, bySubject(t), 10)
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	w.owe("a.ndjson", "b.ndjson")
	w.disk.fault = fault{at: 1, times: 1000, err: syscall.ENOSPC}
	out := w.sink.Deliver(t.Context(), w.owed)
	for _, err := range out.Verdicts {
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "/files/") {
			t.Errorf("verdict %v", err)
		}
	}
	if len(out.Changes) > 0 {
		t.Errorf("changes %v", out.Changes)
	}
}

// A sink that could not cut what it wrote, and nobody settled, does not end in order: the next start cuts it.
func TestEndWithWhatIsNotCut(t *testing.T) {
	for _, path := range []string{"/files/{{ subject }}.ndjson", "/elsewhere/{{ subject }}.ndjson"} {
		w := newWorld(t, bySubject(t), 10)
		w.prepare(func(w *world) { w.owe("a.ndjson") })
		w.owe("a.ndjson")
		w.disk.fault = fault{at: 2, times: 50, err: syscall.EIO}
		if out := w.sink.Deliver(t.Context(), w.owed); out.Verdicts[0] == nil {
			t.Fatal("delivered")
		}
		w.sink, w.path = nil, template(t, path)
		if err := w.open(); err != nil {
			t.Fatal(err)
		}
		w.disk.fault = fault{}
		w.apply(w.sink.Deliver(t.Context(), []event.Delivery{deliveryTo("b.ndjson", 9)}).Changes)
		if err := w.sink.Finish(t.Context()); err != nil || w.state[endedKey] != nil {
			t.Errorf("%s: ended in order, %v", path, err)
		}
		w.sink, w.path = nil, bySubject(t)
		if err := w.open(); err != nil {
			t.Fatal(err)
		}
		if got := w.disk.files()["a.ndjson"]; got != w.lines["a.ndjson"][0] {
			t.Errorf("%s: the file holds %q", path, got)
		}
	}
}
