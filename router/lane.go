package router

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

const maxOffset = event.Offset(math.MaxInt64)

// lane is one topic as a sink reads it: it hands out what is new, in order and shaped, and what is due, and settles. What it does
// not say of a field belongs to the sink's goroutine, as its methods do.
type lane struct {
	*subscriber
	topic *topic
	at    int          // among the lanes of the sink
	name  string       // of the subscription
	sub   Subscription // set by Configure
	fed   *Bell        // rings when the runner has shaped more; for any goroutine

	// head is the last offset of the topic when the process began: what lies behind it was not settled before.
	head event.Offset
	skip event.Skipper // nil when the log cannot pass over what the ring has

	// taken is the highest offset that the sink may have taken from its new events, in this process or before. Anyone reads it.
	taken atomic.Int64

	fresh    []incoming   // read and not yet taken
	room     []incoming   // of fresh when it follows the runner, used again
	runs     []run        // of the ring, used again
	came     time.Time    // about when those in fresh were received
	more     bool         // Next may have more
	asked    event.Offset // up to which Next had nothing
	passed   int          // deliveries of other lanes since it had its last, or nothing to deliver
	read     event.Offset // of the record that Next returned last; 0 before the first
	dues     *dues
	outcomes []event.Outcome // not yet handed to the log
	early    time.Time       // since when events are met that the clock says are not received yet; zero: none was

	// Of a serial sink only:
	first event.Offset // of the new events that the batch has; 0 for none

	// Of a loop only:
	running []*task  // by offset: taken from new events and unsettled; the front is what holds the cursor
	class   int      // which of the three queues is next
	order   *orderer // nil unless events wait for others of their key
	dropped int64    // dead letters of the subscription, when the order last looked
}

// incoming is a new event as a lane has it, or several in a row that were dropped.
type incoming struct {
	offset  event.Offset
	through event.Offset // the last of several; 0 for one
	*shaped              // nil: dropped
	// disputed is set, to the record, when the event is or was a dead letter of the runner. Whose it is now is decided when it is
	// taken.
	disputed *event.Record
	// struck is set when a redrive gave the event a row that was handed out before the event was taken.
	struck bool
}

func newLane(s *subscriber, t *topic) *lane {
	return &lane{subscriber: s, topic: t, at: len(s.lanes), name: SubscriptionName(t.name, s.plan.Name), fed: NewBell()}
}

func (l *lane) subscribe(log Log) (err error) {
	if l.sub, err = log.Subscribe(l.name); err != nil {
		return fmt.Errorf("subscribe %s: %w", l.name, err)
	}
	var cursor event.Offset
	cursor, l.head = l.sub.Position()
	l.taken.Store(int64(cursor + Window))
	if l.shared {
		l.skip, _ = l.sub.(event.Skipper)
	}
	l.more, l.dues = true, newDues(l.sub, l.guard)
	return nil
}

// woken notes that the log has more than before. Where the runner leads, it says itself when there are new events; but a log that
// hands out to one subscription after the other may have had them for the runner before it had them here.
func (l *lane) woken() {
	l.dues.woken()
	l.more = l.more || !l.shared || l.topic.position.Load() > int64(l.read)
}

// listen notes that the runner has shaped more, for a goroutine that has too much to do to sleep.
func (l *lane) listen() {
	l.more = l.more || l.shared && l.topic.position.Load() > int64(l.asked)
}

// last is the offset of the last event that it stands for.
func (in *incoming) last() event.Offset { return max(in.offset, in.through) }

// goes says whether the sink with an index is to deliver it.
func (in *incoming) goes(sink int) bool {
	return !in.struck && in.shaped != nil && in.wanted(sink) == wantYes
}

// peek returns the next new event without taking it, or nil. It asks the log only when it has none at hand.
func (l *lane) peek(ctx context.Context) (*incoming, error) {
	for len(l.fresh) == 0 && l.more {
		if err := l.fill(ctx); err != nil {
			return nil, err
		}
	}
	if len(l.fresh) == 0 {
		return nil, nil
	}
	return &l.fresh[0], nil
}

// follow goes on with what the runner shaped last, if the ring still has what comes next, and says whether it did. The log is told
// of it and asked for nothing. What an earlier process may have settled is read from the log, and so is what failed at a stage,
// since that may be disputed later.
func (l *lane) follow() bool {
	if l.skip == nil || l.read < l.head {
		return false
	}
	l.runs = l.topic.ring.after(l.read, l.runs[:0])
	defer func() { clear(l.runs) }() // else they stay in memory
	fresh, had, next := l.fresh, len(l.fresh), l.read+1
	if had == 0 {
		fresh = l.room[:0]
	}
	for i := range l.runs {
		x := &l.runs[i]
		if x.from > next || len(fresh)-had >= readBatch {
			break
		}
		if len(fresh) == 0 {
			l.came = x.received
		}
		if fresh, next = x.appendFrom(fresh, next, l.rows); next <= x.to {
			break
		}
	}
	if had == 0 {
		l.room = fresh
	}
	if len(fresh) == had || !l.skip.Skip(next-1) {
		return false
	}
	l.fresh, l.read = fresh, next-1
	return true
}

