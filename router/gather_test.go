package router

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
)

// gathers adds a serial sink whose batches wait for more events.
func (s *scene) gathers(f *file, bytes int64, wait time.Duration) *pipelines.Sink {
	k := s.file(f)
	k.Batch = pipelines.Batch{Count: 3 * Window, Bytes: bytes, Wait: wait}
	return k
}

func (f *file) called(t *testing.T, want int) {
	t.Helper()
	if _, calls := f.used(); calls != want {
		t.Errorf("%d calls, want %d", calls, want)
	}
}

func TestSerialBatchWaitsForMore(t *testing.T) {
	play(t, func(s *scene) {
		f := &file{}
		s.gathers(f, 1<<20, 10*time.Second)
		s.start(map[string]decider{"file": when(func(ev *event.Event) (bool, string, error) { return ev.ID != "e3", "", nil })})
		s.emit(2)
		s.pass(6 * time.Second)
		s.emit(2)
		f.called(t, 0)
		if got := s.metric("millrace_deliveries_waiting", "p", "file"); got != 3 {
			t.Errorf("%v events wait", got)
		}
		s.pass(5 * time.Second)
		f.called(t, 1)
		f.holds(t, "e1 e2 e4")
		s.settledAll()
		s.emit(1)
		s.pass(9 * time.Second)
		f.called(t, 1)
		s.pass(2 * time.Second)
		f.called(t, 2)
		s.end()
	})
}

func TestSerialBatchGoesWhenItIsFull(t *testing.T) {
	play(t, func(s *scene) {
		f := &file{}
		size := int64((&event.Event{ID: "e1", Source: "/test", Type: "test", Data: []byte(`{}`)}).Size())
		s.gathers(f, 3*size, time.Hour)
		s.start(nil)
		s.emit(8)
		f.called(t, 2)
		f.holds(t, lines(1, 6))
		s.pass(2 * time.Hour)
		f.called(t, 3)
		f.holds(t, lines(1, 8))
		s.settledAll()
		s.end()
	})
}

// TestSerialBatchLargerThanAWindow: it is settled as a whole, with what the sink does not want in between.
func TestSerialBatchLargerThanAWindow(t *testing.T) {
	play(t, func(s *scene) {
		f := &file{}
		var down atomic.Bool
		down.Store(true)
		f.verify = func(event.Delivery) error {
			if down.Load() {
				return event.Unavailable(errors.New("down"))
			}
			return nil
		}
		s.gathers(f, 1<<30, time.Minute)
		odd := func(ev *event.Event) (bool, string, error) { return (ev.ID[len(ev.ID)-1]-'0')%2 == 1, "", nil }
		s.start(map[string]decider{"file": when(odd)})
		for range 5 * Window / 1024 {
			s.emit(1024)
		}
		f.called(t, 0)
		s.pass(90 * time.Second)
		down.Store(false)
		s.pass(time.Minute)
		if n := len(f.lines); n != 5*Window/2 {
			t.Errorf("%d lines", n)
		}
		s.settledAll()
		s.end()
	})
}

// TestSerialBatchOfNothingSettles: what the sink does not want does not wait for a batch.
func TestSerialBatchOfNothingSettles(t *testing.T) {
	play(t, func(s *scene) {
		f := &file{}
		s.gathers(f, 1<<30, time.Hour)
		s.start(map[string]decider{"file": only()})
		for range 3 {
			s.emit(Window - 1)
			s.settledAll()
		}
		f.called(t, 0)
		s.end()
	})
}

// TestSerialBatchEndsBeforeADistantDeadLetter: a dead letter of the runner that is more than a window ahead is not taken, so that a
// redrive of it needs no row that the log cannot keep.
func TestSerialBatchEndsBeforeADistantDeadLetter(t *testing.T) {
	play(t, func(s *scene) {
		f := &file{}
		s.gathers(f, 1<<30, time.Hour)
		bad := fmt.Sprint("e", Window+100)
		var corrected atomic.Bool
		s.stage(func(ev *event.Event) (bool, string, error) {
			if ev.ID == bad && !corrected.Load() {
				return false, "", errors.New("cannot be")
			}
			return true, "", nil
		}, pipelines.OnErrorDeadLetter)
		s.start(nil)
		for range 2 * Window / 1024 {
			s.emit(1024)
		}
		f.called(t, 1)
		corrected.Store(true)
		s.redrive()
		s.pass(2 * time.Hour)
		if n := len(f.lines); n != 2*Window {
			t.Errorf("%d lines", n)
		}
		s.settledAll()
		s.end()
	})
}

// TestSerialBatchIsLeftAtTheEnd: a stop does not wait for a batch, and the next run has its events.
func TestSerialBatchIsLeftAtTheEnd(t *testing.T) {
	play(t, func(s *scene) {
		f := &file{}
		s.gathers(f, 1<<20, time.Hour)
		s.start(nil)
		s.emit(5)
		s.end()
		f.called(t, 0)
		s.start(nil)
		s.emit(2)
		s.pass(2 * time.Hour)
		f.holds(t, lines(1, 7))
		s.settledAll()
		s.end()
	})
}

