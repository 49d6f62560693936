package event

import (
	"errors"
	"time"
)

// ErrNoPlace means that a Start names a place which there is not: nothing was moved.
var ErrNoPlace = errors.New("no such place")

// Start is a place in a topic where a reader begins. At most one field is set; the zero value is behind the last event there is.
type Start struct {
	Beginning bool      // the first event that the log still has
	Offset    Offset    // this event
	Time      time.Time // the first event, by offset, that was received at or after this time
}

// Seek moves readers to other places of their topics, all of them at once or none.
type Seek struct {
	Subscriptions []string
	To            Start
	Preview       bool // says what it would come to, and changes nothing
}

// Sought is what a Seek means to one subscription. Every event is counted whether or not a sink wants it.
type Sought struct {
	Subscription string
	Cursor       Offset    // all up to it was settled before
	Next         Offset    // the event that it gets next; one behind the last event of the topic: none yet
	Head         Offset    // the last event of the topic
	Again        int64     // events that were settled and come again
	Skipped      int64     // events that were not tried yet, or being tried, and are jumped over
	Waiting      int64     // rows at or behind Next that ended: their events come again as new ones
	Dead         int64     // dead letters at or behind Next: they stay, and their events do not come again
	Gone         int64     // events that were asked for and that retention has purged; for a time: at most so many
	Oldest       time.Time // when the first event that is left was received, if Gone is not 0; zero: none is left
}