// appendFrom adds the events from an offset on, and returns the offset behind them: the end of the run, or the first that failed at a
// stage when it is to stop there.
func (r *run) appendFrom(fresh []incoming, next event.Offset, stop bool) ([]incoming, event.Offset) {
	for i := r.find(next); next <= r.to; i++ {
		dropped := r.to // the last of those before the next one kept
		if i < len(r.kept) {
			dropped = r.kept[i].offset - 1
		}
		if next <= dropped {
			fresh = append(fresh, incoming{offset: next, through: dropped})
			next = dropped + 1
		}
		if i == len(r.kept) || stop && r.kept[i].fate == failed {
			break
		}
		fresh = append(fresh, incoming{offset: next, shaped: &r.kept[i]})
		next++
	}
	return fresh, next
}

// aheadMost is how many bytes of new events are at hand before they are wanted.
const aheadMost = 4 << 20

// readAhead reads on until there are events for a batch at hand, or no more.
func (l *lane) readAhead(ctx context.Context) error {
	size, counted := int64(0), 0
	for ; ; counted++ {
		if counted == len(l.fresh) {
			if !l.more || counted >= l.plan.Batch.Count {
				return nil
			}
			if err := l.fill(ctx); err != nil {
				return err
			}
			if counted == len(l.fresh) {
				return nil
			}
		}
		if in := &l.fresh[counted]; in.shaped != nil {
			size += in.weight()
		}
		if size >= aheadMost {
			return nil
		}
	}
}

// fill reads on. The rows of the runner are asked for in the same breath as the records: a redrive between the two would make
// an event look as if no dead letter had it, and it would come twice.
func (l *lane) fill(ctx context.Context) error {
	if l.follow() {
		return nil
	}
	upTo := maxOffset
	if l.shared {
		upTo = event.Offset(l.topic.position.Load())
	}
	var records []event.Record
	var theirs []event.Offset
	err := l.guard.do(ctx, "read", func() (err error) {
		l.topic.redriving.RLock()
		defer l.topic.redriving.RUnlock()
		// What was read must not be lost when only the second question fails.
		if len(records) == 0 {
			records, err = l.sub.Next(ctx, upTo, readBatch)
		}
		if err == nil && len(records) > 0 {
			theirs, err = l.theirs(ctx, records)
		}
		return err
	})
	if l.more = len(records) > 0; !l.more {
		l.asked = upTo
	}
	if err == nil && l.more {
		l.read = records[len(records)-1].Offset
		l.shapeAll(records, theirs)
	}
	return err
}

// theirs returns which of the records are dead letters of the runner from an earlier process. The stages may have been corrected
// since: without this look a sink that lags would deliver such an event, and its redrive once more. What the runner of this
// process made dead fails here too.
func (l *lane) theirs(ctx context.Context, records []event.Record) ([]event.Offset, error) {
	from, to := records[0].Offset, min(records[len(records)-1].Offset, l.topic.begun)
	if !l.rows || from > to {
		return nil, nil
	}
	return l.topic.sub.Rows(ctx, from, to)
}

// shapeAll takes from the runner what it still has and shapes the rest.
func (l *lane) shapeAll(records []event.Record, theirs []event.Offset) {
	n := len(l.fresh)
	if n == 0 {
		l.came = records[0].Event.Received
	}
	l.fresh = append(l.fresh, make([]incoming, len(records))...)
	fresh := l.fresh[n:]
	if l.shared {
		l.known(fresh, records)
	}
	var lagging []shaped
	var subject rules.Subject
	for i := range records {
		in := &fresh[i]
		if in.offset == 0 {
			if lagging == nil {
				lagging = make([]shaped, len(records)-i)
			}
			in.offset, in.shaped, lagging = records[i].Offset, &lagging[0], lagging[1:]
			l.topic.shaper.oneInto(in.shaped, &records[i], l.index, &subject)
		}
		if l.rows && (in.shaped != nil && in.fate == failed || slices.Contains(theirs, in.offset)) {
			in.disputed = &records[i]
		}
	}
}

// known writes what the runner still has of records into fresh.
func (l *lane) known(fresh []incoming, records []event.Record) {
	defer func() { clear(l.runs) }()
	for i := 0; i < len(records); {
		l.runs = l.topic.ring.after(records[i].Offset-1, l.runs[:0])
		for k := range l.runs {
			i = l.runs[k].into(fresh, records, i)
		}
		if len(l.runs) < runsAtOnce {
			return
		}
	}
}

// into writes what the run has of records, from the i-th on, into fresh, and returns the first that lies behind the run.
func (r *run) into(fresh []incoming, records []event.Record, i int) int {
	for ; i < len(records) && records[i].Offset <= r.to; i++ {
		o := records[i].Offset
		if o < r.from {
			continue
		}
		fresh[i].offset = o
		if k := r.find(o); k < len(r.kept) && r.kept[k].offset == o {
			fresh[i].shaped = &r.kept[k]
		}
	}
	return i
}

