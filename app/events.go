package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-run/millrace/console"
	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
	"github.com/millrace-run/millrace/router"
)

// Place is where an event is stored, and what became of it there; see console.
type Place = console.Place

// eventFinder is a log that finds events by their ids. The outbox is; what is in memory only is not.
type eventFinder interface {
	Find(ctx context.Context, id string, limit int) ([]event.Located, error)
	Standings(ctx context.Context, topic string, o event.Offset) ([]event.Standing, error)
}

// finderOf is what finds events in a log. Of several logs only the outbox can, which is the first.
func finderOf(log keptLog) (eventFinder, bool) {
	switch l := log.(type) {
	case *eventLog:
		f, ok := l.statusLog.(eventFinder)
		return f, ok
	case joined:
		return finderOf(l[0].eventLog)
	}
	f, ok := log.(eventFinder)
	return f, ok
}

var errNoFinder = fmt.Errorf("events that are in memory only cannot be found by their ids: %w", errors.ErrUnsupported)

// Events finds the events with an id, at most limit (0: all), and says how each stands with every sink. What cannot be read is said
// with the others, and an error only when there is nothing else to say.
func (l letters) Events(ctx context.Context, id string, limit int) ([]Place, error) {
	finder, ok := finderOf(l.log)
	if !ok {
		return nil, errNoFinder
	}
	found, fault := finder.Find(ctx, id, limit)
	if len(found) == 0 || ctx.Err() != nil {
		return nil, fault
	}
	places := make([]Place, len(found))
	for i := range found {
		standings, err := finder.Standings(ctx, found[i].Topic, found[i].Record.Offset)
		if err != nil && len(standings) == 0 {
			return nil, err
		}
		places[i] = place(&found[i], standings)
		if err := errors.Join(fault, err); err != nil {
			places[i].Fault = err.Error()
		}
	}
	return places, nil
}

// place turns what a log says into what people see. A topic is named after its pipeline and the priority of its events.
func place(l *event.Located, standings []event.Standing) Place {
	pipeline, _ := router.ParseTopic(l.Topic)
	bare := l.Record.Event
	bare.Data = nil
	p := Place{
		Pipeline: pipeline, Topic: l.Topic, Offset: int64(l.Record.Offset), ReceivedAt: utc(bare.Received),
		Attributes: codec.EncodeJSON(nil, &bare), Deliveries: make([]console.Delivery, len(standings)),
	}
	for i := range standings {
		p.Deliveries[i] = deliveryOf(&standings[i])
	}
	return p
}

var deliveryStates = map[event.StandingState]string{
	event.StandsPending: console.DeliveryPending, event.StandsSettled: console.DeliverySettled,
	event.StandsRetrying: console.DeliveryRetry, event.StandsDead: console.DeliveryDead, event.StandsForeign: console.DeliveryNotOwed,
	event.StandsHeld: console.DeliveryHeld,
}

func deliveryOf(s *event.Standing) console.Delivery {
	_, _, sink := router.ParseSubscription(s.Subscription)
	d := console.Delivery{Sink: sink, State: deliveryStates[s.State], Receipts: make([]console.Receipt, len(s.Receipts))}
	if x := s.Exception; x != nil {
		d.Attempts, d.Reason, d.Status, d.LastError = x.Attempts, string(x.Reason), x.Status, x.Error
		d.LastAt, d.NextAt, d.History = utc(x.LastAt), utc(x.NextAt), attemptsOf(x.History)
	}
	for i, r := range s.Receipts {
		d.Receipts[i] = console.Receipt{Attempt: r.Attempt, Status: r.Status, Millis: r.Took.Milliseconds(), At: r.At}
	}
	return d
}

// utc is nil for the zero time.
func utc(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return new(t.UTC())
}
