package app

import (
	"context"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/router"
)

// keptLog is what people see and change of a log.
type keptLog interface {
	Status(ctx context.Context) ([]event.SubscriptionStatus, error)
	DeadLetters(ctx context.Context, q event.DeadQuery) ([]event.DeadLetter, error)
	Redrive(ctx context.Context, q event.DeadQuery) (int, error)
	Drop(ctx context.Context, q event.DeadQuery) (int, error)
}

// kept is what people see of the logs of a process: of several, as if they were one.
func (all flows) kept() keptLog {
	if len(all) == 1 {
		return all[0].eventLog
	}
	return joined(all)
}

// joined are several logs as one. The ids of their dead letters go up from one log to the next.
type joined flows

// Status is that of all subscriptions, log by log.
func (j joined) Status(ctx context.Context) ([]event.SubscriptionStatus, error) {
	var all []event.SubscriptionStatus
	for _, f := range j {
		some, err := f.Status(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// DeadLetters lists those of one log after the other, which is the order of their ids.
func (j joined) DeadLetters(ctx context.Context, q event.DeadQuery) ([]event.DeadLetter, error) {
	var all []event.DeadLetter
	_, err := j.each(q, func(f *flow, q event.DeadQuery) (int, error) {
		some, err := f.DeadLetters(ctx, q)
		all = append(all, some...)
		return len(some), err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// Redrive asks each log for its own subscriptions only: a pipeline that moved from one log to the other has subscriptions of the
// same names in both, and those that it left have nobody to take anything.
func (j joined) Redrive(ctx context.Context, q event.DeadQuery) (int, error) {
	return j.each(q, func(f *flow, q event.DeadQuery) (int, error) {
		if q.Subscriptions != nil {
			if q.Subscriptions = f.own(q.Subscriptions); q.Subscriptions == nil {
				return 0, nil
			}
		}
		return f.Redrive(ctx, q)
	})
}

// Drop settles what each log has.
func (j joined) Drop(ctx context.Context, q event.DeadQuery) (int, error) {
	return j.each(q, func(f *flow, q event.DeadQuery) (int, error) { return f.Drop(ctx, q) })
}

// each asks one log after the other until the limit of q is reached.
func (j joined) each(q event.DeadQuery, ask func(*flow, event.DeadQuery) (int, error)) (int, error) {
	sum := 0
	for _, f := range j {
		rest := q
		if q.Limit > 0 {
			if rest.Limit = q.Limit - sum; rest.Limit <= 0 {
				break
			}
		}
		n, err := ask(f, rest)
		if sum += n; err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// own are the subscriptions of the flow's pipelines among these; nil: none.
func (f *flow) own(names []string) (own []string) {
	mine := map[string]bool{}
	for _, p := range f.plan.Pipelines {
		mine[router.SubscriptionName(p.Name, "")] = true
		for _, s := range p.Sinks {
			mine[router.SubscriptionName(p.Name, s.Name)] = true
		}
	}
	for _, name := range names {
		if pipeline, _, sink := router.ParseSubscription(name); mine[router.SubscriptionName(pipeline, sink)] {
			own = append(own, name)
		}
	}
	return own
}
