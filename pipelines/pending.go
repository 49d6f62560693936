package pipelines

import (
	"fmt"
	"time"

	"github.com/millrace-run/millrace/event"
)

// MaxPending bounds what waits for one sink. Zero is no bound; all zero is none at all.
type MaxPending struct {
	Events int           `yaml:"events,min=1,max=1000000000" doc:"How many events may wait: those not tried yet, those being tried, and those that wait for another attempt."`
	Bytes  int64         `yaml:"bytes,size,min=64KiB" doc:"How much of the outbox may be kept for them."`
	Age    time.Duration `yaml:"age,min=1s,max=3650d" doc:"How long ago the oldest of them may have been received."`
}

// Overflow is what happens when more waits for a sink than it may.
type Overflow string

// The values of overflow.
const (
	OverflowBlock      Overflow = "block"       // the pipeline takes no event: sources wait
	OverflowReject     Overflow = "reject"      // the same at once, for a source that does not wait
	OverflowDeadLetter Overflow = "dead_letter" // the oldest that were not tried yet become dead letters
)

// words of from.
const (
	fromNow       = "now"
	fromBeginning = "beginning"
)

// from is where the subscription of a new sink begins.
func (l *loader) from(s *section, text string) (from event.Start) {
	n := s.node.below("from")
	if n == nil || l.anyBad(n) || text == fromNow {
		return from
	}
	if text == fromBeginning {
		return event.Start{Beginning: true}
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		l.fault(n, codeValue, fmt.Sprintf("from: expected now, beginning or a time, found %q", text), "a time is written 2026-11-20T08:00:00Z")
	}
	return event.Start{Time: at.UTC()}
}

// pending is the bound of what may wait; nil: there is none.
func (l *loader) pending(s *section, keys *sinkKeys) *MaxPending {
	m, given := s.node.find("max_pending")
	if e, ok := s.node.find("overflow"); ok && !given {
		l.fault(e.key, codeNotHere, "overflow: it is about max_pending, and this sink has none", "add max_pending or remove it")
	}
	if !given || m.value.kind == skippedNode {
		return nil
	}
	if keys.MaxPending == (MaxPending{}) && !l.anyBad(m.value) {
		l.fault(m.key, codeMissing, "max_pending: expected at least one of events, bytes and age", "max_pending: { events: 100000 }")
	}
	if hold := s.node.below("on_dead"); hold != nil && keys.OnDead == onDeadHold && Overflow(keys.Overflow) == OverflowDeadLetter {
		l.fault(hold, codeNotHere, "on_dead: hold keeps the events of a key behind a dead letter, and overflow: dead_letter passes events by",
			"use overflow: block, or on_dead: release")
	}
	return &keys.MaxPending
}

// refuseForgotten refuses what is about events that wait on disk where they are in memory only.
func (l *loader) refuseForgotten(pipeline *section) {
	sinks := pipeline.node.below("sinks")
	if sinks == nil {
		return
	}
	for _, e := range sinks.entries {
		for _, name := range []string{"from", "max_pending"} {
			if k, ok := e.value.find(name); ok && k.value.text != fromNow {
				l.fault(k.key, codeNotHere, name+": the events of this pipeline are in memory only, which keeps no history and has a bound of its own",
					"remove it, or keep the events in a SQLite outbox")
			}
		}
	}
}
