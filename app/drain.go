package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/millrace-run/millrace/console"
	"github.com/millrace-run/millrace/event"
)

// ends knows which sources have come to their end, as standard input does.
type ends struct {
	all chan struct{} // closed when every source has

	mu   sync.Mutex // guards everything below
	left int
	bad  error // what was wrong with what they had
}

func newEnds(sources int) *ends { return &ends{all: make(chan struct{}), left: sources} }

// end notes why a source of a pipeline is not started again; nil is that the process stops.
func (e *ends) end(pipeline string, reason error) {
	if reason == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if reason != event.ErrEnd { //nolint:errorlint // one that wraps it has more to say
		e.bad = errors.Join(e.bad, fmt.Errorf("pipeline %s: %w", pipeline, reason))
	}
	if e.left--; e.left == 0 {
		close(e.all)
	}
}

// problem is what was wrong with what the sources had.
func (e *ends) problem() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.bad
}

// The pauses between two looks whether all is delivered.
const (
	drainFirst = 10 * time.Millisecond
	drainMost  = 250 * time.Millisecond
)

// drain waits until everything is delivered or a dead letter, or waits for a destination that is gone until the next start: one that
// says so, or standard output that nobody reads any more. It returns what was wrong with what the sources had, or why the process has to stop before.
func (p *process) drain(ctx context.Context) error {
	p.Logger.Info("every source is at its end; what is pending is delivered, then this process ends")
	for pause := drainFirst; ; pause = min(2*pause, drainMost) {
		rest, err := p.rest(ctx)
		if err != nil {
			p.Logger.Warn("how much is pending cannot be told", "err", err)
		} else if rest == 0 {
			return errors.Join(p.intake.ends.problem(), p.unread())
		}
		again, release := event.SystemClock{}.After(pause)
		select {
		case <-again:
		case <-ctx.Done():
			release()
			return context.Cause(ctx)
		case <-p.flows.failed():
			release()
			return p.flows.err()
		}
	}
}

// rest is how much is pending that this process can deliver.
func (p *process) rest(ctx context.Context) (int64, error) {
	all, err := p.Subscriptions(ctx)
	rest := int64(0)
	cut := p.cutOff()
	for _, s := range all {
		if cut[SinkName{Pipeline: s.Pipeline, Sink: s.Sink}] {
			continue
		}
		if s.State != console.StateRemoved && s.State != console.StatePaused {
			rest += s.Lag + s.Retrying + s.Held
		}
	}
	return rest, err
}

// cutOff are the sinks whose destination is gone until the next start, and that wait for it all the same.
func (p *process) cutOff() map[SinkName]bool {
	cut := map[SinkName]bool{}
	for _, pipeline := range p.Plan.Pipelines {
		for _, s := range pipeline.Sinks {
			if c, ok := s.Value.(interface{ CutOff() bool }); ok && c.CutOff() {
				cut[SinkName{Pipeline: pipeline.Name, Sink: s.Name}] = true
			}
		}
	}
	return cut
}

func (p *process) unread() error {
	if len(p.cutOff()) > 0 {
		return errors.New("nobody reads standard output any more; what was not written stays pending")
	}
	return nil
}

// WritesOut says whether a sink of a plan writes to standard output.
func WritesOut(plan *Plan) bool {
	for _, p := range plan.Pipelines {
		for _, s := range p.Sinks {
			if s.Type == "console" {
				return true
			}
		}
	}
	return false
}
