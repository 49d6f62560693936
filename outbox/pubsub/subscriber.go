package pubsub

import (
	"context"
	"errors"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-run/millrace/event"
)

// Subscriber is a Watermill Subscriber of one group. It may be used concurrently, and a group may have several.
type Subscriber struct {
	pubsub   *PubSub
	group    string
	closing  chan struct{}  // closed by Close
	consumed sync.WaitGroup // its consumers
	closed   bool           // guarded by pubsub.mu
}

var (
	_ message.Subscriber           = (*Subscriber)(nil)
	_ message.SubscribeInitializer = (*Subscriber)(nil)
)

// Subscriber returns a new Subscriber of a group. All subscriptions of a group to a topic share its messages; each group gets all.
// The name must not be empty.
func (p *PubSub) Subscriber(group string) (*Subscriber, error) {
	if group == "" {
		return nil, errors.New("a consumer group needs a name")
	}
	return &Subscriber{pubsub: p, group: group, closing: make(chan struct{})}, nil
}

// SubscribeInitialize makes the topic and the group known: what is published to the topic from now on is kept for the group until
// it is acknowledged, whenever somebody subscribes.
func (s *Subscriber) SubscribeInitialize(topic string) error {
	_, err := s.reader(s.closing, topic)
	return err
}

// Subscribe returns a channel of the group's messages of a topic. The first call of a group does what SubscribeInitialize does. The
// channel is closed when ctx ends, when the Subscriber or the PubSub is closed, and when the outbox is; the contexts of its
// messages end then too. A message belongs to a subscription as soon as it waits in its channel, so that every channel must be read
// until it is closed, or its subscription ended.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	r, err := s.reader(ctx.Done(), topic)
	if err == errLeft {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	if !s.begin() {
		return nil, ErrClosed
	}
	out := make(chan *message.Message)
	ctx, cancel := context.WithCancelCause(ctx)
	var workers sync.WaitGroup
	for range s.pubsub.config.MaxInFlight {
		workers.Go(func() { work(ctx, r, out) })
	}
	go func() {
		defer s.end()
		s.wait(ctx, r)
		cancel(ErrClosed)
		workers.Wait()
		r.heard()
		close(out)
	}()
	return out, nil
}

// Close ends the subscriptions of this Subscriber and returns when their channels are closed and what was acknowledged is on disk.
// It does not wait for those who still work on a message: it goes to another subscription of the group. It may be called more than
// once.
func (s *Subscriber) Close() error {
	s.pubsub.mu.Lock()
	first := !s.closed
	s.closed = true
	s.pubsub.mu.Unlock()
	if !first {
		s.consumed.Wait()
		return nil
	}
	close(s.closing)
	s.consumed.Wait()
	_, err := s.pubsub.ask(nil, "", "")
	if errors.Is(err, ErrClosed) || errors.Is(err, event.ErrClosed) {
		return nil // whoever closed the PubSub or the outbox has written it, or heard why not
	}
	return err
}

// reader asks for the reader of the Subscriber's group, or errLeft.
func (s *Subscriber) reader(done <-chan struct{}, topic string) (*reader, error) {
	if topic == "" {
		return nil, errNoTopic
	}
	select {
	case <-s.closing:
		return nil, ErrClosed
	default:
		return s.pubsub.ask(done, topic, s.group)
	}
}

// begin says whether a consumer may start; end must then be called when it has ended.
func (s *Subscriber) begin() bool {
	s.pubsub.mu.Lock()
	defer s.pubsub.mu.Unlock()
	if s.closed || s.pubsub.closed {
		return false
	}
	s.consumed.Add(1)
	s.pubsub.consumed.Add(1)
	return true
}

func (s *Subscriber) end() {
	s.consumed.Done()
	s.pubsub.consumed.Done()
}

// wait returns when a consumer must end.
func (s *Subscriber) wait(ctx context.Context, r *reader) {
	select {
	case <-ctx.Done():
	case <-s.closing:
	case <-s.pubsub.closing:
	case <-r.ended:
	}
}

// work takes one message after the other from the reader, has it handled, and tells the reader what became of it. Each consumer has
// as many of these as there may be messages in flight.
func work(ctx context.Context, r *reader, out chan<- *message.Message) {
	for ctx.Err() == nil {
		select {
		case d := <-r.ready:
			d.end = handle(ctx, d, out)
			select {
			case r.done <- d:
			case <-r.ended: // the outbox was closed or failed
			}
		case <-ctx.Done():
		}
	}
}

// handle hands a message out and waits for its end.
func handle(ctx context.Context, d delivery, out chan<- *message.Message) ending {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := decode(ctx, &d.record.Event)
	select {
	case out <- m:
	case <-ctx.Done():
		return returned
	}
	select {
	case <-m.Acked():
		return acked
	case <-m.Nacked():
		return nacked
	case <-ctx.Done():
	}
	select { // both may have happened
	case <-m.Acked():
		return acked
	default:
		return returned
	}
}
