package router

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
)

// action is what follows from a failed attempt.
type action uint8

const (
	tryAgain action = iota // without counting: the event waits as it is
	countIt                // a counted failure: a row keeps the event until its next attempt
	giveUp                 // a dead letter
	pauseAll               // the destination is gone: the subscription pauses
)

// judgement is an action, and the reason of the row that it makes.
type judgement struct {
	action action
	reason event.Reason
}

// goneText is what the log says when a subscription pauses.
const goneText = "the destination is gone: the subscription pauses until it is resumed"

// history is what is known about an event when an attempt of it failed.
type history struct {
	counted int // before this attempt
	firstAt time.Time
	// known says that the event had an attempt in this process before. accepted and refused are the sink's attempts of other
	// events since then.
	known             bool
	accepted, refused int64
}

// judge decides about a failed attempt by the rules of the verdicts: permanent at once, an unavailable destination only when it
// accepted more of others than it refused, never what the destination deferred, anything else always.
func judge(f *event.Failure, h history, r pipelines.Retry, now time.Time) judgement {
	switch f.Class {
	case event.PermanentClass:
		return judgement{giveUp, event.ReasonPermanent}
	case event.GoneClass:
		return judgement{pauseAll, ""}
	}
	counts := !f.Deferred
	if f.Class == event.UnavailableClass {
		counts = counts && h.known && h.accepted > h.refused
	}
	if counts && r.MaxAttempts > 0 && h.counted+1 >= r.MaxAttempts {
		return judgement{giveUp, event.ReasonAttempts}
	}
	if r.MaxAge > 0 && now.Sub(h.firstAt) >= r.MaxAge {
		return judgement{giveUp, event.ReasonAge}
	}
	if counts {
		return judgement{countIt, event.ReasonFailed}
	}
	return judgement{tryAgain, event.ReasonFailed}
}

// judge takes a failed attempt of a task: it notes what a row would keep, and decides.
func (t *task) judge(f *event.Failure, accepted, refused int64, r pipelines.Retry, now time.Time) judgement {
	h := history{
		counted: t.x.Counted, firstAt: t.x.FirstAt, known: t.marks.known,
		accepted: accepted - t.marks.accepted, refused: refused - t.marks.refused,
	}
	j := judge(f, h, r, now)
	if j.action == countIt || j.reason == event.ReasonAttempts {
		t.x.Counted++
	}
	t.tries++
	t.x.Stage, t.x.Progress = "", f.Progress
	t.x.Failed(event.Attempt{At: now, Status: f.Status, Error: clip(words(f)), Answer: f.Answer[:min(len(f.Answer), answerMax)]})
	return j
}

// verdict is what an attempt failed of, by the statuses that the sink's settings sort otherwise than its type does.
func (s *subscriber) verdict(err error) event.Failure {
	f := event.VerdictOf(err)
	switch r := &s.plan.Retry; {
	case f.Status == 0:
	case slices.Contains(r.Never, f.Status):
		f.Class, f.Deferred, f.After = event.PermanentClass, false, 0
	case f.Class != event.UnavailableClass && slices.Contains(r.On, f.Status):
		f.Class = event.Counted
	}
	return f
}

// words is the text of a failure. One without a cause would panic, which is not worth the process.
func words(f *event.Failure) (text string) {
	defer func() {
		if recover() != nil {
			text = "the sink gave no reason"
		}
	}()
	return f.Error()
}

// answerMax is how much of an answer and of an error text a row keeps, in bytes.
const answerMax = 1024

// clip cuts a text for a row, and makes it valid UTF-8.
func clip(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= answerMax {
		return s
	}
	cut := answerMax
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}

// outcome of an attempt, as it is counted.
type outcome uint8

const (
	outcomeDelivered outcome = iota
	outcomePermanent
	outcomeUnavailable
	outcomeDeferred
	outcomeFailed
	outcomeGone
	outcomeAbandoned
	outcomeExpired     // of a lease
	outcomes       int = iota
)

var outcomeNames = [outcomes]string{"delivered", "permanent", "unavailable", "deferred", "failed", "gone", "abandoned", "lease_expired"}

func outcomeOf(f *event.Failure) outcome {
	switch {
	case f.Class == event.PermanentClass:
		return outcomePermanent
	case f.Class == event.GoneClass:
		return outcomeGone
	case f.Deferred:
		return outcomeDeferred
	case f.Class == event.UnavailableClass:
		return outcomeUnavailable
	}
	return outcomeFailed
}

const deadReasons = 6

var reasonNames = [deadReasons]event.Reason{
	event.ReasonPermanent, event.ReasonAttempts, event.ReasonAge, event.ReasonExpired, event.ReasonOverflow, event.ReasonOnError}

func reasonIndex(r event.Reason) int {
	for i, name := range reasonNames {
		if name == r {
			return i
		}
	}
	return deadReasons - 1
}
