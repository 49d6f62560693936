package event

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Offset is an event's place in its topic. The first event of a topic has offset 1; 0 means before the first.
type Offset int64

// Record is an event as a log holds it.
type Record struct {
	Offset Offset
	Event  Event
}

// Batch is what a source emits: events and its state (such as a position) behind them. Both are committed, or neither is.
type Batch struct {
	Events []Event
	State  Changes

	// Count and Make, if Make is not nil, are the events in place of Events: Make writes event i to *e, whatever is there, without what
	// Complete adds. A source of which the first stages drop most makes events one at a time that way, and spends no memory on them. Made
	// events share the memory of what was read. Make is called for several at the same time, and more than once for the same event.
	Count int
	Make  func(i int, e *Event)

	// Complete, if it is not nil, gives event i the attributes that cost time to make, such as an id that is a hash. Events that the
	// first stages drop never get them. It is called for several at the same time, once for each event and emission, and must not keep e.
	Complete func(i int, e *Event)

	// Body, when it is not nil, is what the events were made of under a key that their sender chose and that their ids come from.
	// Where duplicates are left out, the same key with another body is then an error (ErrConflict), and nothing is committed.
	Body []byte

	// Prepared, if it is not nil, is the batch as it is to be committed, in place of its events: who emits it had it prepared by the
	// pipeline that it is emitted to.
	Prepared Prepared
}

// Prepared is what a pipeline makes of a batch before its turn comes: what its first stages leave of the events. So the next batch
// is shaped while the one before it is committed. It is used by one goroutine at a time.
type Prepared interface {
	Len() int            // events that are left
	Size() int           // bytes of them, about
	Own() bool           // they share no memory with the batch
	Join(other Prepared) // adds a batch of the same pipeline that follows; other is not used any more
}

// Len is how many events the batch has.
func (b *Batch) Len() int {
	if b.Make != nil {
		return b.Count
	}
	return len(b.Events)
}

// All makes and completes all events. Those that it returns are in no other hands, unless the batch had Events: then it is those.
func (b *Batch) All() []Event {
	all := b.Events
	if b.Make != nil {
		all = make([]Event, b.Count)
		for i := range all {
			b.Make(i, &all[i])
		}
	}
	if b.Complete != nil {
		for i := range all {
			b.Complete(i, &all[i])
		}
	}
	return all
}

// Changes are changes to a component's state: key to bytes, nil deletes the key. They are opaque to everyone else.
type Changes map[string][]byte

// Delivery is one event on its way to one sink.
type Delivery struct {
	Event    *Event
	Key      string // idempotency key: the same at every attempt of this delivery, 32 hex digits
	Attempt  int    // 1 for the first
	Progress []byte // what the sink's last Failure for this event carried, nil at first
}

// Settling is a sink's answer to a slice of deliveries: one verdict each (nil = durably accepted there), and changes to the
// sink's state that are committed together with the settling.
type Settling struct {
	Verdicts []error
	Statuses []int // for receipts: the protocol's status of each success; nil or shorter than Verdicts: there is none
	Changes  Changes
}

// Status is the status of the i-th success, 0 if the sink named none.
func (s *Settling) Status(i int) int {
	if i < len(s.Statuses) {
		return s.Statuses[i]
	}
	return 0
}

// Settled answers n deliveries with the same verdict.
func Settled(n int, verdict error) Settling {
	s := Settling{Verdicts: make([]error, n)}
	for i := range s.Verdicts {
		s.Verdicts[i] = verdict
	}
	return s
}

// Layout names the topics that a log must have and who reads them.
type Layout struct{ Topics []Topic }

