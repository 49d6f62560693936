package router

import (
	"context"

	"github.com/millrace-run/millrace/event"
)

// Log is the durable log that the router runs on. The outbox implements all of it; an engine over a message broker
// implements it as far as its Can says. All methods may be called concurrently.
type Log interface {
	// Can says what this log is able to do.
	Can() event.Capabilities

	// Configure makes the log have exactly these topics and subscriptions. A subscription that is new begins where the
	// layout says, else behind the last event of its topic; one that is no longer named keeps what it is owed but gets nothing that is
	// appended from now on.
	Configure(ctx context.Context, l event.Layout) error

	// Commit applies all of c at once and returns when that is as durable as Can says. When ctx ends before the writer took
	// it, it is withdrawn (ErrBusy or the cause of ctx); once taken it is waited for. It returns what became of each append:
	// where the topic has Dedupe, an event whose key another one has had is left out.
	// event.ErrFull, event.ErrConflict: nothing was stored.
	Commit(ctx context.Context, c event.Commit) ([]event.Appended, error)

	// Subscribe returns the one reader of a subscription that Configure named. Its methods are called by one goroutine,
	// except for Settle and Position. A later call begins anew: what is not settled is handed out again.
	Subscribe(name string) (Subscription, error)

	// State returns the committed state of a component; empty if it has none.
	State(ctx context.Context, owner string) (map[string][]byte, error)

	// DeadLetters lists dead letters in the order of their ids.
	DeadLetters(ctx context.Context, q event.DeadQuery) ([]event.DeadLetter, error)

	// Redrive hands the selected dead letters to their subscriptions again and returns how many they were. Attempts are kept,
	// counted failures and the first attempt begin anew.
	Redrive(ctx context.Context, q event.DeadQuery) (int, error)

	// Drop settles the selected dead letters for good, those of subscriptions that are no longer named too, and returns how many
	// they were. Whether an event is a dead letter that q selects is decided at the moment it is dropped: one that a redrive took
	// back in time stays. An error tells how many were dropped before it.
	Drop(ctx context.Context, q event.DeadQuery) (int, error)
}

// History is what a Log does whose Can says so.
type History interface {
	// Seek moves the cursors of subscriptions in one commit. Rows at or behind the target end, but for dead letters, which stay and whose
	// events do not come again. The readers must be between two calls; they go on at the new place.
	Seek(ctx context.Context, k event.Seek) ([]event.Sought, error)

	// StatusOf says how subscriptions stand.
	StatusOf(ctx context.Context, names []string) ([]event.SubscriptionStatus, error)
}

// Subscription is one reader of a topic. It lives in package event so that a log can satisfy Log without this package.
type Subscription = event.Subscription

// Window is how far ahead of its cursor a subscription may settle, in offsets.
const Window = event.Window
