package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/millrace-run/millrace/app"
)

// change is one of the things that can be done to dead letters. It adds up what was done.
type change interface {
	question() string // with the count
	// apply does it to what q selects, up to the limit of q. after is the id to go on after; 0: there are no more.
	apply(ctx context.Context, on target, q app.Query) (after int64, err error)
	done() int
	row() any     // for -o json
	text() string // for a person
	rest() error  // what was not done
}

type redriving struct{ *deadCommand }

func (r *redriving) question() string { return "Redrive %s?" }
func (r *redriving) done() int        { return r.redriven.Redriven }
func (r *redriving) row() any         { return r.redriven }

func (r *redriving) apply(ctx context.Context, on target, q app.Query) (int64, error) {
	answer, err := on.Redrive(ctx, q, r.how)
	all := &r.redriven
	all.Redriven += answer.Redriven
	all.Stay += answer.Stay
	all.Why = cmp.Or(all.Why, answer.Why)
	all.Samples = append(all.Samples, answer.Samples[:min(len(answer.Samples), max(0, app.Samples-len(all.Samples)))]...)
	return answer.After, err
}

func (r *redriving) text() string {
	if !r.how.DryRun {
		return count(r.done()) + " redriven"
	}
	var b strings.Builder
	for _, s := range r.redriven.Samples {
		say(&b, "dead letter %d, edited:\n%s\n\n", s.ID, indented(prettyEvent(s.Edited)))
	}
	return b.String() + count(r.done()) + " would be redriven; nothing was changed"
}

func (r *redriving) rest() error {
	if n := r.redriven.Stay; n > 0 {
		return fmt.Errorf("%s left as before; %s", count(n), plain(r.redriven.Why))
	}
	return nil
}

type dropping struct{ *deadCommand }

func (d *dropping) question() string { return "Drop %s for good?" }
func (d *dropping) done() int        { return d.dropped.Dropped }
func (d *dropping) row() any         { return d.dropped }
func (d *dropping) text() string     { return count(d.done()) + " dropped" }
func (d *dropping) rest() error      { return nil }

func (d *dropping) apply(ctx context.Context, on target, q app.Query) (int64, error) {
	answer, err := on.Drop(ctx, q)
	d.dropped.Dropped += answer.Dropped
	return answer.After, err
}

func (d *deadCommand) change(ctx context.Context, ch change, args []string) error {
	if err := d.selection(args); err != nil {
		return &exit{exitUsage, err}
	}
	on, err := d.open(ctx)
	if err != nil {
		return err
	}
	err = d.changeIn(ctx, ch, on)
	if err := errors.Join(err, on.Close()); err != nil {
		if ch.done() > 0 {
			say(d.err, "%s before it failed\n", ch.text())
		}
		return err
	}
	if d.output == "json" {
		err = rows(d.command, ch.row())
	} else {
		say(d.out, "%s\n", ch.text())
	}
	return errors.Join(err, ch.rest(), d.missing(ch.done()+d.redriven.Stay))
}

// selection takes ids or --all. Filters narrow all: beside ids they could only be a mistake.
func (d *deadCommand) selection(args []string) error {
	if err := d.ids(args); err != nil {
		return err
	}
	if d.all == (len(d.query.IDs) > 0) || !d.all && !reflect.DeepEqual(d.query, app.Query{IDs: d.query.IDs}) {
		return errors.New("say which: ids, or --all, which --pipeline, --sink and --reason narrow, and the other filters")
	}
	return nil
}

// changeIn asks before it changes all, where there is somebody to ask. Then those are changed which were counted, and none that died
// while the question stood.
func (d *deadCommand) changeIn(ctx context.Context, ch change, on target) error {
	asks, watched := d.all && d.ask && !d.yes && !d.how.DryRun, d.all && isTerminal(d.err)
	total := len(d.query.IDs)
	if asks || watched {
		if d.query.Until.IsZero() {
			d.query.Until = time.Now()
		}
		counts, err := on.CountDead(ctx, d.query)
		if total = sum(counts); err != nil || total == 0 {
			return err
		}
	}
	if asks {
		if err := d.confirm(ctx, fmt.Sprintf(ch.question(), count(total))); err != nil {
			return err
		}
	}
	return d.inPieces(ctx, ch, on, total, watched)
}

// confirm asks; an error is a no.
func (d *finder) confirm(ctx context.Context, question string) error {
	say(d.err, "%s [y/N] ", question)
	answer, err := heed(ctx, func() (string, error) { return bufio.NewReader(d.in).ReadString('\n') })
	if a := strings.ToLower(strings.TrimSpace(answer)); a == "y" || a == "yes" {
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(errors.New("nothing was changed"), err)
}

// inPieces changes dead letters in the order of their ids, each once, and shows how far it is. With a rate a piece is what goes in a
// second, else a page.
func (d *deadCommand) inPieces(ctx context.Context, ch change, on target, total int, watched bool) error {
	q := d.query
	q.Limit = pageSize
	if d.how.Rate != "" && !d.how.DryRun {
		q.Limit = app.PerSecond(d.how.Rate)
	}
	show := watched && total > q.Limit
	for {
		after, err := ch.apply(ctx, on, q)
		if show {
			say(d.err, "\r%d of %d", ch.done(), total)
		}
		if q.After = after; err != nil || after == 0 {
			if show {
				say(d.err, "\n")
			}
			return err
		}
	}
}