// KeysOf returns what each topic whose keys are another's has as that other one. It is an error when there is no such topic with
// Dedupe in the layout.
func (l Layout) KeysOf() (map[string]string, error) {
	owners := map[string]string{}
	for _, t := range l.Topics {
		if t.KeysOf == "" {
			continue
		}
		i := slices.IndexFunc(l.Topics, func(o Topic) bool { return o.Name == t.KeysOf })
		if i < 0 || l.Topics[i].Dedupe == nil || t.Dedupe != nil {
			return nil, fmt.Errorf("topic %q cannot have the keys of topic %q", t.Name, t.KeysOf)
		}
		owners[t.Name] = t.KeysOf
	}
	return owners, nil
}

// Topic is one ordered stream and its subscriptions. Names are unique within a log.
type Topic struct {
	Name          string
	Subscriptions []string
	From          map[string]Start // where subscriptions begin that are new, by their names; without one, behind the last event
	Dedupe        *Dedupe          // nil takes every event, and forgets the keys that the log still has of the topic
	// KeysOf is another topic of the layout whose Dedupe and keys are those of this one too, so that an event of one is a duplicate
	// of an event of the other; empty: the topic has its own. That one has Dedupe, this one has none.
	KeysOf string
}

// Capabilities says what a log can do beyond keeping events and handing them out.
type Capabilities struct {
	Durable   bool // a commit that returned nil survives a crash
	Atomic    bool // all parts of a Commit happen, or none
	Shared    bool // all subscriptions of a topic see the same offsets, in the same order
	Ordered   bool // a subscription gets its records in the order of their commits
	Stateful  bool // State returns what was committed
	Dead      bool // dead letters are kept, listed, redriven and dropped
	Reopening bool // a subscription goes on where it was after the log was closed and opened again
	Dedupe    bool // a Topic may have Dedupe; keys are as durable as events
	History   bool // what is settled is kept for a while: readers can seek, and new ones begin in it
	Keyed     bool // exceptions keep their keys, and held ones wait until they are released
}

// Commit is one unit of change to a log.
type Commit struct {
	Appends []Append
	Settles []Settle
	States  []State
}

// Append adds events to the end of a topic, in order.
type Append struct {
	Topic  string
	Events []Event
	// Packed, if it is not empty, is in place of Events. Such an append has no Keys.
	Packed []Packed
	// Keys are the dedupe keys of the events, one each, for a topic with Dedupe. An event whose key is empty is taken in any case,
	// and so are all when Keys is nil.
	Keys []string
	// Body, when it is not nil and equal keys mean equal ids (Dedupe.SameID), is kept as a fingerprint: an event whose key came
	// with another Body before fails the commit with ErrConflict.
	Body []byte
}

// Packed are events in the form in which one log keeps them: that log made it, only that log can read it, and nobody changes it.
type Packed struct {
	Count  int       // of the events
	Newest time.Time // when the newest of them was received
	Body   []byte
}

// Appended is what became of one Append.
type Appended struct {
	// First is the offset of the first event that was appended; of none, the one that the next event of the topic gets.
	First Offset
	// Duplicates are the events that were left out, by their index: the id of the event that was appended in their place, in an
	// earlier commit or in this one. Both are on disk when the commit has returned. nil when all were appended.
	Duplicates map[int]string
	// Forgotten is how many keys of the topic were forgotten before their time since a commit last told, because there were more
	// than MaxKeys.
	Forgotten int
}

// Settle tells a log what became of events that a subscription was handed.
type Settle struct {
	Subscription string
	Outcomes     []Outcome
}

// Outcome is the end of one event for one subscription, or the row that keeps it open. The zero Exception (nil) settles it for good.
type Outcome struct {
	Offset    Offset
	Through   Offset // if it is not 0: all up to this offset are settled alike, for good. Only a log that is a Skipper gets it
	Exception *Exception
	Row       bool    // the event has an exception row, which this outcome replaces
	Receipt   Receipt // of the delivery, when that is what settled it
}

// Last is the offset of the last event that it is the outcome of.
func (o *Outcome) Last() Offset { return max(o.Offset, o.Through) }