// TestSerialBatchLargerThanAWindowInAnOutbox: the outbox settles such a batch as a whole, and the next life begins behind it.
func TestSerialBatchLargerThanAWindowInAnOutbox(t *testing.T) {
	play(t, func(s *scene) {
		f := &file{}
		s.gathers(f, 1<<30, time.Minute)
		path := filepath.Join(t.TempDir(), "box.db")
		l := s.live(path, nil)
		l.append(1, 2*Window)
		l.pass(30 * time.Second)
		f.called(t, 0)
		l.pass(time.Minute)
		f.called(t, 1)
		l.append(2*Window+1, 2*Window+50)
		l.end()
		l = s.live(path, nil)
		l.pass(2 * time.Minute)
		f.called(t, 2)
		if n := len(f.lines); n != 2*Window+50 {
			t.Errorf("%d lines", n)
		}
		l.end()
	})
}

func (f *file) written() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.lines)
}

// TestSerialBatchWithDelayedEvents: those that wait for their time get rows with the batch, also further ahead than a window.
func TestSerialBatchWithDelayedEvents(t *testing.T) {
	play(t, func(s *scene) {
		f := &file{}
		k := s.gathers(f, 1<<30, time.Minute)
		k.Delay = &pipelines.Delay{Until: compiled(t, `int(id[1:]) % 2 == 0 ? received + duration("1h") : nil`)}
		k.Expire = 90 * time.Minute
		l := s.live(filepath.Join(t.TempDir(), "box.db"), nil)
		l.append(1, 2*Window)
		l.pass(30 * time.Second)
		f.called(t, 0)
		l.pass(time.Minute)
		if n := f.written(); n != Window {
			t.Errorf("%d lines", n)
		}
		l.pass(2 * time.Hour)
		if n := f.written(); n != 2*Window {
			t.Errorf("%d lines", n)
		}
		l.settledAll()
		l.end()
	})
}

// TestSerialCallLargerThanAWindow: what has come meanwhile is one call, whatever lies between the events that the sink wants.
func TestSerialCallLargerThanAWindow(t *testing.T) {
	play(t, func(s *scene) {
		f := &file{verify: func(event.Delivery) error { return event.Unavailable(errors.New("down")) }}
		s.gathers(f, 1<<30, 0)
		s.stage(func(ev *event.Event) (bool, string, error) { return nth(ev.ID)%4 == 0, "", nil }, "")
		l := s.live(filepath.Join(t.TempDir(), "box.db"), nil)
		l.append(1, 5*Window)
		f.up()
		l.pass(time.Hour)
		if n := f.written(); n != 5*Window/4 {
			t.Errorf("%d lines", n)
		}
		f.called(t, 3) // one that failed, the same again, and all the others
		l.settledAll()
		l.end()
	})
}

// up ends what verify said.
func (f *file) up() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.verify = nil
}

// TestSerialCallLargerThanAWindowInPart: a sink that settles only a part of such a call is opened again, and calls within a window
// go on. Each event is written once.
func TestSerialCallLargerThanAWindowInPart(t *testing.T) {
	play(t, func(s *scene) {
		f := &file{verify: func(d event.Delivery) error {
			if nth(d.Event.ID) == 100 {
				return event.Unavailable(errors.New("one of the files is full"))
			}
			return nil
		}}
		s.gathers(f, 1<<30, time.Minute)
		odd := func(ev *event.Event) (bool, string, error) { return nth(ev.ID)%2 == 0, "", nil }
		l := s.live(filepath.Join(t.TempDir(), "box.db"), map[string]decider{"file": when(odd)})
		l.append(1, 3*Window)
		l.pass(10 * time.Minute)
		if n := f.written(); n != (Window-2)/2+49 {
			t.Errorf("%d lines before it is up", n)
		}
		f.up()
		l.pass(time.Hour)
		seen := map[string]bool{}
		for _, id := range f.lines {
			seen[id] = true
		}
		if len(f.lines) != 3*Window/2 || len(seen) != len(f.lines) {
			t.Errorf("%d lines, %d events", len(f.lines), len(seen))
		}
		l.settledAll()
		l.end()
	})
}

// TestSerialBatchEndsBeforeADistantUnmatched: the same of a dead letter that the runner made because no sink wanted the event.
func TestSerialBatchEndsBeforeADistantUnmatched(t *testing.T) {
	play(t, func(s *scene) {
		f := &file{}
		s.gathers(f, 1<<30, time.Hour)
		s.pipeline().Unmatched.Word = pipelines.UnmatchedDeadLetter
		stray := fmt.Sprint("e", Window+100)
		var corrected atomic.Bool
		s.start(map[string]decider{"file": when(func(ev *event.Event) (bool, string, error) {
			return ev.ID != stray || corrected.Load(), "", nil
		})})
		for range 2 * Window / 1024 {
			s.emit(1024)
		}
		f.called(t, 1)
		corrected.Store(true)
		s.redrive()
		s.pass(2 * time.Hour)
		if n := len(f.lines); n != 2*Window {
			t.Errorf("%d lines", n)
		}
		s.settledAll()
		s.end()
	})
}
