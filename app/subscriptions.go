package app

import (
	"context"
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
	return standing(ctx, i.events, console.StateRunning, exceptional(i.router.Stats()))
}

// Subscriptions says how the subscriptions stand while nothing runs.
func (o *Offline) Subscriptions(ctx context.Context) ([]Subscription, error) {
	return standing(ctx, o.events, console.StateStopped, nil)
}

// standing turns what a log says into what people see. states has those that are not as usual, by their names.
func standing(ctx context.Context, log statusLog, usual string, states map[string]string) ([]Subscription, error) {
	all, err := log.Status(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Subscription, len(all))
	for i := range all {
		out[i] = stands(&all[i])
		state, ok := states[all[i].Name]
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

func stands(s *event.SubscriptionStatus) Subscription {
	pipeline, sink, _ := strings.Cut(s.Name, "/")
	out := Subscription{
		Pipeline: pipeline, Sink: sink, Lag: s.Lag, Retrying: s.Retrying, DeadLetters: s.Dead, Attempts: s.Attempts,
		Pinned: s.Pinned, Cursor: int64(s.Cursor), Head: int64(s.Head),
	}
	if !s.Oldest.IsZero() {
		out.OldestAt = new(s.Oldest.UTC())
	}
	return out
}

// exceptional finds the subscriptions that do not run as usual in the numbers of the router. One that pauses may have been down
// before.
func exceptional(all []router.Metric) map[string]string {
	states := map[string]string{}
	for _, m := range all {
		if m.Value == 0 {
			continue
		}
		switch m.Name {
		case "millrace_subscription_paused":
			states[subscriptionOf(m.Labels)] = console.StatePaused
		case "millrace_breaker_open":
			if name := subscriptionOf(m.Labels); states[name] == "" {
				states[name] = console.StateDown
			}
		}
	}
	return states
}

func subscriptionOf(labels []router.Label) string {
	var pipeline, sink string
	for _, l := range labels {
		switch l.Name {
		case "pipeline":
			pipeline = l.Value
		case "sink":
			sink = l.Value
		}
	}
	return router.SubscriptionName(pipeline, sink)
}
