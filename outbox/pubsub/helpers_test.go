package pubsub_test

import (
	"path/filepath"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-run/millrace/outbox"
	"github.com/millrace-run/millrace/outbox/pubsub"
)

// opened is a Pub/Sub with an outbox of its own. Both are closed at the end of the test.
func opened(t testing.TB, c pubsub.Config) *pubsub.PubSub {
	t.Helper()
	return reopened(t, filepath.Join(t.TempDir(), "outbox.db"), c)
}

func reopened(t testing.TB, path string, c pubsub.Config) *pubsub.PubSub {
	t.Helper()
	box, err := outbox.Open(t.Context(), outbox.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := box.Close(); err != nil {
			t.Error(err)
		}
	})
	p, err := pubsub.New(t.Context(), box, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func subscriber(t testing.TB, p *pubsub.PubSub, group string) *pubsub.Subscriber {
	t.Helper()
	s, err := p.Subscriber(group)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func subscribed(t testing.TB, p *pubsub.PubSub, group, topic string) <-chan *message.Message {
	t.Helper()
	messages, err := subscriber(t, p, group).Subscribe(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	return messages
}

// publish publishes messages with these ids and payloads, each in a call of its own.
func publish(t testing.TB, p *pubsub.PubSub, topic string, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := p.Publisher().Publish(topic, message.NewMessage(id, []byte(id))); err != nil {
			t.Fatal(err)
		}
	}
}
