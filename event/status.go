package event

import "time"

// SubscriptionStatus is how one subscription stands in its log. Times are UTC.
type SubscriptionStatus struct {
	Name     string
	Topic    string
	Removed  bool      // no configuration names it any more; it keeps what it is owed
	Cursor   Offset    // everything up to it is settled
	Head     Offset    // the last offset that it is owed
	Lag      int64     // events between cursor and head that are not settled and have no row
	Retrying int64     // rows that wait for another attempt
	Held     int64     // rows that wait for an earlier event with their key
	Dead     int64     // dead letters
	Attempts int       // the most that a row which waits has had
	Pinned   int64     // bytes of the log that it keeps from being purged: from its cursor to its head
	Oldest   time.Time // when the oldest event that is neither settled nor dead was received; zero: there is none
}
