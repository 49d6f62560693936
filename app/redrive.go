package app

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/millrace-run/millrace/console"
	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/router"
	"github.com/millrace-run/millrace/rules"
)

// mender is a log that gives dead letters back with another event, or to another sink. The outbox does; what is in memory only goes
// back as it is.
type mender interface {
	RedriveEach(ctx context.Context, all []event.Redrive) ([]event.RedriveResult, error)
}

// menderOf is what mends in a log: of several only the outbox can, which is the first.
func menderOf(log keptLog) (mender, bool) {
	switch l := log.(type) {
	case *eventLog:
		m, ok := l.statusLog.(mender)
		return m, ok
	case joined:
		return menderOf(l[0].eventLog)
	}
	m, ok := log.(mender)
	return m, ok
}

// redrive is a redrive under way. It goes through the dead letters once, in the order of their ids, and keeps nothing on disk of
// its own: what was handed over is no dead letter any more, so one that is cut off goes on when it is asked for again.
type redrive struct {
	letters
	q      Query
	how    Redrive
	ask    event.DeadQuery
	mender mender     // nil: they go back as they are
	edit   []rules.Op // nil: the events stay as they are
	pause  time.Duration
	done   Redriven
}

// Redrive hands dead letters to the subscriptions that the plan has: one whose sink is gone has nobody to take it, and stays, unless it
// is given to another sink.
func (l letters) Redrive(ctx context.Context, q Query, how Redrive) (Redriven, error) {
	r := &redrive{letters: l, q: q, how: how, ask: event.DeadQuery{Bare: true}}
	if err := r.prepare(ctx); err != nil {
		return Redriven{}, err
	}
	after, err := r.each(ctx, q, r.ask, func(piece []event.DeadLetter) error { return r.piece(ctx, piece) })
	r.done.After = after
	return r.done, err
}

// Samples is how many edited events a dry run shows.
const Samples = 3

func (r *redrive) prepare(ctx context.Context) (err error) {
	if r.edit, err = editOf(r.how.Edit); err != nil {
		return err
	}
	if r.edit != nil {
		r.ask.Bare, r.ask.Limit = false, editPage
	}
	if err := r.rate(); err != nil {
		return err
	}
	if r.edit != nil || r.how.To != "" {
		var ok bool
		if r.mender, ok = menderOf(r.log); !ok {
			return &console.UnknownError{Detail: errForgetful.Error()}
		}
	}
	if r.how.To != "" {
		return r.aim(ctx)
	}
	if r.ask.Subscriptions, err = r.subscriptions(r.q); err != nil {
		return err
	}
	r.ask.Subscriptions, err = r.ofAllPriorities(ctx, r.ask.Subscriptions)
	return err
}

var errForgetful = errors.New("events that are in memory only go back to their own sinks, as they are: no edit and no other sink")

// rate makes pieces that are a tenth of a second apart, or of one event.
func (r *redrive) rate() error {
	if r.how.Rate == "" {
		return nil
	}
	f, err := pipelines.ParseFrequency(r.how.Rate)
	if err != nil {
		return &console.UnknownError{Detail: fmt.Sprintf("rate: %q is none; write 100/s or 10/m", r.how.Rate)}
	}
	r.pause = time.Duration(f.Interval())
	r.ask.Limit = int(min(max(1, 100*time.Millisecond/max(1, r.pause)), editPage))
	return nil
}

// PerSecond is how many a rate lets through in a second, at least 1; of what is no rate too, which a Redrive then refuses.
func PerSecond(rate string) int {
	f, err := pipelines.ParseFrequency(rate)
	if err != nil {
		return 1
	}
	return int(max(1, min(f.Events/f.Per.Seconds(), 1000)))
}

// Moment reads a time of RFC 3339, or how long before now it was.
func Moment(text string, now time.Time) (time.Time, error) {
	if d, err := pipelines.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		err = fmt.Errorf("%q is neither a time of RFC 3339, such as 2026-01-31T08:00:00Z, nor a duration, such as 2h or 7d", text)
	}
	return at, err
}

