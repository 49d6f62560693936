package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/millrace-run/millrace/app"
)

// change is one of the things that can be done to dead letters.
type change struct {
	question string // with the count
	done     string // behind the count
	apply    func(on target, ctx context.Context, q app.Query) (int, error)
	row      func(n int) any // for -o json
}

var (
	redriving = &change{"Redrive %s?", "redriven", target.Redrive, func(n int) any { return app.Redriven{Redriven: n} }}
	dropping  = &change{"Drop %s for good?", "dropped", target.Drop, func(n int) any { return app.Dropped{Dropped: n} }}
)

func (d *deadCommand) change(ctx context.Context, ch *change, args []string) error {
	if err := d.selection(args); err != nil {
		return &exit{exitUsage, err}
	}
	on, err := d.open(ctx)
	if err != nil {
		return err
	}
	n, err := d.changeIn(ctx, ch, on)
	if err := errors.Join(err, on.Close()); err != nil {
		if n > 0 {
			say(d.err, "%s %s before it failed\n", count(n), ch.done)
		}
		return err
	}
	if d.output == "json" {
		err = rows(d.command, ch.row(n))
	} else {
		say(d.out, "%s %s\n", count(n), ch.done)
	}
	return errors.Join(err, d.missing(n))
}

// selection takes ids or --all. Filters narrow all: beside ids they could only be a mistake.
func (d *deadCommand) selection(args []string) error {
	if err := d.ids(args); err != nil {
		return err
	}
	narrowed := d.query.Pipeline != "" || d.query.Sink != "" || len(d.query.Reasons) > 0
	if d.all == (len(d.query.IDs) > 0) || !d.all && narrowed {
		return errors.New("say which: ids, or --all, which --pipeline, --sink and --reason narrow")
	}
	return nil
}

// changeIn asks before it changes all, where there is somebody to ask. Then those which were counted are changed, and none that
// died while the question stood; the same piece by piece where somebody watches and there are more than a page.
func (d *deadCommand) changeIn(ctx context.Context, ch *change, on target) (int, error) {
	asks, watched := d.ask && !d.yes, isTerminal(d.err)
	if !d.all || !asks && !watched {
		return ch.apply(on, ctx, d.query)
	}
	letters, err := on.DeadLetters(ctx, d.query)
	switch {
	case err != nil:
		return 0, err
	case !asks && len(letters) <= pageSize:
		return ch.apply(on, ctx, d.query)
	case len(letters) == 0:
		return 0, nil
	}
	if asks {
		if err := d.confirm(ctx, fmt.Sprintf(ch.question, count(len(letters)))); err != nil {
			return 0, err
		}
	}
	return d.inPieces(ctx, ch, on, letters, watched)
}

func (d *deadCommand) confirm(ctx context.Context, question string) error {
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

// inPieces changes dead letters by their ids, and shows how far it is. The reasons are asked for again, since one that died anew
// keeps its id; pipeline and sink of an id never change.
func (d *deadCommand) inPieces(ctx context.Context, ch *change, on target, letters []app.DeadLetter, show bool) (int, error) {
	done, passed := 0, 0
	show = show && len(letters) > pageSize
	for piece := range slices.Chunk(letters, pageSize) {
		q := app.Query{Reasons: d.query.Reasons}
		for _, l := range piece {
			q.IDs = append(q.IDs, l.ID)
		}
		n, err := ch.apply(on, ctx, q)
		done += n
		passed += len(piece)
		if show {
			say(d.err, "\r%d of %d", passed, len(letters))
		}
		if err != nil || passed == len(letters) {
			if show {
				say(d.err, "\n")
			}
			return done, err
		}
	}
	return done, nil
}
