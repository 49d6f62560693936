package router

import (
	"fmt"
	"hash/maphash"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/rules"
)

// Names of what failed where a stage is named.
const (
	stageDelay = "delay"
	stageRate  = "rate"
)

// expiryExtension is the CloudEvents extension that says when an event is of no more use.
const expiryExtension = "expirytime"

// farthest is the last time that a log keeps: it counts nanoseconds. An event that is to wait longer waits until then.
var farthest = time.Unix(1<<33, 0).UTC() // in the year 2242

// timing holds back the events of a sink: all of them for a constant delay or a rate, which makes the cursor wait and costs nothing
// on disk; or single ones for a time of their own, or for the rate of their key, which get a row and let the others go on.
//
// Nothing of it is kept but the rows. A crash before a row is on disk leaves its event pending: it is looked at again. After a
// restart a rate begins with a full bucket, and rows look at it when they are due.
//
// Its methods belong to the goroutine of the sink.
type timing struct {
	delay  time.Duration
	until  *rules.Expr
	strict bool
	rate   *bucket  // of all events; nil: none, or one for each key
	keys   *buckets // nil: one for all events, or none
	key    *rules.Expr
	seed   maphash.Seed
	begun  time.Time // of the clock of the buckets; it does not jump where the clock's times know how long the process runs

	blocked time.Time // when what was held back in this turn may go; zero: nothing was
	empty   bool      // in this turn the rate let nothing go
	dry     time.Time // since when the rate holds back a new event; zero: it does not
}

// newTiming is nil for a sink whose events go as they come.
func newTiming(p *pipelines.Sink, strict bool, now time.Time) *timing {
	if p.Delay == nil && p.Rate == nil {
		return nil
	}
	t := &timing{begun: now, strict: strict, seed: maphash.MakeSeed()}
	if d := p.Delay; d != nil {
		t.delay, t.until = d.For, d.Until
	}
	switch r := p.Rate; {
	case r == nil:
	case r.Key != nil:
		t.keys, t.key = newBuckets(r), r.Key
	default:
		b := newBucket(r)
		t.rate = &b
	}
	return t
}

// wake begins a turn, in which nothing was held back yet.
func (t *timing) wake() {
	if t != nil {
		t.blocked, t.empty = time.Time{}, false
	}
}

// alarm is when what was held back in this turn may go, or at, whichever is earlier. Where the rate lets nothing go, that at has come
// would be of no use.
func (t *timing) alarm(at time.Time) time.Time {
	switch {
	case t == nil:
		return at
	case t.empty:
		return t.blocked
	}
	return earliest(at, t.blocked)
}

func (t *timing) since(now time.Time) float64 { return float64(now.Sub(t.begun)) }

// ripe says whether the first of a lane's new events may be taken. What needs no delivery always may.
func (f *feed) ripe(l *lane, now time.Time) bool {
	t := f.timing
	if t == nil {
		return true
	}
	in := &l.fresh[0]
	if !in.goes(f.index) {
		return true
	}
	if t.delay > 0 {
		if at := l.received(in.received, now).Add(t.delay); now.Before(at) {
			t.blocked = earliest(t.blocked, at)
			return false
		}
	}
	ok := f.token(now)
	if !ok && t.dry.IsZero() {
		t.dry = now
	}
	return ok
}

// received is when an event was, as far as the clock of today can be believed: one that was received in the future came before the
// clock was set back, and counts as received when the first of them was met.
func (l *lane) received(at, now time.Time) time.Time {
	if !at.After(now) {
		l.early = time.Time{}
		return at
	}
	if l.early.IsZero() || now.Before(l.early) {
		l.early = now
	}
	return l.early
}

// token says whether the rate of the sink lets an event go.
func (f *feed) token(now time.Time) bool {
	t := f.timing
	if t == nil || t.rate == nil {
		return true
	}
	wait := t.rate.next(t.since(now)) - t.since(now)
	if wait < rounding {
		return true
	}
	t.blocked, t.empty = now.Add(ceiling(wait)), true
	return false
}

// ceiling is a time in nanoseconds, of which no part is left out: a timer that goes too early would find nothing to do.
func ceiling(nanos float64) time.Duration { return time.Duration(min(nanos, 1<<62)) + 1 }

// screen is asked for each event that was taken for an attempt. It is nil when the attempt may begin; else what becomes of the event:
// a dead letter because it has expired, or a row until its time.
func (f *feed) screen(t *task, now time.Time) *event.Outcome {
	o := f.lapse(t, now)
	if o == nil && f.timing != nil {
		o = f.postpone(t, now)
	}
	if o == nil && f.timing != nil {
		o = f.pace(t, now)
	}
	if o != nil && o.Exception.State == event.Retry {
		t.lane.dues.expect(o.Exception.NextAt)
	}
	return o
}

// lapse is the dead letter of an event that has expired; nil: it has not.
func (f *feed) lapse(t *task, now time.Time) *event.Outcome {
	if at, why := f.expiry(t); !at.IsZero() && !now.Before(at) {
		return f.expired(t, why, now)
	}
	return nil
}

