package tests

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/millrace-run/millrace/brokers/engine"
	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/router"
)

// longest is how much time may pass in a test, beyond the longest delay and max_age of a sink. What is not settled by then waits for ever.
const longest = 30 * 24 * time.Hour

// outcome is what a test came to.
type outcome struct {
	passed  time.Duration     // until the last answer of a sink, or until nobody waited any longer
	refused []pipelines.Place // of events that the source refused
	refusal []error
	sinks   map[string]*record
	letters []letter
	waiting []string // what is neither settled nor a dead letter, in words
}

// letter is a dead letter.
type letter struct {
	sink string // empty: a stage made it
	event.DeadLetter
}

// scene is one test on its way.
type scene struct {
	pipeline *pipelines.Pipeline
	test     *pipelines.Test
	clock    *Clock
	bench    *bench
	log      *heardLog
	router   *router.Router
	slept    <-chan struct{}
	ended    chan error
	out      *outcome
}

// play runs one test to its end: until everything is settled or a dead letter, until nothing can happen any more, or until the
// longest time has passed.
func play(ctx context.Context, p *pipelines.Pipeline, t *pipelines.Test) (out *outcome, err error) {
	clock := NewClock(beginning)
	s := &scene{pipeline: p, test: t, clock: clock, bench: newBench(clock), ended: make(chan error, 1)}
	s.out = &outcome{sinks: s.bench.sinks}
	memory, err := engine.NewMemory(engine.Options{Clock: clock})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, memory.Close()) }()
	s.log = newHeardLog(memory)
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	if err := s.run(ctx); err != nil {
		return nil, err
	}
	return s.out, s.collect(ctx)
}

// open makes a plan of the one pipeline, with mocks in place of its sinks.
func (s *scene) open(ctx context.Context) error {
	own := *s.pipeline
	own.Sinks = make([]*pipelines.Sink, len(s.pipeline.Sinks))
	for i, k := range s.pipeline.Sinks {
		own.Sinks[i] = s.bench.mock(k, i, s.test.Mocks[k.Name])
	}
	plan := &pipelines.Plan{ShutdownTimeout: time.Second, Pipelines: []*pipelines.Pipeline{&own}}
	// Without jitter a delay is what the file says.
	s.router = router.New(plan, s.log, router.Options{Clock: s.clock, Rand: func() float64 { return 1 }})
	s.slept = s.router.Slept()
	return s.router.Configure(ctx)
}

// run runs the router, and ends it when the test is over.
func (s *scene) run(ctx context.Context) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	go func() { s.ended <- s.router.Run(running) }()
	err := s.drive(ctx)
	if err == nil {
		// Before the end of the run, which ends calls that wait for their answer.
		err = s.bury(ctx)
		s.out.waiting = s.bench.unanswered()
	}
	stop()
	close(s.bench.over)
	return errors.Join(err, <-s.ended)
}

// drive gives the events and then plays what follows, in steps: everything that needs no time, then one answer of a sink, and only
// when there is none to give, the time moves to where the next thing happens.
func (s *scene) drive(ctx context.Context) error {
	if err := s.give(ctx); err != nil {
		return err
	}
	end := beginning.Add(s.limit())
	for {
		if err := s.settle(ctx); err != nil {
			return err
		}
		if s.bench.answer() {
			s.out.passed = s.clock.Now().Sub(beginning)
			continue
		}
		at, ok := s.next()
		if ok && at.After(end) {
			s.out.passed = end.Sub(beginning)
		}
		if !ok || at.After(end) {
			return nil
		}
		s.clock.Advance(at)
	}
}

// limit is how much time may pass.
func (s *scene) limit() time.Duration {
	limit := longest
	for _, k := range s.pipeline.Sinks {
		own := k.Retry.MaxAge
		if k.Delay != nil {
			own += k.Delay.For
		}
		limit = max(limit, longest+own)
	}
	return limit
}

// next is when the next thing happens; false: nothing ever will.
func (s *scene) next() (time.Time, bool) {
	timer, timed := s.clock.Next()
	answer, asked := s.bench.next()
	if asked && (!timed || answer.Before(timer)) {
		return answer, true
	}
	return timer, timed
}

