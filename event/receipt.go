package event

import "time"

// Receipt says how the attempt went by which a destination took an event. The zero value is none.
type Receipt struct {
	Attempt int // 1 for the first
	Status  int // the protocol's status code, 0 if it has none
	Took    time.Duration
}

// DatedReceipt is a receipt as a log kept it. At is when the log wrote it down, in UTC: about a second after the delivery, at
// most. Took is in whole milliseconds.
type DatedReceipt struct {
	Receipt
	At time.Time
}

// Located is an event together with the topic that holds it.
type Located struct {
	Topic  string
	Record Record
}

// Standing is how one event stands in one subscription.
type Standing struct {
	Subscription string
	State        StandingState
	Exception    *Exception     // the row, when the state is StandsRetrying, StandsDead or StandsHeld
	Receipts     []DatedReceipt // what is known of its deliveries, oldest first
}

// StandingState is where an event stands in a subscription.
type StandingState uint8

const (
	// StandsPending is what has not been settled yet.
	StandsPending StandingState = iota + 1
	// StandsSettled needs nothing more: it was delivered, the sink did not want it, or it was there before the sink. A receipt
	// tells the first from the others.
	StandsSettled
	// StandsRetrying waits for another attempt.
	StandsRetrying
	// StandsDead is a dead letter.
	StandsDead
	// StandsForeign is what the subscription is not owed: it came while no configuration named the subscription.
	StandsForeign
	// StandsHeld waits for an earlier event with the same order_key.
	StandsHeld
)
