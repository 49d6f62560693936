package event

import "errors"

// ErrEnd is what the Run of a source returns when its origin has no more events and never will have: it is not started again. If
// it wraps ErrEnd, the rest of the message says what was wrong with what it had.
var ErrEnd = errors.New("the source is at its end")
