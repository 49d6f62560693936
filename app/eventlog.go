package app

import (
	"context"
	"log/slog"
	"os"

	"github.com/millrace-run/millrace/brokers/engine"
	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/outbox"
	"github.com/millrace-run/millrace/router"
)

// eventLog is an open log of either kind, with what a process must know of it beyond what a router does.
type eventLog struct {
	statusLog
	close  func() error
	failed <-chan struct{}     // closed when it can no longer keep its promise; nil: that cannot happen
	err    func() error        // why; nil while it has not failed
	space  func() outbox.Space // nil: it has no file
	memory *engine.Engine      // nil: it has a file
	topics func() []string     // that ever had an event
	data   string              // where the events are, for people

	// backup copies it; nil: it has no file.
	backup func(ctx context.Context, progress outbox.Progress) (*os.File, error)
}

// statusLog is a log that can say how its subscriptions stand. Both kinds can.
type statusLog interface {
	router.Log
	router.History
	Status(ctx context.Context) ([]event.SubscriptionStatus, error)
}

// openOutbox opens what the plan names as its outbox. logger may be nil.
func openOutbox(ctx context.Context, plan *Plan, logger *slog.Logger) (*eventLog, error) {
	if plan.Outbox.Memory != nil {
		return openMemory(engine.Options{Logger: logger})
	}
	s := plan.Outbox.SQLite
	o, err := outbox.Open(ctx, outbox.Options{
		Path: s.Path, MaxSize: s.MaxSize, Reserve: s.Reserve, Retention: outbox.Retention(s.Retention), Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	return &eventLog{
		statusLog: o, close: o.Close, failed: o.Failed(), err: o.Err, space: o.Space, topics: o.Topics, data: s.Path,
		backup: o.Backup,
	}, nil
}

func openMemory(o engine.Options) (*eventLog, error) {
	e, err := engine.NewMemory(o)
	if err != nil {
		return nil, err
	}
	return &eventLog{
		statusLog: e, close: e.Close, err: func() error { return nil }, memory: e,
		topics: func() []string { return nil }, data: "in memory only; what is pending at the end is lost",
	}, nil
}
