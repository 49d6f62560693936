package router

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
)

// taker notes what it is given, and answers what its verdict says (nil: yes).
type taker struct {
	mu      sync.Mutex
	got     []string
	verdict func(id string) error
	hold    chan struct{} // when it is not nil, calls wait for it
}

func (k *taker) Deliver(_ context.Context, batch []event.Delivery) event.Settling {
	s := event.Settling{Verdicts: make([]error, len(batch))}
	k.mu.Lock()
	hold := k.hold
	for i, d := range batch {
		k.got = append(k.got, d.Event.ID)
		if k.verdict != nil {
			s.Verdicts[i] = k.verdict(d.Event.ID)
		}
	}
	k.mu.Unlock()
	if hold != nil {
		<-hold
	}
	return s
}

// take returns what came since the last time, sorted by number.
func (k *taker) take() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	got := k.got
	k.got = nil
	slices.SortFunc(got, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	return strings.Join(got, " ")
}

func (k *taker) answer(verdict func(id string) error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.verdict = verdict
}

func refusals(ids ...string) func(string) error {
	return func(id string) error {
		if slices.Contains(ids, id) {
			return &event.Failure{Class: event.PermanentClass, Err: errors.New("no")}
		}
		return nil
	}
}

func (l *life) seek(to event.Start) event.Sought {
	l.t.Helper()
	all, err := l.r.Seek(l.t.Context(), "p", "s", to, false)
	if err != nil || len(all) != 1 {
		l.t.Fatal(all, err)
	}
	l.pass(time.Second)
	return all[0]
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %s, want %s", what, got, want)
	}
}

// seekable plays with each kind of sink.
func seekable(t *testing.T, f func(s *scene, k *pipelines.Sink, sink *taker, path string)) {
	for name, change := range map[string]func(*pipelines.Sink){
		"many at a time": func(*pipelines.Sink) {},
		"serial":         func(k *pipelines.Sink) { k.Serial = true; k.Batch = pipelines.Batch{Count: 4096, Bytes: 1 << 20} },
		"strict":         func(k *pipelines.Sink) { k.Order = &pipelines.Order{}; k.Concurrency = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *scene) {
				sink := &taker{}
				k := s.sink("s", sink)
				change(k)
				f(s, k, sink, filepath.Join(s.t.TempDir(), "outbox.db"))
			})
		})
	}
}

// Back, forth, and to the ends; dead letters stay, and their events do not come again.
func TestSeek(t *testing.T) {
	seekable(t, func(s *scene, _ *pipelines.Sink, sink *taker, path string) {
		l := s.live(path, nil)
		sink.answer(refusals("e3"))
		l.append(1, 6)
		l.pass(time.Second)
		expect(s.t, "first", sink.take(), "e1 e2 e3 e4 e5 e6")
		sink.answer(nil)
		k := l.seek(event.Start{Offset: 2})
		expect(s.t, "again", sink.take(), "e2 e4 e5 e6")
		expect(s.t, "report", fmt.Sprint(k.Cursor, k.Next, k.Again, k.Skipped, k.Dead, k.Gone), "6 2 4 0 1 0")
		k = l.seek(event.Start{Beginning: true})
		expect(s.t, "all", sink.take(), "e1 e2 e4 e5 e6")
		expect(s.t, "dead", fmt.Sprint(l.dead()), "[p/s e3 permanent]")
		if _, err := l.box.Redrive(s.t.Context(), event.DeadQuery{}); err != nil {
			s.t.Fatal(err)
		}
		l.pass(time.Second)
		expect(s.t, "redriven", sink.take(), "e3")
		l.end()

		l = s.live(path, nil) // what was settled is settled for good
		l.pass(time.Second)
		expect(s.t, "after a restart", sink.take(), "")
		if err := l.r.Pause(s.t.Context(), "p", "s", "test"); err != nil {
			s.t.Fatal(err)
		}
		l.append(7, 9)
		l.pass(time.Second)
		preview, err := l.r.Seek(s.t.Context(), "p", "s", event.Start{}, true)
		if err != nil || preview[0].Skipped != 3 || preview[0].Next != 10 {
			s.t.Errorf("%+v, %v", preview, err)
		}
		k = l.seek(event.Start{Offset: 9})
		expect(s.t, "report", fmt.Sprint(k.Cursor, k.Next, k.Again, k.Skipped), "6 9 0 2")
		if err := l.r.Resume(s.t.Context(), "p", "s"); err != nil {
			s.t.Fatal(err)
		}
		l.pass(time.Second)
		expect(s.t, "behind the jump", sink.take(), "e9")
		if _, err := l.r.Seek(s.t.Context(), "p", "s", event.Start{Offset: 11}, false); err == nil {
			s.t.Error("an offset beyond the end is taken")
		}
		l.end()
	})
}

