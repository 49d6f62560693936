package router

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/millrace-run/millrace/event"
)

// Pause is that a subscription rests until it is resumed: nothing new is attempted, what is in flight ends, and its events wait. The
// log keeps it as the state of an owner of its own, so that it survives a restart and can be set while no process runs.
type Pause struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
}

const pauseKey = "pause"

func pauseOwner(subscription string) string { return "pause:" + subscription }

// PauseOf reads whether a log has a subscription paused; nil: it has not.
func PauseOf(ctx context.Context, log Log, subscription string) (*Pause, error) {
	state, err := log.State(ctx, pauseOwner(subscription))
	if err != nil || state[pauseKey] == nil {
		return nil, err
	}
	p := &Pause{}
	if err := json.Unmarshal(state[pauseKey], p); err != nil {
		return nil, fmt.Errorf("the pause of %s cannot be read: %w", subscription, err)
	}
	return p, nil
}

// SetPause writes into a log that a subscription is paused, or with nil that it is not. It is for a log on which no router runs.
func SetPause(ctx context.Context, log Log, subscription string, p *Pause) error {
	var value []byte
	if p != nil {
		var err error
		if value, err = json.Marshal(p); err != nil {
			return err
		}
	}
	state := event.State{Owner: pauseOwner(subscription), Changes: event.Changes{pauseKey: value}}
	_, err := log.Commit(ctx, event.Commit{States: []event.State{state}})
	return err
}

// pausing is the pause of one sink. Anyone may change it.
type pausing struct {
	now    atomic.Pointer[Pause] // nil: it runs
	dirty  atomic.Bool           // the log does not know of now yet
	writer chan struct{}         // holds a value while a change is written: log and memory never tell two stories
}

func (p *pausing) on() bool { return p.now.Load() != nil }

// begin waits until nobody else writes a change. end is to be called behind the own one.
func (p *pausing) begin(ctx context.Context) error {
	select {
	case p.writer <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *pausing) end() { <-p.writer }

// change pauses a sink, or with nil resumes it, and is durable when it returns nil. A sink that is paused keeps its first reason.
func (s *subscriber) change(ctx context.Context, to *Pause) error {
	p := &s.pausing
	if err := p.begin(ctx); err != nil {
		return err
	}
	defer p.end()
	if p.on() == (to != nil) && !p.dirty.Load() {
		return nil
	}
	if err := SetPause(ctx, s.log, s.name, to); err != nil {
		return err
	}
	p.dirty.Store(false)
	p.now.Store(to)
	s.lanes[0].fed.Ring()
	return nil
}

// gone pauses a sink whose destination is gone. That holds at once, and is written by savePause. A crash in between makes one
// more request.
func (s *subscriber) gone(f *event.Failure, now time.Time) {
	p := &Pause{At: now, Reason: "the destination is gone: " + clip(words(f))}
	if s.pausing.now.CompareAndSwap(nil, p) {
		s.pausing.dirty.Store(true)
	}
}

// savePause writes what gone left.
func (s *subscriber) savePause(ctx context.Context) error {
	p := &s.pausing
	if !p.dirty.Load() {
		return nil
	}
	if err := p.begin(ctx); err != nil {
		return err
	}
	defer p.end()
	if !p.dirty.Load() {
		return nil
	}
	err := s.guard.do(ctx, "write that the subscription is paused", func() error { return SetPause(ctx, s.log, s.name, p.now.Load()) })
	if err == nil {
		p.dirty.Store(false)
	}
	return err
}

// loadPause takes over what an earlier process left.
func (s *subscriber) loadPause(ctx context.Context, can event.Capabilities) error {
	if !can.Stateful {
		return nil
	}
	p, err := PauseOf(ctx, s.log, s.name)
	if err != nil {
		return err
	}
	s.pausing.now.Store(p)
	if p != nil {
		s.logger.Warn("the subscription is paused; resume it with: millrace subscriptions resume "+s.name, "since", p.At, "reason", p.Reason)
	}
	return nil
}

// Pause makes a sink rest, until Resume, for a reason that people see. It is durable when it returns nil. Of a sink that is paused it
// changes nothing. Call it after Configure.
func (r *Router) Pause(ctx context.Context, pipeline, sink, reason string) error {
	s, err := r.sink(pipeline, sink)
	if err != nil {
		return err
	}
	if err := s.change(ctx, &Pause{At: r.clock.Now().UTC(), Reason: reason}); err != nil {
		return err
	}
	s.logger.Info("subscription paused", "reason", reason)
	return nil
}

// Resume ends a pause, whoever began it. It is durable when it returns nil. Of a sink that runs it changes nothing.
func (r *Router) Resume(ctx context.Context, pipeline, sink string) error {
	s, err := r.sink(pipeline, sink)
	if err != nil {
		return err
	}
	if err := s.change(ctx, nil); err != nil {
		return err
	}
	s.logger.Info("subscription resumed")
	return nil
}

// Paused returns the pauses, by the names of their subscriptions.
func (r *Router) Paused() map[string]Pause {
	paused := map[string]Pause{}
	for _, p := range r.pipelines {
		for _, s := range p.sinks {
			if p := s.pausing.now.Load(); p != nil {
				paused[s.name] = *p
			}
		}
	}
	return paused
}

func (r *Router) sink(pipeline, sink string) (*subscriber, error) {
	for _, p := range r.pipelines {
		for _, s := range p.sinks {
			if p.name == pipeline && s.plan.Name == sink {
				return s, nil
			}
		}
	}
	return nil, fmt.Errorf("there is no sink %q in a pipeline %q", sink, pipeline)
}
