package pubsub

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-run/millrace/event"
)

var errNoTopic = errors.New("a topic needs a name")

// Publisher is a Watermill Publisher. It may be used concurrently; callers that publish at the same time share a commit.
type Publisher struct {
	pubsub *PubSub
	closed atomic.Bool
}

var _ message.Publisher = (*Publisher)(nil)

// Publisher returns a new Publisher.
func (p *PubSub) Publisher() *Publisher { return &Publisher{pubsub: p} }

// Publish stores messages of a topic in one transaction and returns when it is synced: nil means that all of them survive a
// crash. event.ErrFull, event.ErrBusy and event.ErrClosed mean that none was stored; event.ErrUnknown leaves that open. Until the
// outbox has begun to write, Publish is given up when the context of any of the messages ends, and nothing is stored.
func (p *Publisher) Publish(topic string, messages ...*message.Message) error {
	if p.closed.Load() || p.pubsub.isClosing() {
		return ErrClosed
	}
	if topic == "" {
		return errNoTopic
	}
	if len(messages) == 0 {
		return nil
	}
	ctx, stop := joined(messages)
	defer stop()
	if _, ok := p.pubsub.topics.Load(topic); !ok {
		if _, err := p.pubsub.ask(ctx.Done(), topic, ""); err == errLeft {
			return context.Cause(ctx)
		} else if err != nil {
			return err
		}
	}
	now := p.pubsub.config.Clock.Now().UTC()
	events := make([]event.Event, len(messages))
	for i, m := range messages {
		events[i] = encode(topic, m, now)
	}
	_, err := p.pubsub.box.Commit(ctx, event.Commit{Appends: []event.Append{{Topic: topic, Events: events}}})
	return err
}

// Close makes later calls of Publish return ErrClosed. There is nothing to flush.
func (p *Publisher) Close() error {
	p.closed.Store(true)
	return nil
}

func (p *PubSub) isClosing() bool {
	select {
	case <-p.closing:
		return true
	default:
		return false
	}
}

// joined is a context that ends with the first of those of the messages. stop releases it.
func joined(messages []*message.Message) (ctx context.Context, stop func()) {
	first := messages[0].Context()
	var others []context.Context
	for _, m := range messages[1:] {
		if c := m.Context(); c.Done() != nil && c != first {
			others = append(others, c)
		}
	}
	if len(others) == 0 {
		return first, func() {}
	}
	ctx, cancel := context.WithCancelCause(first)
	stops := make([]func() bool, len(others))
	for i, c := range others {
		if c.Err() != nil {
			cancel(context.Cause(c)) // AfterFunc would do it a moment later
		}
		stops[i] = context.AfterFunc(c, func() { cancel(context.Cause(c)) })
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel(nil)
	}
}
