package event

import (
	"context"
	"errors"
	"time"
)

// Lender hands the events of one subscription to workers that come for them, each event to one at a time. All methods may be called
// concurrently.
type Lender interface {
	// Receive hands out events, up to a.Max of them, as soon as there is one. It waits for the first until a.Wait is over or
	// ctx ends, and then returns none. What it returns is leased on disk: nobody else gets it before Until. An error means that none were
	// handed out; ErrClosed, that nothing is handed out any more.
	Receive(ctx context.Context, a Ask) ([]Leased, error)

	// Return ends leases, or makes them longer. It is on disk when Return comes back. gone are the receipts whose events are in
	// other hands by now, or settled: nothing happened to those. A receipt that is none is an error (ErrReceipt), and then nothing
	// happened to any.
	Return(ctx context.Context, receipts []string, r Return) (gone []string, err error)
}

// Ask is what a worker asks for.
type Ask struct {
	Max   int           // at least 1
	Wait  time.Duration // for the first event; 0 does not wait
	Lease time.Duration // more than 0
}

// Leased is an event in the hands of a worker.
type Leased struct {
	Receipt  string // names this lease; it stays the same over a restart
	Delivery Delivery
	Until    time.Time // when the event goes to another worker
}

// Return says what is to become of leased events.
type Return struct {
	Action  ReturnAction
	Delay   time.Duration // Nacked: not before that; negative leaves it to the retries of the sink. Extended: the new lease, from now on
	Problem string        // Nacked and Rejected: why, for people
}

// ReturnAction is what a worker says of events that it has.
type ReturnAction uint8

// The actions.
const (
	Acked    ReturnAction = iota + 1 // done
	Nacked                           // it failed: again later, unless that was the last attempt
	Rejected                         // never again: a dead letter
	Extended                         // still at work
)

// ErrReceipt means that a text is no receipt of this subscription.
var ErrReceipt = errors.New("this is no receipt of the queue")