// A seek by time begins with the first event that was received then.
func TestSeekByTime(t *testing.T) {
	seekable(t, func(s *scene, _ *pipelines.Sink, sink *taker, path string) {
		l := s.live(path, nil)
		l.append(1, 3)
		l.pass(time.Minute)
		at := time.Now()
		l.append(4, 5)
		l.pass(time.Minute)
		sink.take()
		l.seek(event.Start{Time: at})
		expect(s.t, "since", sink.take(), "e4 e5")
		k := l.seek(event.Start{Time: time.Now().Add(time.Hour)})
		expect(s.t, "later than all", sink.take()+fmt.Sprint(k.Next), "6")
		l.end()
	})
}

// While the destination is down a seek jumps over its backlog, rows at or behind the target end, and others stay.
func TestSeekOverBacklog(t *testing.T) {
	seekable(t, func(s *scene, k *pipelines.Sink, sink *taker, path string) {
		k.Breaker = breakerDefaults()
		l := s.live(path, nil)
		sink.answer(func(string) error {
			return &event.Failure{Class: event.UnavailableClass, Err: errors.New("down"), Refused: true}
		})
		l.append(1, 1000)
		l.pass(time.Minute)
		got := l.seek(event.Start{})
		if got.Skipped+got.Waiting > 1000 || got.Next != 1001 {
			s.t.Errorf("%+v", got)
		}
		sink.answer(nil)
		l.append(1001, 1002)
		l.pass(time.Minute)
		if came := sink.take(); !strings.HasSuffix(came, "e1001 e1002") {
			s.t.Errorf("came: …%s", came[max(0, len(came)-100):])
		}
		l.end()
		l = s.live(path, nil)
		l.pass(time.Minute)
		expect(s.t, "after a restart", sink.take(), "")
		l.end()
	})
}

// An answer that comes behind the seek settles nothing of what comes again.
func TestSeekOvertakesAnswers(t *testing.T) {
	play(t, func(s *scene) {
		sink := &taker{hold: make(chan struct{})}
		s.sink("s", sink)
		path := filepath.Join(s.t.TempDir(), "outbox.db")
		l := s.live(path, nil)
		l.append(1, 3)
		l.pass(time.Second)
		expect(s.t, "under way", sink.take(), "e1 e2 e3")
		held := sink.hold
		sink.mu.Lock()
		sink.hold = nil
		sink.verdict = func(string) error { return &event.Failure{Class: event.UnavailableClass, Err: errors.New("down")} }
		sink.mu.Unlock()
		l.seek(event.Start{Beginning: true})
		sink.take()
		close(held)
		synctest.Wait()
		l.end()
		sink.take()
		sink.answer(nil)
		l = s.live(path, nil)
		l.pass(time.Minute)
		expect(s.t, "pending still", sink.take(), "e1 e2 e3")
		l.end()
	})
}

// A sink that is new begins where it says.
func TestFrom(t *testing.T) {
	play(t, func(s *scene) {
		path := filepath.Join(s.t.TempDir(), "outbox.db")
		s.sink("s", &taker{})
		l := s.live(path, nil)
		l.append(1, 3)
		l.pass(time.Minute)
		at := time.Now()
		l.append(4, 5)
		l.pass(time.Minute)
		l.end()
		sinks := map[string]*taker{"now": {}, "beginning": {}, "time": {}}
		for name, sink := range sinks {
			k := s.sink(name, sink)
			switch name {
			case "beginning":
				k.From = event.Start{Beginning: true}
			case "time":
				k.From = event.Start{Time: at}
			}
		}
		for _, want := range []map[string]string{{"now": "", "beginning": "e1 e2 e3 e4 e5", "time": "e4 e5"}, {}} {
			l = s.live(path, nil)
			l.pass(time.Second)
			for name, sink := range sinks {
				expect(s.t, name, sink.take(), want[name])
			}
			l.end()
		}
	})
}

// A lease ends when its event comes again: its worker can settle nothing, not even once the event is leased anew. One of an event
// before the target is as good as it was.
func TestSeekEndsLeases(t *testing.T) {
	play(t, func(s *scene) {
		s.queue("work")
		l := s.live(filepath.Join(s.t.TempDir(), "outbox.db"), nil)
		l.append(1, 3)
		l.pass(time.Second)
		w := l.worker()
		first := w.take(3, "e1#1", "e2#1", "e3#1")
		l.pass(time.Second)
		if _, err := l.r.Seek(s.t.Context(), "p", "work", event.Start{Offset: 2}, false); err != nil {
			s.t.Fatal(err)
		}
		w.give(done, 1, first[1])
		second := w.take(3, "e2#1", "e3#1")
		w.give(done, 1, first[2])
		w.give(done, 0, first[0])
		w.give(done, 0, second...)
		l.pass(time.Minute)
		w.take(3)
		l.end()
	})
}

