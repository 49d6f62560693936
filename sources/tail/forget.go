package tail

import (
	"errors"

	"github.com/millrace-run/millrace/event"
)

// Forgets says whether the source does without the positions of an earlier process. One that begins files at their beginning does
// not: each start would deliver every line again. With start: end lines that were written while no process ran are left out.
func (s *Source) Forgets() error {
	if s.settings.fromEnd {
		return nil
	}
	return &event.KeyError{Key: "start", Err: errors.New(
		"delivery: at_most_once forgets at each stop how far files were read, so every line would be delivered again; write start: end")}
}
