package router

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/rules"
)

// fate is what the stages made of an event.
type fate uint8

const (
	passes  fate = iota
	dropped      // by a stage, or by on_error: drop
	failed       // a stage failed and its on_error is dead_letter
)

// want is what a sink's when says about an event.
type want uint8

const (
	wantNo want = iota
	wantYes
	wantFailed // the when itself failed
)

// stageWhen names a sink's when where a stage is named.
const stageWhen = "when"

// shaped is an event behind the stages of its pipeline. It does not change once it is made and is shared by all sinks.
type shaped struct {
	offset     event.Offset
	event      *event.Event // nil unless the event passes
	source, id string       // as appended, before the stages: the identity of its deliveries; empty when dropped
	size       int64        // the larger one of before and behind the stages: its texts keep all of before in memory
	received   time.Time
	fate       fate
	stage      string // that failed
	err        error  // of it
	stray      bool   // no when wanted it, and none failed; known where every sink was asked
	first      int    // the sink of wants[0]
	wants      []want
	whenErr    map[int]error // by sink, of those with wantFailed
}

func (s *shaped) weight() int64 { return s.size + ringOverhead }

// bytes is the size of the event behind the stages; 0 unless it passes.
func (s *shaped) bytes() int64 {
	if s.event == nil {
		return 0
	}
	return int64(s.event.Size())
}

// wanted is what the sink with an index in the pipeline is to do with the event.
func (s *shaped) wanted(sink int) want {
	if s.fate != passes {
		return wantNo
	}
	return s.wants[sink-s.first]
}

// decider is a sink's when: a *rules.Expr.
type decider interface {
	Bool(in *rules.Input) (ok bool, missing string, err error)
}

// shaper runs the pure stages and the whens of one pipeline. It is safe for concurrent use.
type shaper struct {
	stages []pipelines.Stage
	whens  []decider // by sink, nil takes every event
	strict bool
	rest   int  // the sink that gets what no other wants; -1 is none
	bury   bool // what no sink wants is a dead letter
}

func newShaper(p *pipelines.Pipeline) *shaper {
	s := &shaper{stages: p.Stages, whens: make([]decider, len(p.Sinks)), strict: p.Strict,
		rest: slices.IndexFunc(p.Sinks, func(k *pipelines.Sink) bool { return k.Name != "" && k.Name == p.Unmatched.Sink }),
		bury: p.Unmatched.Word == pipelines.UnmatchedDeadLetter}
	for i, sink := range p.Sinks {
		if sink.When != nil {
			s.whens[i] = sink.When
		}
	}
	return s
}

// allInto shapes an event for every sink, into memory of the caller, who gives the same subject for many events. wants is room for
// one want per sink. t counts and may be nil.
func (s *shaper) allInto(out *shaped, r *event.Record, wants []want, t *tally, subject *rules.Subject) {
	s.shape(out, r, t, subject)
	out.wants = wants
	s.decide(out, t)
}

// one shapes an event for one sink only and counts nothing.
func (s *shaper) one(r *event.Record, sink int) *shaped {
	out := &shaped{}
	s.oneInto(out, r, sink, &rules.Subject{})
	return out
}

// oneInto is one into memory of the caller, who gives the same subject for many events. Whether the sink that takes the rest gets
// an event is for all the others to say.
func (s *shaper) oneInto(out *shaped, r *event.Record, sink int, subject *rules.Subject) {
	if sink == s.rest {
		s.allInto(out, r, make([]want, len(s.whens)), nil, subject)
		return
	}
	s.shape(out, r, nil, subject)
	if out.fate == passes {
		out.first, out.wants = sink, make([]want, 1)
		s.decide(out, nil)
	}
}

func (s *shaper) shape(out *shaped, r *event.Record, t *tally, subject *rules.Subject) {
	*out = shaped{offset: r.Offset, source: r.Event.Source, id: r.Event.ID, received: r.Event.Received}
	subject.Reset(r.Event)
	for i := s.after(r.Event.Ran); i < len(s.stages); i++ {
		keep, err := s.step(i, subject, t)
		switch {
		case err != nil && s.stages[i].OnError == pipelines.OnErrorDrop:
			out.fate = dropped
		case err != nil:
			out.fate, out.stage, out.err = failed, s.stages[i].Name, err
		case !keep:
			out.fate = dropped
			t.filtered(i)
		}
		if out.fate != passes {
			out.leaveOut()
			return
		}
	}
	subject.Finish()
	ev := subject.Event
	ev.Ran = nil
	out.event, out.size = &ev, int64(max(r.Event.Size(), ev.Size()))
}

