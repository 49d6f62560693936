package app

import (
	"cmp"
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

// What commands and the admin API exchange about dead letters; see console.
type (
	DeadLetter     = console.DeadLetter
	Attempt        = console.Attempt
	Count          = console.Count
	Query          = console.Query
	Selection      = console.Selection
	Redrive        = console.Redrive
	RedriveRequest = console.RedriveRequest
	Redriven       = console.Redriven
	Dropped        = console.Dropped
)

// SelectionOf is what a request says for a query.
func SelectionOf(q Query) Selection { return console.SelectionOf(q) }

// Reasons are the words that a dead letter's reason can be.
func Reasons() []string { return console.Reasons() }

// letters shows the dead letters of a log in the words of a plan.
type letters struct {
	log  keptLog
	plan *pipelines.Plan
}

// How many dead letters are read from the log at a time: with their events, without, and with those that an edit makes of them.
const (
	pageSize = 256
	barePage = 512
	editPage = 64
)

// DeadLetters lists what q selects, those of pipelines and sinks that the plan no longer has too.
func (l letters) DeadLetters(ctx context.Context, q Query) (found []DeadLetter, err error) {
	_, err = l.each(ctx, q, event.DeadQuery{}, func(piece []event.DeadLetter) error {
		for i := range piece {
			d := describe(&piece[i], q.Event)
			d.Durable = l.durable(d.ID)
			found = append(found, d)
		}
		return nil
	})
	return found, err
}

// CountDead counts what q selects, by what a line of the list has in common.
func (l letters) CountDead(ctx context.Context, q Query) (counts []Count, err error) {
	sums := map[Count]int{}
	_, err = l.each(ctx, q, event.DeadQuery{Bare: true}, func(piece []event.DeadLetter) error {
		for i := range piece {
			pipeline, _, sink := router.ParseSubscription(piece[i].Subscription)
			x := &piece[i].Exception
			sums[Count{Pipeline: pipeline, Sink: sink, Reason: string(x.Reason), Status: x.Status}]++
		}
		return nil
	})
	for c, n := range sums {
		c.Count = n
		counts = append(counts, c)
	}
	slices.SortFunc(counts, func(a, b Count) int {
		return cmp.Or(cmp.Compare(a.Pipeline, b.Pipeline), cmp.Compare(a.Sink, b.Sink), cmp.Compare(a.Reason, b.Reason),
			cmp.Compare(a.Status, b.Status))
	})
	return counts, err
}

// each calls do with the dead letters that q selects, piece by piece in the order of their ids, so that never more than a piece is in
// memory. ask has what is known already: the subscriptions, how many make a piece, and whether events are needed. When the limit of q
// ends it, after is the id to go on after.
func (l letters) each(ctx context.Context, q Query, ask event.DeadQuery, do func([]event.DeadLetter) error) (after int64, err error) {
	where, err := whereOf(q.Where)
	if err != nil {
		return 0, err
	}
	ask = l.query(q, ask)
	ask.Bare = ask.Bare && where == nil
	for left := q.Limit; ; {
		page, err := l.log.DeadLetters(ctx, ask)
		if err != nil {
			return 0, err
		}
		more := len(page) == ask.Limit
		if more {
			ask.After = page[len(page)-1].ID
		}
		page = slices.DeleteFunc(page, func(d event.DeadLetter) bool {
			pipeline, _, sink := router.ParseSubscription(d.Subscription)
			return q.Pipeline != "" && pipeline != q.Pipeline || q.Sink != "" && sink != q.Sink || !isTrue(where, &d)
		})
		full := q.Limit > 0 && len(page) >= left
		if full {
			page = page[:left]
			after = page[left-1].ID
		}
		if len(page) > 0 {
			err = do(page)
		}
		if left -= len(page); err != nil || full || !more {
			return after, err
		}
	}
}

// query is what the log is asked for q, page by page.
func (l letters) query(q Query, ask event.DeadQuery) event.DeadQuery {
	ask.IDs, ask.Reasons, ask.Statuses = q.IDs, reasons(q), q.Statuses
	ask.Since, ask.Until, ask.Text, ask.After = q.Since, q.Until, q.Text, q.After
	if ask.Limit == 0 {
		ask.Limit = pageSize
		if ask.Bare {
			ask.Limit = barePage
		}
	}
	if q.Limit > 0 && q.Pipeline == "" && q.Sink == "" && q.Where == "" { // nothing that the log gives is passed over
		ask.Limit = min(ask.Limit, q.Limit)
	}
	return ask
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
		Offset: int64(d.Record.Offset), ReceivedAt: utc(d.Record.Event.Received),
	}
	out.FirstAt, out.LastAt = utc(x.FirstAt), utc(x.LastAt)
	if whole {
		out.Event, out.Answer, out.History = structured(&d.Record.Event), new(string(x.Answer)), attemptsOf(x.History)
		if d.Edited != nil {
			out.Edited = structured(d.Edited)
		}
		_, _, out.From = router.ParseSubscription(x.From)
	}
	return out
}

// structured is an event as JSON; null where the log has it no more, since it is damaged.
func structured(e *event.Event) json.RawMessage {
	if e.ID == "" {
		return json.RawMessage("null")
	}
	return codec.EncodeJSON(nil, e)
}

func attemptsOf(history []event.Attempt) (all []console.Attempt) {
	for _, a := range history {
		all = append(all, console.Attempt{At: a.At.UTC(), Status: a.Status, Error: a.Error, Answer: string(a.Answer)})
	}
	return all
}

func reasons(q Query) []event.Reason {
	var all []event.Reason
	for _, r := range q.Reasons {
		all = append(all, event.Reason(r))
	}
	return all
}

// Drop settles dead letters for good, those of subscriptions that the plan no longer has too.
func (l letters) Drop(ctx context.Context, q Query) (done Dropped, err error) {
	ask := event.DeadQuery{Bare: true}
	if q.Pipeline != "" || q.Sink != "" {
		if ask.Subscriptions, err = l.everNamed(ctx, q); err != nil {
			return done, err
		}
	}
	done.After, err = l.each(ctx, q, ask, func(piece []event.DeadLetter) error {
		n, err := l.log.Drop(ctx, l.these(q, ask, piece))
		done.Dropped += n
		return err
	})
	return done, err
}

// these are the dead letters of a piece, as long as they are what was asked for: one that was redriven and died anew may not be.
func (l letters) these(q Query, ask event.DeadQuery, piece []event.DeadLetter) event.DeadQuery {
	these := l.query(q, ask)
	these.Bare, these.After, these.Limit, these.IDs = false, 0, 0, make([]int64, len(piece))
	for i := range piece {
		these.IDs[i] = piece[i].ID
	}
	return these
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
