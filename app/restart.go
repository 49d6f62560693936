package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/millrace-run/millrace/event"
)

// keep runs a source until ctx ends (nil) or the source says that it is at its end (event.ErrEnd), again and again: one broken origin does not stop the others. The pause before the n-th new
// start in a row is 1 s · 2^(n-1), at most 30 s: 1 s, 2 s, 4 s, … A source that ran for longer than that begins anew.
func keep(ctx context.Context, run func(context.Context) error, clock event.Clock, logger *slog.Logger) error {
	pause := restartFirst
	for {
		begun := clock.Now()
		err := runSafely(ctx, run)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, event.ErrEnd) {
			return err
		}
		if clock.Now().Sub(begun) > restartMost {
			pause = restartFirst
		}
		logger.Error("the source stopped and is started again", "err", err, "pause", pause)
		again, release := clock.After(pause)
		select {
		case <-again:
		case <-ctx.Done():
			release()
			return nil
		}
		pause = min(2*pause, restartMost)
	}
}

const (
	restartFirst = time.Second
	restartMost  = 30 * time.Second
)

// runSafely takes a panic of a source for a failure of it.
func runSafely(ctx context.Context, run func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return run(ctx)
}
