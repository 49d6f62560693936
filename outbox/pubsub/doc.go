// Package pubsub is an outbox as a Watermill Publisher and Subscriber with consumer groups, so that a Go program gets durable
// messages without a broker: one SQLite file, one process.
//
// # What it promises
//
//   - Publish returns nil once all messages of the call are on disk, in one transaction: all of them, or none.
//   - A group gets every message that was published to a topic since the group's first Subscribe or SubscribeInitialize, at least
//     once. Earlier messages are not for it; those of a topic without any group are stored and go to nobody. Call
//     SubscribeInitialize before the first Publish where that matters.
//   - An Ack settles a message for its group. A Nack brings it again, after Config.NackDelay. A message that is neither when its
//     subscription ends, or when the process does, is handed out again: to another subscription of the group, or after the
//     restart. An Ack is on disk about 10 ms later, and at the latest when Close of the Subscriber or of the PubSub returns; a
//     crash before that is one more reason why a message may come twice.
//   - With Config.MaxInFlight 1, the default, a group gets the messages of a topic one after the other and in the order in which
//     they were committed, however many subscriptions share the work: the next is handed out when the one before it is settled, and
//     a Nack holds up those behind it. A subscription that ends while somebody still works on its message gives that message to the
//     next subscription, which may then run at the same time. With more, that many are in hand at once and order is not kept.
//   - UUID, metadata and payload arrive byte for byte as they were published, an empty UUID too. Each message that is handed out
//     is a copy.
//
// # The layout belongs to this package
//
// Topics and groups are made when they are first used. An outbox is told its whole layout at once (outbox.Outbox.Configure), and
// what is not named is dismissed: therefore an outbox has one PubSub, which alone configures and reads it, one change after the
// other. Do not call Configure, or Subscribe to its subscriptions, beside it, and give it a file of its own, not that of
// `millrace run`. All publishers and subscribers of a process come from the one PubSub.
//
// Close the PubSub before the outbox. If the outbox fails (outbox.Outbox.Failed), Publish returns its error and the channels of all
// subscriptions are closed; the process must end, as doc.go of outbox says.
//
// # What is stored
//
// The event of a message has the UUID as its id, the payload as its data and an extension for each entry of the metadata; its
// source is the topic and its type is EventType. It is an event for this package only: keys and values of metadata may be any
// bytes, which CloudEvents does not allow its extensions, and the id may be empty.
package pubsub
