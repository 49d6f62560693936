package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
)

// file is a storage sink in small: lines, of which the committed state says how many count. Open cuts what is beyond.
type file struct {
	verify func(d event.Delivery) error

	mu     sync.Mutex // guards what follows
	lines  []string
	opens  int
	calls  int
	broken error // of Open
}

func (f *file) Open(ctx context.Context, state map[string][]byte, save func(context.Context, event.Changes) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opens++
	if f.broken != nil {
		return f.broken
	}
	n, _ := strconv.Atoi(string(state["lines"]))
	if n > len(f.lines) {
		return fmt.Errorf("the file has %d lines, the state says %d", len(f.lines), n)
	}
	f.lines = f.lines[:n]
	return save(ctx, event.Changes{"opened": []byte("yes")})
}

func (f *file) Deliver(_ context.Context, batch []event.Delivery) event.Settling {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	s := event.Settling{}
	for _, d := range batch {
		var err error
		if f.verify != nil {
			err = f.verify(d)
		}
		if err == nil {
			f.lines = append(f.lines, d.Event.ID)
		}
		s.Verdicts = append(s.Verdicts, err)
	}
	s.Changes = event.Changes{"lines": []byte(strconv.Itoa(len(f.lines)))}
	return s
}

func (s *scene) file(f *file) *pipelines.Sink {
	k := s.sink("file", f)
	k.Serial, k.Batch = true, pipelines.Batch{Count: 100, Bytes: 1 << 20}
	k.Breaker = breakerDefaults()
	return k
}

func lines(from, to int) string {
	var ids []string
	for i := from; i <= to; i++ {
		ids = append(ids, fmt.Sprint("e", i))
	}
	return strings.Join(ids, " ")
}

func (f *file) holds(t *testing.T, want string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if got := strings.Join(f.lines, " "); got != want {
		t.Errorf("the file holds %s\nwant %s", got, want)
	}
}

// used returns how often the file was opened and called.
func (f *file) used() (opens, calls int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.opens, f.calls
}

func TestSerialSinkGetsAllInOrderInBatches(t *testing.T) {
	play(t, func(s *scene) {
		f := &file{}
		s.file(f)
		s.start(map[string]decider{"file": when(func(ev *event.Event) (bool, string, error) { return ev.ID != "e7" && ev.ID != "e9", "", nil })})
		s.emit(6)
		s.emit(1)
		s.emit(301)
		f.holds(t, lines(1, 6)+" e8 "+lines(10, 308))
		if opens, calls := f.used(); calls > 6 || opens != 1 {
			t.Errorf("%d calls, %d opens", calls, opens)
		}
		s.settledAll()
		s.end()
	})
}

func TestSerialSinkIsExactlyOnceAcrossFailedCommits(t *testing.T) {
	play(t, func(s *scene) {
		f := &file{}
		s.file(f)
		s.start(nil)
		n := 0
		s.log.mu.Lock()
		s.log.onWrite = func(c event.Commit) error {
			if len(c.States) > 0 && len(c.Settles) > 0 {
				if n++; n%3 != 0 {
					return event.ErrBusy
				}
			}
			return nil
		}
		s.log.mu.Unlock()
		for range 10 {
			s.emit(150)
			s.pass(5 * time.Second)
		}
		s.pass(time.Minute)
		f.holds(t, lines(1, 1500))
		if opens, _ := f.used(); opens < 10 {
			t.Errorf("opened %d times, want once for each commit that failed", opens)
		}
		s.settledAll()
		if len(s.dead()) > 0 {
			t.Errorf("dead letters: %+v", s.dead())
		}
		s.end()
	})
}