// aim checks that there is a sink of this name. It belongs to the pipeline of the dead letters: the stages of another one were never
// asked about these events.
func (r *redrive) aim(ctx context.Context) (err error) {
	i := slices.IndexFunc(r.plan.Pipelines, func(p *pipelines.Pipeline) bool { return p.Name == r.q.Pipeline })
	switch {
	case strings.Contains(r.how.To, "/"):
		return &console.UnknownError{Detail: "to: give the name of a sink; dead letters go to another sink of the same pipeline only"}
	case len(r.q.IDs) > 0:
		return nil // each is looked at
	case r.q.Pipeline == "":
		return &console.UnknownError{Detail: "to: say of which pipeline, since dead letters go to another sink of the same pipeline only"}
	case i < 0:
		_, err = r.subscriptions(r.q)
		return err
	case !hasSink(r.plan.Pipelines[i], r.how.To):
		_, err = r.subscriptions(Query{Pipeline: r.q.Pipeline, Sink: r.how.To})
		return err
	}
	r.ask.Subscriptions, err = r.everNamed(ctx, r.q)
	return err
}

func hasSink(p *pipelines.Pipeline, name string) bool {
	return name != "" && slices.ContainsFunc(p.Sinks, func(s *pipelines.Sink) bool { return s.Name == name })
}

// piece hands over some, and waits as the rate says.
func (r *redrive) piece(ctx context.Context, piece []event.DeadLetter) error {
	before := r.done.Redriven
	err := r.handOver(ctx, piece)
	if n := r.done.Redriven - before; err == nil && n > 0 && r.pause > 0 && !r.how.DryRun {
		return rest(ctx, time.Duration(n)*r.pause)
	}
	return err
}

func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *redrive) handOver(ctx context.Context, piece []event.DeadLetter) error {
	if r.mender == nil {
		if r.how.DryRun {
			r.done.Redriven += len(piece)
			return nil
		}
		n, err := r.log.Redrive(ctx, r.these(r.q, r.ask, piece))
		r.done.Redriven += n
		return err
	}
	var all []event.Redrive
	for i := range piece {
		if m, ok := r.mend(&piece[i]); ok {
			all = append(all, m)
		}
	}
	if r.how.DryRun {
		r.done.Redriven += len(all)
		return nil
	}
	results, err := r.mender.RedriveEach(ctx, all)
	for i, result := range results {
		switch result {
		case event.RedriveDone:
			r.done.Redriven++
		case event.RedriveStays:
			r.stays(all[i].ID, "a sink has not come to the event yet, or the other sink has a delivery of its own for it")
		}
	}
	return err
}

// stays notes that a dead letter is one as before.
func (r *redrive) stays(id int64, why string) {
	if r.done.Stay++; r.done.Why == "" {
		r.done.Why = fmt.Sprintf("%d: %s", id, why)
	}
}

// mend says what one dead letter comes to, or that it stays.
func (r *redrive) mend(d *event.DeadLetter) (m event.Redrive, ok bool) {
	m = event.Redrive{ID: d.ID}
	pipeline, priority, sink := router.ParseSubscription(d.Subscription)
	if r.how.To != "" && sink == "" {
		r.stays(d.ID, "it failed before any sink: redrive it to all of them, without another sink")
		return m, false
	}
	if !r.durable(d.ID) {
		r.stays(d.ID, errForgetful.Error())
		return m, false
	}
	if r.how.To != "" {
		if !slices.ContainsFunc(r.plan.Pipelines, func(p *pipelines.Pipeline) bool { return p.Name == pipeline && hasSink(p, r.how.To) }) {
			r.stays(d.ID, fmt.Sprintf("its pipeline %s has no sink %s", pipeline, r.how.To))
			return m, false
		}
		m.To = router.SubscriptionName(router.TopicName(pipeline, priority), r.how.To)
	}
	if r.edit == nil {
		return m, true
	}
	if err := r.edited(d, &m); err != nil {
		r.stays(d.ID, err.Error())
		return m, false
	}
	m.Last = sink == ""
	return m, true
}

