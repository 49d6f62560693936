package app

import (
	"fmt"
	"sync/atomic"

	"github.com/millrace-run/millrace/router"
)

// instance is a running Millrace as the console sees it.
type instance struct {
	letters
	events   *eventLog
	router   *router.Router
	intake   *intake
	started  atomic.Bool // every listener accepts
	stopping atomic.Bool
}

// NotReady says what is missing until everything runs, and from the first signal to stop on.
func (i *instance) NotReady() []string {
	var reasons []string
	if i.stopping.Load() {
		reasons = append(reasons, "it is stopping")
	}
	if err := i.events.err(); err != nil {
		reasons = append(reasons, fmt.Sprintf("the outbox failed: %v", err))
	}
	if !i.started.Load() {
		reasons = append(reasons, "not every listener accepts yet")
	}
	reasons = append(reasons, i.intake.notReady()...)
	if err := i.router.Ready(); err != nil {
		reasons = append(reasons, err.Error())
	}
	return reasons
}
