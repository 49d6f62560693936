// Package router executes a Plan on a Log: it shapes each event once, hands it to every sink that wants it, and keeps trying
// until the event is settled, a dead letter or still pending. It knows no file format and no storage.
package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
)

// Options are what a router needs beside its plan and its log. Every zero field has a default.
type Options struct {
	Clock  event.Clock    // default: the machine's
	Logger *slog.Logger   // default: discards
	Rand   func() float64 // in [0,1), for jitter; must be safe for concurrent use. Default: math/rand/v2
	// Pipelines is how many share what a process keeps of shaped events in memory, if that is more than the plan has: another
	// router runs the others.
	Pipelines int
	// Priorities are those of which the log has events, by pipeline; see Prioritized. Those of a pipeline that no longer names them are
	// delivered all the same.
	Priorities map[string][]int
}

// Router runs the pipelines of one plan. Configure it once, then Run it once; Emit, Stats and Ready may be called at any time,
// concurrently.
type Router struct {
	plan   *pipelines.Plan
	log    Log
	clock  event.Clock
	logger *slog.Logger
	rand   func() float64
	can    event.Capabilities
	fault  error // what is wrong with the plan; Configure and Run return it

	pipelines []*pipeline

	mu         sync.Mutex // guards configured and the subscriptions of pipelines while Configure sets them
	configured bool
}

// pipeline is one pipeline at work: what comes in goes to its topics, and from there to its sinks.
type pipeline struct {
	name     string
	plan     *pipelines.Pipeline
	shaper   *shaper
	tally    *tally
	push     *pushDown // nil where everything is stored
	keyer    *keyer    // nil when no duplicates are left out
	ranks    *prioritizer
	topics   []*topic // by priority, the highest first
	sinks    []*subscriber
	received atomic.Int64
}

// topic is one topic of a pipeline, with its runner and those who read behind it.
type topic struct {
	*pipeline
	name    string
	level   int // priority of its events
	ring    *ring
	guard   *guard // of the runner
	sub     *sharedReader
	readers []*lane // one for each sink, in their order

	// position is how far the runner has shaped. begun is where it stood when the process began: what lies at or below it was
	// judged by an earlier process, maybe with other stages.
	position  atomic.Int64
	redriving sync.RWMutex // held by the runner while it redrives, and by a sink while it finds out whose an event is
	begun     event.Offset

	rest rest // of the runner
}

// New returns a router for plan. It opens and starts nothing. A sink whose value is not a Sink is reported by Configure and Run.
func New(plan *pipelines.Plan, log Log, opts Options) *Router {
	r := &Router{plan: plan, log: log, clock: opts.Clock, logger: opts.Logger, rand: opts.Rand, can: log.Can()}
	if r.clock == nil {
		r.clock = event.SystemClock{}
	}
	if r.logger == nil {
		r.logger = slog.New(slog.DiscardHandler)
	}
	if r.rand == nil {
		r.rand = rand.Float64
	}
	budget := ringBudget / int64(max(opts.Pipelines, len(plan.Pipelines)))
	for _, p := range plan.Pipelines {
		r.pipelines = append(r.pipelines, r.newPipeline(p, budget, opts.Priorities[p.Name]))
	}
	return r
}

func (r *Router) newPipeline(plan *pipelines.Pipeline, budget int64, left []int) *pipeline {
	logger := r.logger.With("pipeline", plan.Name)
	p := &pipeline{name: plan.Name, plan: plan, shaper: newShaper(plan), tally: newTally(plan, r.clock, logger)}
	p.push = newPushDown(plan, p.shaper, p.tally)
	if plan.Dedupe != nil {
		p.keyer = newKeyer(plan.Dedupe, r.clock, logger)
		if !r.can.Dedupe {
			r.fault = errors.Join(r.fault, fmt.Errorf("pipeline %q: this outbox does not leave out duplicates", p.name))
		}
	}
	r.addTopics(p, budget, left, logger)
	for i, s := range plan.Sinks {
		sink, ok := s.Value.(Sink)
		if !ok && !s.Pull {
			r.fault = errors.Join(r.fault, fmt.Errorf("pipeline %q, sink %q: a %T is not a sink", p.name, s.Name, s.Value))
			continue
		}
		if s.Order != nil && !(r.can.Ordered && r.can.Keyed) {
			r.fault = errors.Join(r.fault, fmt.Errorf("pipeline %q, sink %q: this outbox keeps no order", p.name, s.Name))
		}
		p.sinks = append(p.sinks, r.newSubscriber(p, i, s, sink, logger.With("sink", s.Name)))
	}
	return p
}