// take takes what peek returned. It is to be delivered, or ended with an outcome, or neither when it has a row by now.
func (l *lane) take(ctx context.Context, now time.Time) (t *task, o *event.Outcome, err error) {
	in := l.fresh[0]
	item := in.shaped
	if in.disputed != nil && !in.struck {
		if item, err = l.settleDispute(ctx, in); err != nil {
			return nil, nil, err
		}
	}
	l.took(in.last())
	l.fresh[0] = incoming{} // the array lives on until the batch is through
	l.fresh = l.fresh[1:]
	switch {
	case in.struck || in.disputed != nil && item == nil:
		return nil, nil, nil
	case item == nil:
		l.counts.skipped.Add(int64(in.last()-in.offset) + 1)
		return nil, &event.Outcome{Offset: in.offset, Through: in.through}, nil
	}
	t, o = l.judge(item, nil, now)
	return t, o, nil
}

// took moves taken on. It never goes back: what lies below where it began may have been settled by an earlier process.
func (l *lane) took(o event.Offset) {
	if int64(o) > l.taken.Load() {
		l.taken.Store(int64(o))
	}
}

// settleDispute says what an event that is or was the runner's dead letter comes to here: while the runner has it, it is settled;
// when it was redriven meanwhile, it has a row here and is nil, or it is shaped by today's stages like any other. No redrive
// happens at the same time, and the next one finds the event taken.
func (l *lane) settleDispute(ctx context.Context, in incoming) (item *shaped, err error) {
	var theirs, own []event.Offset
	err = l.guard.do(ctx, "read a row", func() (err error) {
		l.topic.redriving.RLock()
		defer l.topic.redriving.RUnlock()
		if theirs, err = l.topic.sub.Rows(ctx, in.offset, in.offset); err != nil {
			return err
		}
		if own, err = l.sub.Rows(ctx, in.offset, in.offset); err != nil {
			return err
		}
		l.took(in.offset)
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
	return l.topic.shaper.one(in.disputed, l.index), nil
}

// judge makes a task of an event, or says what it comes to without one. row is the exception that it has, or nil. What a redrive took
// from another sink to give it to this one is delivered whatever the when says: nobody else has it. Stages that
// fail at an event without a dead letter of the runner did not when the runner came by: then it is this sink's to keep. Where
// a log does not outlive the process, the runner has it.
func (l *lane) judge(s *shaped, row *event.Exception, now time.Time) (*task, *event.Outcome) {
	if given := row != nil && row.From != "" && s.fate == passes; given || s.fate != failed && s.wanted(l.index) == wantYes {
		return l.newTask(s, row), nil
	}
	o := event.Outcome{Offset: s.offset, Row: row != nil}
	switch {
	case s.fate == failed && (l.rows || row != nil):
		o.Exception = onError(s.stage, s.err, row, now)
	case s.wanted(l.index) == wantFailed:
		o.Exception = onError(stageWhen, s.whenErr[l.index], row, now)
	}
	if o.Exception == nil {
		l.counts.skipped.Add(1)
	} else {
		l.dead(s.id, o.Exception)
	}
	return nil, &o
}

// due returns the next event whose row is due and that is to be delivered, or the outcome of one that is not, or neither.
func (l *lane) due(ctx context.Context, now time.Time) (t *task, o *event.Outcome, err error) {
	x, err := l.dues.take(ctx, now)
	if x == nil || err != nil {
		return nil, nil, err
	}
	l.strike(x.Record.Offset)
	if x.Exception.Reason == event.ReasonRedrive && x.Exception.FirstAt.IsZero() {
		x.Exception.FirstAt = now // see expiry
	}
	t, o = l.judge(l.topic.shaper.one(&x.Record, l.index), &x.Exception, now)
	return t, o, nil
}

// strike passes over an event that was read before it got a row: from here on the row has it, and may be gone when its turn comes.
func (l *lane) strike(o event.Offset) {
	i, ok := slices.BinarySearchFunc(l.fresh, o, func(in incoming, o event.Offset) int { return cmp.Compare(in.offset, o) })
	if ok {
		l.fresh[i].struck = true
	}
}

// flush hands the outcomes to the log, which keeps the slice until they are on disk.
func (l *lane) flush(work context.Context) error {
	if len(l.outcomes) == 0 {
		return nil
	}
	outcomes := l.outcomes
	l.outcomes = make([]event.Outcome, 0, len(outcomes))
	return l.guard.do(work, "settle", func() error { return l.sub.Settle(work, outcomes) })
}

// lowest is the first of those under way that no row keeps, or nil.
func (l *lane) lowest() *task {
	for len(l.running) > 0 && (l.running[0].done || l.running[0].row) {
		l.running[0] = nil
		l.running = l.running[1:]
	}
	if len(l.running) == 0 {
		return nil
	}
	return l.running[0]
}

// oldest is when the oldest event was received that holds the cursor, the first of those under way or the next new one; zero for
// none. first may be nil.
func (l *lane) oldest(first *task) time.Time {
	switch {
	case first != nil:
		return first.item.received
	case len(l.fresh) > 0 && l.fresh[0].shaped != nil:
		return l.fresh[0].received
	case len(l.fresh) > 0:
		return l.came
	}
	return time.Time{}
}
