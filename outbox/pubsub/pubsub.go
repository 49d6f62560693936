package pubsub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/outbox"
)

// ErrClosed means that the PubSub, Publisher or Subscriber was closed.
var ErrClosed = errors.New("the Pub/Sub is closed")

// Config are the settings of a PubSub. They hold for all its groups.
type Config struct {
	// MaxInFlight is how many messages of a topic a group may have in hand at once, over all its subscriptions: handed out and
	// neither acknowledged nor given back, or waiting for NackDelay. 0 is 1, which keeps order. At most event.Window (4,096).
	MaxInFlight int
	// NackDelay is how long a message waits after a Nack until it is handed out again; it keeps its place in MaxInFlight
	// meanwhile. 0 is no wait. A message whose subscription ended does not wait.
	NackDelay time.Duration

	Clock  event.Clock  // nil is the machine's
	Logger *slog.Logger // nil discards
}

// PubSub is an outbox as a Watermill Pub/Sub. Its methods may be called concurrently.
type PubSub struct {
	box      *outbox.Outbox
	config   Config
	changes  chan change
	topics   sync.Map       // names of the topics that the outbox takes events for; only run adds
	closing  chan struct{}  // closed when Close begins
	ended    chan struct{}  // closed when run has ended; flushed is set before
	flushed  error          // what the last flush gave
	consumed sync.WaitGroup // the consumers of all Subscribers

	mu     sync.Mutex // guards closed, that of each Subscriber, and that nothing is added to consumed once closed is set
	closed bool
}

// New returns the Pub/Sub of an outbox, which must have no other. What the outbox holds of former runs is taken up: groups go on
// where they were, even before anybody subscribes. ctx bounds New only; the PubSub lives until Close.
func New(ctx context.Context, box *outbox.Outbox, c Config) (*PubSub, error) {
	if c.MaxInFlight < 0 || c.MaxInFlight > event.Window {
		return nil, fmt.Errorf("MaxInFlight is %d, it must be at most %d", c.MaxInFlight, event.Window)
	}
	if c.NackDelay < 0 {
		return nil, fmt.Errorf("NackDelay is %v, it must not be negative", c.NackDelay)
	}
	c.MaxInFlight = max(c.MaxInFlight, 1)
	if c.Clock == nil {
		c.Clock = event.SystemClock{}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	l, err := restore(ctx, box)
	if err != nil {
		return nil, err
	}
	p := &PubSub{box: box, config: c, changes: make(chan change), closing: make(chan struct{}), ended: make(chan struct{})}
	for topic := range l {
		p.topics.Store(topic, true)
	}
	go p.run(context.WithoutCancel(ctx), l)
	return p, nil
}

// Close ends all subscriptions, closes their channels, and returns when what was acknowledged is on disk and everything that the
// PubSub started has ended. It does not wait for those who still work on a message: it is handed out again after the next start. It
// leaves the outbox open. It may be called more than once.
func (p *PubSub) Close() error {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.closing)
	}
	p.mu.Unlock()
	<-p.ended
	p.consumed.Wait()
	return p.flushed
}

// change asks run for something: that there is a topic, and a group if it is named, or, without a topic, that all that was
// acknowledged gets to disk.
type change struct {
	topic, group string
	answer       chan answer // holds one
}

type answer struct {
	reader *reader // of the group
	err    error
}

// ask has a change made and waits for it until done is closed. A change that nobody waits for any longer may happen all the same.
func (p *PubSub) ask(done <-chan struct{}, topic, group string) (*reader, error) {
	c := change{topic, group, make(chan answer, 1)}
	select {
	case p.changes <- c:
	case <-p.ended:
		return nil, ErrClosed
	case <-done:
		return nil, errLeft
	}
	select { // run answers whatever it took
	case a := <-c.answer:
		return a.reader, a.err
	case <-done:
		return nil, errLeft
	}
}

// errLeft answers those who did not want to wait any longer.
var errLeft = errors.New("withdrawn")

// closeWait bounds how long Close waits for the last acknowledgments to get to disk. The outbox needs longer only while its disk is
// full and its reserve used up; what is not written then is handed out again.
const closeWait = 5 * time.Second

// run owns the layout and the readers. It makes changes one after the other, those that wait together in one transaction.
func (p *PubSub) run(lasting context.Context, l layout) {
	defer close(p.ended)
	ctx, cancel := context.WithCancelCause(lasting)
	var running sync.WaitGroup
	readers := map[string]*reader{}
	for open := true; open; {
		select {
		case c := <-p.changes:
			p.make(ctx, p.waiting(c), l, func(topic, group string) answer {
				return p.reader(ctx, topic, group, readers, &running)
			})
		case <-p.closing:
			open = false
		}
	}
	cancel(ErrClosed)
	running.Wait()
	ctx, stop := context.WithTimeout(lasting, closeWait)
	defer stop()
	if err := p.flush(ctx); !errors.Is(err, event.ErrClosed) { // an outbox that was closed has written it
		p.flushed = err
	}
}

// waiting are all changes that wait, the first of them given.
func (p *PubSub) waiting(first change) []change {
	list := []change{first}
	for {
		select {
		case c := <-p.changes:
			list = append(list, c)
		default:
			return list
		}
	}
}

// make makes changes and answers them. Configure heeds Close by ctx.
func (p *PubSub) make(ctx context.Context, list []change, l layout, open func(topic, group string) answer) {
	var flush bool
	wanted := l.clone()
	grown := false
	for _, c := range list {
		flush = flush || c.topic == ""
		grown = c.topic != "" && wanted.add(c.topic, c.group) || grown
	}
	var failed, unflushed error
	if grown {
		failed = p.box.Configure(ctx, wanted.layout())
	}
	if flush {
		unflushed = p.flush(ctx)
	}
	if failed == nil {
		l.take(wanted)
	}
	for _, c := range list {
		switch {
		case c.topic == "":
			c.answer <- answer{err: unflushed}
		case !l.has(c.topic, c.group):
			c.answer <- answer{err: fmt.Errorf("topic %q of the outbox: %w", c.topic, failed)}
		case c.group == "":
			p.topics.Store(c.topic, true)
			c.answer <- answer{}
		default:
			p.topics.Store(c.topic, true)
			c.answer <- open(c.topic, c.group)
		}
	}
}

// flush returns when everything that was settled is on disk: a commit takes all of it along.
func (p *PubSub) flush(ctx context.Context) error {
	_, err := p.box.Commit(ctx, event.Commit{})
	return err
}

// reader is the one reader of a topic and group. It stays when its last consumer ends, since it knows what was acknowledged and is
// not on disk yet.
func (p *PubSub) reader(ctx context.Context, topic, group string, readers map[string]*reader, running *sync.WaitGroup) answer {
	name := subscriptionName(topic, group)
	if r := readers[name]; r != nil {
		select {
		case <-r.ended:
			return answer{err: event.ErrClosed} // the outbox was closed or failed
		default:
			return answer{reader: r}
		}
	}
	from, err := p.box.Subscribe(name)
	if err != nil {
		return answer{err: err}
	}
	r := newReader(name, from, p.config)
	readers[name] = r
	running.Go(func() { r.run(ctx, p.box.Failed()) })
	return answer{reader: r}
}
