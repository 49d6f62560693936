package router

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/rules"
)

// byKey is an order by data.k.
func byKey(t testing.TB) *pipelines.Order {
	t.Helper()
	x, err := rules.Compile("data.k", rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &pipelines.Order{Key: x, MaxHeld: 10_000}
}

// keyed makes events e<from>, e<from+1> … with these keys; an empty one is missing.
func keyed(from int, keys ...string) (events []event.Event) {
	for i, k := range keys {
		data := fmt.Sprintf(`{"k":%q}`, k)
		if k == "" {
			data = "{}"
		}
		events = append(events, event.Event{
			ID: fmt.Sprint("e", from+i), Source: "/test", Type: "test", DataContentType: "application/json", Data: []byte(data),
		})
	}
	return events
}

// emitKeyed appends events with these keys, and lets the router do all that it can do now.
func (s *scene) emitKeyed(keys ...string) {
	s.t.Helper()
	if _, err := s.r.Emit("p")(s.t.Context(), event.Batch{Events: keyed(s.n+1, keys...)}); err != nil {
		s.t.Fatal(err)
	}
	s.n += len(keys)
	s.pass(50 * time.Millisecond)
}

func wants(t *testing.T, what string, got []string, want string) {
	t.Helper()
	if strings.Join(got, " ") != want {
		t.Errorf("%s: %v, want %s", what, got, want)
	}
}

// script answers by the id of the event: with the errors in their turn, then well.
type script struct {
	mu      sync.Mutex // guards answers
	answers map[string][]error
}

func (s *script) answer(_ context.Context, d event.Delivery) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := s.answers[d.Event.ID]
	if len(left) == 0 {
		return nil
	}
	s.answers[d.Event.ID] = left[1:]
	return left[0]
}

var (
	errOdd       = errors.New("500 odd") // counts
	errPermanent = event.Permanent(errors.New("422"))
)

// A counted failure holds back its key only, through its row.
func TestOrderHoldsBackOneKey(t *testing.T) {
	play(t, func(s *scene) {
		sink := newFakeSink((&script{answers: map[string][]error{"e1": {errOdd, errOdd}}}).answer)
		s.sink("a", sink).Order = byKey(s.t)
		s.start(nil)
		s.emitKeyed("a", "b", "a", "b", "a", "c")
		sink.exactlyThese(t, "before the retry", "e2 e4 e6")
		if n := s.metric("millrace_deliveries_behind", "p", "a"); n != 2 {
			t.Errorf("%v wait behind e1", n)
		}
		s.pass(10 * time.Second)
		wants(t, "after it", sink.got()[3:], "e1 e3 e5")
		if n := s.metric("millrace_deliveries_behind", "p", "a"); n != 0 {
			t.Errorf("%v still wait", n)
		}
		s.settledAll()
		s.end()
	})
}

// What can't be tried for a long time goes to rows when memory is full, so that other keys are not delayed.
func TestOrderSpills(t *testing.T) {
	play(t, func(s *scene) {
		var down atomic.Bool
		down.Store(true)
		sink := newFakeSink(func(_ context.Context, d event.Delivery) error {
			if down.Load() && strings.Contains(string(d.Event.Data), `"bad"`) {
				return errDown // never counts here, so that no row comes from it
			}
			return nil
		})
		k := s.sink("a", sink)
		k.Order = byKey(s.t)
		k.Order.MaxHeld = 700
		s.start(nil)
		bad := slices.Repeat([]string{"bad"}, 700)
		s.emitKeyed(bad...)
		s.emitKeyed("x")
		wants(t, "of other keys", sink.got(), "e701")
		s.pass(time.Second)
		if n := s.metric("millrace_deliveries_held", "p", "a"); n < 600 || n > 700 {
			t.Errorf("%v are held", n)
		}
		s.emitKeyed(slices.Repeat([]string{"bad"}, 800)...)
		s.emitKeyed("y")
		if n := s.metric("millrace_deliveries_held", "p", "a"); n != 700 {
			t.Errorf("%v are held, want max_held", n)
		}
		wants(t, "beyond max_held", sink.got(), "e701")
		down.Store(false)
		s.pass(20 * time.Minute)
		sink.exactly(t, 1, 1502)
		inOrder(t, sink.got(), func(id int) string {
			if id == 701 || id == 1502 {
				return "other"
			}
			return "bad"
		}, nil)
		s.settledAll()
		s.end()
	})
}

