package router

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/rules"
)

func compiled(t *testing.T, src string) *rules.Expr {
	t.Helper()
	x, err := rules.Compile(src, rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// send appends one event with JSON data and lets the router do all that it can do now.
func (l *life) send(id, data string, extensions ...event.Extension) {
	l.t.Helper()
	e := event.Event{ID: id, Source: "/test", Type: "test", DataContentType: "application/json", Data: []byte(data), Extensions: extensions}
	if _, err := l.r.Emit("p")(l.t.Context(), event.Batch{Events: []event.Event{e}}); err != nil {
		l.t.Fatal(err)
	}
	l.pass(time.Millisecond)
}

func expirytime(at time.Time) event.Extension {
	return event.Extension{Name: "expirytime", Text: at.Format(time.RFC3339)}
}

// rowsOf are the rows of sink a, waiting or dead.
func (l *life) rowsOf() int {
	l.t.Helper()
	sub := l.r.pipelines[0].sinks[0].lanes[0].sub
	_, head := sub.Position()
	rows, err := sub.Rows(l.t.Context(), 0, head)
	if err != nil {
		l.t.Fatal(err)
	}
	return len(rows)
}

// after is how long after a time the deliveries of an event began, in whole seconds.
func (k *fakeSink) after(from time.Time, id string) (all []string) {
	for _, at := range k.times(id) {
		all = append(all, at.Sub(from).Truncate(time.Second).String())
	}
	return all
}

func equals(t *testing.T, what string, got []string, expected ...string) {
	t.Helper()
	if !slices.Equal(got, expected) {
		t.Errorf("%s: %v, want %v", what, got, expected)
	}
}

// lives plays a test that opens the same outbox several times.
func lives(t *testing.T, f func(s *scene, begin func() *life)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "outbox.db")
	play(t, func(s *scene) { f(s, func() *life { return s.live(path, nil) }) })
}

func TestDelayIsCountedFromReceipt(t *testing.T) {
	lives(t, func(s *scene, begin func() *life) {
		sink, serial := newFakeSink(nil), newFakeSink(nil)
		s.sink("a", sink).Delay = &pipelines.Delay{For: 10 * time.Minute}
		k := s.sink("b", serial)
		k.Serial, k.Delay, k.Batch.Count = true, &pipelines.Delay{For: 10 * time.Minute}, 8
		from := time.Now()
		l := begin()
		l.send("e1", `{}`)
		l.pass(4 * time.Minute)
		l.send("e2", `{}`)
		if len(sink.calls())+len(serial.calls())+l.rowsOf() > 0 {
			t.Errorf("%v and %v were delivered at once, %d rows", sink.calls(), serial.calls(), l.rowsOf())
		}
		l.end()
		<-time.After(time.Minute) // of the bubble, in which no time passes
		l = begin()
		l.pass(20 * time.Minute)
		for _, k := range []*fakeSink{sink, serial} {
			equals(t, "e1", k.after(from, "e1"), "10m0s")
			equals(t, "e2", k.after(from, "e2"), "14m0s")
		}
		l.settledAll()
		l.end()
	})
}

// What a sink does not want is not delayed, and does not wait behind the end of a window either.
func TestDelayHoldsOnlyWhatIsDelivered(t *testing.T) {
	play(t, func(s *scene) {
		sink := newFakeSink(nil)
		s.sink("a", sink).Delay = &pipelines.Delay{For: time.Hour}
		s.start(map[string]decider{"a": only("e9000")})
		for range 18 {
			s.emit(500)
		}
		if cursor, _ := s.log.subs["p/a"].Position(); cursor != 8999 {
			t.Errorf("the cursor is at %d", cursor)
		}
		s.pass(time.Hour + time.Second)
		equals(t, "delivered", sink.got(), "e9000")
		s.end()
	})
}

// Events that the clock says were received in the future came before it was set back. They wait once, and together.
func TestDelayOfEventsFromTheFuture(t *testing.T) {
	play(t, func(s *scene) {
		sink := newFakeSink(nil)
		s.sink("a", sink).Delay = &pipelines.Delay{For: time.Minute}
		from := time.Now()
		s.start(nil)
		ahead := event.Batch{}
		for i := range 3 {
			e := event.Event{ID: fmt.Sprint("f", i), Source: "/test", Type: "test", Received: from.AddDate(1, 0, i).UTC()}
			ahead.Events = append(ahead.Events, e)
		}
		if _, err := s.r.Emit("p")(s.t.Context(), ahead); err != nil {
			t.Fatal(err)
		}
		s.pass(10 * time.Second)
		s.emit(1)
		s.pass(2 * time.Minute)
		for _, id := range []string{"f0", "f1", "f2"} {
			equals(t, id, sink.after(from, id), "1m0s")
		}
		equals(t, "e1", sink.after(from, "e1"), "1m10s")
		s.end()
	})
}

func TestDelayUntil(t *testing.T) {
	lives(t, func(s *scene, begin func() *life) {
		sink := newFakeSink(nil)
		s.sink("a", sink).Delay = &pipelines.Delay{Until: compiled(t, "data.at")}
		from := time.Now()
		at := func(d time.Duration) string {
			return fmt.Sprintf(`{"at":%q}`, from.Add(d).UTC().Format(time.RFC3339))
		}
		l := begin()
		l.send("hour", at(time.Hour))
		l.send("half", at(30*time.Minute))
		l.send("past", at(-time.Hour))
		l.send("none", `{}`)
		l.send("never", `{"at":"9999-12-31T23:59:59Z"}`)
		l.send("text", `{"at":"tomorrow"}`)
		l.send("number", `{"at":12}`)
		l.pass(time.Second)
		equals(t, "at once", sink.got(), "past", "none")
		equals(t, "dead", l.dead(), "p/a number on_error", "p/a text on_error")
		if got := l.rowsOf(); got != 5 {
			t.Errorf("%d rows", got)
		}
		l.pass(40 * time.Minute)
		l.end()
		<-time.After(40 * time.Minute)
		l = begin()
		l.pass(time.Second)
		equals(t, "half", sink.after(from, "half"), "30m0s")
		equals(t, "hour", sink.after(from, "hour"), "1h20m1s") // the process did not run at its time
		if a := sink.attempts("hour")[0]; a.Attempt != 1 {
			t.Errorf("attempt %d: a delay is none", a.Attempt)
		}
		l.pass(24 * time.Hour)
		if sink.count("never") > 0 {
			t.Error("what waits for the year 9999 was delivered")
		}
		l.end()
	})
}

// An event that was held behind an earlier one of its key has its delay all the same, and what was redriven has none.
func TestDelayUntilBehindAKey(t *testing.T) {
	lives(t, func(s *scene, begin func() *life) {
		sink := newFakeSink((&script{answers: map[string][]error{"first": {errOdd}, "third": {errPermanent}}}).answer)
		k := s.sink("a", sink)
		k.Order, k.Delay = byKey(s.t), &pipelines.Delay{Until: compiled(t, "data.at")}
		from := time.Now()
		at := func(d time.Duration) string {
			return fmt.Sprintf(`{"k":"k","at":%q}`, from.Add(d).UTC().Format(time.RFC3339))
		}
		l := begin()
		l.send("first", `{"k":"k"}`)
		l.send("second", at(time.Hour))
		l.send("third", at(2*time.Hour))
		l.pass(50 * time.Millisecond)
		if got := l.rowsOf(); got != 3 {
			t.Errorf("%d rows, of one that failed and two behind it", got)
		}
		l.pass(time.Minute)
		l.end()
		l = begin()
		l.pass(3 * time.Hour)
		equals(t, "first", sink.after(from, "first")[:1], "0s")
		equals(t, "second", sink.after(from, "second"), "1h0m0s")
		equals(t, "third", sink.after(from, "third"), "2h0m0s")
		if _, err := l.box.Redrive(s.t.Context(), event.DeadQuery{}); err != nil {
			t.Fatal(err)
		}
		l.pass(time.Second)
		equals(t, "third", sink.got()[2:], "third")
		l.settledAll()
		l.end()
	})
}

func TestDelayedRowsDoNotHoldTheCursor(t *testing.T) {
	lives(t, func(s *scene, begin func() *life) {
		sink := newFakeSink(nil)
		s.sink("a", sink).Delay = &pipelines.Delay{Until: compiled(t, `received + duration("1h")`)}
		l := begin()
		l.append(1, 10_000)
		l.pass(time.Minute)
		if cursor, head := l.r.pipelines[0].sinks[0].lanes[0].sub.Position(); cursor != head || l.rowsOf() != 10_000 {
			t.Errorf("cursor %d of %d, %d rows", cursor, head, l.rowsOf())
		}
		if n := len(sink.calls()); n > 0 {
			t.Errorf("%d were delivered", n)
		}
		l.pass(2 * time.Hour)
		sink.exactly(t, 1, 10_000)
		l.settledAll()
		l.end()
	})
}

func TestExpire(t *testing.T) {
	lives(t, func(s *scene, begin func() *life) {
		var o toggle
		o.down.Store(true)
		sink := newFakeSink(o.answer)
		k := s.sink("a", sink)
		k.Expire, k.Concurrency = time.Hour, 1
		from := time.Now()
		l := begin()
		l.send("hour", `{}`)
		l.send("soon", `{}`, expirytime(from.Add(10*time.Minute)))
		l.send("late", `{}`, expirytime(from.Add(10*time.Hour)))
		l.send("odd", `{}`, event.Extension{Name: "expirytime", Text: "soon"})
		l.send("past", `{}`, expirytime(from.Add(-time.Second)))
		l.pass(time.Minute)
		equals(t, "dead", l.dead(), "p/a past expired")
		l.end()
		l = begin()
		l.pass(10 * time.Minute)
		equals(t, "dead", l.dead(), "p/a past expired", "p/a soon expired")
		l.pass(time.Hour)
		equals(t, "dead", l.dead(), "p/a hour expired", "p/a late expired", "p/a odd expired", "p/a past expired", "p/a soon expired")
		letters, _ := l.box.DeadLetters(s.t.Context(), event.DeadQuery{})
		for _, d := range letters {
			if d.Record.Event.ID == "hour" && (!strings.Contains(d.Exception.Error, "expire; the last attempt: 503") || d.Exception.Attempts == 0) {
				t.Errorf("dead letter %+v", d.Exception)
			}
		}
		tried := len(sink.calls())
		o.down.Store(false)
		l.pass(time.Hour)
		if len(sink.calls()) != tried {
			t.Error("what expired was delivered")
		}
		// A redrive is the wish of somebody who knows, and a failure behind it is a failure like any other.
		o.down.Store(true)
		if _, err := l.box.Redrive(s.t.Context(), event.DeadQuery{}); err != nil {
			t.Fatal(err)
		}
		l.pass(time.Minute)
		l.end()
		o.down.Store(false)
		l = begin()
		l.pass(time.Hour)
		got := sink.got()
		slices.Sort(got)
		equals(t, "redriven", got, "hour", "late", "odd", "past", "soon")
		l.settledAll()
		l.end()
	})
}

// Whatever an event waits for, it becomes a dead letter at its time and not behind it.
func TestExpireEndsEveryWait(t *testing.T) {
	lives(t, func(s *scene, begin func() *life) {
		sink := newFakeSink(func(context.Context, event.Delivery) error { return errors.New("no") })
		s.sink("a", sink).Expire = time.Hour
		delayed := newFakeSink(nil)
		s.sink("delayed", delayed).Delay = &pipelines.Delay{Until: compiled(t, `received + duration("9h")`)}
		paced := s.sink("paced", newFakeSink(nil))
		paced.Rate = &pipelines.Rate{Limit: pipelines.Frequency{Events: 1, Per: 2 * time.Hour}, Burst: 1, Key: compiled(t, "type")}
		batched := s.sink("batched", newFakeSink(nil))
		batched.Batch = pipelines.Batch{Count: 3, Wait: 90 * time.Minute}
		for _, k := range s.pipeline().Sinks {
			k.Expire = time.Hour
		}
		s.pipeline().Sinks[0].Retry = pipelines.Retry{Initial: 50 * time.Minute, Factor: 1, Max: 50 * time.Minute, MaxAttempts: 9}
		l := begin()
		l.send("e1", `{}`)
		l.send("e2", `{}`)
		l.pass(59 * time.Minute)
		equals(t, "dead", l.dead())
		l.pass(time.Minute + time.Second)
		equals(t, "dead", l.dead(), "p/a e1 expired", "p/a e2 expired", "p/delayed e1 expired", "p/delayed e2 expired", "p/paced e2 expired")
		l.pass(time.Hour)
		equals(t, "dead", l.dead(), "p/a e1 expired", "p/a e2 expired", "p/batched e1 expired", "p/batched e2 expired",
			"p/delayed e1 expired", "p/delayed e2 expired", "p/paced e2 expired")
		if _, err := l.box.Redrive(s.t.Context(), event.DeadQuery{Subscriptions: []string{"p/delayed"}}); err != nil {
			t.Fatal(err)
		}
		l.pass(time.Second)
		delayed.exactly(t, 1, 2) // whoever redrives means now
		l.end()
	})
}

func TestRate(t *testing.T) {
	play(t, func(s *scene) {
		sink, batched, serial := newFakeSink(nil), newFakeSink(nil), newFakeSink(nil)
		rate := &pipelines.Rate{Limit: pipelines.Frequency{Events: 10, Per: time.Second}, Burst: 5}
		s.sink("a", sink).Rate = rate
		k := s.sink("b", batched)
		k.Rate, k.Batch = rate, pipelines.Batch{Count: 5, Wait: time.Second}
		k = s.sink("c", serial)
		k.Rate, k.Serial, k.Batch = rate, true, pipelines.Batch{Count: 4096}
		s.start(nil)
		s.emit(105)
		for i := 5; i <= 105; i += 10 {
			for name, k := range map[string]*fakeSink{"a": sink, "b": batched, "c": serial} {
				if got := len(k.got()); got < i-5 || got > i+1 {
					t.Errorf("sink %s got %d after %d of 10/s with 5 at once", name, got, (i-5)/10)
				}
			}
			s.pass(time.Second)
		}
		for _, k := range []*fakeSink{sink, batched, serial} {
			k.exactly(t, 1, 105)
		}
		if got := s.metric("millrace_rate_wait_seconds_total", "p", "a"); got < 9 || got > 10.1 {
			t.Errorf("it waited for %v s", got)
		}
		if rows := s.rows("p/a"); len(rows) > 0 || s.metric("millrace_rate_rows_total", "p", "a") > 0 {
			t.Errorf("%d rows", len(rows))
		}
		// After a pause there is a burst again, and no more than that.
		s.pass(time.Hour)
		if got := s.metric("millrace_rate_wait_seconds_total", "p", "a"); got > 10.1 {
			t.Errorf("it waited for %v s, with nothing to wait for", got)
		}
		s.emit(20)
		if got := len(sink.got()); got != 110 {
			t.Errorf("%d at once after a pause", got-105)
		}
		s.pass(10 * time.Second)
		s.settledAll()
		s.end()
	})
}

// Attempts are what a rate counts: a sink that refuses everything is asked no more often than one that takes it.
func TestRateCountsAttempts(t *testing.T) {
	play(t, func(s *scene) {
		for i, key := range []*rules.Expr{nil, compiled(t, "type")} {
			sink := newFakeSink(func(context.Context, event.Delivery) error { return errDown })
			k := s.sink(fmt.Sprint("s", i), sink)
			k.Retry = pipelines.Retry{Initial: time.Millisecond, Factor: 1, Max: time.Millisecond}
			k.Rate = &pipelines.Rate{Limit: pipelines.Frequency{Events: 1, Per: time.Second}, Burst: 1, Key: key}
			defer func() {
				if n := len(sink.calls()); n < 99 || n > 101 {
					t.Errorf("%d attempts in 100 s of 1/s, key %v", n, key)
				}
			}()
		}
		s.start(nil)
		s.emit(3)
		s.pass(99*time.Second + 500*time.Millisecond)
		s.end()
	})
}

func TestRateByKey(t *testing.T) {
	lives(t, func(s *scene, begin func() *life) {
		sink := newFakeSink(nil)
		k := s.sink("a", sink)
		k.Rate = &pipelines.Rate{Limit: pipelines.Frequency{Events: 1, Per: time.Minute}, Burst: 2, Key: compiled(t, "data.customer")}
		from := time.Now()
		l := begin()
		for i := range 10 {
			l.send(fmt.Sprint("x", i), `{"customer":"x"}`)
		}
		l.send("y0", `{"customer":"y"}`)
		l.pass(time.Second)
		equals(t, "at once", sink.got(), "x0", "x1", "y0")
		if got := l.rowsOf(); got != 8 {
			t.Errorf("%d rows", got)
		}
		l.pass(3 * time.Minute)
		equals(t, "third", sink.after(from, "x2"), "1m0s")
		equals(t, "fourth", sink.after(from, "x3"), "2m0s")
		l.end()
		l = begin() // with a full bucket, at 3m1s
		l.pass(20 * time.Minute)
		l.settledAll()
		l.end()
		var gone []time.Time
		for i := range 10 {
			if n := sink.count(fmt.Sprint("x", i)); n != 1 {
				t.Errorf("x%d: %d attempts", i, n)
			}
			gone = append(gone, sink.times(fmt.Sprint("x", i))...)
		}
		slices.SortFunc(gone, time.Time.Compare)
		for i := 2; i < len(gone); i++ {
			if d := gone[i].Sub(gone[i-2]); d < time.Minute {
				t.Errorf("three of a key within %s: %v", d, gone)
			}
		}
		if last := gone[9].Sub(from); last > 12*time.Minute {
			t.Errorf("the last went after %s", last)
		}
	})
}

// Events whose time came while the sink could not take them do not come all at once.
func TestRateByKeyAfterAPause(t *testing.T) {
	play(t, func(s *scene) {
		sink := newFakeSink(nil)
		s.sink("a", sink).Rate = &pipelines.Rate{Limit: pipelines.Frequency{Events: 1, Per: time.Minute}, Burst: 3, Key: compiled(t, "type")}
		s.start(nil)
		s.emit(30)
		if got := len(sink.got()); got != 3 {
			t.Errorf("%d at once", got)
		}
		if err := s.r.Pause(s.t.Context(), "p", "a", "for a while"); err != nil {
			t.Fatal(err)
		}
		s.pass(2 * time.Hour)
		if err := s.r.Resume(s.t.Context(), "p", "a"); err != nil {
			t.Fatal(err)
		}
		s.pass(time.Second)
		if got := len(sink.got()); got != 6 {
			t.Errorf("%d behind the pause, a burst is 3", got-3)
		}
		s.emit(1)
		s.pass(24*time.Minute + 30*time.Second)
		if got := len(sink.got()); got != 30 || sink.count("e31") > 0 {
			t.Errorf("%d after as many minutes, e31 %d times", got-6, sink.count("e31"))
		}
		s.pass(time.Minute)
		sink.exactly(t, 1, 31)
		s.settledAll()
		s.end()
	})
}

// Each event that waits has a time of its own, and new ones do not overtake it.
func TestTurnsOfAKey(t *testing.T) {
	b := newBuckets(&pipelines.Rate{Limit: pipelines.Frequency{Events: 1, Per: time.Second}, Burst: 1})
	var got []string
	for _, ask := range []struct {
		again bool
		now   float64
	}{{false, 0}, {false, 0}, {false, 0}, {false, 1}, {true, 1}, {true, 1}} {
		got = append(got, fmt.Sprint(b.take(7, ask.again, ask.now*1e9, math.Inf(1))/1e9))
	}
	equals(t, "times", got, "0", "1", "2", "3", "1", "4")
	if at := b.take(7, false, 1e9, 2e9); at < 2e9 || b.take(7, false, 1e9, math.Inf(1)) != 5e9 {
		t.Errorf("an event that expires before %v took somebody's time", at)
	}
	play(t, func(s *scene) {
		sink := newFakeSink(nil)
		s.sink("a", sink).Rate = &pipelines.Rate{Limit: pipelines.Frequency{Events: 1, Per: time.Second}, Burst: 1, Key: compiled(t, "type")}
		s.start(nil)
		s.emit(300)
		s.pass(time.Hour)
		sink.exactly(t, 1, 300)
		if rows := s.metric("millrace_rate_rows_total", "p", "a"); rows > 600 {
			t.Errorf("%v rows were written for 300 events", rows)
		}
		s.end()
	})
}

// The map of keys is bounded: beyond it keys share a rate, which no key exceeds.
func TestBucketsAreBounded(t *testing.T) {
	b := newBuckets(&pipelines.Rate{Limit: pipelines.Frequency{Events: 1, Per: time.Second}, Burst: 1})
	b.most = 3
	take := func(key uint64, now float64) float64 { return b.take(key, false, now, math.Inf(1)) / 1e9 }
	var got []string
	for key := uint64(1); key <= 5; key++ {
		got = append(got, fmt.Sprint(take(key, 0)))
	}
	equals(t, "turns", got, "0", "0", "0", "0", "1")
	if at := take(9, 3e9); at != 3 || len(b.keys) > 4 {
		t.Errorf("turn at %v, %d buckets: the full ones make room", at, len(b.keys))
	}
}

func TestSchedule(t *testing.T) {
	lives(t, func(s *scene, begin func() *life) {
		sink := newFakeSink(func(context.Context, event.Delivery) error { return errors.New("no") })
		s.sink("a", sink).Retry = pipelines.Retry{Initial: time.Second, Max: 5 * time.Minute, MaxAttempts: 4,
			Schedule: []time.Duration{time.Second, 10 * time.Second, 5 * time.Minute}}
		from := time.Now()
		l := begin()
		l.send("e1", `{}`)
		l.pass(time.Minute)
		l.end()
		l = begin()
		l.pass(time.Hour)
		equals(t, "attempts", sink.after(from, "e1"), "0s", "1s", "11s", "5m11s")
		equals(t, "dead", l.dead(), "p/a e1 attempts")
		l.end()
	})
}

func TestStatusesByTheFile(t *testing.T) {
	play(t, func(s *scene) {
		answers := map[string]error{
			"e1": &event.Failure{Class: event.PermanentClass, Status: 400, Err: errors.New("400")},
			"e2": &event.Failure{Class: event.PermanentClass, Status: 422, Err: errors.New("422")},
			"e3": &event.Failure{Class: event.UnavailableClass, Status: 404, Deferred: true, Err: errors.New("404")},
			"e4": &event.Failure{Class: event.GoneClass, Status: 410, Err: errors.New("410")},
		}
		sink := newFakeSink(func(_ context.Context, d event.Delivery) error { return answers[d.Event.ID] })
		k := s.sink("a", sink)
		k.Retry.MaxAttempts, k.Retry.On, k.Retry.Never = 3, []int{400, 410}, []int{404}
		s.start(nil)
		s.emit(4)
		s.pass(time.Hour)
		var got []string
		for _, d := range s.dead() {
			got = append(got, fmt.Sprint(d.Record.Event.ID, " ", d.Exception.Reason, " ", d.Exception.Attempts))
		}
		slices.Sort(got)
		equals(t, "dead", got, "e1 attempts 3", "e2 permanent 1", "e3 permanent 1", "e4 attempts 3")
		s.end()
	})
}

func TestPauseIsKept(t *testing.T) {
	lives(t, func(s *scene, begin func() *life) {
		sink, serial, other := newFakeSink(nil), newFakeSink(nil), newFakeSink(nil)
		s.sink("a", sink)
		s.sink("b", serial).Serial = true
		s.sink("c", other)
		l := begin()
		for _, name := range []string{"a", "b"} {
			if err := l.r.Pause(s.t.Context(), "p", name, "the shop moves"); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.r.Pause(s.t.Context(), "p", "a", "a second reason"); err != nil {
			t.Fatal(err)
		}
		if err := l.r.Pause(s.t.Context(), "p", "nobody", ""); err == nil {
			t.Error("a sink that is not there was paused")
		}
		l.append(1, 5)
		l.pass(time.Hour)
		l.end()
		l = begin()
		l.pass(time.Hour)
		other.exactly(t, 1, 5)
		if got := l.r.Paused(); len(sink.calls())+len(serial.calls()) > 0 || len(got) != 2 || got["p/a"].Reason != "the shop moves" {
			t.Errorf("%v and %v were tried, paused: %v", sink.calls(), serial.calls(), got)
		}
		for _, name := range []string{"a", "b"} {
			if err := l.r.Resume(s.t.Context(), "p", name); err != nil {
				t.Fatal(err)
			}
		}
		l.pass(time.Second)
		sink.exactly(t, 1, 5)
		serial.exactly(t, 1, 5)
		l.settledAll()
		l.end()
		l = begin()
		if got := l.r.Paused(); len(got) > 0 {
			t.Errorf("paused after a resume and a restart: %v", got)
		}
		l.end()
	})
}

// What is in flight when a pause begins ends as it would; nothing begins.
func TestPauseLetsAttemptsEnd(t *testing.T) {
	play(t, func(s *scene) {
		var first atomic.Bool
		sink := newFakeSink(func(context.Context, event.Delivery) error {
			if !first.Swap(true) {
				<-time.After(5 * time.Second)
			}
			return nil
		})
		s.sink("a", sink).Concurrency = 1
		s.start(nil)
		s.emit(3)
		if err := s.r.Pause(s.t.Context(), "p", "a", "now"); err != nil {
			t.Fatal(err)
		}
		s.pass(time.Minute)
		equals(t, "delivered", sink.got(), "e1")
		if err := s.r.Resume(s.t.Context(), "p", "a"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		sink.exactly(t, 1, 3)
		s.end()
	})
}
