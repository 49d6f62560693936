package event

import (
	"context"
	"time"
)

// Subscription is one reader of a topic. Its methods are called by one goroutine, except for Settle and Position.
type Subscription interface {
	// Next returns what follows the records that it returned before, in offset order, without what is settled or has a row:
	// at most max records, about 1 MiB and none beyond upTo. It does not wait; nothing there is an empty slice.
	// The records may be shared with other readers: nobody writes to the slice or to what is in it.
	Next(ctx context.Context, upTo Offset, max int) ([]Record, error)

	// Due returns exceptions whose time has come, those that are due longest first, each only once until it is settled again;
	// and when the next one is due (zero: none waits).
	Due(ctx context.Context, now time.Time, max int) ([]Exceptional, time.Time, error)

	// Settle records outcomes. They are committed with the next commit, at the latest 10 ms later; it waits only while more
	// than a window of them is not yet on disk.
	Settle(ctx context.Context, outcomes []Outcome) error

	// Rows returns which offsets in [from, to] have an exception row.
	Rows(ctx context.Context, from, to Offset) ([]Offset, error)

	// Keyed returns the exceptions in a state that have a key and lie behind an offset, at most max of them, in offset order. It is
	// how a reader finds out at its start who waits for whom.
	Keyed(ctx context.Context, state ExceptionState, after Offset, max int) ([]Keyed, error)

	// Dropped is how many dead letters of this subscription were dropped since the log was opened; each brings a signal. Any goroutine
	// may call it.
	Dropped() int64

	// Row returns the exception row of an event; nil if it has none.
	Row(ctx context.Context, o Offset) (*Exception, error)

	// Wake receives (it holds at most one signal) when Next or Due may have more than before, or Dropped has grown.
	Wake() <-chan struct{}

	// Position returns the cursor (all up to it is settled) and the last offset of the topic. Any goroutine may call it.
	Position() (cursor, head Offset)
}

// Skipper is a Subscription whose reader may have from elsewhere what Next would return. Next then goes on behind an offset; what
// lies before it is the reader's to settle, as if Next had returned it, also many events by one Outcome. It says false, and does
// nothing, when the subscription is not owed all of it.
type Skipper interface{ Skip(upTo Offset) bool }

// Reuser is a Subscription that spends less memory on a reader which has no use for records when it calls Next again. Such a reader
// calls Reuse before its first Next.
type Reuser interface{ Reuse() }

// Window is how far ahead of its cursor a subscription may settle, in offsets.
const Window = 4096
