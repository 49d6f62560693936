package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/millrace-run/millrace/outbox"
)

// Offline reaches the dead letters of an instance that does not run. It holds the outbox until Close.
type Offline struct {
	letters
	events *eventLog
}

// UnreachableError says that there is no outbox to open, or that another process has it.
type UnreachableError struct{ Err error }

// Error is the cause.
func (e *UnreachableError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// OpenOffline opens the outbox of a plan. It makes none: an outbox that is not there is an *UnreachableError, as is one that
// another process holds, whose id is named.
func OpenOffline(ctx context.Context, plan *Plan) (*Offline, error) {
	if plan.Outbox.SQLite == nil {
		return nil, &UnreachableError{errors.New("the outbox was in the memory of a process that does not run")}
	}
	own := part(plan, false)
	if len(own.Pipelines) == 0 {
		return nil, &UnreachableError{errors.New("all pipelines have delivery: at_most_once: their events were in the memory of a process that does not run")}
	}
	if err := outboxThere(plan); err != nil {
		return nil, err
	}
	e, err := openOutbox(ctx, plan, nil)
	if err != nil {
		return nil, heldIsUnreachable(err)
	}
	return &Offline{letters{e, own}, e}, nil
}

// outboxThere says whether the plan's outbox is on disk.
func outboxThere(plan *Plan) error {
	path := plan.Outbox.SQLite.Path
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return &UnreachableError{fmt.Errorf("there is no outbox at %s: start Millrace first, or go to the folder where it runs", path)}
	}
	return nil
}

// heldIsUnreachable makes an outbox that another process has one that cannot be reached.
func heldIsUnreachable(err error) error {
	var locked *outbox.LockedError
	if errors.As(err, &locked) {
		return &UnreachableError{err}
	}
	return err
}

// Close gives the outbox back.
func (o *Offline) Close() error { return o.events.close() }