// inOrder demands that ids of one key are ascending, but for those that are excepted.
func inOrder(t *testing.T, ids []string, keyOf func(id int) string, except map[string]bool) {
	t.Helper()
	last := map[string]int{}
	for _, id := range ids {
		var n int
		if _, err := fmt.Sscanf(id, "e%d", &n); err != nil {
			t.Fatal(err)
		}
		if except[id] {
			continue
		}
		if k := keyOf(n); n < last[k] {
			t.Errorf("%s came behind e%d of the same key", id, last[k])
		} else {
			last[k] = n
		}
	}
}

// exactlyThese demands that a sink took these, in any order.
func (k *fakeSink) exactlyThese(t *testing.T, what, want string) {
	t.Helper()
	got := k.got()
	slices.Sort(got)
	wants(t, what, got, want)
}

func TestOrderAndDeadLetters(t *testing.T) {
	for _, hold := range []bool{false, true} {
		t.Run(fmt.Sprint("hold ", hold), func(t *testing.T) {
			play(t, func(s *scene) {
				script := &script{answers: map[string][]error{"e1": {errPermanent}, "e5": {errPermanent}, "e4": {errOdd}}}
				sink := newFakeSink(script.answer)
				k := s.sink("a", sink)
				k.Order = byKey(s.t)
				k.Order.Hold = hold
				s.start(nil)
				s.emitKeyed("a", "a", "b", "b", "c", "c")
				s.pass(10 * time.Second)
				if !hold {
					sink.exactlyThese(t, "released", "e2 e3 e4 e6")
					s.redrive()
					sink.exactly(t, 1, 6)
				} else {
					wants(t, "held", sink.got(), "e3 e4")
					s.emitKeyed("c", "d")
					wants(t, "held still", sink.got(), "e3 e4 e8")
					s.redrive()
					inOrder(t, sink.got(), func(n int) string { return " aabbcccd"[n : n+1] }, nil)
				}
				s.settledAll()
				s.end()
			})
		})
	}
}

// A dead letter that holds its key lets it go when it is dropped, also while nothing runs.
func TestOrderAfterDrop(t *testing.T) {
	for _, running := range []bool{true, false} {
		play(t, func(s *scene) {
			sink := newFakeSink((&script{answers: map[string][]error{"e1": {errPermanent}}}).answer)
			k := s.sink("a", sink)
			k.Order = byKey(s.t)
			k.Order.Hold = true
			s.start(nil)
			s.emitKeyed("a", "a", "a", "b")
			wants(t, "held", sink.got(), "e4")
			if !running {
				s.end()
			}
			if n, err := s.log.Drop(t.Context(), event.DeadQuery{}); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			if !running {
				s.start(nil)
			}
			s.pass(time.Second)
			wants(t, "dropped", sink.got(), "e4 e2 e3")
			s.settledAll()
			s.end()
		})
	}
}