// State changes the state of one component.
type State struct {
	Owner   string
	Changes Changes
}

// Exception is what a log keeps of an event that could not simply be settled. Times are UTC.
type Exception struct {
	State    ExceptionState
	Reason   Reason
	Stage    string // the stage that failed; empty for a sink's own failure
	Status   int    // of the last attempt, 0 if it had none
	Attempts int    // all
	Counted  int    // those that count against max_attempts
	NextAt   time.Time
	FirstAt  time.Time // of the first attempt
	LastAt   time.Time
	Error    string
	Answer   []byte // at most 1 KiB
	Progress []byte
	Key      []byte // of the order that the event keeps, nil for none; a redrive leaves it

	History []Attempt // the last attempts that failed, oldest first, the one that Error tells of too; see Failed

	// Edit and From are the log's: outcomes leave them as they are, and both are gone with the row. Edit is a fingerprint of the event
	// that a redrive put in the place of the stored one, nil for none: equal edits have equal fingerprints. From is the subscription
	// that a redrive took the event from to give it to this one, empty for none.
	Edit []byte
	From string
}

// Attempt is one that failed.
type Attempt struct {
	At     time.Time
	Status int // 0 if it had none
	Error  string
	Answer []byte // what came back, its first KiB
}

// What an exception keeps of its attempts: so many, and so many bytes of their texts.
const (
	HistoryMax   = 20
	HistoryBytes = 4 << 10
)

// Failed notes an attempt that failed. Of those before it the oldest give up their answers first and then go. Copies of x keep the
// history that they have.
func (x *Exception) Failed(a Attempt) {
	x.LastAt, x.Status, x.Error, x.Answer = a.At, a.Status, a.Error, a.Answer
	all := append(slices.Clone(x.History[max(0, len(x.History)-HistoryMax+1):]), a)
	size := 0
	for _, h := range all {
		size += len(h.Error) + len(h.Answer)
	}
	for i := 0; i < len(all)-1 && size > HistoryBytes; i++ {
		size -= len(all[i].Answer)
		all[i].Answer = nil
	}
	for len(all) > 1 && size > HistoryBytes {
		size -= len(all[0].Error)
		all = all[1:]
	}
	x.History = all
}

// ExceptionState is where an exception stands.
type ExceptionState uint8

const (
	// Retry waits for NextAt and is then handed out again.
	Retry ExceptionState = iota + 1
	// Dead is a dead letter: it stays until somebody redrives or drops it.
	Dead
	// Held waits behind another event with its key: it is not handed out before an outcome says Released.
	Held
	// Released makes a held exception one that is due AtOnce, and changes nothing else of it: the other fields of such an outcome
	// mean nothing. No exception is ever in this state, and of one that is not held it is no error and does nothing.
	Released
)

// AtOnce is when a released exception is due: before all others.
var AtOnce = time.Unix(0, 1).UTC()

// Keyed is what a reader must know of an exception to keep the order of its key.
type Keyed struct {
	Offset Offset
	Key    []byte
}

// Reason says why an exception exists, in the words that users see.
type Reason string

// The reasons of this version.
const (
	ReasonPermanent Reason = "permanent" // the destination refused the event itself
	ReasonAttempts  Reason = "attempts"  // max_attempts counted failures
	ReasonAge       Reason = "age"       // max_age since the first attempt
	ReasonExpired   Reason = "expired"   // it was not delivered by the time at which it is of no more use
	ReasonOnError   Reason = "on_error"  // a stage, a when or a setting that depends on the event failed
	ReasonUnmatched Reason = "unmatched" // no sink wanted it
	ReasonOverflow  Reason = "overflow"  // more waited for the sink than its max_pending lets
	ReasonDelayed   Reason = "delayed"   // its time has not come yet: no attempt was made
	ReasonRate      Reason = "rate"      // the rate of its key has no turn for it yet; LastAt is when that was looked at
	ReasonFailed    Reason = "failed"    // a counted failure, to be tried again
	ReasonWindow    Reason = "window"    // still running when the window was full; Due does not hand it out in this process
	ReasonRedrive   Reason = "redrive"   // taken back from the dead letters
	ReasonLease     Reason = "lease"     // a worker has it, until its time comes
	ReasonReturned  Reason = "returned"  // it was leased to a worker who had left
	ReasonOrder     Reason = "order"     // held behind an earlier event with its key
)

