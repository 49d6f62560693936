package engine

import (
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
)

// NewMemory returns an engine that keeps everything in memory: nothing survives the process. It runs over Watermill's channels,
// which lose what is published to a topic without subscribers; Configure connects them before anything is published.
//
// Publishing waits until every subscription holds the message. Without that the channels send each message in a goroutine of its
// own, which keeps neither order nor bound. A message is the events of an append, which are in its context (parcel).
func NewMemory(o Options) (*Engine, error) {
	channels := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true, PreserveContext: true}, watermill.NopLogger{})
	return New(Broker{
		Publisher:  channels,
		Subscriber: func(string, string) (message.Subscriber, error) { return shared{channels}, nil },
		Ordered:    true,
		private:    true,
	}, o)
}

// shared is the subscriber of all groups, and the publisher: it ends with the engine, not with one subscription.
type shared struct{ *gochannel.GoChannel }

// Close leaves the channels to the others. The engine ends its subscription by the context.
func (shared) Close() error { return nil }