func TestSerialSinkWaitsForItsDisk(t *testing.T) {
	play(t, func(s *scene) {
		var full atomic.Bool
		full.Store(true)
		f := &file{verify: func(d event.Delivery) error {
			if full.Load() && d.Event.ID > "e3" {
				return event.Unavailable(errors.New("no space left"))
			}
			return nil
		}}
		k := s.file(f)
		k.Retry.MaxAttempts, k.Retry.MaxAge = 1, time.Hour
		s.start(nil)
		s.emit(8)
		s.pass(3 * time.Hour)
		f.holds(t, lines(1, 3))
		if len(s.rows("p/file")) > 0 {
			t.Errorf("rows %+v", s.rows("p/file"))
		}
		if s.metric("millrace_breaker_open", "p", "file") != 1 {
			t.Error("it does not say that the sink is down")
		}
		full.Store(false)
		s.pass(11 * time.Second)
		f.holds(t, lines(1, 8))
		s.settledAll()
		s.end()
	})
}

func TestSerialSinkThatCannotBeOpened(t *testing.T) {
	play(t, func(s *scene) {
		f := &file{broken: errors.New("no such folder")}
		s.file(f)
		s.start(nil)
		s.emit(2)
		s.pass(time.Hour)
		if opens, calls := f.used(); calls > 0 || opens < 300 {
			t.Errorf("%d calls, %d opens", calls, opens)
		}
		if err := s.r.Ready(); err != nil {
			t.Errorf("a sink that is down made the router unready: %v", err)
		}
		f.mu.Lock()
		f.broken = nil
		f.mu.Unlock()
		s.pass(11 * time.Second)
		f.holds(t, lines(1, 2))
		s.end()
	})
}

func TestSerialSinkDeadLetterAndRedrive(t *testing.T) {
	play(t, func(s *scene) {
		var refuses atomic.Bool
		refuses.Store(true)
		f := &file{verify: func(d event.Delivery) error {
			if refuses.Load() && d.Event.ID == "e2" {
				return event.Permanent(errors.New("the path names nothing"))
			}
			return nil
		}}
		s.file(f)
		s.start(nil)
		s.emit(4)
		f.holds(t, "e1 e3 e4")
		dead := s.dead()
		if len(dead) != 1 || dead[0].Exception.Reason != event.ReasonPermanent || dead[0].Record.Event.ID != "e2" {
			t.Fatalf("dead letters: %+v", dead)
		}
		refuses.Store(false)
		s.redrive()
		f.holds(t, "e1 e3 e4 e2")
		s.settledAll()
		s.end()
	})
}

func TestSerialSinkGoesOnWhereItWas(t *testing.T) {
	play(t, func(s *scene) {
		f := &file{}
		s.file(f)
		s.start(nil)
		s.emit(5)
		s.end()
		f.lines = append(f.lines, "torn")
		s.start(nil)
		s.emit(5)
		f.holds(t, lines(1, 10))
		s.settledAll()
		s.end()
	})
}

// While a serial sink works the events of its next call are read, and no more than these.
func TestSerialSinkIsReadAhead(t *testing.T) {
	play(t, func(s *scene) {
		f := &file{}
		release := make(chan struct{})
		f.verify = func(event.Delivery) error { <-release; return nil }
		k := s.file(f)
		k.Batch.Count, k.Timeout = 300, 0
		s.start(nil)
		s.emit(1)
		s.emit(1999) // the runner is through with them while the sink is at the first
		release <- struct{}{}
		synctest.Wait()
		s.log.mu.Lock()
		read := s.log.subs["p/file"].read
		s.log.mu.Unlock()
		if read < 601 || read > 601+readBatch {
			t.Errorf("%d events were read while the sink was at the first 301", read)
		}
		close(release)
		s.pass(time.Second)
		f.holds(t, lines(1, 2000))
		s.settledAll()
		s.end()
	})
}

func TestSerialSinkIsAbandonedAtTheEnd(t *testing.T) {
	play(t, func(s *scene) {
		k := s.sink("slow", newFakeSink(func(ctx context.Context, _ event.Delivery) error {
			<-ctx.Done()
			return ctx.Err()
		}))
		k.Serial, k.Timeout = true, 0
		s.start(nil)
		s.emit(3)
		began := time.Now()
		s.end()
		if d := time.Since(began); d != s.plan.ShutdownTimeout {
			t.Errorf("the end took %v", d)
		}
		if cursor, _ := s.log.subs["p/slow"].Position(); cursor != 0 || len(s.rows("p/slow")) > 0 {
			t.Errorf("cursor %d, rows %v", cursor, s.rows("p/slow"))
		}
	})
}

