package router

import (
	"context"
	"slices"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

const readBatch = 256

// runner reads a topic in order, shapes each event once, and counts what became of it. Its subscription ends an event when it
// was shaped; the sinks have cursors of their own.
type runner struct {
	*topic
	log    Log
	clock  event.Clock
	shared bool
	rows   bool // see Router.rows
	dues   *dues
	more   bool // Next may have more
	ranges bool // the log takes one outcome for many events

	// Of shape, used again for each batch.
	room    []shaped
	wants   []want
	subject rules.Subject
}

func newRunner(r *Router, t *topic) *runner {
	_, ranges := t.sub.Subscription.(event.Skipper)
	if l, ok := t.sub.Subscription.(event.Reuser); ok {
		l.Reuse()
	}
	return &runner{
		ranges: ranges, topic: t, log: r.log, clock: r.clock, shared: r.can.Shared, rows: r.rows(),
		dues: newDues(t.sub, t.guard), more: true,
	}
}

// join has nothing to wait for: all is done in run.
func (r *runner) join() {}

func (r *runner) run(stop, work context.Context) error {
	r.guard.begin()
	defer r.guard.end()
	for stop.Err() == nil {
		if err := r.turn(stop, work); err != nil {
			return clean(stop, work, err)
		}
		if !r.more && len(r.dues.ready) == 0 {
			r.sleep(stop)
		}
	}
	return nil
}

func (r *runner) turn(stop, work context.Context) error {
	if err := r.redriven(stop, work); err != nil {
		return err
	}
	return r.read(stop, work)
}

func (r *runner) sleep(stop context.Context) {
	alarm, release := timer(r.clock, r.dues.alarm())
	defer release()
	woken := r.sub.Wake()
	r.rest.sleep()
	defer r.rest.wake()
	select {
	case <-stop.Done():
	case <-alarm:
	case <-woken:
		r.more = true
		r.dues.woken()
	}
}

// read shapes the next batch.
func (r *runner) read(stop, work context.Context) error {
	var records []event.Record
	err := r.guard.do(stop, "read", func() (err error) {
		// Next has moved on behind what it returns, with an error or without; the error comes back when there is no more.
		if records, err = r.sub.Next(stop, maxOffset, readBatch); len(records) > 0 {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	r.more = len(records) > 0
	if !r.more {
		return nil
	}
	kept := r.shape(records)
	if err := r.settle(work, records, kept); err != nil {
		return err
	}
	r.tally.settled(kept)
	r.publish(records, kept)
	return nil
}

// shape returns what is left of records: what the stages did not drop. It shapes into memory of its own, which it uses again.
func (r *runner) shape(records []event.Record) []shaped {
	sinks := len(r.plan.Sinks)
	r.room = slices.Grow(r.room[:0], len(records))
	r.wants = slices.Grow(r.wants[:0], sinks*len(records))
	defer func() {
		clear(r.room) // else they stay in memory
		r.subject = rules.Subject{}
	}()
	given, left := 0, int64(0)
	for i := range records {
		n := len(r.room)
		r.room = r.room[:n+1]
		s, wants := &r.room[n], r.wants[n*sinks:(n+1)*sinks:(n+1)*sinks]
		clear(wants)
		r.shaper.allInto(s, &records[i], wants, r.tally, &r.subject)
		given += records[i].Event.Size()
		left += s.bytes()
		if s.fate == dropped {
			r.room = r.room[:n]
		}
	}
	return r.keep(isFew(int(left), given))
}

// keep copies what is left, to where sinks may keep it.
func (r *runner) keep(few bool) []shaped {
	kept := slices.Clone(r.room)
	wants := slices.Clone(r.wants[:len(kept)*len(r.plan.Sinks)])
	for i := range kept {
		n := len(kept[i].wants)
		kept[i].wants, wants = wants[:n:n], wants[n:]
		if few {
			kept[i].detach()
		}
	}
	return kept
}

// settle ends a batch for the runner. A dead letter is on disk before any sink may see the batch: a sink settles such an event
// because the dead letter has it, and must not be the only one of the two that survives a crash.
func (r *runner) settle(work context.Context, records []event.Record, kept []shaped) error {
	var outcomes []event.Outcome
	dead := false
	for i := range records {
		o := event.Outcome{Offset: records[i].Offset}
		if len(kept) > 0 && kept[0].offset == o.Offset {
			o.Exception = r.letter(&kept[0], nil)
			dead = dead || o.Exception != nil
			kept = kept[1:]
		}
		if !r.ranges || !extend(outcomes, &o) {
			outcomes = append(outcomes, o)
		}
	}
	return r.guard.do(work, "settle", func() error {
		if !dead {
			return r.sub.Settle(work, outcomes)
		}
		_, err := r.log.Commit(work, event.Commit{Settles: []event.Settle{{Subscription: r.subscription(), Outcomes: outcomes}}})
		return err
	})
}

// extend makes the last outcome that of o too, if it can.
func extend(outcomes []event.Outcome, o *event.Outcome) bool {
	if len(outcomes) == 0 || o.Exception != nil {
		return false
	}
	last := &outcomes[len(outcomes)-1]
	if last.Exception != nil || last.Last() != o.Offset-1 {
		return false
	}
	last.Through = o.Offset
	return true
}

func (r *runner) subscription() string { return SubscriptionName(r.name, "") }

// letter is the dead letter that an event comes to here, or nil. It is told.
func (r *runner) letter(s *shaped, before *event.Exception) *event.Exception {
	x := r.shaper.letter(s, before, r.clock.Now().UTC())
	if x == nil {
		return nil
	}
	if hidden, ok := r.tally.fold.allow(r.clock.Now(), x.Stage+x.Error); ok {
		r.guard.logger.Warn("dead letter", "stage", x.Stage, "event_id", s.id, "reason", x.Reason, "err", x.Error, "folded", hidden)
	}
	return x
}

// publish hands a batch to the sinks of the topic and wakes them.
func (r *runner) publish(records []event.Record, kept []shaped) {
	if r.shared {
		first, last := &records[0], records[len(records)-1].Offset
		if int(last-first.Offset) == len(records)-1 { // else some are not the runner's to judge
			r.ring.put(newRun(first.Offset, last, first.Event.Received, kept))
		}
		r.position.Store(int64(last))
	}
	for _, l := range r.readers {
		l.fed.Ring()
	}
}

// takenBack returns the runner's dead letters that somebody took back, for one commit. Those that are appended anew go one by
// one, or a few that are small: each was appended once and fits, together they might never.
func (r *runner) takenBack(stop context.Context) (again []*event.Exceptional, err error) {
	for bytes := 0; len(again) < dueBatch && bytes < anewBytes; {
		x, err := r.dues.take(stop, r.clock.Now())
		if x == nil || err != nil {
			return again, err
		}
		again = append(again, x)
		switch {
		case !r.rows:
			return again, nil
		case r.anew(x):
			bytes += x.Record.Event.Size()
		}
	}
	return again, nil
}

// anewBytes is how many bytes of events one commit appends anew, about.
const anewBytes = 64 << 10

// anew says whether a redriven event is appended anew. One that was edited is: no sink has had it, since a stage failed at it, and
// its row could not bring the edited event to several sinks.
func (r *runner) anew(x *event.Exceptional) bool { return !r.rows || x.Exception.Edit != nil }

// redriven runs today's stages on dead letters that were taken back.
func (r *runner) redriven(stop, work context.Context) error {
	again, err := r.takenBack(stop)
	if len(again) == 0 || err != nil {
		return err
	}
	batch := make([]shaped, len(again))
	outcomes := make([]event.Outcome, len(again))
	for i, x := range again {
		r.shaper.allInto(&batch[i], &x.Record, make([]want, len(r.plan.Sinks)), r.tally, &rules.Subject{})
		outcomes[i] = event.Outcome{Offset: x.Record.Offset, Row: true, Exception: r.letter(&batch[i], &x.Exception)}
	}
	r.tally.settled(batch)
	return r.guard.do(work, "settle a redrive", func() error {
		r.redriving.Lock()
		defer r.redriving.Unlock()
		c := event.Commit{Settles: []event.Settle{{Subscription: r.subscription(), Outcomes: outcomes}}}
		r.handOver(&c, batch, again)
		_, err := r.log.Commit(work, c)
		return err
	})
}

// handOver adds to a commit what brings redriven events to the sinks that want them: a row for each sink that has passed the event
// by. A sink that has not come to it yet needs none, and can have none beyond its window. A sink whose when fails gets the
// event too, and makes a dead letter of its own. Where rows cannot be given like this (see anew), the event is appended anew.
func (r *runner) handOver(c *event.Commit, batch []shaped, again []*event.Exceptional) {
	now := r.clock.Now().UTC()
	for i, reader := range r.readers {
		var rows []event.Outcome
		for k := range batch {
			s := &batch[k]
			if !r.anew(again[k]) && s.wanted(i) != wantNo && s.offset <= event.Offset(reader.taken.Load()) {
				rows = append(rows, redrive(s.offset, now))
			}
		}
		if rows != nil {
			c.Settles = append(c.Settles, event.Settle{Subscription: reader.name, Outcomes: rows})
		}
	}
	var events []event.Event
	for i := range batch {
		if s := &batch[i]; r.anew(again[i]) && s.fate == passes && !s.unmatched() {
			events = append(events, again[i].Record.Event)
		}
	}
	if events != nil {
		c.Appends = []event.Append{{Topic: r.name, Events: events}}
	}
}

func redrive(o event.Offset, now time.Time) event.Outcome {
	return event.Outcome{Offset: o, Exception: &event.Exception{State: event.Retry, Reason: event.ReasonRedrive, NextAt: now}}
}
