package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/millrace-run/millrace/brokers/engine"
	"github.com/millrace-run/millrace/console"
	"github.com/millrace-run/millrace/sources/webhook"
)

// Options are what a run needs. Plan and Logger must be set.
type Options struct {
	Plan    *Plan
	Logger  *slog.Logger
	Version string
	Started func(Started) // called once, when everything runs; may be nil
	Stopped func([]Tally) // called once, when no event moves any more, if it ever ran; may be nil
}

// Run runs a plan until ctx ends, which is an orderly stop (nil), until every source is at its end and all is delivered, or until it
// cannot go on (the reason). All that it started has
// ended when it returns.
func Run(ctx context.Context, o Options) error {
	p, err := open(ctx, o)
	switch {
	case err != nil && ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx))):
		return nil // asked to stop before anything ran
	case err != nil:
		return err
	}
	return p.run(ctx)
}

// process is one Millrace from the opening of its outbox to its closing.
type process struct {
	Options
	*instance
	admin    *server
	webhooks *server // nil when no pipeline has a webhook or a queue
	queues   http.Handler
}

// open takes the outbox and the ports, in this order, so that a second start beside a running one hears who holds the outbox.
// The routers are configured last: a start that fails changes nothing in the outbox.
func open(ctx context.Context, o Options) (_ *process, err error) {
	p := &process{Options: o, instance: &instance{}}
	if p.flows, err = openFlows(ctx, o.Plan, o.Logger); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.closeAll(ctx))
		}
	}()
	p.letters = letters{p.flows.kept(), o.Plan}
	if p.intake, err = newIntake(o.Plan, o.Logger); err != nil {
		return nil, err
	}
	p.intake.tell(p.flows)
	// The loader says so with the place in the file; here it is what the console's safety rests on.
	if err = console.CheckListen(o.Plan.Admin.Listen); err != nil {
		return nil, fmt.Errorf("admin.listen: %w", err)
	}
	if p.admin, err = bind(ctx, "admin.listen", o.Plan.Admin.Listen); err != nil {
		return nil, err
	}
	if p.queues, err = newQueues(o.Plan, p.flows); err != nil {
		return nil, err
	}
	if len(p.intake.hooks) > 0 || p.queues != nil {
		if p.webhooks, err = bind(ctx, "http.listen", o.Plan.HTTP.Listen); err != nil {
			return nil, err
		}
	}
	return p, p.flows.configure(ctx)
}

// run starts against the flow of events, so that whatever takes one has somebody behind it: router, sources, webhooks. The
// admin listener is there from the beginning and answers "not ready" until all of them run.
func (p *process) run(caller context.Context) error {
	ctx, fail := context.WithCancelCause(caller)
	defer fail(nil)
	// What the sources have accepted must outlive the wish to stop: these end when stop says so.
	routing, stopRouter := context.WithCancel(context.WithoutCancel(ctx))
	sourcing, stopSources := context.WithCancel(context.WithoutCancel(ctx))
	var routed, sourced sync.WaitGroup
	p.admin.serve(p.console(), adminHeaderBytes, p.Logger, fail)
	routed.Go(func() { p.flows.run(routing, fail) })
	p.intake.start(sourcing, p.flows, p.Logger, &sourced)
	if p.webhooks != nil {
		p.webhooks.listener = webhook.Listener(p.webhooks.listener)
		p.webhooks.serve(withQueues(p.queues, p.intake.handler()), p.intake.headerBytes(), p.Logger, fail)
	}
	p.started.Store(true)
	p.intake.await(ctx) // who reads the address in the announcement may use it at once
	p.announce(ctx)

	reason := p.wait(ctx)
	p.stopping.Store(true)
	p.Logger.Info("stopping", "reason", cmp.Or(reason, errDelivered), "shutdown_timeout", p.Plan.ShutdownTimeout.String())
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.Plan.ShutdownTimeout)
	defer cancel()
	// Attempts in flight and requests in flight get the same time, side by side: neither needs the other to end.
	stopRouter()
	if p.webhooks != nil {
		p.webhooks.stop(grace)
	}
	stopSources()
	sourced.Wait()
	routed.Wait()
	return p.end(caller, reason)
}

var errDelivered = errors.New("every source is at its end and everything is delivered")

// wait returns why the process has to stop; nil: it has done its work.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-p.flows.failed():
		return p.flows.err()
	case <-p.intake.ends.all:
		return p.drain(ctx)
	}
}

// end closes what is left. A stop that the caller asked for is no error, unless the outbox failed meanwhile: the reason of a
// failed outbox comes before what it made others say.
func (p *process) end(caller context.Context, reason error) error {
	lost := p.flows.lost()
	p.tellLost(lost)
	if p.Stopped != nil {
		p.Stopped(tally(p.flows.stats(p.Plan), lost))
	}
	failed := p.flows.err()
	closed := p.closeAll(caller)
	switch {
	case failed != nil:
		return fmt.Errorf("the outbox failed, start again to recover it: %w", failed)
	case caller.Err() != nil:
		reason = nil
	}
	if err := errors.Join(reason, closed); err != nil {
		return err
	}
	p.Logger.Info(p.flows.farewell())
	return nil
}

// tellLost says of each pipeline what the end of the process takes with it.
func (p *process) tellLost(lost map[string]engine.Held) {
	for _, pipeline := range p.Plan.Pipelines {
		if l, ok := lost[pipeline.Name]; ok {
			p.Logger.Warn("events that were in memory only are lost", "pipeline", pipeline.Name, "events", l.Events, "dead_letters", l.Dead)
		}
	}
}

// closeAll closes what is open, the outbox last, whether or not ctx has ended.
func (p *process) closeAll(ctx context.Context) error {
	// Nothing of the admin listener is worth waiting longer for.
	now, cancel := context.WithTimeout(context.WithoutCancel(ctx), adminGrace)
	defer cancel()
	for _, s := range []*server{p.webhooks, p.admin} {
		if s != nil {
			s.stop(now)
		}
	}
	return p.flows.close()
}

const (
	adminHeaderBytes = 64 << 10
	adminGrace       = time.Second
)

func (p *process) console() http.Handler {
	return console.New(console.Options{Listen: p.Plan.Admin.Listen, Version: p.Version, Instance: p.instance})
}
