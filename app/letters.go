package app

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/millrace-run/millrace/console"
	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/router"
)

// DeadLetter, Query, Selection, Redriven and Dropped are what commands and the admin API exchange; see console.
type (
	DeadLetter = console.DeadLetter
	Query      = console.Query
	Selection  = console.Selection
	Redriven   = console.Redriven
	Dropped    = console.Dropped
)

// Reasons are the words that a dead letter's reason can be.
func Reasons() []string { return console.Reasons() }

// letters shows the dead letters of a log in the words of a plan.
type letters struct {
	log  keptLog
	plan *pipelines.Plan
}

// pageSize is how many dead letters are read from the log at a time.
const pageSize = 1000

// DeadLetters lists what q selects, those of pipelines and sinks that the plan no longer has too.
func (l letters) DeadLetters(ctx context.Context, q Query) ([]DeadLetter, error) {
	var found []DeadLetter
	ask := event.DeadQuery{IDs: q.IDs, Reasons: reasons(q), After: q.After, Limit: pageSize}
	for {
		if q.Limit > 0 && q.Pipeline == "" && q.Sink == "" { // nothing is passed over below
			ask.Limit = min(pageSize, q.Limit-len(found))
		}
		page, err := l.log.DeadLetters(ctx, ask)
		if err != nil {
			return nil, err
		}
		for i := range page {
			d := describe(&page[i], q.Event)
			d.Durable = l.durable(d.ID)
			if q.Pipeline != "" && d.Pipeline != q.Pipeline || q.Sink != "" && d.Sink != q.Sink {
				continue
			}
			if found = append(found, d); len(found) == q.Limit {
				return found, nil
			}
		}
		if len(page) < ask.Limit {
			return found, nil
		}
		ask.After = page[len(page)-1].ID
	}
}

// durable says whether the dead letter with this id survives the process.
func (l letters) durable(id int64) bool { return l.plan.Outbox.Memory == nil && id <= memoryLetters }

// describe turns a row of the log into what people see. A subscription is named after its pipeline, the priority and its sink.
func describe(d *event.DeadLetter, whole bool) DeadLetter {
	pipeline, _, sink := router.ParseSubscription(d.Subscription)
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
	if whole {
		out.Event, out.Answer = json.RawMessage("null"), new(string(x.Answer))
		if d.Record.Event.ID != "" { // else the log lists it without its event, which is damaged
			out.Event = codec.EncodeJSON(nil, &d.Record.Event)
		}
	}
	return out
}

func reasons(q Query) []event.Reason {
	var all []event.Reason
	for _, r := range q.Reasons {
		all = append(all, event.Reason(r))
	}
	return all
}

// Redrive hands dead letters to the subscriptions that the plan has: one whose sink is gone has nobody to take it, and stays.
func (l letters) Redrive(ctx context.Context, q Query) (int, error) {
	subscriptions, err := l.subscriptions(q)
	if err == nil {
		subscriptions, err = l.ofAllPriorities(ctx, subscriptions)
	}
	if err != nil {
		return 0, err
	}
	return l.log.Redrive(ctx, l.query(q, subscriptions))
}

// Drop settles dead letters for good, those of subscriptions that the plan no longer has too.
func (l letters) Drop(ctx context.Context, q Query) (int, error) {
	var subscriptions []string
	if q.Pipeline != "" || q.Sink != "" {
		var err error
		if subscriptions, err = l.everNamed(ctx, q); err != nil {
			return 0, err
		}
	}
	return l.log.Drop(ctx, l.query(q, subscriptions))
}

func (l letters) query(q Query, subscriptions []string) event.DeadQuery {
	return event.DeadQuery{IDs: q.IDs, Subscriptions: subscriptions, Reasons: reasons(q), After: q.After, Limit: q.Limit}
}

// everNamed are the subscriptions of the log that q selects, else those of the plan, which may not have run yet.
func (l letters) everNamed(ctx context.Context, q Query) ([]string, error) {
	all, err := l.log.Status(ctx)
	if err != nil {
		return nil, err
	}
	var selected []string
	for _, s := range all {
		pipeline, _, sink := router.ParseSubscription(s.Name)
		if (q.Pipeline == "" || q.Pipeline == pipeline) && (q.Sink == "" || q.Sink == sink) {
			selected = append(selected, s.Name)
		}
	}
	if len(selected) > 0 {
		return selected, nil
	}
	return l.subscriptions(q)
}

// ofAllPriorities adds the subscriptions to other priorities that the log has for these.
func (l letters) ofAllPriorities(ctx context.Context, names []string) ([]string, error) {
	all, err := l.log.Status(ctx)
	for _, s := range all {
		pipeline, priority, sink := router.ParseSubscription(s.Name)
		if priority != router.DefaultPriority && slices.Contains(names, router.SubscriptionName(pipeline, sink)) {
			names = append(names, s.Name)
		}
	}
	return names, err
}

// subscriptions are those of the plan that q selects, of the default priority. None is an error that says what there is.
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
		return nil, &console.UnknownError{Detail: "there is no such pipeline or sink; pipelines (and sinks) are: " + strings.Join(all, ", ")}
	}
	return selected, nil
}
