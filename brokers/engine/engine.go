// Package engine is the contract of the outbox over a message broker: any Watermill Publisher, and a Subscriber for each
// subscription. It is itself the log of `outbox: { memory: {} }`, over Watermill's channels.
//
// A broker has topics and groups, but no offsets, no exceptions and no state. The engine counts offsets, holds in memory what a
// subscription has not settled (events handed out, exceptions that wait, dead letters) and bounds it. What it can't keep it does
// not promise: see Can.
//
// Over a broker of others a message is acknowledged when its event is settled for good. Until then the broker owns it: after
// a crash it comes again, as a new delivery without its exception. A held exception is therefore a message in flight, and a broker
// that hands out one message at a time hands out no other before it is settled.
//
// In memory the broker lives and dies with the engine, so that a message is acknowledged as soon as the engine holds it.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-run/millrace/event"
)

// Broker is what the engine runs on.
type Broker struct {
	Publisher message.Publisher
	// Subscriber makes the reader of one subscription: group is its name. A group gets every message that was published to the
	// topic since it first subscribed, and again those that it did not acknowledge. The engine closes it.
	Subscriber func(topic, group string) (message.Subscriber, error)
	Durable    bool // what Publish returned nil for survives a crash
	Ordered    bool // a group gets the messages of a topic in the order in which they were published

	// private says that nobody else uses the broker and that it does not outlive the engine.
	private bool
}

// Options bound an engine. Zero fields are the defaults.
type Options struct {
	// MaxBytes is the bound of what is not settled, in bytes: of all topics together in memory, of each subscription over a
	// broker. Default 64 MiB.
	MaxBytes int64
	// MaxEvents is the same bound in events. Default 100,000 in memory and a window (4,096) over a broker.
	MaxEvents int
	// MaxDead and MaxDeadBytes bound the dead letters that are kept in memory; beyond them the oldest is forgotten, counted and
	// logged. Over a broker dead letters are messages in flight and never forgotten. Defaults 10,000 and 16 MiB.
	MaxDead      int
	MaxDeadBytes int64
	// DeadAfter is the id before that of the first dead letter: where another log has ids too, one id is not two dead letters.
	DeadAfter int64

	Clock  event.Clock  // nil is the machine's
	Logger *slog.Logger // nil discards
}

// publishers is how many commits publish to a broker of others at once.
const publishers = 16

// Engine is a log over a broker. All its methods may be called concurrently.
type Engine struct {
	broker  Broker
	options Options

	// turns holds one token for each commit that may publish at once. Configure and Close take all of them, one after the other
	// by means of alone.
	turns   chan struct{}
	alone   chan struct{}
	closing chan struct{} // closed when Close begins
	once    sync.Once
	closed  error // what Close returned, once it was called

	mu        sync.Mutex // guards everything below, and all that topics and subscriptions hold
	broken    error      // why nothing can be committed any more
	topics    map[string]*topic
	subs      map[string]*subscription
	states    map[string]map[string][]byte
	flight    flight
	cemetery  cemetery
	forgotten int64
}

// topic is one stream. last is the offset that was given last, head the last one that was published.
type topic struct {
	name       string
	named      bool
	last, head event.Offset
	held       map[event.Offset]*held // in memory: what is not settled by everyone
	dedupe     *dedupe                // nil takes every event
}

// New returns an engine over a broker of others. Configure connects to it.
func New(b Broker, o Options) (*Engine, error) {
	if b.Publisher == nil || b.Subscriber == nil {
		return nil, errors.New("an engine needs a publisher and subscribers")
	}
	if b.private && !b.Ordered {
		return nil, errors.New("offsets of one process need a broker that keeps order")
	}
	e := &Engine{
		broker: b, options: o.withDefaults(b.private),
		turns: make(chan struct{}, publishers), alone: make(chan struct{}, 1), closing: make(chan struct{}),
		topics: map[string]*topic{}, subs: map[string]*subscription{}, states: map[string]map[string][]byte{},
		cemetery: cemetery{last: o.DeadAfter},
	}
	if b.private { // one after the other, since offsets travel with the messages
		e.turns = make(chan struct{}, 1)
	}
	for range cap(e.turns) {
		e.turns <- struct{}{}
	}
	return e, nil
}