// A dead letter that has just come to hold its key is not on disk yet when the sink looks which ones were dropped: here for the
// sake of one that was dropped before.
func TestOrderAfterDropOfAnother(t *testing.T) {
	play(t, func(s *scene) {
		sink := newFakeSink((&script{answers: map[string][]error{"e1": {errPermanent}, "e2": {errPermanent}}}).answer)
		s.sink("a", sink).Order = byKey(s.t)
		s.pipeline().Sinks[0].Order.Hold = true
		s.start(nil)
		s.emitKeyed("")
		if n, err := s.log.Drop(t.Context(), event.DeadQuery{}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		s.emitKeyed("a", "a")
		s.pass(time.Minute)
		wants(t, "held", sink.got(), "")
		s.redrive()
		wants(t, "redriven", sink.got(), "e2 e3")
		s.settledAll()
		s.end()
	})
}

// A redriven dead letter goes before later events of its key that have not begun.
func TestOrderRedrivenGoesFirst(t *testing.T) {
	play(t, func(s *scene) {
		var closed atomic.Bool
		script := &script{answers: map[string][]error{"e1": {errPermanent}}}
		gate := make(chan struct{})
		sink := newFakeSink(func(ctx context.Context, d event.Delivery) error {
			if closed.Load() && d.Event.ID == "e2" {
				<-gate
			}
			return script.answer(ctx, d)
		})
		s.sink("a", sink).Order = byKey(s.t)
		s.start(nil)
		s.emitKeyed("a")
		closed.Store(true)
		s.emitKeyed("a", "a", "a")
		s.redrive()
		wants(t, "while e2 is under way", sink.got(), "")
		close(gate)
		s.pass(time.Second)
		wants(t, "in the end", sink.got(), "e2 e1 e3 e4")
		s.settledAll()
		s.end()
	})
}

func TestOrderMissingKey(t *testing.T) {
	play(t, func(s *scene) {
		sink := newFakeSink((&script{answers: map[string][]error{"e1": {errOdd}, "e3": {errOdd}}}).answer)
		s.sink("a", sink).Order = byKey(s.t)
		s.start(nil)
		s.emitKeyed("", "", "a", "a")
		wants(t, "before the retry", sink.got(), "e2")
		s.pass(10 * time.Second)
		if n := s.metric("millrace_deliveries_unkeyed_total", "p", "a"); n != 3 { // one of them once more, by its row
			t.Errorf("%v had no key", n)
		}
		sink.exactly(t, 1, 4)
		s.settledAll()
		s.end()
	})
}

// Whatever a key is, it is one: two of a megabyte that differ in their last byte are two, an empty text is not a missing field, a
// number is no text. What a row keeps of it is as short as of any other.
func TestOddKeys(t *testing.T) {
	long := strings.Repeat("k", 1<<20)
	for name, k := range map[string][2]string{ // of the first two events, and of the third
		"a megabyte": {`"` + long + `1"`, `"` + long + `2"`}, "empty": {`""`, `" "`}, "number": {"1", `"1"`}, "boolean": {"true", `"true"`},
		"object": {`{"a":1}`, `{"a":2}`}, "list": {`[1,2]`, `[2,1]`}, "zero": {`"\u0000"`, `""`},
	} {
		t.Run(name, func(t *testing.T) {
			lives(t, func(s *scene, begin func() *life) {
				sink := newFakeSink((&script{answers: map[string][]error{"first": {errOdd, errOdd}}}).answer)
				s.sink("a", sink).Order = byKey(t)
				l := begin()
				l.send("first", `{"k":`+k[0]+`}`)
				l.send("second", `{"k":`+k[0]+`}`)
				l.send("other", `{"k":`+k[1]+`}`)
				l.pass(100 * time.Millisecond)
				wants(t, "behind a failure", sink.got(), "other")
				for _, state := range []event.ExceptionState{event.Retry, event.Held} {
					rows, err := l.r.pipelines[0].sinks[0].lanes[0].sub.Keyed(s.t.Context(), state, 0, 10)
					if err != nil || len(rows) != 1 || len(rows[0].Key) != len(orderKey{}) {
						t.Errorf("%d rows in state %d: %v", len(rows), state, err)
					}
				}
				l.end()
				l = begin()
				l.pass(time.Minute)
				wants(t, "in the end", sink.got(), "other first second")
				l.settledAll()
				l.end()
			})
		})
	}
}

// A call carries one event of a key at most: what is refused of it must not be passed by the next one of its key.
func TestOrderInBatches(t *testing.T) {
	play(t, func(s *scene) {
		sink := &orderedBatches{fakeSink: newFakeSink((&script{answers: map[string][]error{"e1": {errOdd}}}).answer)}
		k := s.sink("a", sink)
		k.Order, k.Batch = byKey(s.t), pipelines.Batch{Count: 10, Bytes: 1 << 20}
		s.start(nil)
		s.emitKeyed("a", "b", "a", "c", "a", "b")
		s.pass(10 * time.Second)
		inOrder(t, sink.got(), func(n int) string { return " abacab"[n : n+1] }, nil)
		for _, batch := range sink.batches {
			keys := map[string]bool{}
			for _, id := range batch {
				key := map[string]string{"e1": "a", "e2": "b", "e3": "a", "e4": "c", "e5": "a", "e6": "b"}[id]
				if keys[key] {
					t.Errorf("a call of %v", batch)
				}
				keys[key] = true
			}
		}
		sink.exactly(t, 1, 6)
		s.settledAll()
		s.end()
	})
}

// orderedBatches remembers which events came together.
type orderedBatches struct {
	*fakeSink
	batches [][]string
}

func (b *orderedBatches) Deliver(ctx context.Context, batch []event.Delivery) event.Settling {
	var ids []string
	for _, d := range batch {
		ids = append(ids, d.Event.ID)
	}
	b.mu.Lock()
	b.batches = append(b.batches, ids)
	b.mu.Unlock()
	return b.fakeSink.Deliver(ctx, batch)
}

func TestOrderStrict(t *testing.T) {
	for _, count := range []int{1, 3} {
		play(t, func(s *scene) {
			script := &script{answers: map[string][]error{"e2": {errOdd, errDown, errOdd}, "e4": {errPermanent}}}
			sink := newFakeSink(script.answer)
			k := s.sink("a", &whole{sink})
			k.Order, k.Batch.Count, k.Concurrency, k.Breaker = &pipelines.Order{}, count, 1, breakerDefaults()
			s.start(nil)
			s.emitKeyed("a", "b", "c", "d", "e", "f")
			if rows := s.rows("p/a"); len(rows) > 0 {
				t.Errorf("%d: rows %v", count, rows)
			}
			wants(t, "before the retry", sink.got(), "e1")
			s.pass(5 * time.Minute)
			wants(t, "in the end", sink.got(), "e1 e2 e3 e5 e6")
			if most := sink.resetMost(); most != 1 {
				t.Errorf("%d deliveries at once", most)
			}
			s.redrive()
			wants(t, "redriven", sink.got(), "e1 e2 e3 e5 e6 e4")
			s.settledAll()
			s.end()
		})
	}
}

// whole takes of a batch what lies before the first failure, unless that is permanent.
type whole struct{ *fakeSink }

func (w *whole) Deliver(ctx context.Context, batch []event.Delivery) event.Settling {
	all := event.Settled(len(batch), errDown)
	for i := range batch {
		all.Verdicts[i] = w.fakeSink.Deliver(ctx, batch[i:i+1]).Verdicts[0]
		if v := all.Verdicts[i]; v != nil && event.VerdictOf(v).Class != event.PermanentClass {
			break
		}
	}
	return all
}

// During an outage the probes keep the order, and nothing becomes a dead letter. Many keys are on their way again at once.
func TestOrderInAnOutage(t *testing.T) {
	for _, strict := range []bool{false, true} {
		play(t, func(s *scene) {
			var o toggle
			o.down.Store(true)
			sink := newFakeSink(o.answer)
			k := s.sink("a", sink)
			k.Order, k.Breaker, k.Retry.MaxAttempts = byKey(s.t), breakerDefaults(), 3
			if strict {
				k.Order, k.Concurrency = &pipelines.Order{}, 1
			}
			s.start(nil)
			var keys []string
			for i := range 2000 {
				keys = append(keys, fmt.Sprint(i*i%97))
			}
			for i := 0; i < len(keys); i += 100 {
				s.emitKeyed(keys[i : i+100]...)
			}
			s.pass(2 * time.Hour)
			o.down.Store(false)
			s.pass(time.Minute)
			sink.exactly(t, 1, len(keys))
			inOrder(t, sink.got(), func(n int) string {
				if strict {
					return ""
				}
				return keys[n-1]
			}, nil)
			if dead := s.dead(); len(dead) > 0 {
				t.Errorf("%d dead letters", len(dead))
			}
			s.settledAll()
			s.end()
		})
	}
}

// Rows that were held wait for nobody when the order is no longer asked for.
func TestOrderGivenUp(t *testing.T) {
	for _, to := range []string{"none", "strict", "serial"} {
		play(t, func(s *scene) {
			var bad atomic.Bool
			bad.Store(true)
			sink := newFakeSink(func(_ context.Context, d event.Delivery) error {
				if bad.Load() {
					return errDown
				}
				return nil
			})
			k := s.sink("a", sink)
			k.Order = byKey(s.t)
			s.start(nil)
			s.emitKeyed(slices.Repeat([]string{"a"}, 1200)...)
			held := 0
			for _, x := range s.rows("p/a") {
				if x.State == event.Held {
					held++
				}
			}
			if held < 500 {
				t.Fatalf("%s: %d are held", to, held)
			}
			s.end()
			bad.Store(false)
			switch to {
			case "none":
				k.Order = nil
			case "strict":
				k.Order = &pipelines.Order{}
			case "serial":
				k.Order, k.Serial = nil, true
			}
			s.start(nil)
			s.pass(20 * time.Minute)
			sink.exactly(t, 1, 1200)
			s.settledAll()
			s.end()
		})
	}
}

func TestOrderIsRefused(t *testing.T) {
	play(t, func(s *scene) {
		s.log.can.Keyed = false
		s.sink("a", newFakeSink(nil)).Order = byKey(s.t)
		err := New(s.plan, s.log, Options{}).Configure(t.Context())
		if err == nil || !strings.Contains(err.Error(), `sink "a": this outbox keeps no order`) {
			t.Error(err)
		}
	})
}

// keyedSink takes some time for each delivery and fails now and then, as the event and the attempt say. It remembers first successes.
type keyedSink struct {
	mu     sync.Mutex // guards what follows
	first  []string
	seen   map[string]bool
	at     map[string]time.Time
	going  map[string]bool
	broken string // a key of which nothing succeeds
	faults []string
}

func (k *keyedSink) Deliver(ctx context.Context, batch []event.Delivery) event.Settling {
	d := batch[0]
	key := string(d.Event.Data)
	h := fnv.New32a()
	fmt.Fprint(h, d.Event.ID, " ", d.Attempt)
	n := h.Sum32() % 1000
	k.enter(key, true)
	defer k.enter(key, false)
	select {
	case <-time.After(time.Duration(n%7+1) * time.Millisecond):
	case <-ctx.Done():
		return event.Settled(1, ctx.Err())
	}
	switch {
	case key == k.broken || n < 20:
		return event.Settled(1, errOdd)
	case n < 46:
		return event.Settled(1, errDown)
	case n < 50:
		return event.Settled(1, errPermanent)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if id := d.Event.ID; !k.seen[id] {
		k.seen[id], k.first, k.at[id] = true, append(k.first, id), time.Now()
	}
	return event.Settled(1, nil)
}

func (k *keyedSink) enter(key string, in bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if in && k.going[key] {
		k.faults = append(k.faults, key)
	}
	k.going[key] = in
}

// TestOrderOnTheOutbox: a thousand keys, 32 deliveries at a time, one in twenty fails, and the process ends three times in the middle. No
// event succeeds before an earlier one of its key, and a key of which nothing succeeds delays no other.
func TestOrderOnTheOutbox(t *testing.T) {
	const each, keys, lives = 2000, 1000, 4
	path := filepath.Join(t.TempDir(), "outbox.db")
	play(t, func(s *scene) {
		t := s.t
		sink := &keyedSink{seen: map[string]bool{}, at: map[string]time.Time{}, going: map[string]bool{}, broken: `{"k":"7"}`}
		k := s.sink("a", sink)
		k.Order, k.Concurrency, k.Breaker, k.Retry.MaxAttempts = byKey(s.t), 32, breakerDefaults(), 1000
		keyOf := func(n int) string { return fmt.Sprint(n * 31 % keys) }
		emitted := map[string]time.Time{}
		died := map[string]bool{}
		var last *life
		for n := range lives {
			last = s.live(path, nil)
			for from := n*each + 1; from <= (n+1)*each; from += 50 {
				var names []string
				for i := range 50 {
					names = append(names, keyOf(from+i))
					emitted[fmt.Sprint("e", from+i)] = time.Now()
				}
				if _, err := last.r.Emit("p")(t.Context(), event.Batch{Events: keyed(from, names...)}); err != nil {
					t.Fatal(err)
				}
				last.pass(10 * time.Millisecond)
			}
			last.pass(50 * time.Millisecond)
			if n < lives-1 {
				last.end()
			}
		}
		last.pass(10 * time.Minute)
		for _, line := range last.dead() {
			died[strings.Fields(line)[1]] = true
		}
		sink.check(t, each*lives, keyOf, died, emitted)
		sink.mu.Lock()
		sink.broken = ""
		sink.mu.Unlock()
		last.pass(20 * time.Minute)
		for _, line := range last.dead() {
			died[strings.Fields(line)[1]] = true
		}
		if len(sink.first)+len(died) != each*lives {
			t.Errorf("%d succeeded, %d died, of %d", len(sink.first), len(died), each*lives)
		}
		inOrder(t, sink.first, keyOf, died)
		if _, err := last.box.Redrive(t.Context(), event.DeadQuery{}); err != nil {
			t.Fatal(err)
		}
		last.pass(time.Hour)
		if len(last.dead()) == 0 {
			last.settledAll()
		}
		last.end()
	})
}

func (k *keyedSink) check(t *testing.T, all int, keyOf func(int) string, died map[string]bool, emitted map[string]time.Time) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.faults) > 0 {
		t.Errorf("two of a key were under way at once, such as of %s", k.faults[0])
	}
	inOrder(t, k.first, keyOf, died)
	if len(died) < all/1000 || len(died) > all/50 {
		t.Errorf("%d of %d died", len(died), all)
	}
	late := 0
	for i := 1; i <= all; i++ {
		id := fmt.Sprint("e", i)
		switch {
		case keyOf(i) == "7":
			if k.seen[id] {
				t.Errorf("%s of the broken key succeeded", id)
			}
		case died[id]:
		case !k.seen[id]:
			t.Errorf("%s is missing", id)
		case k.at[id].Sub(emitted[id]) > 30*time.Second:
			late++
		}
	}
	if late > all/100 {
		t.Errorf("%d of %d were late", late, all)
	}
}
