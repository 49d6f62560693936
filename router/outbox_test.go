package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/outbox"
)

// life is one process: a router on a real outbox, from its opening to its closing.
type life struct {
	t    *testing.T
	box  *outbox.Outbox
	r    *Router
	stop func()
	runs chan error
}

func (s *scene) live(path string, whens map[string]decider) *life {
	s.t.Helper()
	box, err := outbox.Open(s.t.Context(), outbox.Options{Path: path, Reserve: 1 << 20, Logger: s.told})
	if err != nil {
		s.t.Fatal(err)
	}
	l := &life{t: s.t, box: box, r: New(s.plan, box, Options{Logger: s.told}), runs: make(chan error, 1)}
	l.r.decide(whens)
	if err := l.r.Configure(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	l.stop = cancel
	go func() { l.runs <- l.r.Run(ctx) }()
	return l
}

// append emits events in batches of 50 and does not wait for their delivery.
func (l *life) append(from, to int) {
	l.t.Helper()
	for i := from; i <= to; i += 50 {
		var b event.Batch
		for j := i; j <= min(i+49, to); j++ {
			b.Events = append(b.Events, event.Event{ID: fmt.Sprint("e", j), Source: "/test", Type: "test", Data: []byte(`{"n":1}`)})
		}
		if _, err := l.r.Emit("p")(l.t.Context(), b); err != nil {
			l.t.Fatal(err)
		}
	}
}

func (l *life) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (l *life) end() {
	l.t.Helper()
	l.stop()
	if err := <-l.runs; err != nil {
		l.t.Errorf("Run: %v", err)
	}
	if err := l.box.Close(); err != nil {
		l.t.Errorf("Close: %v", err)
	}
}

// dead returns what is dead, as subscription and event.
func (l *life) dead() (all []string) {
	l.t.Helper()
	letters, err := l.box.DeadLetters(l.t.Context(), event.DeadQuery{})
	if err != nil {
		l.t.Fatal(err)
	}
	for _, d := range letters {
		all = append(all, fmt.Sprintf("%s %s %s", d.Subscription, d.Record.Event.ID, d.Exception.Reason))
	}
	slices.Sort(all)
	return all
}

// settledAll demands that every subscription is through and has no row.
func (l *life) settledAll() {
	l.t.Helper()
	topic := l.r.pipelines[0].topics[0]
	subs := map[string]Subscription{"runner": topic.sub}
	for _, k := range topic.readers {
		subs[k.name] = k.sub
	}
	for name, sub := range subs {
		cursor, head := sub.Position()
		rows, err := sub.Rows(l.t.Context(), 0, head)
		if cursor != head || len(rows) > 0 || err != nil {
			l.t.Errorf("%s: cursor %d of %d, rows of %v, %v", name, cursor, head, rows, err)
		}
	}
}

// One sink is down for the whole load, one refuses an event, one is a serial sink with state, and a stage fails at an event.
// The process ends in the middle of the load and comes back with the faults mended, but for the sink that is down. In the end
// everything is everywhere exactly once.
func TestThreeSinksOnTheOutbox(t *testing.T) {
	const half, all = 6000, 12000
	path := filepath.Join(t.TempDir(), "outbox.db")
	play(t, func(s *scene) {
		t := s.t
		var mended atomic.Bool
		s.stage(func(ev *event.Event) (bool, string, error) {
			if ev.ID == "e13" && !mended.Load() {
				return false, "", errors.New("the stage is broken")
			}
			return true, "", nil
		}, "")
		good := newFakeSink(func(_ context.Context, d event.Delivery) error {
			if d.Event.ID == "e7" && !mended.Load() {
				return event.Permanent(errors.New("422 Unprocessable Content"))
			}
			return nil
		})
		s.sink("good", good).Breaker = breakerDefaults()
		var o toggle
		o.down.Store(true)
		down, archive := newFakeSink(o.answer), &file{}
		k := s.sink("down", down)
		k.Breaker, k.Retry.MaxAttempts = breakerDefaults(), 3
		s.file(archive)
		first := s.live(path, nil)
		first.append(1, half/2)
		first.pass(time.Minute)
		if got := first.dead(); !slices.Equal(got, []string{"p/ e13 on_error", "p/good e7 permanent"}) {
			t.Errorf("dead letters: %v", got)
		}
		first.append(half/2+1, half)
		first.end()
		mended.Store(true)
		second := s.live(path, nil)
		second.append(half+1, all)
		second.pass(time.Minute)
		if n, err := second.box.Redrive(t.Context(), event.DeadQuery{}); n != 2 || err != nil {
			t.Errorf("Redrive = %d, %v", n, err)
		}
		second.pass(time.Minute)
		good.exactly(t, 1, all)
		archive.holdsAll(t, all, "e13")
		down.exactly(t, 1, 0)
		o.down.Store(false)
		second.pass(25 * time.Second)
		down.exactly(t, 1, all)
		if dead := second.dead(); len(dead) > 0 {
			t.Errorf("dead letters: %v", dead)
		}
		second.settledAll()
		second.end()
	})
}

// holdsAll demands each of n events once and in order, but for one that came late.
func (f *file) holdsAll(t *testing.T, n int, late string) {
	t.Helper()
	f.mu.Lock()
	got := slices.DeleteFunc(slices.Clone(f.lines), func(id string) bool { return id == late })
	all := len(f.lines)
	f.mu.Unlock()
	want := strings.Fields(lines(1, n))
	want = slices.DeleteFunc(want, func(id string) bool { return id == late })
	if !slices.Equal(got, want) || all != n {
		t.Errorf("the file holds %d lines, want %d in order", all, n)
	}
}

// moody is what happens to events in TestLivesOnTheOutbox, by a number that belongs to an event and never changes.
type moody struct {
	mended atomic.Bool // what an earlier process did not get over
	down   atomic.Bool
	sink   *fakeSink
}

func number(id string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return int(h.Sum32() % 500)
}

func (m *moody) answer(ctx context.Context, d event.Delivery) error {
	n, tries := number(d.Event.ID), m.sink.count(d.Event.ID)
	switch {
	case m.down.Load():
		return errDown
	case n == 0 && !m.mended.Load():
		return event.Permanent(errors.New("refused"))
	case n < 3 && tries < 3:
		return errors.New("failed")
	case n < 6 && tries < 4:
		return errDown
	case n == 7 && tries < 2:
		return event.RetryAfter(errors.New("later"), 30*time.Second)
	case n == 8:
		select {
		case <-time.After(20 * time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Processes come and go while sinks fail in every way and dead letters are taken back. No settling is refused, nothing is lost,
// and since every process ends in order, nothing comes twice.
func TestLivesOnTheOutbox(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "outbox.db")
			play(t, func(s *scene) { playLives(s, path, rand.New(rand.NewPCG(seed, 0))) })
		})
	}
}

func playLives(s *scene, path string, dice *rand.Rand) {
	const lives = 6
	var told bytes.Buffer
	s.told = slog.New(slog.NewTextHandler(&told, &slog.HandlerOptions{Level: slog.LevelError}))
	var m moody
	s.stage(func(ev *event.Event) (bool, string, error) {
		if number(ev.ID) == 9 && !m.mended.Load() {
			return false, "", errors.New("the stage is broken")
		}
		return true, "", nil
	}, "")
	all, archive := newFakeSink(m.answer), &file{}
	m.sink = all
	k := s.sink("all", all)
	k.Concurrency, k.Retry.MaxAttempts, k.Timeout = 1+dice.IntN(16), 2+dice.IntN(3), time.Minute
	if dice.IntN(3) > 0 {
		k.Breaker = breakerDefaults()
	}
	some := newFakeSink(nil)
	s.sink("some", some).Batch.Count = 1 + dice.IntN(5)
	s.file(archive)
	few := when(func(ev *event.Event) (bool, string, error) { return number(ev.ID) < 50, "", nil })
	n := 0
	for life := range lives {
		m.mended.Store(life == lives-1)
		l := s.live(path, map[string]decider{"some": few})
		n = l.spend(n, &m, dice)
		if life == lives-1 {
			m.down.Store(false)
			l.calm()
		}
		l.end()
	}
	all.exactly(s.t, 1, n)
	for i := 1; i <= n; i++ {
		if id := fmt.Sprint("e", i); number(id) < 50 && some.count(id) != 1 {
			s.t.Errorf("some took %s %d times", id, some.count(id))
		}
	}
	slices.Sort(archive.lines)
	if got := len(slices.Compact(slices.Clone(archive.lines))); got != n || len(archive.lines) != n {
		s.t.Errorf("the archive has %d events in %d lines, want %d", got, len(archive.lines), n)
	}
	if told.Len() > 0 {
		s.t.Errorf("the log says\n%.2000s", told.String())
	}
}

// spend emits events behind the first n, while the sink comes and goes, and returns how many there are then.
func (l *life) spend(n int, m *moody, dice *rand.Rand) int {
	for range 1 + dice.IntN(4) {
		m.down.Store(dice.IntN(3) == 0)
		more := dice.IntN(3000)
		l.append(n+1, n+more)
		n += more
		if _, err := l.box.Redrive(l.t.Context(), event.DeadQuery{}); err != nil {
			l.t.Error(err)
		}
		if dice.IntN(2) == 0 {
			l.pass(time.Duration(dice.IntN(60)) * time.Second)
		}
	}
	return n
}

// calm takes dead letters back until there are none, and demands that all is settled.
func (l *life) calm() {
	for range 10 {
		l.pass(time.Hour)
		if len(l.dead()) == 0 {
			break
		}
		if _, err := l.box.Redrive(l.t.Context(), event.DeadQuery{}); err != nil {
			l.t.Error(err)
		}
	}
	if dead := l.dead(); len(dead) > 0 {
		l.t.Errorf("dead letters: %v", dead)
	}
	l.settledAll()
}
