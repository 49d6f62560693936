package router

import (
	"context"
	"fmt"

	"github.com/millrace-run/millrace/event"
)

// sourceOwner is whose state the source of a pipeline has in the log.
func sourceOwner(pipeline string) string { return "source:" + pipeline }

// OpenSource gives the source of a pipeline what was committed of its state, if it is Stateful. Call it before each Run of the
// source: when Run has returned, it may have emitted what it did not hear the end of.
func (r *Router) OpenSource(ctx context.Context, pipeline string, s Source) error {
	if a, ok := s.(Ahead); ok {
		if p := r.pipeline(pipeline); p != nil {
			a.Ahead(func(b event.Batch) (event.Prepared, error) { return r.prepare(p, &b) })
		}
	}
	stateful, ok := s.(Stateful)
	if !ok {
		return nil
	}
	owner := sourceOwner(pipeline)
	state, err := r.log.State(ctx, owner)
	if err != nil {
		return fmt.Errorf("read the state of the source: %w", err)
	}
	return stateful.Open(ctx, state, func(ctx context.Context, changes event.Changes) error {
		_, err := r.log.Commit(ctx, event.Commit{States: []event.State{{Owner: owner, Changes: changes}}})
		return err
	})
}
