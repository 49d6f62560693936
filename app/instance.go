package app

import (
	"fmt"
	"sync/atomic"
)

// instance is a running Millrace as the console sees it.
type instance struct {
	letters
	flows    flows
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
	if err := i.flows.err(); err != nil {
		reasons = append(reasons, fmt.Sprintf("the outbox failed: %v", err))
	}
	if !i.started.Load() {
		reasons = append(reasons, "not every listener accepts yet")
	}
	reasons = append(reasons, i.intake.notReady()...)
	for _, f := range i.flows {
		if err := f.router.Ready(); err != nil {
			reasons = append(reasons, err.Error())
		}
	}
	return reasons
}
