package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-run/millrace/event"
)

var errNoState = errors.New("this engine keeps no state of components")

// Commit publishes the events, then applies outcomes and state. In memory that is one step for everyone; when there is no room
// it waits, and returns ErrFull when ctx ends first or when the events would never fit. Over a broker that fails half way it
// returns ErrUnknown, and outcomes and state are not applied.
func (e *Engine) Commit(ctx context.Context, c event.Commit) ([]event.Appended, error) {
	c, appended, err := e.admit(ctx, c)
	if err != nil {
		return nil, err
	}
	defer e.give()
	for i, a := range c.Appends {
		if err := e.publish(ctx, a, appended[i].First); err != nil {
			return nil, e.failed(err)
		}
	}
	e.apply(c)
	return appended, nil
}

// admit waits for a turn and for room, leaves out duplicates and gives the other events their offsets. Unless it fails, the caller
// gives the turn back.
func (e *Engine) admit(ctx context.Context, c event.Commit) (event.Commit, []event.Appended, error) {
	for {
		if err := e.take(ctx); err != nil {
			return c, nil, err
		}
		rest, appended, room, err := e.reserve(c)
		if err == nil && room == nil {
			return rest, appended, nil
		}
		e.give()
		if err != nil {
			return c, nil, err
		}
		select { // without the turn, so that others can settle
		case <-room:
		case <-ctx.Done():
			return c, nil, withdrawn(ctx, event.ErrFull)
		case <-e.closing:
			return c, nil, event.ErrClosed
		}
	}
}

// reserve checks c, decides which of its events are duplicates and counts the others as in flight; if there is no room for them
// now, it returns what to wait for, and nothing is remembered.
func (e *Engine) reserve(c event.Commit) (rest event.Commit, appended []event.Appended, room <-chan struct{}, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.check(c); err != nil {
		return c, nil, nil, err
	}
	c, appended, undo, err := e.decide(c)
	if err != nil {
		return c, nil, nil, err
	}
	if e.broker.private {
		now, ever := e.roomFor(c)
		if !now || !ever {
			undo()
		}
		if !ever {
			return c, nil, nil, fmt.Errorf("%w: a commit that is larger than the memory it may take", event.ErrFull)
		}
		if !now {
			return c, nil, e.flight.waiting(), nil
		}
	}
	for i, a := range c.Appends {
		t := e.topics[a.Topic]
		appended[i].First = t.last + 1
		e.forgetKeys(t, &appended[i])
		owners := e.owners(t)
		for j := range a.Events {
			t.last++
			if e.broker.private && owners > 0 {
				e.hold(t, t.last, cost(&a.Events[j]), owners)
			}
		}
	}
	return c, appended, nil, nil
}

// check looks for everything that could make a part of c fail.
func (e *Engine) check(c event.Commit) error {
	if e.broken != nil {
		return fmt.Errorf("%w: %w", event.ErrClosed, e.broken)
	}
	for _, a := range c.Appends {
		t := e.topics[a.Topic]
		if t == nil || !t.named {
			return fmt.Errorf("there is no topic %q", a.Topic)
		}
		if err := t.checkKeys(&a); err != nil {
			return err
		}
	}
	for _, s := range c.Settles {
		if e.subs[s.Subscription] == nil {
			return fmt.Errorf("there is no subscription %q", s.Subscription)
		}
	}
	if len(c.States) > 0 && !e.broker.private {
		return errNoState
	}
	return nil
}

func (e *Engine) roomFor(c event.Commit) (now, ever bool) {
	bytes, events := int64(0), 0
	for _, a := range c.Appends {
		if e.owners(e.topics[a.Topic]) == 0 {
			continue
		}
		for i := range a.Events {
			bytes += cost(&a.Events[i])
		}
		events += len(a.Events)
	}
	return e.fits(bytes, events, len(c.Settles) > 0)
}

// owners is how many subscriptions get what is appended to t.
func (e *Engine) owners(t *topic) int {
	n := 0
	for _, s := range e.subs {
		if s.named && s.topic == t {
			n++
		}
	}
	return n
}

// publish hands the events of one append to the broker, in order. They are not withdrawn when ctx ends: the broker may have them.
func (e *Engine) publish(ctx context.Context, a event.Append, first event.Offset) error {
	if len(a.Events) == 0 {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	if e.broker.private {
		return e.broker.Publisher.Publish(a.Topic, newParcel(ctx, first, a.Events))
	}
	messages := make([]*message.Message, len(a.Events))
	for i := range a.Events {
		m := message.NewMessage(watermill.NewUUID(), a.Events[i].Data)
		encode(&a.Events[i], m.Metadata)
		m.SetContext(ctx)
		messages[i] = m
	}
	return e.broker.Publisher.Publish(a.Topic, messages...)
}

// failed is the answer to a commit that the broker refused. In memory nothing but the end of the broker can do that, and what the
// subscriptions got of the commit can't be taken back: nothing is committed any more.
func (e *Engine) failed(err error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.broker.private {
		e.broken = err
	}
	return fmt.Errorf("%w: %w", event.ErrUnknown, err)
}

// apply does the parts of a commit that can't fail.
func (e *Engine) apply(c event.Commit) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, a := range c.Appends {
		t := e.topics[a.Topic]
		t.head = t.last
	}
	for _, s := range c.Settles {
		e.subs[s.Subscription].settle(s.Outcomes)
	}
	for _, s := range c.States {
		e.remember(s)
	}
}

func (e *Engine) remember(s event.State) {
	state := e.states[s.Owner]
	if state == nil {
		state = map[string][]byte{}
		e.states[s.Owner] = state
	}
	for k, v := range s.Changes {
		if v == nil {
			delete(state, k)
			continue
		}
		state[k] = append([]byte{}, v...)
	}
	if len(state) == 0 {
		delete(e.states, s.Owner)
	}
}

// State returns the committed state of a component, as long as the process runs; empty if it has none.
func (e *Engine) State(ctx context.Context, owner string) (map[string][]byte, error) {
	if err := e.enter(ctx); err != nil {
		return nil, err
	}
	defer e.mu.Unlock()
	state := maps.Clone(e.states[owner])
	for k, v := range state {
		state[k] = append([]byte{}, v...)
	}
	return state, nil
}
