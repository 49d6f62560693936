package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/millrace-run/millrace/app"
)

// target is what commands look into and change: a running instance, or the outbox of one that does not run.
type target interface {
	DeadLetters(ctx context.Context, q app.Query) ([]app.DeadLetter, error)
	CountDead(ctx context.Context, q app.Query) ([]app.Count, error)
	Redrive(ctx context.Context, q app.Query, how app.Redrive) (app.Redriven, error)
	Drop(ctx context.Context, q app.Query) (app.Dropped, error)
	Subscriptions(ctx context.Context) ([]app.Subscription, error)
	Pause(ctx context.Context, p app.Pause) (int, error)
	Resume(ctx context.Context, p app.Pause) (int, error)
	Seek(ctx context.Context, k app.Seek) ([]app.Sought, error)
	Events(ctx context.Context, id string, limit int) ([]app.Place, error)
	Close() error
}

// finder holds the flags of the commands that need a target.
type finder struct {
	*command
	admin string
}

func (f *finder) flags(cmd *cobra.Command) {
	f.configFlags(cmd)
	f.outputFlag(cmd)
	cmd.Flags().StringVar(&f.admin, "admin", "", "address of the running instance (default $MILLRACE_ADMIN, else admin.listen of the file)")
}

// open finds the instance. The outbox itself is opened only when the address came from the file and nothing listens
// there: an address that somebody gave means an instance that should answer.
func (f *finder) open(ctx context.Context) (target, error) {
	r, plan, err := f.find(ctx)
	if plan == nil || err != nil {
		return r, err
	}
	offline, err := app.OpenOffline(ctx, plan)
	if err != nil {
		return nil, r.notOpen(err)
	}
	return offline, nil
}

// find finds the instance. A plan comes with it only when none runs: then the outbox of that may be opened.
func (f *finder) find(ctx context.Context) (_ *remote, plan *app.Plan, err error) {
	in, err := findInstance(f.admin, f.env, func() (_ string, err error) {
		if plan, err = f.plan(); err != nil {
			return "", err
		}
		return plan.Admin.Listen, nil
	})
	if err != nil {
		return nil, nil, err
	}
	r := newRemote(in)
	err = r.alive(ctx)
	if !in.fromFile || !errors.Is(err, errNobody) {
		return r, nil, err
	}
	return r, plan, nil
}

// notOpen is the error for an outbox that cannot be opened where no instance answers.
func (r *remote) notOpen(err error) error {
	var unreachable *app.UnreachableError
	if errors.As(err, &unreachable) {
		return &exit{exitUnreachable, fmt.Errorf("nothing listens at %s (from %s), and %w", r.url, r.from, err)}
	}
	return err
}

// plan reads the file for its addresses only: variables that only the running process has may be unset here.
func (f *finder) plan() (*app.Plan, error) {
	src := f.source()
	src.AllowUnset = true
	plan, report := app.Load(src)
	if plan == nil {
		say(f.err, "%s", report.Text())
		return nil, &exit{exitFailure, fmt.Errorf("%s does not tell where an instance listens and where its outbox is; give --admin", f.config)}
	}
	return plan, nil
}