// Exceptional is a record together with its exception.
type Exceptional struct {
	Record    Record
	Exception Exception
}

// DeadLetter is a dead letter as a person sees it. ID names it in commands; it is never used again.
type DeadLetter struct {
	ID           int64
	Subscription string
	Topic        string
	Edited       *Event // what an edit made of the event, and what is delivered; nil: it is as it was stored
	Exceptional
}

// DeadQuery selects dead letters; zero fields select all, those that are set must all hold. After and Limit page through them
// by ID.
type DeadQuery struct {
	IDs           []int64
	Subscriptions []string
	Reasons       []Reason
	Statuses      []int     // of the last attempt; 0 is one that had none
	Since, Until  time.Time // LastAt is not before Since, and before Until
	Text          string    // that the error contains
	After         int64
	Limit         int
	Bare          bool // without their events, which is for lists only and a wish: a log may have them at hand
}

// Selects says whether the query takes a dead letter, by all but After and Limit.
func (q *DeadQuery) Selects(d *DeadLetter) bool {
	x := &d.Exception
	return among(q.IDs, d.ID) && among(q.Subscriptions, d.Subscription) && among(q.Reasons, x.Reason) && among(q.Statuses, x.Status) &&
		!x.LastAt.Before(q.Since) && (q.Until.IsZero() || x.LastAt.Before(q.Until)) && strings.Contains(x.Error, q.Text)
}

// among says whether a list has a value, or is empty and so takes any.
func among[T comparable](list []T, v T) bool { return len(list) == 0 || slices.Contains(list, v) }

// Redrive is what one dead letter comes to that goes back otherwise than it was.
type Redrive struct {
	ID    int64
	Event *Event // what is delivered in place of the stored event, with its id and source; nil is what the row has, as it is
	Plain bool   // the stored event itself is delivered, whatever an earlier redrive put in its place
	To    string // the subscription of the same topic that gets it; empty: its own
	Last  bool   // only if every other subscription of the topic has settled the event
}

// RedriveResult says what became of a Redrive.
type RedriveResult uint8

// The results.
const (
	RedriveGone  RedriveResult = iota // it is no dead letter (any more)
	RedriveDone                       // it is on its way
	RedriveStays                      // it stays, because another subscription has not come to the event yet, or has a row of its own for it
)

// Errors that a log returns to those who append. They cross the seam between log and source, hence they live here.
var (
	// ErrFull means that the log is at its bound or the disk is full: nothing was stored, try again later.
	ErrFull = errors.New("the outbox is full")
	// ErrBusy means that the writer did not take the append in time: nothing was stored.
	ErrBusy = errors.New("the outbox is busy")
	// ErrClosed means that the log is closed or closing: nothing was stored.
	ErrClosed = errors.New("the outbox is closed")
	// ErrConflict means that a key was used before with another body: nothing was stored.
	ErrConflict = errors.New("the key was used before with another body")
	// ErrUnknown means that a commit failed in a way that leaves open whether it is on disk: no yes may be said.
	ErrUnknown = errors.New("the outbox failed while writing; the event may or may not have been stored")
)

// KeyError says which key of a component's settings is wrong, so that the loader can show its place in the file. Key is the
// path below the component, such as "url" or "tls.ca".
type KeyError struct {
	Key string
	Err error
}

// Error is "key: cause".
func (e *KeyError) Error() string { return e.Key + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *KeyError) Unwrap() error { return e.Err }
