package router

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/outbox"
	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/rules"
)

// prioritized gives the pipeline of a scene priorities: what an expression says.
func (s *scene) prioritized(text string) {
	s.t.Helper()
	x, err := rules.Compile(text, rules.Options{Scope: rules.EventScope})
	if err != nil {
		s.t.Fatal(err)
	}
	s.pipeline().Priority = x
}

// ofPriority is some events of a priority: p9-1, p9-2 and so on. Those of the default have none of their own.
func ofPriority(priority, from, to int) (events []event.Event) {
	for i := from; i <= to; i++ {
		e := event.Event{ID: fmt.Sprintf("p%d-%d", priority, i), Source: "/test", Type: "test", Data: []byte(`{}`)}
		if priority != DefaultPriority {
			e.Data = fmt.Appendf(nil, `{"p":%d}`, priority)
		}
		events = append(events, e)
	}
	return events
}

func (s *scene) give(events ...event.Event) []string {
	s.t.Helper()
	ids, err := s.r.Emit("p")(s.t.Context(), event.Batch{Events: events})
	if err != nil {
		s.t.Fatal(err)
	}
	synctest.Wait()
	return ids
}

// levelsOf are the priorities of events, from their ids.
func levelsOf(ids []string) (levels []int) {
	for _, id := range ids {
		level, _, _ := strings.Cut(strings.TrimPrefix(id, "p"), "-")
		n, _ := strconv.Atoi(level)
		levels = append(levels, n)
	}
	return levels
}

func TestPriorityOf(t *testing.T) {
	for value, want := range map[string]struct{ level, faults int }{
		`0`: {0, 0}, `4`: {4, 0}, `9`: {9, 0}, `7.0`: {7, 0}, `null`: {4, 0}, `-0`: {0, 0},
		`99`: {9, 1}, `10`: {9, 1}, `-1`: {0, 1}, `1e400`: {9, 1}, `7.5`: {4, 1}, `"7"`: {4, 1}, `true`: {4, 1}, `[1]`: {4, 1}, `{}`: {4, 1},
	} {
		s := scene{t: t, plan: &pipelines.Plan{Pipelines: []*pipelines.Pipeline{{Name: "p"}}}}
		s.prioritized("data.p")
		r := New(s.plan, newFakeLog(t), Options{})
		p := r.pipelines[0]
		got := p.ranks.of(&event.Event{ID: "e", Data: []byte(`{"p":` + value + `}`)})
		if faults := int(p.ranks.faults.Load()); got != want.level || faults != want.faults {
			t.Errorf("%s: priority %d and %d faults, want %+v", value, got, faults, want)
		}
	}
}

func TestPriorityNames(t *testing.T) {
	for priority := range HighestPriority + 1 {
		name := SubscriptionName(TopicName("p-1", priority), "s")
		if p, n, s := ParseSubscription(name); p != "p-1" || n != priority || s != "s" {
			t.Errorf("%s: %s %d %s", name, p, n, s)
		}
	}
	if TopicName("p", DefaultPriority) != "p" {
		t.Error("what was stored before the pipeline had priorities is not found")
	}
}

// While a level waits, at most 15 deliveries go to others before its turn comes, and one for each level whose turn came before. Of the
// levels whose turn it is not, the highest that waits goes first. Levels that always wait get one of 16 each, and the highest the rest.
func TestServe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := &feed{subscriber: &subscriber{}}
		n := rapid.IntRange(1, 10).Draw(t, "levels")
		waiting, passed, got := make([]int, n), make([]int, n), make([]int, n)
		for i := range n {
			f.lanes = append(f.lanes, &lane{subscriber: f.subscriber, at: i, topic: &topic{}})
		}
		serve := func() int {
			served := -1
			_ = f.serve(func(l *lane) (bool, error) {
				if waiting[l.at] > 0 {
					served = l.at
				}
				return served >= 0, nil
			})
			return served
		}
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			waiting[rapid.IntRange(0, n-1).Draw(t, "arrives at")] += rapid.IntRange(0, 30).Draw(t, "events")
			first := slices.IndexFunc(waiting, func(n int) bool { return n > 0 })
			served := serve()
			if (served < 0) != (first < 0) {
				t.Fatalf("level %d was served, %d is the first that waits", served, first)
			}
			for i := range n {
				if passed[i]++; waiting[i] == 0 || i == served {
					passed[i] = 0
				}
				if most := share - 1 + n - 1; passed[i] > most {
					t.Fatalf("level %d of %d was passed by %d times", i, n, passed[i])
				}
			}
			if served >= 0 {
				waiting[served]--
			}
		}
		for i := range n {
			waiting[i] = 1 << 20
		}
		for range 16 * n {
			serve()
		}
		for range 1600 {
			got[serve()]++
		}
		for i := 1; i < n; i++ {
			if got[i] != 100 {
				t.Fatalf("of 1600 deliveries each level gets 100, and the highest the rest: %v", got)
			}
		}
	})
}

