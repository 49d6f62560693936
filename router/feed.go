package router

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

const maxOffset = event.Offset(math.MaxInt64)

// feed is what every sink's goroutine has in common: it reads the subscription (what is new, in order and shaped, and what is
// due), settles, and sleeps. Its methods belong to that goroutine.
type feed struct {
	*subscriber
	fresh    []incoming   // read and not yet taken
	more     bool         // Next may have more
	read     event.Offset // of the record that Next returned last; 0 before the first
	dues     *dues
	outcomes []event.Outcome // not yet handed to the log
	paused   bool            // the destination is gone
}

// incoming is a new event as the feed has it.
type incoming struct {
	*shaped
	// disputed is set, to the record, when the event is or was a dead letter of the runner. Whose it is now is decided when it is
	// taken.
	disputed *event.Record
	// struck is set when a redrive gave the event a row that was handed out before the event was taken.
	struck bool
}

func newFeed(s *subscriber) *feed {
	return &feed{subscriber: s, more: true, dues: newDues(s.sub, s.guard)}
}

// woken notes that the log has more than before. Where the runner leads, it says itself when there are new events; but a log that
// hands out to one subscription after the other may have had them for the runner before it had them here.
func (f *feed) woken() {
	f.dues.woken()
	f.more = f.more || !f.shared || f.topic.position.Load() > int64(f.read)
}

// peek returns the next new event without taking it, or nil. It asks the log only when it has none at hand.
func (f *feed) peek(ctx context.Context) (*shaped, error) {
	for len(f.fresh) == 0 && f.more {
		if err := f.fill(ctx); err != nil {
			return nil, err
		}
	}
	if len(f.fresh) == 0 {
		return nil, nil
	}
	return f.fresh[0].shaped, nil
}

// fill reads on. The rows of the runner are asked for in the same breath as the records: a redrive between the two would make
// an event look as if no dead letter had it, and it would come twice.
func (f *feed) fill(ctx context.Context) error {
	upTo := maxOffset
	if f.shared {
		upTo = event.Offset(f.topic.position.Load())
	}
	var records []event.Record
	var theirs []event.Offset
	err := f.guard.do(ctx, "read", func() (err error) {
		f.topic.redriving.RLock()
		defer f.topic.redriving.RUnlock()
		// What was read must not be lost when only the second question fails.
		if len(records) == 0 {
			records, err = f.sub.Next(ctx, upTo, readBatch)
		}
		if err == nil && len(records) > 0 {
			theirs, err = f.theirs(ctx, records)
		}
		return err
	})
	f.more = len(records) > 0
	if err == nil && f.more {
		f.read = records[len(records)-1].Offset
		f.shapeAll(records, theirs)
	}
	return err
}

// theirs returns which of the records are dead letters of the runner from an earlier process. The stages may have been corrected
// since: without this look a sink that lags would deliver such an event, and its redrive once more. What the runner of this
// process made dead fails here too.
func (f *feed) theirs(ctx context.Context, records []event.Record) ([]event.Offset, error) {
	from, to := records[0].Offset, min(records[len(records)-1].Offset, f.topic.begun)
	if !f.rows || from > to {
		return nil, nil
	}
	return f.topic.sub.Rows(ctx, from, to)
}

// shapeAll takes from the runner what it still has and shapes the rest.
func (f *feed) shapeAll(records []event.Record, theirs []event.Offset) {
	known := make([]*shaped, len(records))
	if f.shared {
		known = f.topic.ring.get(records)
	}
	f.fresh = make([]incoming, len(records))
	var lagging []shaped
	var subject rules.Subject
	for i := range records {
		in := incoming{shaped: known[i]}
		if in.shaped == nil {
			if lagging == nil {
				lagging = make([]shaped, len(records)-i)
			}
			in.shaped, lagging = &lagging[0], lagging[1:]
			f.topic.shaper.oneInto(in.shaped, &records[i], f.index, &subject)
		}
		if f.rows && (in.fate == failed || slices.Contains(theirs, in.offset)) {
			in.disputed = &records[i]
		}
		f.fresh[i] = in
	}
}

// take takes what peek returned. It is to be delivered, or ended with an outcome, or neither when it has a row by now.
func (f *feed) take(ctx context.Context, now time.Time) (t *task, o *event.Outcome, err error) {
	in := f.fresh[0]
	item := in.shaped
	switch {
	case in.struck:
		item = nil
	case in.disputed != nil:
		if item, err = f.settleDispute(ctx, in); err != nil {
			return nil, nil, err
		}
	}
	f.took(in.offset)
	f.fresh[0] = incoming{} // the array lives on until the batch is through
	f.fresh = f.fresh[1:]
	if item == nil {
		return nil, nil, nil
	}
	t, o = f.judge(item, nil, now)
	return t, o, nil
}