// after is the first stage that is still to run on an event for which some ran before it was stored: the one behind the last of
// those that the file still has. If it has none of them, they were replaced, and so many count as run.
func (s *shaper) after(ran []string) int {
	for n := len(ran); n > 0; n-- {
		if n <= len(s.stages) && s.stages[n-1].Name == ran[n-1] {
			return n
		}
		if i := slices.IndexFunc(s.stages, func(st pipelines.Stage) bool { return st.Name == ran[n-1] }); i >= 0 {
			return i + 1
		}
	}
	return min(len(ran), len(s.stages))
}

// leaveOut forgets what no sink will ask for, and lets go of the memory that it shares with the log.
func (s *shaped) leaveOut() {
	s.source = ""
	if s.fate == dropped {
		s.id = ""
	}
	s.id = strings.Clone(s.id)
}

// isFew says whether so little of a batch passed that what passed is to be copied. Its events share memory: the piece of a file that
// they were read with, a row of the log. Whoever keeps events in memory counts their own bytes, and a few of them would otherwise
// keep many times as much.
func isFew(left, given int) bool { return 2*left < given }

// detach frees what passed from the memory that it shares with others.
func (s *shaped) detach() {
	if s.fate == passes {
		own := s.event.Detached()
		s.event = &own
		s.source, s.id = strings.Clone(s.source), strings.Clone(s.id)
	}
}

// step runs one stage. With on_error: pass an event that fails is as it was before.
func (s *shaper) step(i int, subject *rules.Subject, t *tally) (keep bool, err error) {
	stage := &s.stages[i]
	var before event.Event
	if stage.OnError == pipelines.OnErrorPass {
		subject.Finish()
		before = subject.Event
	}
	keep, missing, err := safely(stage.Op, subject)
	if missing != "" && err == nil {
		t.missing(i, missing)
		err = s.strictly(missing)
	}
	if err == nil {
		return keep, nil
	}
	t.failed(i)
	if stage.OnError == pipelines.OnErrorPass {
		subject.Reset(before)
		return true, nil
	}
	return false, err
}

func (s *shaper) strictly(missing string) error {
	if s.strict {
		return fmt.Errorf("the field %s is missing", missing)
	}
	return nil
}

// safely is one call of a stage in which a panic is an error: one event must not end the process.
func safely(op rules.Op, subject *rules.Subject) (keep bool, missing string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return op(subject)
}

func (s *shaper) decide(out *shaped, t *tally) {
	if out.fate != passes {
		return
	}
	var in *rules.Input // made for the first when there is
	for i := range out.wants {
		sink := out.first + i
		if sink == s.rest {
			continue
		}
		if s.whens[sink] == nil {
			out.wants[i] = wantYes
			continue
		}
		if in == nil {
			in = &rules.Input{Event: out.event}
		}
		ok, err := s.ask(sink, in, t)
		switch {
		case err != nil:
			out.wants[i] = wantFailed
			if out.whenErr == nil {
				out.whenErr = make(map[int]error)
			}
			out.whenErr[sink] = err
		case ok:
			out.wants[i] = wantYes
		}
	}
	if out.stray = out.unmatched(); out.stray && s.rest >= 0 && out.first == 0 && len(out.wants) == len(s.whens) {
		out.wants[s.rest] = wantYes
	}
}

func (s *shaper) ask(sink int, in *rules.Input, t *tally) (ok bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	ok, missing, err := s.whens[sink].Bool(in)
	if missing != "" && err == nil {
		t.missing(len(s.stages)+sink, missing)
		err = s.strictly(missing)
	}
	return ok, err
}

var errUnmatched = errors.New("no sink wants the event")

// letter is the dead letter that an event comes to before any sink, or nil. before is the row that it has, or nil.
func (s *shaper) letter(out *shaped, before *event.Exception, now time.Time) *event.Exception {
	switch {
	case out.fate == failed:
		return onError(out.stage, out.err, before, now)
	case out.stray && s.bury:
		x := onError("", errUnmatched, before, now)
		x.Reason = event.ReasonUnmatched
		return x
	}
	return nil
}

// onError is the dead letter of an event at which a stage or a when failed. before is the row that it has, or nil.
func onError(stage string, err error, before *event.Exception, now time.Time) *event.Exception {
	x := event.Exception{FirstAt: now}
	if before != nil {
		x = *before
	}
	if x.FirstAt.IsZero() {
		x.FirstAt = now
	}
	x.State, x.Reason, x.Stage = event.Dead, event.ReasonOnError, stage
	x.Attempts, x.NextAt = x.Attempts+1, time.Time{}
	x.Failed(event.Attempt{At: now, Error: clip(err.Error())})
	return &x
}