// expiry is when an event is of no more use to the sink, and by what; zero: never. A dead letter that was redriven after that time is
// delivered all the same: somebody wants it. Its first attempt since then tells.
func (f *feed) expiry(t *task) (at time.Time, why string) {
	if d := f.plan.Expire; d > 0 {
		at, why = t.item.received.Add(d), "it was not delivered within the time of expire"
	}
	if x, ok := t.item.event.Extension(expiryExtension); ok {
		if e, err := time.Parse(time.RFC3339, x.Text); err == nil && (at.IsZero() || e.Before(at)) {
			at, why = e, "it was not delivered before its "+expiryExtension
		}
	}
	if !t.x.FirstAt.IsZero() && !t.x.FirstAt.Before(at) {
		return time.Time{}, ""
	}
	return at, why
}

// expired makes a dead letter of an event. Its error names the last failure too.
func (f *feed) expired(t *task, why string, now time.Time) *event.Outcome {
	if t.x.Error != "" {
		why += "; the last attempt: " + t.x.Error
	}
	t.x.Error, t.x.LastAt = clip(why), now
	o := t.kept(event.Dead, event.ReasonExpired, time.Time{})
	f.dead(t.item.id, o.Exception)
	return &o
}

// before is a time for the next attempt, or that of the event's expiry if it is earlier: then it becomes a dead letter.
func (f *feed) before(t *task, next time.Time) time.Time {
	at, _ := f.expiry(t)
	return earliest(next, at)
}

// postpone gives an event a row that is to wait for a time of its own. That is asked before its first attempt, of a row too: it may
// have it for the sake of the order, or of room in memory. A redrive means now; it counts as an attempt here (see due).
func (f *feed) postpone(t *task, now time.Time) *event.Outcome {
	if f.timing.until == nil || !t.x.FirstAt.IsZero() {
		return nil
	}
	until, err := f.timing.time(t.item)
	switch {
	case err != nil:
		return f.unset(t, stageDelay, err, now)
	case !now.Before(until):
		return nil
	}
	f.counts.delayed.Add(1)
	o := t.kept(event.Retry, event.ReasonDelayed, f.before(t, earliest(farthest, until)))
	return &o
}

// time is that of an event by delay.until; zero: at once.
func (t *timing) time(item *shaped) (at time.Time, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	v, missing, err := t.until.Value(&rules.Input{Event: item.event})
	if err == nil && missing != "" && t.strict {
		err = fmt.Errorf("the field %s is missing", missing)
	}
	if err != nil {
		return time.Time{}, err
	}
	switch v := v.(type) {
	case nil:
		return time.Time{}, nil
	case time.Time:
		return v.UTC(), nil
	case string:
		if at, err := time.Parse(time.RFC3339, v); err == nil {
			return at.UTC(), nil
		}
		return time.Time{}, fmt.Errorf("until is no time of RFC 3339, such as 2026-01-31T08:00:00Z: %q", v[:min(len(v), 64)])
	}
	return time.Time{}, fmt.Errorf("until is a %T; a time or a text of RFC 3339 is expected", v)
}

// pace takes a turn of the rate, which an event needs once for each attempt. One whose key has none now gets a row until its turn.
func (f *feed) pace(t *task, now time.Time) *event.Outcome {
	timing := f.timing
	if t.turned || timing.keys == nil && timing.rate == nil {
		return nil
	}
	if timing.rate != nil {
		timing.rate.take(timing.since(now))
		if !timing.dry.IsZero() {
			f.counts.rateNanos.Add(int64(now.Sub(timing.dry)))
			timing.dry = time.Time{}
		}
		t.turned = true
		return nil
	}
	key, err := timing.hash(t.item)
	if err != nil {
		return f.unset(t, stageRate, err, now)
	}
	limit := timing.since(f.before(t, farthest))
	wait := timing.keys.take(key, t.x.Reason == event.ReasonRate, timing.since(now), limit) - timing.since(now)
	if t.turned = wait == 0; t.turned {
		return nil
	}
	next := f.before(t, earliest(farthest, now.Add(ceiling(wait))))
	f.counts.rated.Add(1)
	f.counts.rateNanos.Add(int64(next.Sub(now)))
	t.x.LastAt = now
	o := t.kept(event.Retry, event.ReasonRate, next)
	return &o
}

// hash is that of an event's key. Events without one share a key.
func (t *timing) hash(item *shaped) (key uint64, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	text, missing, err := t.key.JSON(&rules.Input{Event: item.event})
	if err == nil && missing != "" && t.strict {
		err = fmt.Errorf("the field %s is missing", missing)
	}
	return max(maphash.Bytes(t.seed, text), sharedKey+1), err
}

// unset makes a dead letter of an event for which a setting has no value.
func (f *feed) unset(t *task, stage string, err error, now time.Time) *event.Outcome {
	var before *event.Exception
	if t.row {
		before = &t.x
	}
	o := event.Outcome{Offset: t.offset, Row: t.row, Exception: onError(stage, err, before, now)}
	f.dead(t.item.id, o.Exception)
	return &o
}
