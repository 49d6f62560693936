package outbox

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/millrace-run/millrace/event"
)

const (
	maxQueued  = 64 << 20              // bytes of events that wait; more callers wait outside
	maxCommit  = 8 << 20               // bytes of events in one commit
	settleWait = 10 * time.Millisecond // longest that a settling waits for a commit to ride with
)

// request is one member of a commit: a Commit that was checked, or a piece of work.
type request struct {
	commit        event.Commit
	topics        []*topic         // of commit.Appends
	subscriptions []*subscription  // of commit.Settles
	keys          []keys           // of commit.Appends; nil when none has any
	appended      []event.Appended // filled in by the writer
	refusal       error            // of a member that the commit came to, filled in by the writer
	bytes         int64
	work          func(c *conn) (publish func(), err error) // runs alone in a commit; publish runs after it
	aside         func(c *conn) error                       // runs alone between commits, in no transaction
	done          chan error                                // receives once
	left          bool                                      // its caller left while the writer had it; guarded by queue.mu

	room struct { // of topics and appended, for a single append
		topics   [1]*topic
		appended [1]event.Appended
	}
}

// errLeft answers a request whose caller did not want to wait any longer and that could not be committed when it was tried.
var errLeft = errors.New("withdrawn")

// batch is what the writer takes at once.
type batch struct {
	requests []*request
	settles  []settles
}

// settles are the lazy outcomes of one subscription.
type settles struct {
	subscription *subscription
	outcomes     []event.Outcome
}

// queue holds what waits for the writer.
type queue struct {
	clock   event.Clock
	signal  chan struct{} // one signal: there is something new
	closing chan struct{} // closed by close

	mu       sync.Mutex // guards all below, and pending of every subscription
	requests []*request
	works    []*request
	worked   bool // the last batch was a work; others go first now
	bytes    int64
	lazy     []*subscription // those with pending outcomes
	lazyFull bool            // some subscription has half a window pending
	space    chan struct{}   // closed and replaced when something was taken
	closed   bool
}

func (q *queue) init(clock event.Clock) {
	q.clock = clock
	q.signal = make(chan struct{}, 1)
	q.closing = make(chan struct{})
	q.space = make(chan struct{})
}

func (q *queue) wake() {
	select {
	case q.signal <- struct{}{}:
	default:
	}
}

// put adds a request, waiting for room until ctx ends.
func (q *queue) put(ctx context.Context, r *request) error {
	if ctx.Err() != nil {
		return withdrawn(ctx) // else the writer might be faster than the caller's second look at ctx
	}
	for {
		space, err := q.tryPut(r)
		if space == nil {
			return err
		}
		select {
		case <-space:
		case <-ctx.Done():
			return withdrawn(ctx)
		}
	}
}

// tryPut adds a request, or returns the channel that tells when to try again.
func (q *queue) tryPut(r *request) (space <-chan struct{}, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, event.ErrClosed
	}
	if q.bytes > 0 && q.bytes+r.bytes > maxQueued {
		return q.space, nil
	}
	q.bytes += r.bytes
	if r.work != nil || r.aside != nil {
		q.works = append(q.works, r)
	} else {
		q.requests = append(q.requests, r)
	}
	q.wake()
	return nil, nil
}

// wait waits for the answer; when ctx ends first, the request is withdrawn if the writer has not taken it yet.
func (q *queue) wait(ctx context.Context, r *request) error {
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
	}
	if q.withdraw(r) {
		return withdrawn(ctx)
	}
	err := <-r.done
	if err == errLeft {
		return withdrawn(ctx)
	}
	return err
}

// withdraw takes a request out. If the writer has it, putBack will, should it not be committed.
func (q *queue) withdraw(r *request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, list := range []*[]*request{&q.requests, &q.works} {
		if i := slices.Index(*list, r); i >= 0 {
			*list = slices.Delete(*list, i, i+1)
			q.bytes -= r.bytes
			q.roomLocked()
			return true
		}
	}
	r.left = true
	return false
}

// withdrawn is the error of one who would not wait longer: the deadline is ours to explain, anything else is the caller's.
func withdrawn(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return event.ErrBusy
	}
	return context.Cause(ctx)
}

