package app

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/millrace-run/millrace/console"
	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/router"
)

// Seek and Sought are what commands and the admin API exchange; see console.
type (
	Seek   = console.Seek
	Sought = console.Sought
)

// ParseStart reads where a subscription is to go on: beginning, end, an offset, or a time as in RFC 3339.
func ParseStart(text string) (event.Start, error) {
	switch text {
	case "beginning":
		return event.Start{Beginning: true}, nil
	case "end":
		return event.Start{}, nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 0 {
		return event.Start{Offset: event.Offset(n)}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return event.Start{}, &console.InvalidError{Detail: fmt.Sprintf(
			"%q is no place to go on: it is beginning, end, an offset from 1 on, or a time such as 2026-11-20T08:00:00Z", text)}
	}
	return event.Start{Time: at.UTC()}, nil
}

// Seek moves the subscription of a sink that runs.
func (i *instance) Seek(ctx context.Context, k Seek) ([]Sought, error) {
	var plans []*pipelines.Pipeline
	for _, f := range i.flows {
		plans = append(plans, f.plan.Pipelines...)
	}
	to, err := seekable(plans, k)
	if err != nil {
		return nil, err
	}
	all, err := i.flows.of(k.Pipeline).router.Seek(ctx, k.Pipeline, k.Sink, to, k.DryRun)
	return soughtOf(all, k), invalid(err)
}

// Seek moves the subscription of a sink while nothing runs. The next start begins there.
func (o *Offline) Seek(ctx context.Context, k Seek) ([]Sought, error) {
	to, err := seekable(o.plan.Pipelines, k)
	if err != nil {
		return nil, err
	}
	names, err := o.everNamed(ctx, Query{Pipeline: k.Pipeline, Sink: k.Sink})
	if err != nil {
		return nil, err
	}
	if to.Offset > 0 && len(names) > 1 {
		return nil, &console.InvalidError{Detail: router.ErrManyTopics.Error()}
	}
	all, err := o.events.Seek(ctx, event.Seek{Subscriptions: names, To: to, Preview: k.DryRun})
	return soughtOf(all, k), invalid(err)
}

// seekable checks that the plan has the sink, and reads where it is to go.
func seekable(plans []*pipelines.Pipeline, k Seek) (event.Start, error) {
	if _, err := sinksOf(plans, Pause{Pipeline: k.Pipeline, Sink: k.Sink}); err != nil {
		return event.Start{}, err
	}
	return ParseStart(k.To)
}

// invalid tells the console that a place was named which there is not.
func invalid(err error) error {
	if errors.Is(err, event.ErrNoPlace) {
		return &console.InvalidError{Detail: err.Error()}
	}
	return err
}

// soughtOf says in people's words what a seek came to. Priorities that never had an event are left out.
func soughtOf(all []event.Sought, k Seek) (out []Sought) {
	for _, s := range all {
		pipeline, priority, sink := router.ParseSubscription(s.Subscription)
		if len(all) > 1 && s.Head == 0 {
			continue
		}
		x := Sought{
			Pipeline: pipeline, Sink: sink, Cursor: int64(s.Cursor), Next: int64(s.Next), Head: int64(s.Head), Again: s.Again,
			Skipped: s.Skipped, Waiting: s.Waiting, DeadLetters: s.Dead, Gone: s.Gone, DryRun: k.DryRun,
		}
		if len(all) > 1 {
			x.Priority = new(priority)
		}
		if !s.Oldest.IsZero() {
			x.OldestAt = new(s.Oldest.UTC())
		}
		out = append(out, x)
	}
	return out
}
