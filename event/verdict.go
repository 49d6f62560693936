package event

import (
	"errors"
	"time"
)

// Class says what a failed attempt tells about the event and about its destination.
type Class uint8

const (
	// Counted is the class of every error that carries no verdict: it counts against max_attempts.
	Counted Class = iota
	// PermanentClass is a failure of the event itself: no later attempt can succeed, it becomes a dead letter at once.
	PermanentClass
	// UnavailableClass is a failure of the destination. It may say nothing about the event, so it counts only when the
	// destination was seen to accept others in the meantime, and never when the destination named a time to come back.
	UnavailableClass
	// GoneClass says that the destination is gone for good (HTTP 410): the subscription pauses.
	GoneClass
)

// Failure is the verdict of a failed attempt. Sinks return it, wrapped or not; nil means durably accepted by the destination.
type Failure struct {
	Class    Class
	Status   int           // the protocol's status code, 0 if there was none
	After    time.Duration // not before this long from now; 0 leaves it to the backoff
	Deferred bool          // the destination asked to come back later (429, Retry-After): never counts
	Refused  bool          // the connection was refused: nobody listens
	Answer   []byte        // the first KiB of the answer, for a person to read
	Progress []byte        // what the sink wants back at the next attempt of this event
	Err      error
}

// Error returns the cause in words.
func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// Permanent marks err as a failure of the event itself.
func Permanent(err error) error { return &Failure{Class: PermanentClass, Err: err} }

// Unavailable marks err as a failure of the destination.
func Unavailable(err error) error { return &Failure{Class: UnavailableClass, Err: err} }

// RetryAfter marks err as a destination's wish to be asked again after a delay.
func RetryAfter(err error, after time.Duration) error {
	return &Failure{Class: UnavailableClass, After: after, Deferred: true, Err: err}
}

// VerdictOf returns the verdict that err carries; an error without one is Counted. err must not be nil.
func VerdictOf(err error) Failure {
	var f *Failure
	if errors.As(err, &f) {
		v := *f
		v.Err = err
		return v
	}
	return Failure{Class: Counted, Err: err}
}
