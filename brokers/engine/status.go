package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/millrace-run/millrace/event"
)

// Status says how every subscription stands, by name. Of a broker it knows what it has received.
func (e *Engine) Status(ctx context.Context) ([]event.SubscriptionStatus, error) {
	if err := e.enter(ctx); err != nil {
		return nil, err
	}
	defer e.mu.Unlock()
	list := make([]event.SubscriptionStatus, 0, len(e.subs))
	for _, s := range e.subs {
		list = append(list, s.status())
	}
	slices.SortFunc(list, func(a, b event.SubscriptionStatus) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

func (s *subscription) status() event.SubscriptionStatus {
	x := event.SubscriptionStatus{Name: s.name, Topic: s.topic.name, Removed: !s.named, Head: s.last, Cursor: s.last}
	for _, e := range s.entries {
		if e.done {
			continue
		}
		if x.Lag == 0 {
			x.Cursor, x.Oldest = e.record.Offset-1, e.record.Event.Received
		}
		x.Lag++
	}
	for _, r := range s.rows {
		if r.x.State == event.Dead {
			x.Dead++
			continue
		}
		if r.x.State == event.Held {
			x.Held++
		} else {
			x.Retrying++
		}
		x.Attempts = max(x.Attempts, r.x.Attempts)
		if at := r.record.Event.Received; x.Oldest.IsZero() || at.Before(x.Oldest) {
			x.Oldest = at
		}
	}
	return x
}

// StatusOf is Status of the subscriptions with these names.
func (e *Engine) StatusOf(ctx context.Context, names []string) ([]event.SubscriptionStatus, error) {
	all, err := e.Status(ctx)
	return slices.DeleteFunc(all, func(s event.SubscriptionStatus) bool { return !slices.Contains(names, s.Name) }), err
}

// Seek is refused: there is no history.
func (e *Engine) Seek(context.Context, event.Seek) ([]event.Sought, error) {
	return nil, fmt.Errorf("a log in memory or over a broker keeps no history: %w", errors.ErrUnsupported)
}
