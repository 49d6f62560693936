package router

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
)

// subscriber is what the goroutine of a sink and those who look at it share: names, settings and counters.
type subscriber struct {
	name   string // pipeline/sink
	owner  string // of the sink's state
	index  int    // in its pipeline
	plan   *pipelines.Sink
	sink   Sink
	lanes  []*lane // one for each topic of its pipeline, in their order
	log    Log
	shared bool // the runner leads: its offsets are this sink's
	rows   bool // see Router.rows
	keyed  bool // exceptions may be held
	clock  event.Clock
	rand   func() float64
	logger *slog.Logger
	guard  *guard
	folds  folds
	prefix []byte // of what a delivery's key is the hash of
	counts counts
	rest   rest
	desk   *desk // of a sink from which workers take events, else nil

	pausing pausing
	seeks   *seeks
	gauge   *gauge // nil: what waits has no bound
	history bool   // see event.Capabilities
}

// folds keep apart the lines of a sink, so that those of one kind cannot hide the others. The sink's goroutine writes them all.
type folds struct{ opens, failures, dead, unkeyed, held fold }

// counts are a sink's numbers. The sink's goroutine writes them, anyone reads.
type counts struct {
	attempts            [outcomes]atomic.Int64
	delivered, skipped  atomic.Int64
	dead                [deadReasons]atomic.Int64
	nanos               atomic.Int64 // spent in attempts
	inFlight, waiting   atomic.Int64
	limit, open, paused atomic.Int64
	oldest              atomic.Int64 // unix nanoseconds, 0 for none
	lastSuccess         atomic.Int64 // unix nanoseconds, 0 for never
	workers             atomic.Int64 // that wait for an event
	parked              atomic.Int64 // rows made because the window or the memory was full
	held, behind        atomic.Int64 // in rows and in memory, for the sake of the order
	unkeyed             atomic.Int64
	delayed, rated      atomic.Int64 // rows made for a delay, and for the rate of a key
	rateNanos           atomic.Int64 // for which rates held back events
}

// sinkOwner begins the names of those whose states in the log are of sinks.
const sinkOwner = "sink:"

// OfSink says whether a state in the log is that of a sink, which tells how far it had come outside of the log.
func OfSink(owner string) bool { return strings.HasPrefix(owner, sinkOwner) }

func (r *Router) newSubscriber(p *pipeline, i int, plan *pipelines.Sink, sink Sink, logger *slog.Logger) *subscriber {
	name := SubscriptionName(p.name, plan.Name)
	s := &subscriber{
		name: name, owner: sinkOwner + name, index: i, plan: plan, sink: sink, log: r.log,
		shared: r.can.Shared, rows: r.rows(), keyed: r.can.Keyed, clock: r.clock, rand: r.rand, logger: logger, guard: newGuard(r.clock, logger),
		prefix: withLength(withLength(nil, p.name), plan.Name), pausing: pausing{writer: make(chan struct{}, 1)},
		seeks: newSeeks(), history: r.can.History,
	}
	if plan.Pull {
		s.desk = &desk{subscriber: s}
	}
	s.gauge = newGauge(s)
	for _, t := range p.topics {
		l := newLane(s, t)
		s.lanes, t.readers = append(s.lanes, l), append(t.readers, l)
	}
	return s
}

func withLength(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint64(b, uint64(len(s))), s...)
}

// key is the idempotency key of an event's delivery here; that of an event that was edited has the edit's fingerprint in it. Lengths
// keep apart what would be equal when joined.
func (s *subscriber) key(source, id string, edit []byte) string {
	b := append(make([]byte, 0, 256), s.prefix...)
	sum := sha256.Sum256(append(withLength(withLength(b, source), id), edit...))
	var text [2 * 16]byte
	hex.Encode(text[:], sum[:16])
	return string(text[:])
}

// task is one event on its way to the sink, from the moment it is taken until it is settled or only a row keeps it.
type task struct {
	place
	item  *shaped // nil when done
	key   string
	x     event.Exception // attempts so far, and what the last one left
	row   bool            // an exception row keeps the event
	waits bool            // in memory for its next attempt
	done  bool            // settled, or left to its row

	tries    int       // failed attempts of which this process knows, for the backoff
	nextAt   time.Time // when it may be tried again
	deferred bool      // the destination asked for that time
	turned   bool      // it has its turn of the rate for the next attempt
	marks    marks

	// Where the sink keeps an order; the orderer's:
	chain  *chain // of its key; nil for none
	behind bool   // it waits in memory for an earlier one
	bare   bool   // it came without a row
}

