package engine_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-run/millrace/brokers/engine"
	"github.com/millrace-run/millrace/router"
	"github.com/millrace-run/millrace/router/routertest"
)

// broker is what a broker on another machine looks like from here: groups outlive their readers, and get again what they did not
// acknowledge.
type broker struct {
	mu      sync.Mutex // guards everything below, and the groups
	groups  map[string]*group
	publish func(topic string) error // nil accepts everything
	connect func(group string) error // nil lets everybody in
}

type group struct {
	topic   string
	waits   []*message.Message
	flying  []*message.Message // handed out; acknowledged ones included, until somebody looks
	changed chan struct{}
}

func newBroker() *broker { return &broker{groups: map[string]*group{}} }

// Publish gives every group of the topic a copy.
func (b *broker) Publish(topic string, messages ...*message.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.publish != nil {
		if err := b.publish(topic); err != nil {
			return err
		}
	}
	for _, g := range b.groups {
		if g.topic == topic {
			for _, m := range messages {
				g.waits = append(g.waits, m.Copy())
			}
			g.signal()
		}
	}
	return nil
}

func (b *broker) Close() error { return nil }

// subscriber is the factory that the engine takes.
func (b *broker) subscriber(topic, name string) (message.Subscriber, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.connect != nil {
		if err := b.connect(name); err != nil {
			return nil, err
		}
	}
	g := b.groups[name]
	if g == nil {
		g = &group{topic: topic, changed: make(chan struct{}, 1)}
		b.groups[name] = g
	}
	return &member{broker: b, group: g}, nil
}

// unsettled is how many messages the group still has to acknowledge.
func (b *broker) unsettled(name string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	g := b.groups[name]
	return len(g.waits) + len(unacknowledged(g.flying))
}

func unacknowledged(messages []*message.Message) []*message.Message {
	return slices.DeleteFunc(slices.Clone(messages), func(m *message.Message) bool {
		select {
		case <-m.Acked():
			return true
		default:
			return false
		}
	})
}

func (g *group) signal() {
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// member is one reader of a group.
type member struct {
	broker *broker
	group  *group
	wg     sync.WaitGroup
}

func (m *member) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	out := make(chan *message.Message)
	m.wg.Go(func() {
		defer close(out)
		defer m.giveBack()
		for {
			next := m.next()
			if next == nil {
				select {
				case <-m.group.changed:
				case <-ctx.Done():
					return
				}
				continue
			}
			select {
			case out <- next:
			case <-ctx.Done():
				return
			}
		}
	})
	return out, nil
}

func (m *member) Close() error {
	m.wg.Wait()
	return nil
}

func (m *member) next() *message.Message {
	m.broker.mu.Lock()
	defer m.broker.mu.Unlock()
	g := m.group
	if len(g.waits) == 0 {
		return nil
	}
	next := g.waits[0]
	g.waits, g.flying = g.waits[1:], append(g.flying, next)
	return next
}

// giveBack puts what was not acknowledged to the front of the queue.
func (m *member) giveBack() {
	m.broker.mu.Lock()
	defer m.broker.mu.Unlock()
	g := m.group
	back := unacknowledged(g.flying)
	for i := range back {
		back[i] = back[i].Copy()
	}
	g.waits, g.flying = append(back, g.waits...), nil
	g.signal()
}

// over is an engine over the broker that the test closes.
func over(t *testing.T, b *broker, o engine.Options) *engine.Engine {
	t.Helper()
	e, err := engine.New(engine.Broker{Publisher: b, Subscriber: b.subscriber, Ordered: true, Durable: true}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return e
}

func TestBrokerConformance(t *testing.T) {
	routertest.Run(t, routertest.Harness{Open: func(t *testing.T, _ string) (router.Log, func() error) {
		e := over(t, newBroker(), engine.Options{MaxEvents: 20_000})
		return e, e.Close
	}})
}