// One call at a time, so that the order shows: urgent events pass those that wait, which get one of 16 all the same.
func TestPriorities(t *testing.T) {
	for _, serial := range []bool{false, true} {
		play(t, func(s *scene) {
			hold := make(chan struct{})
			k := newFakeSink(func(context.Context, event.Delivery) error { <-hold; return nil })
			sink := s.sink("k", k)
			sink.Concurrency, sink.Serial = 1, serial
			s.prioritized("data.p")
			s.start(nil)
			s.give(ofPriority(0, 1, 100)...)
			s.give(slices.Concat(ofPriority(9, 1, 64), ofPriority(4, 1, 50))...)
			close(hold)
			s.pass(time.Minute)
			calls := k.calls()
			if len(calls) != 214 {
				s.t.Fatalf("%d deliveries", len(calls))
			}
			if calls[0] != "p0-1" || calls[1] != "p9-1" {
				s.t.Errorf("the first after the one in flight is not an urgent one: %v", calls[:3])
			}
			levels := levelsOf(calls)
			urgent := levels[1 : 1+slices.Index(calls[1:], "p9-64")]
			for _, level := range []int{0, 4} {
				if n := len(slices.DeleteFunc(slices.Clone(urgent), func(l int) bool { return l != level })); n < 3 || n > 5 {
					s.t.Errorf("while 64 urgent events waited, %d of the level %d went", n, level)
				}
			}
			for _, level := range []int{9, 0, 4} { // in order within a level
				var own []string
				for _, id := range calls {
					if strings.HasPrefix(id, fmt.Sprintf("p%d-", level)) {
						own = append(own, id)
					}
				}
				if !slices.IsSortedFunc(own, func(a, b string) int { return ordinal(a) - ordinal(b) }) {
					s.t.Errorf("level %d is not in order: %v", level, own)
				}
			}
			s.settledAll()
			s.end()
		})
	}
}

// A batch that waits for more and is larger than a window takes the events of all levels, and is settled as a whole.
func TestPriorityInBatchesThatWait(t *testing.T) {
	play(t, func(s *scene) {
		f := &file{}
		s.gathers(f, 1<<30, time.Minute)
		s.prioritized("data.p")
		odd := func(ev *event.Event) (bool, string, error) { return ordinal(ev.ID)%2 == 1, "", nil }
		s.start(map[string]decider{"file": when(odd)})
		for i := range 10 {
			s.give(slices.Concat(ofPriority(0, 1000*i+1, 1000*i+1000), ofPriority(9, 500*i+1, 500*i+500))...)
		}
		f.called(t, 0)
		s.pass(5 * time.Minute)
		slices.Sort(f.lines)
		if n := len(f.lines); n != 7500 || len(slices.Compact(f.lines)) != n {
			t.Errorf("%d lines, want 7500, each once", n)
		}
		s.settledAll()
		s.end()
	})
}

func ordinal(id string) int {
	_, n, _ := strings.Cut(id[1:], "-")
	i, _ := strconv.Atoi(n)
	return i
}

// So many wait for another attempt that memory takes no more: an urgent event still goes.
func TestPriorityPassesRetries(t *testing.T) {
	play(t, func(s *scene) {
		k := newFakeSink(func(_ context.Context, d event.Delivery) error {
			if strings.HasPrefix(d.Event.ID, "p0-") {
				return &event.Failure{Class: event.UnavailableClass, Deferred: true, After: time.Hour, Err: errDown}
			}
			return nil
		})
		s.sink("k", k)
		s.prioritized("data.p")
		s.start(nil)
		s.give(ofPriority(0, 1, waitingMax+100)...)
		s.give(ofPriority(9, 1, 1)...)
		if k.count("p9-1") != 1 {
			s.t.Error("the urgent event waits behind those that failed")
		}
		s.end()
	})
}