// place is where an event is: no two events of a sink share one.
type place struct {
	lane   *lane
	offset event.Offset
}

// marks are how many attempts the sink had accepted and refused when an event's last attempt ended. known is false before the
// first attempt of this process.
type marks struct {
	known             bool
	accepted, refused int64
	tries             int
}

func (l *lane) newTask(item *shaped, row *event.Exception) *task {
	t := &task{place: place{l, item.offset}, item: item}
	if row != nil {
		t.row, t.x, t.tries = true, *row, row.Counted
	}
	t.key = l.key(item.source, item.id, t.x.Edit)
	return t
}

// delivery is what the sink gets of a task; it begins an attempt.
func (t *task) delivery(now time.Time) event.Delivery {
	t.x.Attempts++
	t.turned = false
	if t.x.FirstAt.IsZero() {
		t.x.FirstAt = now
	}
	return event.Delivery{Event: t.item.event, Key: t.key, Attempt: t.x.Attempts, Progress: t.x.Progress}
}

// id is that of the event; empty where only its row is known.
func (t *task) id() string {
	if t.item == nil {
		return ""
	}
	return t.item.id
}

// settled is the outcome of a task that ended well, with the receipt of the attempt that did it.
func (t *task) settled(status int, took time.Duration) event.Outcome {
	r := event.Receipt{Attempt: t.x.Attempts, Status: status, Took: took}
	return event.Outcome{Offset: t.offset, Row: t.row, Receipt: r}
}

// kept is the outcome that leaves a task to a row, which it has from then on.
func (t *task) kept(state event.ExceptionState, reason event.Reason, next time.Time) event.Outcome {
	t.x.State, t.x.Reason, t.x.NextAt = state, reason, next
	x := t.x
	o := event.Outcome{Offset: t.offset, Row: t.row, Exception: &x}
	t.row = true
	return o
}

// dead counts a dead letter and tells about it; equal ones that follow closely are folded into one line.
func (s *subscriber) dead(id string, x *event.Exception) {
	s.counts.dead[reasonIndex(x.Reason)].Add(1)
	if hidden, ok := s.folds.dead.allow(s.clock.Now(), string(x.Reason)+x.Error); ok {
		s.logger.Warn("dead letter", "event_id", id, "reason", x.Reason, "status", x.Status, "attempts", x.Attempts,
			"err", x.Error, "folded", hidden)
	}
}

// open gives a sink with state what was committed. It tries until the sink takes it; the error is that of the contexts, of a
// log that is over, or errSeek.
func (s *subscriber) open(stop, work context.Context) error {
	stateful, ok := s.sink.(Stateful)
	if !ok {
		return nil
	}
	for n := 1; ; n++ {
		var state map[string][]byte
		err := s.guard.do(stop, "read the state of the sink", func() (err error) {
			state, err = s.log.State(stop, s.owner)
			return err
		})
		if err != nil {
			return err
		}
		if err = stateful.Open(work, state, s.save); err == nil {
			return nil
		}
		if stop.Err() != nil {
			return context.Cause(stop)
		}
		if hidden, ok := s.folds.opens.allow(s.clock.Now(), err.Error()); ok {
			s.logger.Warn("the sink cannot be opened", "err", err, "folded", hidden)
		}
		if err := s.waitOrSeek(stop, min(backoff(s.plan.Retry, n, 0, 1), s.longestPause())); err != nil {
			return err
		}
	}
}

// waitOrSeek is wait; errSeek says that somebody wants the subscription to move meanwhile.
func (s *subscriber) waitOrSeek(ctx context.Context, d time.Duration) error {
	timer, release := s.clock.After(d)
	defer release()
	select {
	case <-timer:
		return nil
	case <-s.seeks.signal:
		return errSeek
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// save commits changes of the sink's state on their own.
func (s *subscriber) save(ctx context.Context, changes event.Changes) error {
	_, err := s.log.Commit(ctx, event.Commit{States: []event.State{{Owner: s.owner, Changes: changes}}})
	return err
}

// longestPause is the longest wait between two looks at whether the sink is back.
func (s *subscriber) longestPause() time.Duration {
	if s.plan.Breaker != nil {
		return s.plan.Breaker.ProbeMax
	}
	return 10 * time.Second
}