// All priorities move together, by time or to the ends; an offset is none of them.
func TestSeekPriorities(t *testing.T) {
	play(t, func(s *scene) {
		sink := &taker{}
		s.sink("s", sink)
		s.prioritized("data.p")
		l := s.live(filepath.Join(s.t.TempDir(), "outbox.db"), nil)
		give := func(events []event.Event) {
			if _, err := l.r.Emit("p")(s.t.Context(), event.Batch{Events: events}); err != nil {
				s.t.Fatal(err)
			}
		}
		give(slices.Concat(ofPriority(0, 1, 2), ofPriority(9, 1, 2)))
		l.pass(time.Minute)
		at := time.Now()
		give(slices.Concat(ofPriority(0, 3, 4), ofPriority(9, 3, 4)))
		l.pass(time.Minute)
		sink.take()
		if _, err := l.r.Seek(s.t.Context(), "p", "s", event.Start{Offset: 1}, false); !errors.Is(err, event.ErrNoPlace) {
			s.t.Error(err)
		}
		for _, c := range []struct {
			to   event.Start
			want string
		}{{event.Start{Time: at}, "p0-3 p0-4 p9-3 p9-4"}, {event.Start{Beginning: true}, "p0-1 p0-2 p0-3 p0-4 p9-1 p9-2 p9-3 p9-4"}, {event.Start{}, ""}} {
			if _, err := l.r.Seek(s.t.Context(), "p", "s", c.to, false); err != nil {
				s.t.Fatal(err)
			}
			l.pass(time.Minute)
			expect(s.t, "again", sink.take(), c.want)
		}
		l.end()
	})
}

// With an order_key that holds behind dead letters: earlier events of the key come again, later ones wait as before.
func TestSeekKeepsOrder(t *testing.T) {
	play(t, func(s *scene) {
		sink := &taker{}
		k := s.sink("s", sink)
		k.Order = byKey(s.t)
		k.Order.Hold = true
		sink.answer(refusals("e2"))
		path := filepath.Join(s.t.TempDir(), "outbox.db")
		l := s.live(path, nil)
		for i := 1; i <= 4; i++ {
			e := event.Event{ID: fmt.Sprint("e", i), Source: "/test", Type: "test", Data: []byte(`{"k":1}`)}
			if _, err := l.r.Emit("p")(s.t.Context(), event.Batch{Events: []event.Event{e}}); err != nil {
				s.t.Fatal(err)
			}
		}
		l.pass(time.Minute)
		expect(s.t, "first", sink.take(), "e1 e2")
		l.seek(event.Start{Beginning: true})
		l.pass(time.Minute)
		expect(s.t, "again", sink.take(), "e1")
		sink.answer(nil)
		if _, err := l.box.Redrive(s.t.Context(), event.DeadQuery{}); err != nil {
			s.t.Fatal(err)
		}
		l.pass(time.Minute)
		expect(s.t, "redriven", sink.take(), "e2 e3 e4")
		l.end()
	})
}

// shut is a sink that cannot be opened while it says so.
type shut struct {
	taker
	closed atomic.Bool
}

func (k *shut) Open(context.Context, map[string][]byte, func(context.Context, event.Changes) error) error {
	if k.closed.Load() {
		return errors.New("the database does not answer")
	}
	return nil
}

// A sink that cannot even be opened is moved all the same: that is when people want to.
func TestSeekOfSinkThatIsShut(t *testing.T) {
	for _, serial := range []bool{false, true} {
		play(t, func(s *scene) {
			sink := &shut{}
			sink.closed.Store(true)
			s.sink("s", sink).Serial = serial
			l := s.live(filepath.Join(s.t.TempDir(), "outbox.db"), nil)
			l.append(1, 3)
			l.pass(time.Minute)
			begun := time.Now()
			all, err := l.r.Seek(s.t.Context(), "p", "s", event.Start{Offset: 3}, false)
			if err != nil || all[0].Skipped != 2 || time.Since(begun) > time.Second {
				s.t.Errorf("%+v, %v after %v", all, err, time.Since(begun))
			}
			sink.closed.Store(false)
			l.pass(time.Minute)
			expect(s.t, "open again", sink.take(), "e3")
			l.end()
		})
	}
}
