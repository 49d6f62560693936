package s3

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/millrace-run/millrace/event"
)

// crash counts the steps at which a process may end: before and after each effect on the store and on the state.
type crash struct {
	mu   sync.Mutex // guards what follows
	left int        // steps until it ends; negative: never
	over bool
}

func (c *crash) begin(left int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left, c.over = left, false
}

func (c *crash) ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over
}

// step says whether the process lives on.
func (c *crash) step() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = c.over || c.left == 0
	c.left--
	return !c.over
}

// world is a sink with its store, and the part of the router that keeps its state and its backlog.
type world struct {
	t       *testing.T
	fake    *fake
	sink    *Sink
	crash   crash
	rand    *rand.Rand
	state   map[string][]byte
	backlog []event.Delivery // not settled, in the order of their offsets
	batch   []event.Delivery // to be delivered again as it is, as the router does within one process
}

func newWorld(t *testing.T, seed uint64, events int) *world {
	w := &world{t: t, fake: newFake(t), rand: rand.New(rand.NewPCG(seed, 1)), state: map[string][]byte{}}
	for n := range events {
		w.backlog = append(w.backlog, order(n%(events-3), fmt.Sprint("s", w.rand.IntN(3)))) // a few share their identity
	}
	w.fake.judges(w.judge)
	return w
}

// judge is the store as a process sees it that may end at any request: it does not hear what became of it.
func (w *world) judge(r *http.Request) fault {
	if !w.crash.step() {
		return func(rw http.ResponseWriter, _ *http.Request, _ http.Handler) { hangUp(rw) }
	}
	if !w.crash.step() {
		return mute
	}
	return nil
}

func (w *world) start(left int) {
	w.t.Helper()
	w.crash.begin(left)
	c := w.fake.config()
	c.Key = template(w.t, "{{ subject }}/")
	w.sink = mustNew(w.t, c)
	w.sink.partsOf(600)
	w.batch = nil
	w.open()
}

func (w *world) open() {
	w.t.Helper()
	if err := w.sink.Open(context.Background(), maps.Clone(w.state), w.save); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) save(_ context.Context, changes event.Changes) error {
	if !w.crash.step() {
		return errors.New("the process has ended")
	}
	w.apply(changes)
	if !w.crash.step() {
		return errors.New("the process has ended")
	}
	return nil
}

func (w *world) apply(changes event.Changes) {
	for k, v := range changes {
		if v == nil {
			delete(w.state, k)
		} else {
			w.state[k] = v
		}
	}
}

// turn makes one delivery, of as many events as chance wants, and commits what it answers. It says whether the process lives.
func (w *world) turn() bool {
	w.t.Helper()
	if w.batch == nil {
		w.batch = w.backlog[:1+w.rand.IntN(min(len(w.backlog), 12))]
	}
	out := w.sink.Deliver(context.Background(), w.batch)
	settled := 0
	for _, v := range out.Verdicts {
		if v == nil {
			settled++
		}
	}
	if settled != 0 && settled != len(w.batch) {
		w.t.Fatalf("%d of %d are settled", settled, len(w.batch))
	}
	if w.crash.ended() {
		return false
	}
	if settled == 0 {
		w.open()
		return true
	}
	if !w.crash.step() {
		return false
	}
	w.apply(out.Changes)
	w.backlog, w.batch = w.backlog[settled:], nil
	return w.crash.step()
}

// run lets processes live and end, one after the other, until everything is settled. It returns how many steps the last one took.
func (w *world) run(crashes ...int) {
	w.t.Helper()
	for i := 0; len(w.backlog) > 0; i++ {
		left := -1
		if i < len(crashes) {
			left = crashes[i]
		}
		w.start(left)
		for len(w.backlog) > 0 && w.turn() {
		}
		_ = w.sink.Close()
	}
}

// check: each event is in one object, those with the same identity too, and nothing is left over.
func (w *world) check(events int) {
	w.t.Helper()
	times := map[string]int{}
	keys, bodies := w.fake.objects()
	for i, body := range bodies {
		for _, e := range readLines(w.t, body) {
			times[e.ID]++
		}
		if !keyForm.MatchString(keys[i]) {
			w.t.Errorf("the key is %s", keys[i])
		}
	}
	for n := range events - 3 {
		want := 1
		if n < 3 {
			want = 2
		}
		if got := times[fmt.Sprint("o-", n)]; got != want {
			w.t.Errorf("order %d is stored %d times, want %d", n, got, want)
		}
	}
	if len(times) != events-3 {
		w.t.Errorf("%d different events are stored", len(times))
	}
	if n := w.fake.uploads(); n != 0 {
		w.t.Errorf("%d uploads in parts are left", n)
	}
	for name := range w.state {
		if strings.HasPrefix(name, pinPrefix) {
			w.t.Errorf("%s is left", name)
		}
	}
	w.fake.server.Close()
}

// TestCrashAtEachStep ends the process at each step in turn, and the next one a few steps into its work.
func TestCrashAtEachStep(t *testing.T) {
	const events = 25
	for seed := range uint64(1) {
		for step, ended := 0, true; ended; step++ {
			w := newWorld(t, seed, events)
			w.run(step, step%7)
			w.check(events)
			ended = step < 2*len(w.fake.requests())+40
			if t.Failed() {
				t.Fatalf("seed %d, step %d", seed, step)
			}
		}
	}
}

// TestManyCrashes ends one process after the other.
func TestManyCrashes(t *testing.T) {
	const events = 60
	for range 12 {
		seed := rand.Uint64()
		w := newWorld(t, seed, events)
		crashes := make([]int, 12)
		for i := range crashes {
			crashes[i] = w.rand.IntN(30)
		}
		w.run(crashes...)
		w.check(events)
		if t.Failed() {
			t.Fatalf("seed %d, crashes %v", seed, crashes)
		}
	}
}
