package app

import (
	"context"
	"slices"
	"strings"

	"github.com/millrace-run/millrace/console"
	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/router"
)

// Pause, Paused and Resumed are what commands and the admin API exchange; see console.
type (
	Pause   = console.Pause
	Paused  = console.Paused
	Resumed = console.Resumed
)

// Pause makes the sinks that p names rest until they are resumed.
func (i *instance) Pause(ctx context.Context, p Pause) (int, error) {
	return i.flows.each(p, func(f *flow, pipeline, sink string) error { return f.router.Pause(ctx, pipeline, sink, p.Why()) })
}

// Resume ends the pauses of the sinks that p names.
func (i *instance) Resume(ctx context.Context, p Pause) (int, error) {
	return i.flows.each(p, func(f *flow, pipeline, sink string) error { return f.router.Resume(ctx, pipeline, sink) })
}

// each does something to the sinks that p names, and says how many they are.
func (all flows) each(p Pause, do func(f *flow, pipeline, sink string) error) (n int, err error) {
	var plans []*pipelines.Pipeline
	for _, f := range all {
		plans = append(plans, f.plan.Pipelines...)
	}
	named, err := sinksOf(plans, p)
	for _, s := range named {
		if err := do(all.of(s.pipeline), s.pipeline, s.sink); err != nil {
			return n, err
		}
		n++
	}
	return n, err
}

// Pause writes that the sinks which p names rest until they are resumed: the next start finds it.
func (o *Offline) Pause(ctx context.Context, p Pause) (int, error) {
	return o.pause(ctx, p, &router.Pause{At: event.SystemClock{}.Now().UTC(), Reason: p.Why()})
}

// Resume writes that the sinks which p names do not rest.
func (o *Offline) Resume(ctx context.Context, p Pause) (int, error) { return o.pause(ctx, p, nil) }

func (o *Offline) pause(ctx context.Context, p Pause, to *router.Pause) (n int, err error) {
	named, err := sinksOf(o.plan.Pipelines, p)
	for _, s := range named {
		name := router.SubscriptionName(s.pipeline, s.sink)
		if is, err := router.PauseOf(ctx, o.events, name); err != nil {
			return n, err
		} else if (is == nil) != (to == nil) {
			if err := router.SetPause(ctx, o.events, name, to); err != nil {
				return n, err
			}
		}
		n++
	}
	return n, err
}

// named is a sink by its names.
type named struct{ pipeline, sink string }

// sinksOf are the sinks that p names. None is an error that says what there is.
func sinksOf(all []*pipelines.Pipeline, p Pause) (selected []named, err error) {
	var known []string
	for _, pl := range all {
		for _, s := range pl.Sinks {
			known = append(known, router.SubscriptionName(pl.Name, s.Name))
			if p.Pipeline == pl.Name && (p.Sink == "" || p.Sink == s.Name) {
				selected = append(selected, named{pl.Name, s.Name})
			}
		}
	}
	if len(selected) == 0 {
		slices.Sort(known)
		return nil, &console.UnknownError{Detail: "there is no such pipeline or sink; there are: " + strings.Join(known, ", ")}
	}
	return selected, nil
}

// rests adds to subscriptions why and since when they are paused.
func rests(all []Subscription, paused map[string]router.Pause) {
	for i := range all {
		s := &all[i]
		if p, ok := paused[router.SubscriptionName(s.Pipeline, s.Sink)]; ok && s.State != console.StateRemoved {
			s.State, s.PausedAt, s.PausedReason = console.StatePaused, new(p.At.UTC()), p.Reason
		}
	}
}

// paused reads the pauses that an outbox keeps.
func paused(ctx context.Context, log router.Log, all []Subscription) (map[string]router.Pause, error) {
	kept := map[string]router.Pause{}
	for _, s := range all {
		name := router.SubscriptionName(s.Pipeline, s.Sink)
		p, err := router.PauseOf(ctx, log, name)
		if err != nil {
			return nil, err
		}
		if p != nil {
			kept[name] = *p
		}
	}
	return kept, nil
}
