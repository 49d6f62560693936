package router

import (
	"context"
	"log/slog"
	"time"

	"github.com/millrace-run/millrace/event"
)

// finish takes the answer of a call: a verdict for each of its tasks.
func (l *loop) finish(work context.Context, c *call) error {
	l.inFlight--
	if c.epoch != l.epoch {
		return l.overtaken(work, c)
	}
	now := l.clock.Now().UTC()
	l.counts.nanos.Add(int64(c.took))
	for i, t := range c.tasks {
		if v := c.settling.Verdicts[i]; v == nil {
			l.succeeded(work, t, c, t.settled(c.settling.Status(i), c.took), now)
		} else {
			l.failed(work, t, l.verdict(v), c, now)
		}
	}
	if len(c.settling.Changes) == 0 {
		return nil
	}
	return l.commitChanges(work, c.settling.Changes)
}

// commitChanges commits what the turn has so far together with the changes that came with it.
func (l *loop) commitChanges(work context.Context, changes event.Changes) error {
	commit := event.Commit{States: []event.State{{Owner: l.owner, Changes: changes}}}
	for _, k := range l.lanes {
		if len(k.outcomes) > 0 {
			commit.Settles = append(commit.Settles, event.Settle{Subscription: k.name, Outcomes: k.outcomes})
			k.outcomes = nil
		}
	}
	return l.guard.do(work, "settle with state", func() error {
		_, err := l.log.Commit(work, commit)
		return err
	})
}

func (l *loop) succeeded(work context.Context, t *task, c *call, o event.Outcome, now time.Time) {
	l.counts.delivered.Add(1)
	if l.logger.Enabled(work, slog.LevelDebug) {
		l.logger.Debug("delivered", "event_id", t.item.id, "attempt", t.x.Attempts)
	}
	l.leave(t, o)
	l.accept(c, now)
}

// accept notes that the sink accepted an attempt.
func (l *loop) accept(c *call, now time.Time) {
	l.accepted++
	l.counts.attempts[outcomeDelivered].Add(1)
	l.counts.lastSuccess.Store(now.UnixNano())
	if c.first(accepted) && l.breaker.succeeded(now) {
		l.logger.Info("breaker closed")
		l.release()
	}
}

// release lets those that wait in memory go at once: what they failed of is over. Otherwise an outage of an hour would be
// followed by a backoff of minutes.
func (l *loop) release() {
	for _, t := range l.waiting {
		if !t.deferred {
			t.nextAt = time.Time{}
		}
	}
}

// failed takes a failed attempt.
func (l *loop) failed(work context.Context, t *task, f event.Failure, c *call, now time.Time) {
	if work.Err() != nil && f.Class != event.PermanentClass {
		// We ended it ourselves: it says nothing. The event stays pending, and comes again after the next start.
		l.counts.attempts[outcomeAbandoned].Add(1)
		return
	}
	l.counts.attempts[outcomeOf(&f)].Add(1)
	j := t.judge(&f, l.accepted, l.refused, l.plan.Retry, now)
	l.account(t, &f, c, now)
	t.marks = marks{known: true, accepted: l.accepted, refused: l.refused}
	l.follow(t, &f, j, now)
}

// account tells the breaker, and the record of the sink by which other events are judged. A permanent failure is neither
// accepted nor refused: it is the event's own.
func (l *loop) account(t *task, f *event.Failure, c *call, now time.Time) {
	if f.Class == event.UnavailableClass || f.Class == event.Counted {
		l.refused++
		if hidden, ok := l.folds.failures.allow(now, t.x.Error); ok {
			l.logger.Warn("delivery failed", "event_id", t.item.id, "attempt", t.x.Attempts, "status", f.Status,
				"err", t.x.Error, "folded", hidden)
		}
	}
	if f.Class != event.UnavailableClass {
		if c.first(judgedIt) {
			l.breaker.judged(c.probe, now)
		}
	} else if c.first(refused) {
		l.breaker.slow(c.begun, now)
		if l.breaker.unavailable(t.place, f, c.probe, now) {
			l.logger.Info("breaker opened", "err", t.x.Error, "probe_at", l.breaker.probeAt)
		}
	}
}

func (l *loop) follow(t *task, f *event.Failure, j judgement, now time.Time) {
	next := l.before(t, now.Add(backoff(l.plan.Retry, t.tries, f.After, l.rand())))
	switch j.action {
	case giveUp:
		o := t.kept(event.Dead, j.reason, time.Time{})
		l.dead(t.item.id, o.Exception)
		l.leave(t, o)
	case countIt:
		if !l.strict() {
			l.leave(t, t.kept(event.Retry, j.reason, next))
			return
		}
		l.retry(t, f, next, now)
	case pauseAll:
		l.gone(f, now)
		l.logger.Error(goneText, "event_id", t.item.id, "status", f.Status)
		l.await(t)
	case tryAgain:
		l.retry(t, f, next, now)
	}
}

// retry keeps a task for another attempt that does not count. With a row it goes back to it; in an outage soon, because the
// breaker holds it back anyway and must not be outlasted by a backoff. In a strict order it stays where it is, since nothing may
// pass it.
func (l *loop) retry(t *task, f *event.Failure, next, now time.Time) {
	t.deferred = f.Deferred || f.After > 0
	if !t.row || l.strict() {
		t.nextAt = next
		l.await(t)
		return
	}
	l.leaveToRow(t, next, now)
}

// leaveToRow lets a row keep a task for an attempt that does not count.
func (l *loop) leaveToRow(t *task, next, now time.Time) {
	if last := now.Add(l.longestPause()); l.breaker.open && !t.deferred && next.After(last) {
		next = last
	}
	next = l.before(t, next)
	l.leave(t, t.kept(event.Retry, event.ReasonFailed, next))
}
