package app

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/millrace-run/millrace/console"
	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/router"
)

// Subscription is how far a sink, or the stages of a pipeline, have come; see console.
type Subscription = console.Subscription

// SelectSubscriptions returns those of a pipeline and of a sink; empty names select all.
func SelectSubscriptions(all []Subscription, pipeline, sink string) []Subscription {
	return console.SelectSubscriptions(all, pipeline, sink)
}

// Subscriptions says how the subscriptions stand, and which of the sinks take nothing at present.
func (i *instance) Subscriptions(ctx context.Context) ([]Subscription, error) {
	var all []Subscription
	for _, f := range i.flows {
		some, err := standing(ctx, f, console.StateRunning, exceptional(f.router.Stats()))
		if err != nil {
			return nil, err
		}
		for k := range some {
			some[k].Durable = f.memory == nil
		}
		rests(some, f.router.Paused())
		all = append(all, some...)
	}
	sortSubscriptions(all)
	return all, nil
}

// sortSubscriptions sorts by name, of several priorities the highest first.
func sortSubscriptions(all []Subscription) {
	level := func(s *Subscription) int {
		if s.Priority == nil {
			return router.DefaultPriority
		}
		return *s.Priority
	}
	slices.SortStableFunc(all, func(a, b Subscription) int {
		return cmp.Or(strings.Compare(a.Pipeline, b.Pipeline), strings.Compare(a.Sink, b.Sink), cmp.Compare(level(&b), level(&a)))
	})
}

// Subscriptions says how the subscriptions stand while nothing runs.
func (o *Offline) Subscriptions(ctx context.Context) ([]Subscription, error) {
	all, err := standing(ctx, o.events, console.StateStopped, nil)
	if err != nil {
		return nil, err
	}
	for k := range all {
		all[k].Durable = true // only what is on disk is there without a process
	}
	kept, err := paused(ctx, o.events, all)
	rests(all, kept)
	sortSubscriptions(all)
	return all, err
}

// standing turns what a log says into what people see: of the priorities, those that ever had an event. states has those that are
// not as usual, by their names.
func standing(ctx context.Context, log keptLog, usual string, states map[string]string) ([]Subscription, error) {
	all, err := log.Status(ctx)
	if err != nil {
		return nil, err
	}
	prioritized := map[string]bool{}
	all = slices.DeleteFunc(all, func(s event.SubscriptionStatus) bool {
		pipeline, priority, _ := router.ParseSubscription(s.Name)
		unused := priority != router.DefaultPriority && s.Head == 0
		prioritized[pipeline] = prioritized[pipeline] || priority != router.DefaultPriority && !unused
		return unused
	})
	out := make([]Subscription, len(all))
	for i := range all {
		out[i] = stands(&all[i], prioritized)
		state, ok := states[router.SubscriptionName(out[i].Pipeline, out[i].Sink)]
		switch {
		case all[i].Removed:
			out[i].State = console.StateRemoved
		case ok:
			out[i].State = state
		default:
			out[i].State = usual
		}
	}
	return out, nil
}

func stands(s *event.SubscriptionStatus, prioritized map[string]bool) Subscription {
	pipeline, priority, sink := router.ParseSubscription(s.Name)
	out := Subscription{
		Pipeline: pipeline, Sink: sink, Lag: s.Lag, Retrying: s.Retrying, Held: s.Held, DeadLetters: s.Dead, Attempts: s.Attempts,
		Pinned: s.Pinned, Cursor: int64(s.Cursor), Head: int64(s.Head),
	}
	if prioritized[pipeline] {
		out.Priority = new(priority)
	}
	if !s.Oldest.IsZero() {
		out.OldestAt = new(s.Oldest.UTC())
	}
	return out
}

// exceptional finds the subscriptions of sinks that are down in the numbers of the router.
func exceptional(all []router.Metric) map[string]string {
	states := map[string]string{}
	for _, m := range all {
		if m.Value == 0 {
			continue
		}
		if m.Name == "millrace_breaker_open" {
			states[subscriptionOf(m.Labels)] = console.StateDown
		}
	}
	return states
}

func subscriptionOf(labels []router.Label) string {
	return router.SubscriptionName(labelOf(labels, "pipeline"), labelOf(labels, "sink"))
}