// An event keeps its lane at its retries, as a dead letter and at its redrive. Lag is shown in sum and for each priority.
func TestPriorityOfDeadLetters(t *testing.T) {
	play(t, func(s *scene) {
		broken := true
		k := newFakeSink(func(context.Context, event.Delivery) error {
			if broken {
				return event.Permanent(errDown)
			}
			return nil
		})
		s.sink("k", k)
		s.prioritized("data.p")
		s.start(nil)
		s.give(slices.Concat(ofPriority(9, 1, 2), ofPriority(4, 1, 1), ofPriority(99, 1, 1))...)
		var names []string
		for _, d := range s.dead() {
			names = append(names, d.Subscription+" "+d.Record.Event.ID)
		}
		slices.Sort(names)
		if want := []string{"p/k p4-1", "p@9/k p9-1", "p@9/k p9-2", "p@9/k p99-1"}; !slices.Equal(names, want) {
			s.t.Errorf("dead letters: %v, want %v", names, want)
		}
		if n := s.metric("millrace_priority_faults_total", "p"); n != 1 {
			s.t.Errorf("%v faults", n)
		}
		if n := s.metric("millrace_dead_letters_total", "p", "k", "permanent"); n != 4 {
			s.t.Errorf("%v dead letters are counted", n)
		}
		if a, b := s.metric("millrace_priority_lag_events", "p", "k", "9"), s.metric("millrace_subscription_lag_events", "p", "k"); a != 0 || b != 0 {
			s.t.Errorf("lag %v, %v", a, b)
		}
		broken = false
		s.redrive()
		if got := k.got(); len(got) != 4 {
			s.t.Errorf("%v were delivered", got)
		}
		s.settledAll()
		s.end()
	})
}

// A log that cannot put one commit into several topics, or whose topics have no common offsets, has no priorities.
func TestPriorityRefused(t *testing.T) {
	play(t, func(s *scene) {
		s.sink("k", newFakeSink(nil))
		s.prioritized("data.p")
		s.log.can.Atomic = false
		if err := New(s.plan, s.log, Options{}).Configure(s.t.Context()); err == nil || !strings.Contains(err.Error(), "priorities") {
			s.t.Errorf("err %v", err)
		}
	})
}

// Push-down runs first: the priority is that of what is left of an event.
func TestPriorityBehindPushDown(t *testing.T) {
	play(t, func(s *scene) {
		k := newFakeSink(nil)
		s.sink("k", k)
		s.stage(func(ev *event.Event) (bool, string, error) { ev.Data = []byte(`{"p":8}`); return true, "", nil }, "")
		s.pipeline().PushDown = 1
		s.prioritized("data.p")
		s.start(nil)
		s.give(ofPriority(0, 1, 1)...)
		if n := len(s.log.topics["p@8"]); n != 1 {
			s.t.Errorf("%d events in the topic", n)
		}
		s.end()
	})
}

