package router

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/rules"
)

func TestBackoff(t *testing.T) {
	defaults := pipelines.Retry{Initial: time.Second, Factor: 2, Max: 15 * time.Minute}
	for _, c := range []struct {
		name   string
		retry  pipelines.Retry
		n      int
		after  time.Duration
		jitter float64
		want   time.Duration
	}{
		{"first", defaults, 1, 0, 1, time.Second},
		{"first, least", defaults, 1, 0, 0, time.Second / 2},
		{"second", defaults, 2, 0, 1, 2 * time.Second},
		{"tenth", defaults, 10, 0, 1, 512 * time.Second},
		{"eleventh is capped", defaults, 11, 0, 1, 15 * time.Minute},
		{"capped before the jitter", defaults, 11, 0, 0, 450 * time.Second},
		{"any number", defaults, math.MaxInt, 0, 1, 15 * time.Minute},
		{"none yet", defaults, 0, 0, 1, time.Second},
		{"factor 1", pipelines.Retry{Initial: time.Second, Factor: 1, Max: time.Minute}, 50, 0, 1, time.Second},
		{"factor 1.5", pipelines.Retry{Initial: time.Second, Factor: 1.5, Max: time.Minute}, 3, 0, 1, 2250 * time.Millisecond},
		{"asked for more", defaults, 1, time.Minute, 1, time.Minute},
		{"asked for less", defaults, 5, time.Second, 1, 16 * time.Second},
		{"asked for a year", defaults, 1, 8760 * time.Hour, 1, time.Hour},
		{"asked for the past", defaults, 1, -time.Hour, 1, time.Second},
	} {
		if got := backoff(c.retry, c.n, c.after, c.jitter); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if got := backoff(pipelines.Retry{Initial: time.Second, Factor: 2}, math.MaxInt, 0, 1); got <= 0 {
		t.Errorf("without a maximum it overflowed to %v", got)
	}
}

func TestJudge(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	retry := pipelines.Retry{MaxAttempts: 3, MaxAge: time.Hour}
	down := event.Failure{Class: event.UnavailableClass}
	deferred := event.Failure{Class: event.UnavailableClass, Deferred: true}
	odd := event.Failure{Class: event.Counted}
	accepts := history{firstAt: now, known: true, accepted: 5, refused: 4}
	with := func(h history, counted int, age time.Duration) history {
		h.counted, h.firstAt = counted, now.Add(-age)
		return h
	}
	for _, c := range []struct {
		name    string
		failure event.Failure
		history history
		want    judgement
	}{
		{"permanent", event.Failure{Class: event.PermanentClass}, history{firstAt: now}, judgement{giveUp, event.ReasonPermanent}},
		{"gone", event.Failure{Class: event.GoneClass}, with(accepts, 9, 9*time.Hour), judgement{pauseAll, ""}},
		{"down, nothing known", down, history{firstAt: now, accepted: 9}, judgement{tryAgain, event.ReasonFailed}},
		{"down, others accepted", down, accepts, judgement{countIt, event.ReasonFailed}},
		{"down, as many refused", down, with(history{known: true, accepted: 4, refused: 4}, 0, 0), judgement{tryAgain, event.ReasonFailed}},
		{"down, no others", down, history{firstAt: now, known: true}, judgement{tryAgain, event.ReasonFailed}},
		{"down, others accepted, the last", down, with(accepts, 2, 0), judgement{giveUp, event.ReasonAttempts}},
		{"down, for all, after many", down, with(history{known: true, refused: 9}, 2, 0), judgement{tryAgain, event.ReasonFailed}},
		{"down, for all, too old", down, with(history{known: true, refused: 9}, 0, time.Hour), judgement{giveUp, event.ReasonAge}},
		{"deferred, others accepted", deferred, with(accepts, 2, 0), judgement{tryAgain, event.ReasonFailed}},
		{"deferred, too old", deferred, with(accepts, 0, 2*time.Hour), judgement{giveUp, event.ReasonAge}},
		{"odd", odd, history{firstAt: now}, judgement{countIt, event.ReasonFailed}},
		{"odd, the last", odd, with(history{}, 2, 0), judgement{giveUp, event.ReasonAttempts}},
		{"odd, not yet too old", odd, with(history{}, 0, time.Hour-1), judgement{countIt, event.ReasonFailed}},
		{"odd, too old", odd, with(history{}, 0, time.Hour), judgement{giveUp, event.ReasonAge}},
		{"odd with Retry-After", event.Failure{Deferred: true}, history{firstAt: now}, judgement{tryAgain, event.ReasonFailed}},
	} {
		if got := judge(&c.failure, c.history, retry, now); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestClip(t *testing.T) {
	for in, want := range map[string]string{
		"short": "short", "a\xffb": "a\uFFFDb", strings.Repeat("x", 2000): strings.Repeat("x", 1024),
		"x" + strings.Repeat("é", 600): "x" + strings.Repeat("é", 511),
	} {
		if got := clip(in); got != want {
			t.Errorf("clip(%.20q…) has %d bytes, want %d", in, len(got), len(want))
		}
	}
	if got := words(&event.Failure{}); got == "" {
		t.Error("a failure without a cause has no words")
	}
}

// step of a breaker's life: at a time, something happens to an event.
type breakerStep struct {
	at    time.Duration
	what  string // ok, down, refused, retry-after, odd, probe (begins and is down), probe ok, probe odd
	event event.Offset
	open  bool          // afterwards
	limit int           // afterwards; 0 is not looked at
	next  time.Duration // when the next probe may go, if open
}

// TestSlow: half as many run after a failure of the destination, at most once for what ran at the same time, and one more with each
// success. A sink that is well has its whole bound from the start.
func TestSlow(t *testing.T) {
	start := time.Unix(1000, 0)
	b := newBreaker(nil, pipelines.Retry{}, 16)
	fail := func(begun, now int, want int) {
		t.Helper()
		b.slow(start.Add(time.Duration(begun)), start.Add(time.Duration(now)))
		if b.limit != want {
			t.Fatalf("limit %d, want %d", b.limit, want)
		}
	}
	if b.limit != 16 || !b.room(15, start) || b.room(16, start) {
		t.Fatalf("limit %d at first", b.limit)
	}
	fail(1, 5, 8)
	fail(2, 6, 8) // ran beside the first
	fail(5, 7, 8)
	fail(6, 8, 4)
	for range 3 {
		b.succeeded(start)
	}
	fail(7, 9, 7)
	fail(9, 10, 3)
	fail(11, 12, 1)
	fail(13, 14, 1)
	for range 20 {
		b.succeeded(start)
	}
	if b.limit != 16 {
		t.Errorf("limit %d in the end", b.limit)
	}
}

func TestBreaker(t *testing.T) {
	five := func(at time.Duration) (steps []breakerStep) {
		for i := range 5 {
			steps = append(steps, breakerStep{at: at, what: "down", event: event.Offset(i + 1), open: i == 4, next: at + time.Second})
		}
		return steps
	}
	half := func(gap time.Duration, opens bool) (steps []breakerStep) {
		for i := range 20 {
			what := []string{"down", "ok"}[i%2]
			steps = append(steps, breakerStep{at: time.Duration(i) * gap, what: what, event: event.Offset(i)})
		}
		at := 20 * gap
		return append(steps, breakerStep{at: at, what: "down", event: 20, open: opens, next: at + time.Second})
	}
	for name, steps := range map[string][]breakerStep{
		"five in a row": five(0),
		"one event five times": {
			{what: "down", event: 1}, {what: "down", event: 1}, {what: "down", event: 1},
			{what: "down", event: 1}, {what: "down", event: 1}, {what: "down", event: 1},
		},
		"a success between": append([]breakerStep{
			{what: "down", event: 11}, {what: "down", event: 12}, {what: "down", event: 13}, {what: "down", event: 14},
			{what: "ok", event: 15},
		}, five(0)...),
		"a judgement between": append([]breakerStep{
			{what: "down", event: 11}, {what: "down", event: 12}, {what: "odd", event: 15},
		}, five(0)...),
		"refused":          {{what: "refused", event: 1, open: true, next: time.Second}},
		"half of twenty":   half(400*time.Millisecond, true),
		"half, too slowly": half(600*time.Millisecond, false),
		"retry-after": append(five(0)[:4],
			breakerStep{what: "retry-after", event: 9, open: true, next: time.Minute}),
		"probes double to the maximum": append(five(0),
			breakerStep{at: 1 * time.Second, what: "probe", event: 6, open: true, next: 3 * time.Second},
			breakerStep{at: 3 * time.Second, what: "probe", event: 7, open: true, next: 7 * time.Second},
			breakerStep{at: 7 * time.Second, what: "probe", event: 6, open: true, next: 15 * time.Second},
			breakerStep{at: 15 * time.Second, what: "probe", event: 7, open: true, next: 25 * time.Second},
			breakerStep{at: 25 * time.Second, what: "probe", event: 7, open: true, next: 35 * time.Second}),
		"what began before it opened": append(five(0),
			breakerStep{at: time.Second, what: "down", event: 6, open: true, next: time.Second}),
		"the first success closes it": append(five(0),
			breakerStep{at: 2 * time.Second, what: "probe ok", event: 6, limit: 1},
			breakerStep{at: 2 * time.Second, what: "ok", event: 7, limit: 2},
			breakerStep{at: 2 * time.Second, what: "ok", event: 8, limit: 3},
			breakerStep{at: 2 * time.Second, what: "ok", event: 9, limit: 4},
			breakerStep{at: 2 * time.Second, what: "ok", event: 9, limit: 5}),
		"a judged probe": append(five(0),
			breakerStep{at: time.Second, what: "probe", event: 6, open: true, next: 3 * time.Second},
			breakerStep{at: 4 * time.Second, what: "probe odd", event: 7, open: true, next: 4 * time.Second},
			breakerStep{at: 4 * time.Second, what: "probe", event: 6, open: true, next: 6 * time.Second}),
	} {
		t.Run(name, func(t *testing.T) { runBreaker(t, steps) })
	}
}

func runBreaker(t *testing.T, steps []breakerStep) {
	b := newBreaker(breakerDefaults(), pipelines.Retry{Initial: time.Second, Max: time.Minute}, 6)
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i, s := range steps {
		now := start.Add(s.at)
		probe := 0
		if strings.HasPrefix(s.what, "probe") {
			if !b.room(3, now) {
				t.Fatalf("step %d: no room for the probe", i)
			}
			probe = b.began()
			if b.room(0, now.Add(time.Hour)) {
				t.Errorf("step %d: room for a second probe", i)
			}
		}
		switch s.what {
		case "ok", "probe ok":
			b.succeeded(now)
		case "odd", "probe odd":
			b.judged(probe, now)
		default:
			f := event.Failure{Class: event.UnavailableClass, Refused: s.what == "refused", Err: errors.New("down")}
			if s.what == "retry-after" {
				f.After = time.Minute
			}
			b.unavailable(place{offset: s.event}, &f, probe, now)
		}
		if b.open != s.open || s.limit > 0 && b.limit != s.limit {
			t.Fatalf("step %d: open %v limit %d, want %v and %d", i, b.open, b.limit, s.open, s.limit)
		}
		if next := b.alarm(); s.open && !next.Equal(start.Add(s.next)) {
			t.Errorf("step %d: next probe after %v, want %v", i, next.Sub(start), s.next)
		}
	}
}

func TestBreakerOff(t *testing.T) {
	b := newBreaker(nil, pipelines.Retry{Initial: time.Second}, 0)
	for i := range 100 {
		if b.unavailable(place{offset: event.Offset(i)}, &event.Failure{Refused: true}, b.began(), time.Time{}) {
			t.Fatal("it opened")
		}
	}
	if !b.room(0, time.Time{}) || b.room(1, time.Time{}) {
		t.Error("a concurrency of 0 is not 1")
	}
}

func TestRing(t *testing.T) {
	events := func(from, to event.Offset, size int64, kept ...event.Offset) run {
		var all []shaped
		for _, o := range kept {
			all = append(all, shaped{offset: o, size: size})
		}
		return newRun(from, to, time.Time{}, all)
	}
	has := func(r *ring, o event.Offset) (kept, known bool) {
		runs := r.after(o-1, nil)
		if len(runs) == 0 || runs[0].from > o {
			return false, false
		}
		i := runs[0].find(o)
		return i < len(runs[0].kept) && runs[0].kept[i].offset == o, true
	}
	demand := func(r *ring, o event.Offset, kept, known bool) {
		t.Helper()
		if k, n := has(r, o); k != kept || n != known {
			t.Errorf("offset %d: kept %v, known %v", o, k, n)
		}
	}
	r := newRing(10 * (ringOverhead + runOverhead + 1000))
	for o := event.Offset(1); o <= 30; o++ {
		r.put(events(o, o, 1000, o))
	}
	demand(r, 20, false, false)
	demand(r, 21, true, true)
	demand(r, 30, true, true)
	demand(r, 31, false, false)
	r.put(events(31, 31, 1<<20, 31))
	demand(r, 31, false, false) // one that is larger than the budget does not take the place of the others
	demand(r, 30, true, true)
	r.put(events(32, 100_000, 1000, 40, 50, 60, 70, 80, 90)) // it comes in pieces
	demand(r, 31, false, false)
	demand(r, 33, false, true)
	demand(r, 90, true, true)
	demand(r, 99_999, false, true)
	demand(r, 100_001, false, false)
	if got := len(r.after(40, nil)); got != 4 {
		t.Errorf("%d runs", got)
	}
	r = newRing(math.MaxInt64)
	for o := event.Offset(1); o <= 1_000_000; o += 1000 {
		r.put(events(o, o+999, 0, o))
	}
	if r.bytes != 1000*(ringOverhead+runOverhead) || len(r.after(0, nil)) != runsAtOnce {
		t.Errorf("the ring holds %d bytes", r.bytes)
	}
}

func TestFold(t *testing.T) {
	var f fold
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i, c := range []struct {
		at     time.Duration
		line   string
		hidden int
		ok     bool
	}{
		{0, "a", 0, true}, {time.Second, "a", 0, false}, {9 * time.Second, "a", 0, false}, {10 * time.Second, "a", 2, true},
		{10500 * time.Millisecond, "b", 0, false}, {11 * time.Second, "b", 1, true}, {12 * time.Second, "a", 0, true},
	} {
		if hidden, ok := f.allow(start.Add(c.at), c.line); hidden != c.hidden || ok != c.ok {
			t.Errorf("line %d: %d %v, want %d %v", i, hidden, ok, c.hidden, c.ok)
		}
	}
}

func TestMetricsOfANameAgree(t *testing.T) {
	plan := &pipelines.Plan{Pipelines: []*pipelines.Pipeline{{
		Name: "p", Stages: []pipelines.Stage{{Name: "s"}},
		Sinks: []*pipelines.Sink{{Name: "a", Component: pipelines.Component{Value: newFakeSink(nil)}}},
	}}}
	r := New(plan, newFakeLog(t), Options{})
	if err := r.Configure(t.Context()); err != nil {
		t.Fatal(err)
	}
	labels, seen := map[string]string{}, map[string]bool{}
	for _, m := range r.Stats() {
		names := ""
		for _, l := range m.Labels {
			names += l.Name + " "
		}
		if before, ok := labels[m.Name]; ok && before != names {
			t.Errorf("%s has labels %s and %s", m.Name, before, names)
		}
		labels[m.Name] = names
		if id := fmt.Sprint(m.Name, m.Labels); seen[id] {
			t.Errorf("%s is there twice", id)
		} else {
			seen[id] = true
		}
		if !strings.HasPrefix(m.Name, "millrace_") || m.Help == "" || (m.Kind == Counter) != strings.HasSuffix(m.Name, "_total") {
			t.Errorf("metric %+v", m)
		}
	}
	if len(labels) != 21 {
		t.Errorf("%d names", len(labels))
	}
}

// An entry of the ring must not keep more of the log alive than it weighs: its texts share the memory of the whole event.
func TestWeightOfWhatIsLeftOut(t *testing.T) {
	play(t, func(s *scene) {
		s.stage(func(ev *event.Event) (bool, string, error) {
			ev.Data = nil
			return ev.ID != "dropped", "", nil
		}, "")
		shaper := newShaper(s.pipeline())
		shape := func(id string) *shaped {
			out := &shaped{}
			r := event.Record{Offset: 1, Event: event.Event{ID: id, Source: "/s", Data: make([]byte, 1<<20)}}
			shaper.allInto(out, &r, nil, nil, &rules.Subject{})
			return out
		}
		if got := shape("emptied").weight(); got < 1<<20 {
			t.Errorf("an event that was emptied weighs %d", got)
		}
		if got := shape("dropped"); got.id != "" || got.source != "" || got.weight() != ringOverhead {
			t.Errorf("of a dropped event is left %q %q, %d bytes", got.source, got.id, got.weight())
		}
	})
}
