package tail

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/event"
)

// aheadLog is a log behind a source whose batches are prepared. It commits what they are made of.
type aheadLog struct {
	inbox
	left     bool          // something is left of each batch
	prepared chan struct{} // receives when a batch was prepared
}

func (a *aheadLog) prepare(b event.Batch) (event.Prepared, error) {
	p, err := keep(b)
	if a.left {
		p.(*kept).len = len(p.(*kept).all)
	}
	a.prepared <- struct{}{}
	return p, err
}

func (a *aheadLog) emit(ctx context.Context, b event.Batch) ([]string, error) {
	b.Events = b.Prepared.(*kept).all
	return a.inbox.emit(ctx, b)
}

func newAheadLog(left bool) *aheadLog {
	return &aheadLog{
		inbox: inbox{state: map[string][]byte{}, events: make(chan struct{}, 1)}, left: left, prepared: make(chan struct{}, 100),
	}
}

// runAhead runs a source on a until it is stopped.
func runAhead(t *testing.T, r *rig, a *aheadLog, emit Emit) (stop func()) {
	t.Helper()
	s, err := New(r.config)
	r.check(err)
	s.Ahead(a.prepare)
	r.check(s.Open(t.Context(), a.state, nil))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, emit) }()
	return sync.OnceFunc(func() { cancel(); r.check(<-ended) })
}

// The next batch is prepared while one is committed, and none is committed before the one that it follows, even if that is refused.
func TestPreparedAhead(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	r.write("a.log", numbered(0, 4*usual.events))
	a := newAheadLog(true)
	a.fail = []error{event.ErrFull, event.ErrBusy}
	first := true
	stop := runAhead(t, r, a, func(ctx context.Context, b event.Batch) ([]string, error) {
		if first {
			<-a.prepared
			<-a.prepared // the second, while the first is on its way
			first = false
		}
		return a.emit(ctx, b)
	})
	defer stop()
	lines := a.until(t, 4*usual.events)
	if d := cmp.Diff(split(numbered(0, 4*usual.events)), lines); d != "" {
		t.Errorf("%.300s", d)
	}
}

// A batch that is not committed in the end leaves nothing behind it.
func TestNothingBehindACutBatch(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	r.write("a.log", numbered(0, 3*usual.events))
	a := newAheadLog(false)
	begun := make(chan struct{}, 1)
	stop := runAhead(t, r, a, func(ctx context.Context, _ event.Batch) ([]string, error) {
		a.mu.Lock()
		a.calls++
		a.mu.Unlock()
		begun <- struct{}{}
		<-ctx.Done()
		return nil, context.Cause(ctx)
	})
	<-begun
	r.write("a.log", numbered(0, 100)) // a position behind the batch
	stop()
	if a.calls != 1 {
		t.Errorf("%d commits were tried", a.calls)
	}
}

// Of a log of which nothing is left, the positions of many batches are one commit, the last one when the source is stopped or idle.
func TestPositionsAreJoined(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	const batches = 6
	r.write("a.log", numbered(0, batches*usual.events))
	a := newAheadLog(false)
	stop := runAhead(t, r, a, a.emit)
	a.until(t, batches*usual.events)
	stop()
	if a.calls >= batches {
		t.Errorf("%d commits for %d batches without an event", a.calls, batches)
	}
	a.lines = nil
	r.write("a.log", "the end\n")
	stop = runAhead(t, r, a, a.emit)
	defer stop()
	if got := a.until(t, 1); !slices.Equal(got, []string{"the end"}) {
		t.Errorf("read again: %.300q", got)
	}
}
