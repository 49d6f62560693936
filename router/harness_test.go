package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/rules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scene is a router under test: one pipeline "p" on a fake log, in a bubble of its own time.
type scene struct {
	t    *testing.T
	log  *fakeLog
	plan *pipelines.Plan
	r    *Router
	n    int
	told *slog.Logger
	stop func()
	runs chan error
}

// play runs a test in a synctest bubble. Its time stands still while anything can go on.
func play(t *testing.T, f func(s *scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &pipelines.Pipeline{Name: "p"}
		plan := &pipelines.Plan{ShutdownTimeout: 10 * time.Second, Pipelines: []*pipelines.Pipeline{p}}
		f(&scene{t: t, log: newFakeLog(t), plan: plan})
	})
}

func (s *scene) pipeline() *pipelines.Pipeline { return s.plan.Pipelines[0] }

func (s *scene) stage(op func(ev *event.Event) (bool, string, error), e pipelines.OnError) {
	p := s.pipeline()
	on := func(s *rules.Subject) (bool, string, error) { return op(&s.Event) }
	p.Stages = append(p.Stages, pipelines.Stage{Name: fmt.Sprint("stage", len(p.Stages)+1), Op: on, OnError: e})
}

// sink adds a sink with the defaults of the language, and no breaker.
func (s *scene) sink(name string, value Sink) *pipelines.Sink {
	k := &pipelines.Sink{
		Name: name, Component: pipelines.Component{Value: value},
		Timeout: 15 * time.Second, Concurrency: 16, Batch: pipelines.Batch{Count: 1},
		Retry: pipelines.Retry{Initial: time.Second, Factor: 2, Max: 15 * time.Minute, MaxAttempts: 20, MaxAge: 72 * time.Hour},
	}
	s.pipeline().Sinks = append(s.pipeline().Sinks, k)
	return k
}

func breakerDefaults() *pipelines.Breaker {
	return &pipelines.Breaker{After: 5, ProbeMax: 10 * time.Second}
}

// start makes a router and runs it. whens are the decisions of the sinks, by name.
func (s *scene) start(whens map[string]decider) {
	s.t.Helper()
	s.r = New(s.plan, s.log, Options{Rand: func() float64 { return 1 }, Logger: s.told})
	s.r.decide(whens)
	if err := s.r.Configure(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	runs := make(chan error, 1)
	s.stop, s.runs = cancel, runs
	go func() { runs <- s.r.Run(ctx) }()
	synctest.Wait()
}

func (r *Router) decide(whens map[string]decider) {
	for i, k := range r.plan.Pipelines[0].Sinks {
		if w := whens[k.Name]; w != nil {
			r.pipelines[0].shaper.whens[i] = w
		}
	}
}

// end stops the router and returns what Run did.
func (s *scene) end() {
	s.t.Helper()
	s.stop()
	if err := <-s.runs; err != nil {
		s.t.Errorf("Run: %v", err)
	}
}

// emit appends n events, e1 e2 …, and lets the router do all that it can do now.
func (s *scene) emit(n int) {
	s.t.Helper()
	batch := event.Batch{}
	for range n {
		s.n++
		batch.Events = append(batch.Events, event.Event{ID: fmt.Sprint("e", s.n), Source: "/test", Type: "test", Data: []byte(`{}`)})
	}
	if _, err := s.r.Emit("p")(s.t.Context(), batch); err != nil {
		s.t.Fatal(err)
	}
	synctest.Wait()
}

// pass lets time go by.
func (s *scene) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (s *scene) dead() []event.DeadLetter {
	dead, _ := s.log.DeadLetters(s.t.Context(), event.DeadQuery{})
	return dead
}

func (s *scene) redrive() {
	_, _ = s.log.Redrive(s.t.Context(), event.DeadQuery{})
	s.pass(time.Second)
}

func (s *scene) rows(sub string) map[event.Offset]event.Exception {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return maps.Clone(s.log.subs[sub].rows)
}

// settledAll demands that every subscription is through with every event.
func (s *scene) settledAll() {
	s.t.Helper()
	for name, sub := range s.log.subs {
		if cursor, head := sub.Position(); cursor != head || len(s.rows(name)) > 0 {
			s.t.Errorf("%s: cursor %d of %d, rows %v", name, cursor, head, s.rows(name))
		}
	}
}

func (s *scene) metric(name string, labels ...string) float64 {
	s.t.Helper()
	for _, m := range s.r.Stats() {
		if m.Name != name {
			continue
		}
		var values []string
		for _, l := range m.Labels {
			values = append(values, l.Value)
		}
		if slices.Equal(values, labels) {
			return m.Value
		}
	}
	s.t.Fatalf("no metric %s%v", name, labels)
	return 0
}

// fakeSink answers by a function of the event and remembers what it took and what it was asked.
type fakeSink struct {
	answer func(ctx context.Context, d event.Delivery) error

	mu    sync.Mutex // guards what follows
	took  []string
	asked []string
	tries map[string][]event.Delivery
	at    map[string][]time.Time
	now   int
	most  int
}

func newFakeSink(answer func(ctx context.Context, d event.Delivery) error) *fakeSink {
	return &fakeSink{answer: answer, tries: map[string][]event.Delivery{}, at: map[string][]time.Time{}}
}

func (k *fakeSink) Deliver(ctx context.Context, batch []event.Delivery) event.Settling {
	s := event.Settling{}
	k.enter(1)
	defer k.enter(-1)
	for _, d := range batch {
		k.note(d, nil, true)
		var err error
		if k.answer != nil {
			err = k.answer(ctx, d)
		}
		k.note(d, err, false)
		s.Verdicts = append(s.Verdicts, err)
	}
	return s
}

func (k *fakeSink) enter(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.now += n
	k.most = max(k.most, k.now)
}

// resetMost returns the most calls that ran at a time since it was last called.
func (k *fakeSink) resetMost() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	most := k.most
	k.most = 0
	return most
}

func (k *fakeSink) note(d event.Delivery, err error, before bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	id := d.Event.ID
	switch {
	case before:
		k.asked = append(k.asked, id)
		k.tries[id] = append(k.tries[id], d)
		k.at[id] = append(k.at[id], time.Now())
	case err == nil:
		k.took = append(k.took, id)
	}
}

func (k *fakeSink) got() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.took)
}

// calls returns the ids of all deliveries, in the order in which they began.
func (k *fakeSink) calls() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.asked)
}

// attempts returns the deliveries of an event.
func (k *fakeSink) attempts(id string) []event.Delivery {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.tries[id])
}

// times returns when the deliveries of an event began.
func (k *fakeSink) times(id string) []time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.at[id])
}

func (k *fakeSink) count(id string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.tries[id])
}

// exactly demands that a sink took e<from>…e<to>, each once, in any order.
func (k *fakeSink) exactly(t *testing.T, from, to int) {
	t.Helper()
	got := k.got()
	slices.Sort(got)
	var want []string
	for i := from; i <= to; i++ {
		want = append(want, fmt.Sprint("e", i))
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the sink took %d events, want each of %d once: %.300v", len(got), len(want), got)
	}
}

var errDown = &event.Failure{Class: event.UnavailableClass, Status: 503, Err: errors.New("503 Service Unavailable")}

type when func(ev *event.Event) (bool, string, error)

func (w when) Bool(in *rules.Input) (bool, string, error) { return w(in.Event) }

func only(ids ...string) when {
	return func(ev *event.Event) (bool, string, error) { return slices.Contains(ids, ev.ID), "", nil }
}