// prioritizedLife is one process on a real outbox, which delivers what it has to a sink.
func prioritizedLife(t *testing.T, path, priority string, change func(p *pipelines.Pipeline)) *life {
	t.Helper()
	p := &pipelines.Pipeline{Name: "p"}
	s := &scene{t: t, plan: &pipelines.Plan{ShutdownTimeout: time.Second, Pipelines: []*pipelines.Pipeline{p}}}
	if priority != "" {
		s.prioritized(priority)
	}
	change(p)
	box, err := outbox.Open(t.Context(), outbox.Options{Path: path, Reserve: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	l := &life{t: t, box: box, r: New(s.plan, box, Options{Priorities: Prioritized(box.Topics())}), runs: make(chan error, 1)}
	if err := l.r.Configure(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	l.stop = cancel
	go func() { l.runs <- l.r.Run(ctx) }()
	return l
}

func (l *life) give(events ...event.Event) []string {
	l.t.Helper()
	ids, err := l.r.Emit("p")(l.t.Context(), event.Batch{Events: events})
	if err != nil {
		l.t.Fatal(err)
	}
	return ids
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for end := time.After(time.Minute); !ok(); {
		select {
		case <-end:
			t.Fatal("in vain: " + what)
		case <-again.C:
		}
	}
}

// arrivals is a sink that takes 2 ms for an event, and tells when those of the highest priority came.
type arrivals chan time.Time

func (a arrivals) Deliver(ctx context.Context, batch []event.Delivery) event.Settling {
	for _, d := range batch {
		if strings.HasPrefix(d.Event.ID, "p9-") {
			a <- time.Now()
		}
		if err := wait(ctx, event.SystemClock{}, 2*time.Millisecond); err != nil {
			return event.Settled(len(batch), event.Unavailable(err))
		}
	}
	return event.Settling{Verdicts: make([]error, len(batch))}
}

// So many unimportant events wait, and an urgent one arrives, ten times. MILLRACE_TORTURE=long makes it a million. What else the
// machine does delays some; if the backlog did, it would delay all.
func TestUrgentPassesBacklog(t *testing.T) {
	n := 20_000
	if os.Getenv("MILLRACE_TORTURE") == "long" {
		n = 1_000_000
	}
	for _, serial := range []bool{false, true} {
		sink := make(arrivals, 1)
		l := prioritizedLife(t, filepath.Join(t.TempDir(), "outbox.db"), "data.p", func(p *pipelines.Pipeline) {
			p.Sinks = []*pipelines.Sink{{Name: "k", Component: pipelines.Component{Value: sink}, Concurrency: 4,
				Batch: pipelines.Batch{Count: 1}, Timeout: time.Minute, Serial: serial}}
		})
		for from := 1; from <= n; from += 4096 {
			l.give(ofPriority(0, from, min(from+4095, n))...)
		}
		var took []time.Duration
		for i := range 10 {
			sent := time.Now()
			l.give(ofPriority(9, i, i)...)
			took = append(took, (<-sink).Sub(sent))
		}
		_, head := l.r.pipelines[0].topics[HighestPriority].readers[0].sub.Position()
		t.Logf("serial %v: of %d events before them most wait, urgent ones were delivered after %v", serial, head, took)
		if fastest := slices.Min(took); fastest > 50*time.Millisecond {
			t.Errorf("serial %v: the fastest urgent event took %v", serial, fastest)
		}
		l.end()
	}
}

// Priorities are added and removed, the process ends in between, and each event comes once.
func TestPriorityComesAndGoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	var down sync.Mutex // held while the sink is down
	k := newFakeSink(func(ctx context.Context, _ event.Delivery) error {
		if !down.TryLock() {
			return errDown
		}
		down.Unlock()
		return ctx.Err()
	})
	f := &file{}
	sinks := func(p *pipelines.Pipeline) {
		d := &pipelines.Dedupe{Window: time.Hour, MaxKeys: 1 << 20}
		p.Dedupe = d
		retry := pipelines.Retry{Initial: time.Millisecond, Factor: 1, Max: time.Millisecond, MaxAttempts: 1000, MaxAge: time.Hour}
		p.Sinks = []*pipelines.Sink{
			{Name: "k", Component: pipelines.Component{Value: k}, Concurrency: 4, Timeout: time.Minute, Batch: pipelines.Batch{Count: 1}, Retry: retry,
				Breaker: &pipelines.Breaker{After: 5, ProbeMax: 10 * time.Millisecond}},
			{Name: "file", Component: pipelines.Component{Value: f}, Serial: true, Timeout: time.Minute, Retry: retry,
				Batch: pipelines.Batch{Count: 50, Bytes: 1 << 20}},
		}
	}
	var want []string
	down.Lock()
	for i, priority := range []string{"", "data.p", "", "data.p"} {
		l := prioritizedLife(t, path, priority, sinks)
		var events []event.Event
		for level := range HighestPriority + 1 {
			events = append(events, ofPriority(level, 10*i+1, 10*i+10)...)
		}
		want = append(want, idsOf(events)...)
		if got := l.give(events...); !slices.Equal(got, idsOf(events)) {
			t.Errorf("ids %v", got)
		}
		again := slices.Clone(events)
		for j := range again {
			again[j].Data = []byte(`{"p":7}`)
		}
		l.give(again...) // the same ids with another priority: duplicates
		if n := l.r.pipelines[0].keyer.duplicates.Load(); int(n) != len(again) {
			t.Errorf("with priority %q: %d duplicates of %d", priority, n, len(again))
		}
		l.end()
	}
	down.Unlock()
	l := prioritizedLife(t, path, "", sinks)
	var got []string
	until(t, "all is delivered", func() bool {
		got = k.got()
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(got) >= len(want) && len(f.lines) >= len(want)
	})
	l.settledSoon()
	l.end()
	for name, got := range map[string][]string{"k": k.got(), "file": f.lines} {
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s got %d events, want each of %d once", name, len(got), len(want))
		}
	}
}

// settledSoon waits until every topic is through.
func (l *life) settledSoon() {
	l.t.Helper()
	until(l.t, "all is settled", func() bool {
		all, err := l.box.Status(l.t.Context())
		return err == nil && !slices.ContainsFunc(all, func(s event.SubscriptionStatus) bool { return s.Lag > 0 || s.Retrying > 0 })
	})
}