// settle waits until nothing can happen without time or an answer.
func (s *scene) settle(ctx context.Context) error {
	for !s.quiet() {
		select {
		case <-s.slept:
		case <-s.bench.asked:
		case err := <-s.ended:
			s.ended <- err // for run, which waits for it
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return errors.New("the router ended by itself")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// quiet says whether the router stands still until the time moves or a sink answers. The order of the questions matters: only
// this goroutine fires timers and answers calls, so what the first one finds holds at the others too, and a call that waits on
// the bench goes on waiting.
func (s *scene) quiet() bool {
	if s.clock.Pending() > 0 {
		return false
	}
	calls, idle := s.router.Idle()
	return idle && calls == s.bench.count()
}

// give puts the events in, one after the other, each when the router has done what it can about the last.
func (s *scene) give(ctx context.Context) error {
	emit := s.router.Emit(s.pipeline.Name)
	if err := s.settle(ctx); err != nil { // it runs before anything goes in
		return err
	}
	order := 0 // of the next event: a body may hold more than one
	for i := range s.test.Given {
		g := &s.test.Given[i]
		events, refused := enter(s.pipeline, g, s.clock, ids(i+1))
		if refused != nil {
			s.out.refused, s.out.refusal = append(s.out.refused, g.Place), append(s.out.refusal, refused)
			continue
		}
		for j := range events {
			s.bench.give(&events[j], order)
			order++
		}
		_, err := emit(ctx, event.Batch{Events: events, Body: keyed(g)})
		switch {
		case errors.Is(err, event.ErrConflict):
			s.out.refused, s.out.refusal = append(s.out.refused, g.Place), append(s.out.refusal, err)
		case err != nil:
			return err
		}
		if err := s.settle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// ids are the ids of what becomes of the n-th event given: test-2, and where a body holds more than one, test-2/2 and so on.
func ids(n int) func() string {
	made := 0
	return func() string {
		if made++; made > 1 {
			return fmt.Sprintf("test-%d/%d", n, made)
		}
		return fmt.Sprintf("test-%d", n)
	}
}

// bury notes the dead letters, in the order of events and sinks.
func (s *scene) bury(ctx context.Context) error {
	dead, err := s.log.DeadLetters(ctx, event.DeadQuery{})
	if err != nil {
		return err
	}
	for _, d := range dead {
		_, _, sink := router.ParseSubscription(d.Subscription)
		s.out.letters = append(s.out.letters, letter{sink, d})
	}
	place := func(name string) int {
		return slices.IndexFunc(s.pipeline.Sinks, func(k *pipelines.Sink) bool { return k.Name == name })
	}
	slices.SortStableFunc(s.out.letters, func(a, b letter) int {
		return cmp.Or(cmp.Compare(s.bench.orderOf(&a.Record.Event), s.bench.orderOf(&b.Record.Event)),
			cmp.Compare(a.Record.Offset, b.Record.Offset), cmp.Compare(place(a.sink), place(b.sink)))
	})
	return nil
}

// collect puts in order what the sinks got, and finds what they did not.
func (s *scene) collect(ctx context.Context) error {
	for _, r := range s.out.sinks {
		slices.SortStableFunc(r.accepted, func(a, b taken) int { return cmp.Compare(a.order, b.order) })
	}
	for _, t := range s.router.Layout().Topics {
		for _, name := range t.Subscriptions {
			if _, _, sink := router.ParseSubscription(name); sink == "" {
				continue
			}
			if err := s.left(ctx, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// left finds what a sink still owes: a subscription that is asked for again hands out all that is not settled.
func (s *scene) left(ctx context.Context, name string) error {
	_, _, sink := router.ParseSubscription(name)
	sub, err := s.log.Subscribe(name)
	if err != nil {
		return err
	}
	_, head := sub.Position()
	records, err := sub.Next(ctx, head, int(head)+1)
	if err != nil {
		return err
	}
	rows, _, err := sub.Due(ctx, s.clock.Now().Add(100*longest), int(head)+1)
	if err != nil {
		return err
	}
	for _, r := range rows {
		records = append(records, r.Record)
	}
	for _, r := range records {
		if text := stillWaiting(sink, r.Event.ID); !slices.Contains(s.out.waiting, text) {
			s.out.waiting = append(s.out.waiting, text)
		}
	}
	return nil
}

func stillWaiting(sink, id string) string { return fmt.Sprintf("event %s for sink %s", id, sink) }
