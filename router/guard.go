package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/millrace-run/millrace/event"
)

// guard stands between one goroutine and the log: it repeats a call that failed, tells about it, and knows whether the
// goroutine runs. Only its ready may be called by others.
type guard struct {
	clock  event.Clock
	logger *slog.Logger
	fold   fold                  // of the lines about the log
	state  atomic.Pointer[error] // nil: runs; else why not
}

var errNotRunning = errors.New("does not run")

func newGuard(clock event.Clock, logger *slog.Logger) *guard {
	g := &guard{clock: clock, logger: logger}
	g.state.Store(&errNotRunning)
	return g
}

func (g *guard) ready() error {
	if err := g.state.Load(); err != nil {
		return *err
	}
	return nil
}

func (g *guard) begin() { g.state.Store(nil) }
func (g *guard) end()   { g.state.Store(&errNotRunning) }

// logPause is the longest wait between two tries of a call of the log; the first is a hundredth of it.
const logPause = 5 * time.Second

// do calls the log until it answers. The error is that of ctx, or it says that this log will never answer again.
func (g *guard) do(ctx context.Context, what string, call func() error) error {
	for pause := logPause / 100; ; pause = min(2*pause, logPause) {
		err := call()
		if err == nil {
			g.recovered()
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, event.ErrClosed) || errors.Is(err, event.ErrUnknown) {
			return fmt.Errorf("%s: %w", what, err)
		}
		g.failing(what, err)
		if err := wait(ctx, g.clock, pause); err != nil {
			return err
		}
	}
}

func (g *guard) recovered() {
	if g.state.Load() != nil {
		g.state.Store(nil)
		g.logger.Info("the outbox answers again")
	}
}

func (g *guard) failing(what string, err error) {
	fault := fmt.Errorf("%s: %w", what, err)
	g.state.Store(&fault)
	if hidden, ok := g.fold.allow(g.clock.Now(), fault.Error()); ok {
		g.logger.Error("the outbox does not answer", "err", fault, "folded", hidden)
	}
}

// wait returns nil after d, or the reason of ctx.
func wait(ctx context.Context, clock event.Clock, d time.Duration) error {
	c, release := clock.After(d)
	defer release()
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// clean turns the error of a context that ended on purpose into nil.
func clean(stop, work context.Context, err error) error {
	for _, ctx := range []context.Context{stop, work} {
		if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
			return nil
		}
	}
	return err
}
