package engine

import (
	"bytes"
	"context"
	"slices"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-run/millrace/event"
)

// parcel is what a message of the memory engine carries in its context: all events of one append, as they are. Nobody else reads
// these messages, and a message with headers for each event would cost several times what all the rest does.
type parcel struct {
	first  event.Offset
	events []event.Event // nobody changes them any more
}

type parcelKey struct{}

// newParcel copies the events with their data and ids. A source cuts these out of larger pieces of memory, which a single event that
// waits would keep as a whole, beyond what MaxBytes counts; and the caller may use them again.
func newParcel(ctx context.Context, first event.Offset, events []event.Event) *message.Message {
	own := slices.Clone(events)
	for i := range own {
		own[i].ID, own[i].Data = strings.Clone(own[i].ID), bytes.Clone(own[i].Data)
	}
	m := message.NewMessage("", nil)
	m.SetContext(context.WithValue(ctx, parcelKey{}, parcel{first, own}))
	return m
}

// unpack holds the events of a parcel for the reader. The message is acknowledged at once, since the engine now has them.
func (s *subscription) unpack(m *message.Message) {
	p, _ := m.Context().Value(parcelKey{}).(parcel)
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	defer m.Ack()
	for i := range p.events {
		s.last = p.first + event.Offset(i)
		s.entries = append(s.entries, &entry{record: event.Record{Offset: s.last, Event: p.events[i]}})
	}
	s.signal()
}
