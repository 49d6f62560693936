package router

import (
	"sync"
	"sync/atomic"

	"github.com/millrace-run/millrace/event"
)

// Bell wakes one goroutine that waits, and knows whether it has heard. Any number of goroutines may ring.
type Bell struct {
	mu    sync.Mutex // guards everything below, and sending
	c     chan struct{}
	rung  int64 // signals sent
	heard int64 // of them, those that the waiting goroutine had received when it last began to wait
}

// NewBell returns a bell that nobody has rung.
func NewBell() *Bell { return &Bell{c: make(chan struct{}, 1)} }

// Ring wakes the goroutine that waits, or lets its next wait end at once. Rings that come together are one.
func (b *Bell) Ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.c <- struct{}{}:
		b.rung++
	default:
	}
}

// C is the channel to wait at. The one goroutine that waits asks for it anew at the beginning of each wait.
func (b *Bell) C() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heard = b.rung - int64(len(b.c))
	return b.c
}

// Heard says whether the goroutine has begun to wait again after each ring that it received, and no ring is left. A look at the
// channel could not tell: what was received may not have been acted on yet.
func (b *Bell) Heard() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.heard == b.rung
}

// rest is whether one goroutine of a run sleeps. The goroutine itself changes it, anyone reads.
type rest struct {
	turns   atomic.Int64                  // odd while it sleeps; it never goes back
	calling atomic.Bool                   // it waits for a call of the sink that it makes itself
	slept   atomic.Pointer[chan struct{}] // see Router.Slept; nil while nobody asked
}

// sleep is called before a wait, when its timer runs and its bells know that it begins; wake behind it, before anything of that is
// undone.
func (r *rest) sleep() {
	r.turns.Add(1)
	if c := r.slept.Load(); c != nil {
		select {
		case *c <- struct{}{}:
		default:
		}
	}
}

func (r *rest) wake() { r.turns.Add(1) }

// call and called are sleep and wake around a call of the sink that the goroutine makes itself.
func (r *rest) call() {
	r.calling.Store(true)
	r.sleep()
}

func (r *rest) called() {
	r.wake()
	r.calling.Store(false)
}

// Slept returns a channel that receives (it holds at most one signal) whenever a goroutine of Run goes to sleep: the moments at
// which Idle may have become true. Call it before Run. Where nobody does, sleeping costs nothing more.
func (r *Router) Slept() <-chan struct{} {
	c := make(chan struct{}, 1)
	for _, p := range r.pipelines {
		for _, t := range p.topics {
			t.rest.slept.Store(&c)
		}
		for _, s := range p.sinks {
			s.rest.slept.Store(&c)
		}
	}
	return c
}

// Idle says whether nothing will happen here before a timer of the clock fires, a sink answers a call, or something is emitted:
// every goroutine of Run sleeps, and none has been woken. calls is then how many calls of sinks are not answered. It is for those
// who run a plan on a clock of their own. It is exact
//   - for a log whose subscriptions have a method Heard, as Bell has it, for what they signal by Wake;
//   - for a caller who fires the timers, answers the calls and emits in one goroutine with this question, and knows by
//     itself which timers have fired whose waits are not over, and which calls he has not answered.
//
// Call it after Configure.
func (r *Router) Idle() (calls int, idle bool) {
	before, calls, idle := r.census()
	if !idle {
		return 0, false
	}
	// Turns only grow: equal sums mean that nobody woke between the two looks, and so that all was so at one moment.
	after, _, idle := r.census()
	return calls, idle && before == after
}

// census adds up the turns of all goroutines, and says whether each sleeps with nothing to wake it.
func (r *Router) census() (turns int64, calls int, idle bool) {
	idle = true
	for _, p := range r.pipelines {
		for _, t := range p.topics {
			n := t.rest.turns.Load()
			turns += n
			idle = idle && n%2 == 1 && heard(t.sub.Subscription)
		}
		for _, s := range p.sinks {
			n := s.rest.turns.Load()
			turns += n
			idle = idle && n%2 == 1
			if s.rest.calling.Load() {
				calls++ // what else would wake it has to wait for the end of the call
				continue
			}
			idle = idle && s.heard()
			if !s.plan.Serial {
				calls += int(s.counts.inFlight.Load())
			}
		}
	}
	return turns, calls, idle
}

// heard says whether the sink's goroutine has acted on all that woke it.
func (s *subscriber) heard() bool {
	for _, l := range s.lanes {
		if !l.fed.Heard() || !heard(l.sub) {
			return false
		}
	}
	return true
}

// heard says whether a subscription's reader has acted on what woke it. Where the subscription can't say, there is only a look at
// what is left, in which a signal that was received in this moment is missing.
func heard(sub event.Subscription) bool {
	if h, ok := sub.(interface{ Heard() bool }); ok {
		return h.Heard()
	}
	return len(sub.Wake()) == 0
}