func (o Options) withDefaults(private bool) Options {
	fill := func(n *int64, value int64) {
		if *n <= 0 {
			*n = value
		}
	}
	fill(&o.MaxBytes, 64<<20)
	fill(&o.MaxDeadBytes, 16<<20)
	if o.MaxDead <= 0 {
		o.MaxDead = 10_000
	}
	if o.MaxEvents <= 0 && private {
		o.MaxEvents = 100_000
	}
	if o.MaxEvents <= 0 {
		o.MaxEvents = event.Window
	}
	if o.Clock == nil {
		o.Clock = event.SystemClock{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Can says what this engine is able to do. Over a broker of others a commit with several parts may fail half way, every process
// counts offsets of its own, and there is no place for state. Dead letters are kept as long as the process runs.
func (e *Engine) Can() event.Capabilities {
	private := e.broker.private
	return event.Capabilities{
		Durable: e.broker.Durable, Atomic: private, Shared: private, Ordered: e.broker.Ordered, Stateful: private, Dead: true,
		Dedupe: private, Keyed: private,
	}
}

// Forgotten returns how many dead letters were dropped because there were too many.
func (e *Engine) Forgotten() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.forgotten
}

// Close refuses new commits, waits for those that publish, and ends all that the engine started. What is not settled is left to
// the broker; in memory it is gone.
func (e *Engine) Close() error {
	e.once.Do(func() {
		close(e.closing)
		e.alone <- struct{}{}
		for range cap(e.turns) {
			<-e.turns
		}
		var errs []error
		for _, s := range e.subscriptions() {
			errs = append(errs, s.stop())
		}
		e.closed = errors.Join(append(errs, e.broker.Publisher.Close())...)
	})
	return e.closed
}

// subscriptions returns all that were ever named.
func (e *Engine) subscriptions() []*subscription {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]*subscription, 0, len(e.subs))
	for _, s := range e.subs {
		all = append(all, s)
	}
	return all
}

// isClosed says whether Close has begun.
func (e *Engine) isClosed() bool {
	select {
	case <-e.closing:
		return true
	default:
		return false
	}
}

// enter begins a call that neither publishes nor waits; unless it fails, the caller unlocks mu.
func (e *Engine) enter(ctx context.Context) error {
	if e.isClosed() {
		return event.ErrClosed
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	e.mu.Lock()
	return nil
}

// take waits for a turn to publish.
func (e *Engine) take(ctx context.Context) error {
	if e.isClosed() {
		return event.ErrClosed
	}
	if ctx.Err() != nil {
		return withdrawn(ctx, event.ErrBusy)
	}
	select {
	case <-e.turns:
	case <-ctx.Done():
		return withdrawn(ctx, event.ErrBusy)
	case <-e.closing:
		return event.ErrClosed
	}
	if e.isClosed() {
		e.give()
		return event.ErrClosed
	}
	return nil
}

func (e *Engine) give() { e.turns <- struct{}{} }

// withdrawn is the error of a commit whose caller stopped waiting: why it had to wait, and why it stopped.
func withdrawn(ctx context.Context, why error) error {
	return fmt.Errorf("%w: %w", why, context.Cause(ctx))
}

// takeAll waits until nobody publishes, and keeps it so until giveAll.
func (e *Engine) takeAll(ctx context.Context) error {
	select {
	case e.alone <- struct{}{}:
	case <-ctx.Done():
		return withdrawn(ctx, event.ErrBusy)
	case <-e.closing:
		return event.ErrClosed
	}
	for n := range cap(e.turns) {
		if err := e.take(ctx); err != nil {
			e.giveTurns(n)
			return err
		}
	}
	return nil
}

func (e *Engine) giveAll() { e.giveTurns(cap(e.turns)) }

func (e *Engine) giveTurns(n int) {
	for range n {
		e.give()
	}
	<-e.alone
}