// took moves taken on. It never goes back: what lies below where it began may have been settled by an earlier process.
func (f *feed) took(o event.Offset) {
	if int64(o) > f.taken.Load() {
		f.taken.Store(int64(o))
	}
}

// settleDispute says what an event that is or was the runner's dead letter comes to here: while the runner has it, it is settled;
// when it was redriven meanwhile, it has a row here and is nil, or it is shaped by today's stages like any other. No redrive
// happens at the same time, and the next one finds the event taken.
func (f *feed) settleDispute(ctx context.Context, in incoming) (item *shaped, err error) {
	var theirs, own []event.Offset
	err = f.guard.do(ctx, "read a row", func() (err error) {
		f.topic.redriving.RLock()
		defer f.topic.redriving.RUnlock()
		if theirs, err = f.topic.sub.Rows(ctx, in.offset, in.offset); err != nil {
			return err
		}
		if own, err = f.sub.Rows(ctx, in.offset, in.offset); err != nil {
			return err
		}
		f.took(in.offset)
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case len(own) > 0:
		return nil, nil
	case len(theirs) > 0:
		return &shaped{offset: in.offset, fate: dropped}, nil
	}
	return f.topic.shaper.one(in.disputed, f.index), nil
}

// judge makes a task of an event, or says what it comes to without one. row is the exception that it has, or nil. Stages that
// fail at an event without a dead letter of the runner did not when the runner came by: then it is this sink's to keep. Where
// a log does not outlive the process, the runner has it.
func (f *feed) judge(s *shaped, row *event.Exception, now time.Time) (*task, *event.Outcome) {
	if s.fate != failed && s.wanted(f.index) == wantYes {
		return f.newTask(s, row), nil
	}
	o := event.Outcome{Offset: s.offset, Row: row != nil}
	switch {
	case s.fate == failed && (f.rows || row != nil):
		o.Exception = onError(s.stage, s.err, row, now)
	case s.wanted(f.index) == wantFailed:
		o.Exception = onError(stageWhen, s.whenErr[f.index], row, now)
	}
	if o.Exception == nil {
		f.counts.skipped.Add(1)
	} else {
		f.dead(s.id, o.Exception)
	}
	return nil, &o
}

// due returns the next event whose row is due and that is to be delivered, or the outcome of one that is not, or neither.
func (f *feed) due(ctx context.Context, now time.Time) (t *task, o *event.Outcome, err error) {
	x, err := f.dues.take(ctx, now)
	if x == nil || err != nil {
		return nil, nil, err
	}
	f.strike(x.Record.Offset)
	t, o = f.judge(f.topic.shaper.one(&x.Record, f.index), &x.Exception, now)
	return t, o, nil
}

// strike passes over an event that was read before it got a row: from here on the row has it, and may be gone when its turn comes.
func (f *feed) strike(o event.Offset) {
	i, ok := slices.BinarySearchFunc(f.fresh, o, func(in incoming, o event.Offset) int { return cmp.Compare(in.offset, o) })
	if ok {
		f.fresh[i].struck = true
	}
}

// flush hands the outcomes to the log, which keeps the slice until they are on disk.
func (f *feed) flush(work context.Context) error {
	if len(f.outcomes) == 0 {
		return nil
	}
	outcomes := f.outcomes
	f.outcomes = make([]event.Outcome, 0, len(outcomes))
	return f.guard.do(work, "settle", func() error { return f.sub.Settle(work, outcomes) })
}

// sleep waits until something can be done: for more events, a time (zero: none), or an answer.
func (f *feed) sleep(stop context.Context, at time.Time, answers chan *call) {
	alarm, release := timer(f.clock, at)
	defer release()
	fed, woken := f.fed.C(), f.sub.Wake()
	f.rest.sleep()
	defer f.rest.wake()
	select {
	case <-stop.Done():
	case c := <-answers:
		answers <- c // back in its place: the turn takes all that have come, and this goroutine is the only one that receives
	case <-alarm:
	case <-fed:
		f.more = true
	case <-woken:
		f.woken()
	}
}

// observe shows the state to those who look. first is the lowest event under way, or nil.
func (f *feed) observe(first *task, b *breaker, waiting int) {
	c := &f.counts
	c.waiting.Store(int64(waiting))
	c.limit.Store(int64(b.limit))
	c.open.Store(flag(b.open))
	c.paused.Store(flag(f.paused))
	var received time.Time
	if first != nil {
		received = first.item.received
	} else if len(f.fresh) > 0 {
		received = f.fresh[0].received
	}
	if received.IsZero() {
		c.oldest.Store(0)
	} else {
		c.oldest.Store(received.UnixNano())
	}
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