// settle adds lazy outcomes, waiting while more than a window of the subscription's is not on disk.
func (q *queue) settle(ctx context.Context, s *subscription, outcomes []event.Outcome) error {
	for {
		space, err := q.trySettle(s, outcomes)
		if space == nil {
			return err
		}
		select {
		case <-space:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (q *queue) trySettle(s *subscription, outcomes []event.Outcome) (space <-chan struct{}, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, event.ErrClosed
	}
	if len(s.pending) > 0 && len(s.pending)+len(outcomes) > event.Window {
		return q.space, nil
	}
	if len(s.pending) == 0 {
		q.lazy = append(q.lazy, s)
	}
	s.pending = append(s.pending, outcomes...)
	q.lazyFull = q.lazyFull || len(s.pending) >= event.Window/2
	q.wake()
	return nil, nil
}

// forget drops the lazy outcomes of a subscription.
func (q *queue) forget(s *subscription) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s.pending = nil
	q.lazy = slices.DeleteFunc(q.lazy, func(x *subscription) bool { return x == s })
	q.roomLocked()
}

// take returns what waits: at once if there are requests, after settleWait if there are only outcomes. It returns empty-handed
// when tick fires, and false when the queue is closed and empty.
func (q *queue) take(tick <-chan time.Time) (batch, bool) {
	var settle <-chan time.Time
	for due := false; ; {
		b, ok, lazy := q.tryTake(due)
		if ok || b.size() > 0 {
			return b, ok
		}
		if q.drained() {
			return batch{}, false
		}
		if lazy && settle == nil {
			timer, stop := q.clock.After(settleWait)
			defer stop()
			settle = timer
		}
		select {
		case <-q.signal:
		case <-settle:
			due = true
		case <-tick:
			return batch{}, true
		}
	}
}

func (b *batch) size() int { return len(b.requests) + len(b.settles) }

func (q *queue) drained() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed && len(q.requests)+len(q.works)+len(q.lazy) == 0
}

// tryTake takes what may go now. lazy says that there are outcomes which may wait a little longer.
func (q *queue) tryTake(due bool) (b batch, ok, lazy bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	due = due || q.closed || q.lazyFull
	others := len(q.requests) > 0 || due && len(q.lazy) > 0
	if len(q.works) > 0 && !(q.worked && others) {
		b.requests, q.works = q.works[:1:1], q.works[1:]
		q.worked = true
		return b, true, false
	}
	if !others {
		return b, false, len(q.lazy) > 0
	}
	q.worked = false
	q.takeRequestsLocked(&b)
	for _, s := range q.lazy {
		b.settles = append(b.settles, settles{s, s.pending})
		s.pending = nil
	}
	q.lazy, q.lazyFull = q.lazy[:0], false
	q.roomLocked()
	return b, true, false
}

func (q *queue) takeRequestsLocked(b *batch) {
	var n int
	var bytes int64
	for n < len(q.requests) && (n == 0 || bytes+q.requests[n].bytes <= maxCommit) {
		bytes += q.requests[n].bytes
		n++
	}
	b.requests, q.requests = q.requests[:n:n], q.requests[n:]
	if len(q.requests) == 0 {
		q.requests = nil // else the events of the last burst stay in memory
	}
	q.bytes -= bytes
}

// putBack returns what could not be committed, to the front. Requests can be withdrawn again; those whose caller wanted to while
// the writer had them are answered.
func (q *queue) putBack(b batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b.requests = slices.DeleteFunc(b.requests, func(r *request) bool {
		if r.left {
			r.done <- errLeft
		}
		return r.left
	})
	for _, r := range b.requests {
		q.bytes += r.bytes
	}
	if len(b.requests) == 1 && b.requests[0].work != nil {
		q.works = append(b.requests, q.works...)
		b.requests = nil
	}
	q.requests = append(b.requests, q.requests...)
	for _, s := range b.settles {
		if len(s.subscription.pending) == 0 {
			q.lazy = append(q.lazy, s.subscription)
		}
		s.subscription.pending = append(s.outcomes, s.subscription.pending...)
	}
	q.wake()
}

// takeRefused removes and returns the requests that are refused.
func (q *queue) takeRefused(refuses func(*event.Commit) bool) (refused []*request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	kept := q.requests[:0:0]
	for _, r := range q.requests {
		if refuses(&r.commit) {
			q.bytes -= r.bytes
			refused = append(refused, r)
		} else {
			kept = append(kept, r)
		}
	}
	q.requests = kept
	q.roomLocked()
	return refused
}

func (q *queue) roomLocked() {
	close(q.space)
	q.space = make(chan struct{})
}

// close refuses what comes from now on; what is there is still taken.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		close(q.closing)
		q.roomLocked()
	}
	q.wake()
}

func (q *queue) isClosed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

// abandon answers everything that is left.
func (q *queue) abandon(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range append(q.requests, q.works...) {
		r.done <- err
	}
	q.requests, q.works, q.lazy = nil, nil, nil
}
