package app

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/millrace-run/millrace/console"
	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/router"
)

// DeadLetter, Query, Selection and Redriven are what commands and the admin API exchange; see console.
type (
	DeadLetter = console.DeadLetter
	Query      = console.Query
	Selection  = console.Selection
	Redriven   = console.Redriven
)

// letters shows the dead letters of a log in the words of a plan.
type letters struct {
	log  router.Log
	plan *pipelines.Plan
}

// pageSize is how many dead letters are read from the log at a time.
const pageSize = 1000

// DeadLetters lists what q selects, those of pipelines and sinks that the plan no longer has too.
func (l letters) DeadLetters(ctx context.Context, q Query) ([]DeadLetter, error) {
	var found []DeadLetter
	ask := event.DeadQuery{IDs: q.IDs, After: q.After, Limit: pageSize}
	for {
		page, err := l.log.DeadLetters(ctx, ask)
		if err != nil {
			return nil, err
		}
		for i := range page {
			d := describe(&page[i])
			if q.Pipeline != "" && d.Pipeline != q.Pipeline || q.Sink != "" && d.Sink != q.Sink {
				continue
			}
			if found = append(found, d); len(found) == q.Limit {
				return found, nil
			}
		}
		if len(page) < pageSize {
			return found, nil
		}
		ask.After = page[len(page)-1].ID
	}
}

// describe turns a row of the log into what people see. A subscription is named after its pipeline and its sink.
func describe(d *event.DeadLetter) DeadLetter {
	pipeline, sink, _ := strings.Cut(d.Subscription, "/")
	x := &d.Exception
	out := DeadLetter{
		ID: d.ID, EventID: d.Record.Event.ID, Pipeline: pipeline, Sink: sink, Stage: x.Stage,
		Reason: string(x.Reason), Status: x.Status, LastError: x.Error, Attempts: x.Attempts,
	}
	if !x.FirstAt.IsZero() {
		out.FirstAt = new(x.FirstAt.UTC())
	}
	if !x.LastAt.IsZero() {
		out.LastAt = new(x.LastAt.UTC())
	}
	return out
}

// Redrive hands dead letters to the subscriptions that the plan has: one whose sink is gone has nobody to take it, and stays.
func (l letters) Redrive(ctx context.Context, q Query) (int, error) {
	subscriptions, err := l.subscriptions(q)
	if err != nil {
		return 0, err
	}
	return l.log.Redrive(ctx, event.DeadQuery{IDs: q.IDs, Subscriptions: subscriptions, After: q.After, Limit: q.Limit})
}

// subscriptions are those of the plan that q selects. None is an error that says what there is.
func (l letters) subscriptions(q Query) ([]string, error) {
	var selected, all []string
	for _, p := range l.plan.Pipelines {
		sinks := []string{""}
		for _, s := range p.Sinks {
			sinks = append(sinks, s.Name)
		}
		all = append(all, p.Name+" ("+strings.Join(sinks[1:], ", ")+")")
		for _, sink := range sinks {
			if (q.Pipeline == "" || q.Pipeline == p.Name) && (q.Sink == "" || q.Sink == sink) {
				selected = append(selected, router.SubscriptionName(p.Name, sink))
			}
		}
	}
	if len(selected) == 0 {
		slices.Sort(all)
		return nil, fmt.Errorf("there is no such pipeline or sink; pipelines (and sinks) are: %s", strings.Join(all, ", "))
	}
	return selected, nil
}

// instance is a running Millrace as the console sees it.
type instance struct {
	letters
	events   *eventLog
	router   *router.Router
	intake   *intake
	started  atomic.Bool // every listener accepts
	stopping atomic.Bool
}

// NotReady says what is missing until everything runs, and from the first signal to stop on.
func (i *instance) NotReady() []string {
	var reasons []string
	if i.stopping.Load() {
		reasons = append(reasons, "it is stopping")
	}
	if err := i.events.err(); err != nil {
		reasons = append(reasons, fmt.Sprintf("the outbox failed: %v", err))
	}
	if !i.started.Load() {
		reasons = append(reasons, "not every listener accepts yet")
	}
	reasons = append(reasons, i.intake.notReady()...)
	if err := i.router.Ready(); err != nil {
		reasons = append(reasons, err.Error())
	}
	return reasons
}
