package app

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/millrace-run/millrace/console"
	"github.com/millrace-run/millrace/outbox"
	"github.com/millrace-run/millrace/router"
)

// Condition, Damage and Restored are what is said of the file of an outbox; see outbox. Progress hears how far a copy is.
type (
	Condition = outbox.Condition
	Damage    = outbox.Damage
	Restored  = outbox.Restored
	Progress  = outbox.Progress
)

// What a backup is sent as; see console.
const (
	BackupType     = console.BackupType
	ProgressHeader = console.ProgressHeader
)

// errMemory says that there is nothing to copy.
var errMemory = fmt.Errorf("no event of this instance is on disk, so there is nothing to back up: %w", errors.ErrUnsupported)

// Backup copies the outbox while it is in use. What is in memory only (delivery: at_most_once) is not in it.
func (i *instance) Backup(ctx context.Context, progress func(done, total int64)) (*os.File, error) {
	for _, f := range i.flows {
		if f.eventLog.backup != nil {
			return f.eventLog.backup(ctx, progress)
		}
	}
	return nil, errMemory
}

// SaveBackup makes the file to of a copy that fill writes, once it is verified. It never takes the place of another file.
func SaveBackup(ctx context.Context, to string, fill func(f *os.File) error) (*Condition, error) {
	return outbox.Save(ctx, to, fill)
}

// BackupOffline makes the file to as a backup of a plan's outbox. One that a process has open is an *UnreachableError.
func BackupOffline(ctx context.Context, plan *Plan, to string, progress Progress) (*Condition, error) {
	if plan.Outbox.SQLite == nil {
		return nil, &UnreachableError{errors.New("the outbox was in the memory of a process that does not run")}
	}
	if err := outboxThere(plan); err != nil {
		return nil, err
	}
	r, err := outbox.BackupFile(ctx, plan.Outbox.SQLite.Path, to, progress)
	return r, heldIsUnreachable(err)
}

// Restore puts a backup in the place of a plan's outbox. The states of sinks are left out: they say how long files were at the time
// of the backup, and a sink that believes them would cut off what was written since. Without them it goes on behind the end of what
// is there. Positions of sources are kept: what they read since is read again.
func Restore(ctx context.Context, plan *Plan, from string, force bool, progress Progress) (*Restored, error) {
	if plan.Outbox.SQLite == nil {
		return nil, errors.New("outbox: the file keeps events in memory only, so there is nothing to restore to")
	}
	r, err := outbox.Restore(ctx, outbox.RestoreOptions{
		From: from, To: plan.Outbox.SQLite.Path, Force: force, Forget: router.OfSink, Progress: progress,
	})
	if errors.Is(err, outbox.ErrThere) {
		err = fmt.Errorf("%w; --force keeps it under another name", err)
	}
	return r, heldIsUnreachable(err)
}

// Fsck looks for damage in the file of an outbox that no process has open. repair, if it is not empty, is the name of a new file that
// gets all that can be saved; the report says what cannot.
func Fsck(ctx context.Context, path, repair string) (r *Condition, err error) {
	if repair == "" {
		r, err = outbox.Check(ctx, path)
	} else {
		r, err = outbox.Repair(ctx, path, repair)
	}
	return r, heldIsUnreachable(err)
}