// addTopics gives a pipeline a topic for each of its priorities.
func (r *Router) addTopics(p *pipeline, budget int64, left []int, logger *slog.Logger) {
	if p.plan.Priority != nil {
		p.ranks = &prioritizer{expr: p.plan.Priority, clock: r.clock, logger: logger}
		if !r.can.Atomic || !r.can.Shared { // a commit may go to several topics
			r.fault = errors.Join(r.fault, fmt.Errorf("pipeline %q: this outbox has no priorities", p.name))
		}
	}
	levels := p.levels(left)
	for _, level := range levels {
		own := logger
		if len(levels) > 1 {
			own = logger.With("priority", level)
		}
		p.topics = append(p.topics, &topic{
			pipeline: p, name: TopicName(p.name, level), level: level,
			ring: newRing(budget / int64(len(levels))), guard: newGuard(r.clock, own),
		})
	}
}

// SubscriptionName is the name of a sink's subscription to a topic; with an empty sink, of the topic's runner.
func SubscriptionName(topic, sink string) string { return topic + "/" + sink }

// Layout is what the plan asks of a log: a topic for each priority of a pipeline, usually one, with a subscription for its runner and
// one for each sink.
func (r *Router) Layout() event.Layout {
	var l event.Layout
	for _, p := range r.pipelines {
		for _, t := range p.topics {
			l.Topics = append(l.Topics, t.layout())
		}
	}
	return l
}

// Configure gives the log its layout and takes its subscriptions. Call it before Run.
func (r *Router) Configure(ctx context.Context) error {
	if r.fault != nil {
		return r.fault
	}
	if err := r.log.Configure(ctx, r.Layout()); err != nil {
		return fmt.Errorf("configure the outbox: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.pipelines {
		for _, t := range p.topics {
			if err := t.subscribe(r.log); err != nil {
				return err
			}
		}
		for _, s := range p.sinks {
			if err := s.loadPause(ctx, r.can); err != nil {
				return err
			}
		}
	}
	r.configured = true
	return nil
}

func (t *topic) layout() event.Topic {
	l := event.Topic{Name: t.name, Subscriptions: []string{SubscriptionName(t.name, "")}, Dedupe: settingsOf(t.plan.Dedupe)}
	if l.Dedupe != nil && t.level != DefaultPriority {
		l.Dedupe, l.KeysOf = nil, TopicName(t.pipeline.name, DefaultPriority)
	}
	for _, s := range t.plan.Sinks {
		name := SubscriptionName(t.name, s.Name)
		l.Subscriptions = append(l.Subscriptions, name)
		if s.From != (event.Start{}) {
			if l.From == nil {
				l.From = map[string]event.Start{}
			}
			l.From[name] = s.From
		}
	}
	return l
}

func (t *topic) subscribe(log Log) error {
	sub, err := log.Subscribe(SubscriptionName(t.name, ""))
	if err != nil {
		return fmt.Errorf("subscribe the runner of %s: %w", t.name, err)
	}
	t.sub = &sharedReader{Subscription: sub}
	t.begun, _ = sub.Position()
	t.position.Store(int64(t.begun))
	for _, l := range t.readers {
		if err := l.subscribe(log); err != nil {
			return err
		}
	}
	return nil
}

// Emit returns the way into a pipeline for its source. The events of a batch and the state behind them are one commit. An
// event without a time of receipt gets the present one. Of an event that the pipeline's dedupe leaves out, the id of the first one
// is returned.
func (r *Router) Emit(pipeline string) Emit {
	if p := r.pipeline(pipeline); p != nil {
		return func(ctx context.Context, b event.Batch) ([]string, error) { return r.emit(ctx, p, b) }
	}
	return func(context.Context, event.Batch) ([]string, error) {
		return nil, fmt.Errorf("there is no pipeline %q", pipeline)
	}
}

// pipeline is the one with a name, nil if there is none.
func (r *Router) pipeline(name string) *pipeline {
	for _, p := range r.pipelines {
		if p.name == name {
			return p
		}
	}
	return nil
}

func (r *Router) emit(ctx context.Context, p *pipeline, b event.Batch) ([]string, error) {
	if err := p.admit(ctx); err != nil {
		return nil, err
	}
	x, ok := b.Prepared.(*prepared)
	if !ok {
		var err error
		if x, err = r.prepare(p, &b); err != nil {
			return nil, err
		}
	}
	c := event.Commit{Appends: p.appends(x, b.Body)}
	if len(b.State) > 0 {
		c.States = []event.State{{Owner: sourceOwner(p.name), Changes: b.State}}
	}
	ids, left := idsOf(x.events), 0
	if c.Appends != nil || c.States != nil {
		appended, err := r.log.Commit(ctx, c)
		if err != nil {
			return nil, err
		}
		left = p.answer(ids, c.Appends, appended)
	}
	p.received.Add(int64(x.Len() - left))
	p.admitted(x)
	if x.tally != nil {
		p.tally.merge(x.tally)
	}
	return ids, nil
}

// receivedAt notes when an event came, unless its source has.
func receivedAt(e *event.Event, now time.Time) {
	if e.Received.IsZero() {
		e.Received = now
	}
}

func idsOf(events []event.Event) []string {
	ids := make([]string, len(events))
	for i := range events {
		ids[i] = events[i].ID
	}
	return ids
}

// Run executes the plan until ctx ends, then returns nil; or until the log is over, then it returns why. When ctx ends no new
// attempt begins. Attempts in flight get the plan's shutdown timeout and are then cancelled: their events stay pending. All
// goroutines have ended when Run returns.
func (r *Router) Run(ctx context.Context) error {
	if err := r.runnable(); err != nil {
		return err
	}
	stop, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()

	parts := r.parts()
	ended := make(chan error, 1)
	go func() { ended <- runAll(stop, work, parts, cancel) }()
	<-stop.Done()
	return r.drain(ended, abandon)
}

// part is one goroutine of a run. The end of stop means to begin nothing new, that of work to leave what is under way; nil is a
// clean end. join waits for what run started.
type part interface {
	run(stop, work context.Context) error
	join()
}

// runAll runs the parts until all have ended. The first that fails cancels the others, before it waits for its own.
func runAll(stop, work context.Context, parts []part, cancel context.CancelCauseFunc) error {
	var group sync.WaitGroup
	faults := make(chan error, len(parts))
	for _, p := range parts {
		group.Go(func() {
			defer p.join()
			if err := p.run(stop, work); err != nil {
				faults <- err
				cancel(err)
			}
		})
	}
	group.Wait()
	select {
	case err := <-faults:
		return err
	default:
		return nil
	}
}

// drain gives the parts the shutdown timeout to finish what is in flight, then abandons it and waits for them.
func (r *Router) drain(ended <-chan error, abandon context.CancelFunc) error {
	timeout, release := r.clock.After(r.plan.ShutdownTimeout)
	defer release()
	select {
	case err := <-ended:
		return err
	case <-timeout:
		abandon()
		return <-ended
	}
}

func (r *Router) runnable() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fault == nil && !r.configured {
		return errors.New("the router runs only after Configure")
	}
	return r.fault
}

