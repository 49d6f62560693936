package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace-run/millrace/event"
)

// Configure connects the subscriptions that are new and disconnects those that are no longer named. While it runs nothing is
// published, so that in memory a subscription begins and ends at a commit. A broker keeps what a removed subscription is owed,
// and also what is published later, until its group is deleted there.
func (e *Engine) Configure(ctx context.Context, l event.Layout) error {
	if err := e.takeAll(ctx); err != nil {
		return err
	}
	defer e.giveAll()
	started, err := e.plan(l)
	if err != nil {
		return err
	}
	for i, s := range started {
		if err := s.start(ctx); err != nil {
			errs := []error{fmt.Errorf("subscription %q: %w", s.name, err)}
			for _, s := range started[:i] {
				errs = append(errs, s.stop())
			}
			return errors.Join(errs...)
		}
	}
	var errs []error
	for _, s := range e.adopt(l, started) {
		if err := s.stop(); err != nil {
			errs = append(errs, fmt.Errorf("subscription %q: %w", s.name, err))
		}
		s.leave()
	}
	return errors.Join(errs...)
}

// plan checks the layout and returns the subscriptions that must be connected. It changes nothing that anyone sees.
func (e *Engine) plan(l event.Layout) ([]*subscription, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := l.KeysOf(); err != nil {
		return nil, err
	}
	topics, seen := map[string]bool{}, map[string]bool{}
	var start []*subscription
	for _, want := range l.Topics {
		if topics[want.Name] {
			return nil, fmt.Errorf("topic %q is named twice", want.Name)
		}
		topics[want.Name] = true
		if want.Dedupe != nil && !e.broker.private {
			return nil, fmt.Errorf("topic %q: %w", want.Name, errNoDedupe)
		}
		for _, name := range want.Subscriptions {
			s := e.subs[name]
			switch {
			case seen[name]:
				return nil, fmt.Errorf("subscription %q is named twice", name)
			case s != nil && s.topic.name != want.Name:
				return nil, fmt.Errorf("subscription %q reads topic %q, it can't read %q", name, s.topic.name, want.Name)
			case s == nil:
				s = newSubscription(e, name, e.topic(want.Name))
			}
			seen[name] = true
			if !s.named {
				start = append(start, s)
			}
		}
	}
	return start, nil
}

// topic returns a topic, made if it is new.
func (e *Engine) topic(name string) *topic {
	t := e.topics[name]
	if t == nil {
		t = &topic{name: name, held: map[event.Offset]*held{}}
		e.topics[name] = t
	}
	return t
}

// adopt makes the layout the current one and returns the subscriptions that it no longer names.
func (e *Engine) adopt(l event.Layout, started []*subscription) (removed []*subscription) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range started {
		e.subs[s.name] = s
	}
	keep := map[string]bool{}
	for _, t := range e.topics {
		t.named = false
	}
	for _, want := range l.Topics {
		t := e.topic(want.Name)
		t.named = true
		t.configureDedupe(want, e.options.Clock.Now())
		for _, name := range want.Subscriptions {
			keep[name] = true
		}
	}
	for _, want := range l.Topics {
		if want.KeysOf != "" {
			e.topics[want.Name].dedupe = e.topics[want.KeysOf].dedupe
		}
	}
	for name, s := range e.subs {
		if s.named && !keep[name] {
			removed = append(removed, s)
		}
		s.named = keep[name]
	}
	return removed
}
