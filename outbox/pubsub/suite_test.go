package pubsub_test

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"github.com/millrace-run/millrace/outbox/pubsub"
)

// constructors make the publishers and subscribers of one outbox, as Watermill's suite wants them. It closes them, all of them,
// while others go on.
func constructors(t *testing.T, c pubsub.Config) (tests.PubSubConstructor, tests.ConsumerGroupPubSubConstructor) {
	t.Helper()
	p := opened(t, c)
	ofGroup := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		return p.Publisher(), subscriber(t, p, group)
	}
	return func(t *testing.T) (message.Publisher, message.Subscriber) { return ofGroup(t, "suite") }, ofGroup
}

// ordered is what is true of a Pub/Sub with one message in flight. Messages come again after a crash, so delivery is not exactly
// once; a group does not get what was published before it was known; and contexts do not go through a file.
var ordered = tests.Features{ConsumerGroups: true, GuaranteedOrder: true, Persistent: true}

// concurrent is what is true of one with several.
var concurrent = tests.Features{ConsumerGroups: true, Persistent: true}

func TestSuite(t *testing.T) {
	one, ofGroup := constructors(t, pubsub.Config{})
	tests.TestPubSub(t, ordered, one, ofGroup)
}

func TestSuiteConcurrent(t *testing.T) {
	one, ofGroup := constructors(t, pubsub.Config{MaxInFlight: 16})
	tests.TestPubSub(t, concurrent, one, ofGroup)
}
