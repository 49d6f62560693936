package pubsub

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-run/millrace/event"
)

// EventType is the type of the events that hold messages.
const EventType = "watermill.message"

// encode is the event of a message. It copies the payload, because the outbox keeps what it is given.
func encode(topic string, m *message.Message, now time.Time) event.Event {
	e := event.Event{ID: m.UUID, Source: topic, Type: EventType, Data: bytes.Clone(m.Payload), Received: now}
	if len(m.Metadata) == 0 {
		return e
	}
	e.Extensions = make([]event.Extension, 0, len(m.Metadata))
	for name, text := range m.Metadata {
		e.Extensions = append(e.Extensions, event.Extension{Name: name, Text: text})
	}
	slices.SortFunc(e.Extensions, func(a, b event.Extension) int { return cmp.Compare(a.Name, b.Name) })
	return e
}

// decode is a new message of an event. It shares no memory with it: a handler may change the payload, which other groups get too,
// and may keep a UUID for long, which would keep the segment that it was read with.
func decode(ctx context.Context, e *event.Event) *message.Message {
	m := message.NewMessageWithContext(ctx, strings.Clone(e.ID), bytes.Clone(e.Data))
	for _, x := range e.Extensions {
		m.Metadata[strings.Clone(x.Name)] = strings.Clone(x.Text)
	}
	return m
}
