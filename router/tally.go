package router

import (
	"log/slog"
	"sync/atomic"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
)

// tally counts what the stages of a pipeline did. Only the runner counts, and what runs stages before the log, so that each event
// counts once; whoever shapes an event again passes a nil tally, which counts nothing.
type tally struct {
	clock  event.Clock
	logger *slog.Logger
	// steps are the stages, then the whens of the sinks.
	steps     []step
	unmatched atomic.Int64
	dead      atomic.Int64 // of stages that failed
	fold      fold         // of the lines about dead letters
	quiet     bool         // a scratch tally
}

// step is what is counted of one stage, or of one sink's when.
type step struct {
	stage, sink string
	effect      pipelines.OnError // what becomes of an event at which it fails

	dropped, lacking, errors atomic.Int64
	fold                     fold   // of the lines about missing fields
	field                    string // in a scratch tally: the last that was missing
}

func newTally(p *pipelines.Pipeline, clock event.Clock, logger *slog.Logger) *tally {
	t := &tally{clock: clock, logger: logger, steps: make([]step, len(p.Stages)+len(p.Sinks))}
	for i, s := range p.Stages {
		t.steps[i].stage, t.steps[i].effect = s.Name, s.OnError
		if s.OnError == "" {
			t.steps[i].effect = pipelines.OnErrorDeadLetter
		}
	}
	for i, s := range p.Sinks {
		t.steps[len(p.Stages)+i].stage, t.steps[len(p.Stages)+i].sink = stageWhen, s.Name
	}
	return t
}

func (t *tally) filtered(i int) {
	if t != nil {
		t.steps[i].dropped.Add(1)
	}
}

func (t *tally) failed(i int) {
	if t != nil {
		t.steps[i].errors.Add(1)
	}
}

// missing counts a decision that met a missing field, and names the field in a folded log line.
func (t *tally) missing(i int, field string) {
	if t == nil {
		return
	}
	s := &t.steps[i]
	s.lacking.Add(1)
	if t.quiet {
		s.field = field
		return
	}
	t.tellMissing(s, field)
}

func (t *tally) tellMissing(s *step, field string) {
	if hidden, ok := s.fold.allow(t.clock.Now(), field); ok {
		t.logger.Info("a decision met a missing field", "stage", s.stage, "sink", s.sink, "field", field, "folded", hidden)
	}
}

// scratch is a tally for what may have to be counted again. It is one goroutine's, until it is merged.
func (t *tally) scratch() *tally { return &tally{steps: make([]step, len(t.steps)), quiet: true} }

// counted is what a scratch tally has of a step that may have to be taken again.
type counted struct {
	lacking, errors int64
	field           string
}

func (t *tally) counted(i int) counted {
	s := &t.steps[i]
	return counted{s.lacking.Load(), s.errors.Load(), s.field}
}

// uncount takes back what a scratch tally was told of a step since.
func (t *tally) uncount(i int, to counted) {
	s := &t.steps[i]
	s.lacking.Store(to.lacking)
	s.errors.Store(to.errors)
	s.field = to.field
}

// merge adds what a scratch tally has, and empties it. t may be one too.
func (t *tally) merge(scratch *tally) {
	for i := range scratch.steps {
		from, to := &scratch.steps[i], &t.steps[i]
		to.dropped.Add(from.dropped.Swap(0))
		to.lacking.Add(from.lacking.Swap(0))
		to.errors.Add(from.errors.Swap(0))
		switch {
		case from.field == "":
		case t.quiet:
			to.field = from.field
		default:
			t.tellMissing(to, from.field)
		}
		from.field = ""
	}
}

// settled counts what a batch of shaped events came to.
func (t *tally) settled(batch []shaped) {
	for i := range batch {
		s := &batch[i]
		switch {
		case s.fate == failed:
			t.dead.Add(1)
		case s.stray:
			t.unmatched.Add(1)
		}
	}
}

// unmatched says that no sink wants the event, and none failed to say so.
func (s *shaped) unmatched() bool {
	for _, w := range s.wants {
		if w != wantNo {
			return false
		}
	}
	return true
}