func (r *Router) parts() []part {
	var parts []part
	for _, p := range r.pipelines {
		for _, t := range p.topics {
			parts = append(parts, newRunner(r, t))
		}
		for _, s := range p.sinks {
			parts = append(parts, newPart(s))
		}
	}
	return parts
}

func newPart(s *subscriber) part {
	switch {
	case s.plan.Pull:
		return newPuller(s)
	case s.plan.Serial:
		return newSerial(s)
	}
	return newLoop(s)
}

// rows says that a redrive by the runner can give a sink a row of an event which that sink has settled: offsets mean the same
// to all, and the log still has the event. A log that does not outlive its process need not keep what is settled.
func (r *Router) rows() bool { return r.can.Shared && r.can.Reopening }

// Ready returns nil when every subscription runs and reaches its log, else why not. A sink that is down is no reason.
func (r *Router) Ready() error {
	for _, p := range r.pipelines {
		for _, t := range p.topics {
			if err := t.guard.ready(); err != nil {
				return fmt.Errorf("pipeline %s: %w", t.name, err)
			}
		}
		for _, s := range p.sinks {
			if err := s.guard.ready(); err != nil {
				return fmt.Errorf("subscription %s: %w", SubscriptionName(p.name, s.plan.Name), err)
			}
		}
	}
	return r.fault
}

// sharedReader lets the sinks of a topic ask for the rows of its runner's subscription, whose methods are not concurrent.
type sharedReader struct {
	Subscription
	mu sync.Mutex // held during each call
}

// Rows is Subscription.Rows, from any goroutine.
func (s *sharedReader) Rows(ctx context.Context, from, to event.Offset) ([]event.Offset, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Subscription.Rows(ctx, from, to)
}

// Next is Subscription.Next.
func (s *sharedReader) Next(ctx context.Context, upTo event.Offset, max int) ([]event.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Subscription.Next(ctx, upTo, max)
}

// Due is Subscription.Due.
func (s *sharedReader) Due(ctx context.Context, now time.Time, max int) ([]event.Exceptional, time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Subscription.Due(ctx, now, max)
}
