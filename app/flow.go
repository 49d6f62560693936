package app

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/millrace-run/millrace/brokers/engine"
	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/router"
)

// flow is a log with the pipelines on it and the router that runs them. A process has one for the outbox, and one for the
// pipelines with delivery: at_most_once, as far as there are such pipelines.
type flow struct {
	*eventLog
	plan   *Plan // of its pipelines only
	router *router.Router
}

// flows are those of a process: that of the outbox first.
type flows []*flow

// memoryLetters is before the id of the first dead letter of a pipeline with delivery: at_most_once, so that it is not mistaken for
// one of the outbox. No outbox gets there.
const memoryLetters = 1_000_000_000_000

// forgetful says whether a pipeline of the plan runs in memory beside the outbox. Where the outbox is in memory itself, all share it.
func forgetful(plan *Plan, p *pipelines.Pipeline) bool {
	return plan.Outbox.Memory == nil && p.Delivery == pipelines.AtMostOnce
}

// part is the plan with the pipelines on one of the logs only.
func part(plan *Plan, memory bool) *Plan {
	own := *plan
	own.Pipelines = nil
	for _, p := range plan.Pipelines {
		if forgetful(plan, p) == memory {
			own.Pipelines = append(own.Pipelines, p)
		}
	}
	return &own
}

// openFlows opens the logs that the plan needs: no outbox if no pipeline has events there.
func openFlows(ctx context.Context, plan *Plan, logger *slog.Logger) (all flows, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, all.close())
		}
	}()
	add := func(own *Plan, log *eventLog) {
		options := router.Options{Logger: logger, Pipelines: len(plan.Pipelines), Priorities: router.Prioritized(log.topics())}
		all = append(all, &flow{log, own, router.New(own, log.statusLog, options)})
	}
	if own := part(plan, false); len(own.Pipelines) > 0 {
		log, err := openOutbox(ctx, own, logger)
		if err != nil {
			return all, err
		}
		add(own, log)
	} else if s := plan.Outbox.SQLite; s != nil {
		tellUnused(s.Path, logger)
	}
	if own := part(plan, true); len(own.Pipelines) > 0 {
		log, err := openMemory(engine.Options{Logger: logger, DeadAfter: memoryLetters})
		if err != nil {
			return all, err
		}
		add(own, log)
	}
	return all, nil
}

// tellUnused says that an outbox is left alone that an earlier run made.
func tellUnused(path string, logger *slog.Logger) {
	if _, err := os.Stat(path); err == nil {
		logger.Warn("there is an outbox, but no pipeline of the file needs one: what it holds waits until one does", "path", path)
	}
}

// configure gives each log its layout, that of the outbox last: a start that fails changes nothing there.
func (all flows) configure(ctx context.Context) error {
	for _, f := range slices.Backward(all) {
		if err := f.router.Configure(ctx); err != nil {
			return err
		}
	}
	return nil
}

// of is the flow of a pipeline of the plan.
func (all flows) of(pipeline string) *flow {
	for _, f := range all {
		if slices.ContainsFunc(f.plan.Pipelines, func(p *pipelines.Pipeline) bool { return p.Name == pipeline }) {
			return f
		}
	}
	return nil
}

// run runs the routers until ctx ends. One ends by itself only when something is wrong; then fail hears why, and the others go on
// until ctx ends.
func (all flows) run(ctx context.Context, fail func(error)) {
	var group sync.WaitGroup
	for _, f := range all {
		group.Go(func() {
			err := f.router.Run(ctx)
			if err == nil && ctx.Err() == nil {
				err = errors.New("the router ended without being asked to")
			}
			fail(err)
		})
	}
	group.Wait()
}

// failed is closed when the outbox can no longer keep its promise; nil, for ever, when that cannot happen.
func (all flows) failed() <-chan struct{} {
	for _, f := range all {
		if f.eventLog.failed != nil {
			return f.eventLog.failed
		}
	}
	return nil
}

// err is why a log failed; nil while none has.
func (all flows) err() error {
	var errs []error
	for _, f := range all {
		errs = append(errs, f.eventLog.err())
	}
	return errors.Join(errs...)
}

// close closes the logs, the outbox last.
func (all flows) close() error {
	var errs []error
	for _, f := range slices.Backward(all) {
		errs = append(errs, f.eventLog.close())
	}
	return errors.Join(errs...)
}

// data says where events are kept, for people.
func (all flows) data() string {
	if len(all) == 1 {
		return all[0].eventLog.data
	}
	names := make([]string, len(all[1].plan.Pipelines))
	for i, p := range all[1].plan.Pipelines {
		names[i] = p.Name
	}
	return all[0].eventLog.data + "; of " + strings.Join(names, ", ") + " " + all[1].eventLog.data
}

// stats are the numbers of all routers, in the order of the plan.
func (all flows) stats(plan *Plan) []router.Metric {
	var stats []router.Metric
	for _, f := range all {
		stats = append(stats, f.router.Stats()...)
	}
	if len(all) == 1 {
		return stats
	}
	at := map[string]int{}
	for i, p := range plan.Pipelines {
		at[p.Name] = i
	}
	place := func(m router.Metric) int { return at[labelOf(m.Labels, "pipeline")] }
	slices.SortStableFunc(stats, func(a, b router.Metric) int { return cmp.Compare(place(a), place(b)) })
	return stats
}

func labelOf(labels []router.Label, name string) string {
	for _, l := range labels {
		if l.Name == name {
			return l.Value
		}
	}
	return ""
}

// farewell is the last line of the log.
func (all flows) farewell() string {
	if all[0].memory != nil {
		return "stopped; there was no outbox"
	}
	return "stopped; the outbox is closed"
}

// lost is what closing the logs will lose, by pipeline: what is in memory and not settled. Nothing moves any more when it is asked.
func (all flows) lost() map[string]engine.Held {
	lost := map[string]engine.Held{}
	for _, f := range all {
		if f.memory == nil {
			continue
		}
		for topic, held := range f.memory.Held() {
			pipeline, _ := router.ParseTopic(topic)
			sum := lost[pipeline]
			lost[pipeline] = engine.Held{Events: sum.Events + held.Events, Dead: sum.Dead + held.Dead}
		}
	}
	return lost
}
