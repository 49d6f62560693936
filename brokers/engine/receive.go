package engine

import (
	"context"
	"errors"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-run/millrace/event"
)

// start connects the subscription to the broker. ctx bounds only the connecting: it receives until stop.
func (s *subscription) start(ctx context.Context) error {
	from, err := s.engine.broker.Subscriber(s.topic.name, s.name)
	if err != nil {
		return err
	}
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	heed := context.AfterFunc(ctx, cancel)
	messages, err := from.Subscribe(lasting, s.topic.name)
	if err == nil && !heed() {
		err = context.Cause(ctx)
	}
	if err != nil {
		cancel()
		return errors.Join(err, from.Close())
	}
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		s.receive(messages, quit)
	}()
	s.end = func() error {
		close(quit)
		cancel()
		err := from.Close()
		<-ended
		return err
	}
	return nil
}

// stop ends receiving and waits until it has ended.
func (s *subscription) stop() error {
	if s.end == nil {
		return nil
	}
	end := s.end
	s.end = nil
	return end()
}

// receive takes what the broker hands out, as long as there is room.
func (s *subscription) receive(messages <-chan *message.Message, quit <-chan struct{}) {
	for s.hasRoom(quit) {
		select {
		case <-quit:
		case m, ok := <-messages:
			if !ok {
				s.lost(quit)
				return
			}
			if s.engine.broker.private {
				s.unpack(m)
			} else {
				s.accept(m)
			}
		}
	}
	for range messages { // not acknowledged: the broker hands them out again
	}
}

// hasRoom waits until the subscription may hold one more; false means that it has to quit. In memory there always is room,
// because Commit waits for it.
func (s *subscription) hasRoom(quit <-chan struct{}) bool {
	for {
		s.engine.mu.Lock()
		o := &s.engine.options
		full := !s.engine.broker.private && (s.events >= o.MaxEvents || s.bytes >= o.MaxBytes)
		var room <-chan struct{}
		if full {
			room = s.engine.flight.waiting()
		}
		s.engine.mu.Unlock()
		select {
		case <-quit:
			return false
		default:
		}
		if !full {
			return true
		}
		select {
		case <-quit:
			return false
		case <-room:
		}
	}
}

// lost says that the broker ended the subscription by itself. Watermill's subscribers connect again on their own as long as they
// can, so nothing is left to try.
func (s *subscription) lost(quit <-chan struct{}) {
	select {
	case <-quit:
	default:
		s.engine.options.Logger.Error("the broker ended a subscription; it gets nothing more until a restart",
			"subscription", s.name, "topic", s.topic.name)
	}
}

// accept holds one message of a broker for the reader. What is no event becomes a dead letter, so that a person sees it and the others go on.
func (s *subscription) accept(m *message.Message) {
	now := s.engine.options.Clock.Now().UTC()
	e, err := decode(m, now)
	if err != nil {
		e = event.Event{ID: m.UUID, Source: s.topic.name, Type: "millrace.undecodable", Data: m.Payload, Received: now}
	}
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	s.last++
	s.bytes += cost(&e)
	s.events++
	s.entries = append(s.entries, &entry{record: event.Record{Offset: s.last, Event: e}, message: m})
	if err != nil {
		x := event.Exception{State: event.Dead, Reason: event.ReasonPermanent, Error: err.Error()}
		s.settle([]event.Outcome{{Offset: s.last, Exception: &x}})
	}
	s.signal()
}

// leave forgets what a removed subscription holds of a broker's messages: they were not acknowledged, the broker keeps them. In
// memory the engine itself keeps them.
func (s *subscription) leave() {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	if s.engine.broker.private {
		return
	}
	for _, r := range s.rows {
		s.engine.cemetery.exhume(r)
	}
	clear(s.rows)
	s.entries, s.waiting, s.bytes, s.events = nil, nil, 0, 0
}