func TestBatcherKeepsToBytes(t *testing.T) {
	play(t, func(s *scene) {
		f := &file{}
		k := s.file(f)
		k.Batch.Bytes = 1
		s.start(nil)
		s.emit(5)
		f.holds(t, lines(1, 5))
		if _, calls := f.used(); calls != 5 {
			t.Errorf("%d calls, want one for each event that is larger than a batch", calls)
		}
		s.end()
	})
}

// timely is a file that wants to be tended at a time.
type timely struct {
	file
	due    time.Time // guarded by mu, as what follows
	tended []string  // the lines that there were
	fails  bool
	closed bool
	ended  []string // the lines that there were at Finish
}

func (f *timely) Due() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.due
}

func (f *timely) Tend(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tended = append(f.tended, strings.Join(f.lines, " "))
	if f.fails {
		return errors.New("the state is not known")
	}
	f.due = time.Time{}
	return nil
}

// seen returns what Tend found.
func (f *timely) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.tended)
}

func (f *timely) Finish(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = append(f.ended, strings.Join(f.lines, " "))
	return nil
}

func (f *timely) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

// What is timely is tended at its time, opened again after an error, at most once in a second, and closed at the end.
func TestSerialSinkIsTended(t *testing.T) {
	play(t, func(s *scene) {
		f := &timely{}
		s.file(&f.file).Value = f
		s.start(nil)
		f.mu.Lock()
		f.due = time.Now().Add(time.Minute)
		f.mu.Unlock()
		s.emit(3)
		s.pass(59 * time.Second)
		if got := f.seen(); len(got) != 0 {
			t.Errorf("tended before its time: %q", got)
		}
		s.pass(2 * time.Second)
		if got := f.seen(); len(got) != 1 || got[0] != lines(1, 3) {
			t.Errorf("tended %q", got)
		}
		before, _ := f.used()
		f.mu.Lock()
		f.due, f.fails = time.Now(), true
		f.mu.Unlock()
		s.emit(1)
		s.pass(4500 * time.Millisecond)
		if opens, _ := f.used(); opens-before < 4 || opens-before > 6 || len(f.seen()) != 1+opens-before {
			t.Errorf("in 4.5 s tended %d times and opened %d times", len(f.seen())-1, opens-before)
		}
		f.holds(t, lines(1, 4))
		s.settledAll()
		s.end()
		if !f.closed {
			t.Error("it is not closed")
		}
	})
}

// A sink hears that it ends in order when all that it answered is committed, and at no other end.
func TestSerialSinkEndsInOrder(t *testing.T) {
	play(t, func(s *scene) {
		f := &timely{}
		s.file(&f.file).Value = f
		s.start(nil)
		s.emit(3)
		s.end()
		if len(f.ended) != 1 || f.ended[0] != lines(1, 3) || !f.closed {
			t.Errorf("ended with %q, closed %v", f.ended, f.closed)
		}
		f.verify = func(event.Delivery) error { return event.Unavailable(errors.New("no disk")) }
		s.start(nil)
		s.emit(1)
		s.end()
		if len(f.ended) != 1 {
			t.Errorf("after a failure ended with %q", f.ended)
		}
	})
}

// A sink whose answer could not be committed does not end in order.
func TestSerialSinkEndsInDoubt(t *testing.T) {
	play(t, func(s *scene) {
		f := &timely{}
		s.file(&f.file).Value = f
		s.start(nil)
		s.emit(1)
		s.log.mu.Lock()
		s.log.onWrite = func(c event.Commit) error {
			if len(c.States) > 0 && len(c.Settles) > 0 {
				return event.ErrBusy
			}
			return nil
		}
		s.log.mu.Unlock()
		s.emit(1)
		f.holds(t, lines(1, 2))
		s.end()
		if len(f.ended) != 0 {
			t.Errorf("ended with %q", f.ended)
		}
	})
}