// edited runs the edit on the event as it was stored: whatever an earlier edit made of it, the same edit gives the same event, with
// the same idempotency key. One that changes nothing gives the event its first key back.
func (r *redrive) edited(d *event.DeadLetter, m *event.Redrive) error {
	if d.Record.Event.ID == "" {
		return errors.New("its event cannot be read any more")
	}
	e := d.Record.Event
	for _, op := range r.edit {
		_, missing, err := op.Apply(&e)
		if err == nil && missing != "" {
			err = fmt.Errorf("the field %s is missing; ?? gives a default", missing)
		}
		if err != nil {
			return fmt.Errorf("the edit fails: %w", err)
		}
	}
	e.Checked = event.Mark{}
	before := d.Record.Event
	before.Checked = event.Mark{}
	if m.Plain = reflect.DeepEqual(before, e); !m.Plain {
		m.Event = &e
	}
	if r.how.DryRun && len(r.done.Samples) < Samples {
		r.done.Samples = append(r.done.Samples, console.SampledEvent{ID: d.ID, Event: structured(&before), Edited: structured(&e)})
	}
	return nil
}

// editOf compiles an edit: "path = expression" sets a member or an attribute, an expression by itself is the data anew.
func editOf(texts []string) (ops []rules.Op, err error) {
	for _, text := range texts {
		op, err := editOp(text)
		if err != nil {
			return nil, &console.UnknownError{Detail: fmt.Sprintf("edit %q: %v", text, err)}
		}
		ops = append(ops, op)
	}
	return ops, nil
}

func editOp(text string) (rules.Op, error) {
	path, value, set := cutAssignment(text)
	if !set || path == "data" {
		value = strings.TrimSpace(value)
		x, err := rules.Compile(value, rules.Options{})
		if err != nil {
			return nil, err
		}
		return rules.Map(x), nil
	}
	x, err := rules.Compile(value, rules.Options{})
	if err != nil {
		return nil, err
	}
	a := rules.Assignment{Path: path, Value: x}
	if a.Identity() {
		return nil, errors.New("an edit does not change what an event is known by, its id and its source")
	}
	return rules.Set([]rules.Assignment{a})
}

// cutAssignment cuts at the first = that stands alone and not in quotes. Without one the whole is the value.
func cutAssignment(text string) (path, value string, ok bool) {
	var quote byte
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quote != 0 && c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'' || c == '`':
			quote = c
		case c == '=' && i+1 < len(text) && text[i+1] == '=':
			i++
		case c == '=' && (i == 0 || !strings.ContainsRune("<>!", rune(text[i-1]))):
			path = strings.TrimSpace(text[:i])
			if strings.HasPrefix(path, "let ") {
				return "", text, false
			}
			return path, strings.TrimSpace(text[i+1:]), true
		}
	}
	return "", text, false
}

// whereOf compiles a filter on events; nil: none.
func whereOf(text string) (*rules.Expr, error) {
	if text == "" {
		return nil, nil
	}
	x, err := rules.Compile(text, rules.Options{Decision: true})
	if err != nil {
		return nil, &console.UnknownError{Detail: fmt.Sprintf("where %q: %v", text, err)}
	}
	return x, nil
}

// isTrue says whether an expression is true of the event of a dead letter, as it was stored. Where it fails, as at an event that
// cannot be read any more, it is not.
func isTrue(where *rules.Expr, d *event.DeadLetter) bool {
	if where == nil {
		return true
	}
	ok, _, err := where.Bool(&rules.Input{Event: &d.Record.Event})
	return ok && err == nil && d.Record.Event.ID != ""
}
