package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
)

const (
	gaugeFresh = 100 * time.Millisecond // how long a look at what waits is believed, while it is below the bound
	gaugeRest  = 10 * time.Millisecond  // the shortest time between two looks
	shedEvery  = time.Second            // how often a sink that sleeps looks at the age of what waits
)

// gauge knows about how much waits for a sink with max_pending. The log is asked, at most every 10 ms; between two looks what is emitted
// is added, as if the sink wanted all of it, and a bound that is reached so is looked at. So the bound is passed by no more than what is
// committed side by side. Any goroutine may ask.
type gauge struct {
	*subscriber
	most *pipelines.MaxPending

	mu     sync.Mutex // guards all below, and is held while the log is asked
	looked time.Time
	last   backlog
	fold   fold

	blocked  atomic.Int64 // emits that wait
	refusals atomic.Int64
}

// backlog is what waits for a sink.
type backlog struct {
	events, bytes int64
	oldest        time.Time // when the oldest was received; zero: none waits
}

// newGauge is nil for a sink without a bound.
func newGauge(s *subscriber) *gauge {
	if s.plan.MaxPending == nil || !s.history {
		return nil
	}
	return &gauge{subscriber: s, most: s.plan.MaxPending}
}

// excess is what of a backlog is beyond a bound.
type excess struct {
	events, bytes int64
	before        time.Time // what was received before is too old; zero: nothing is
}

func (b backlog) beyond(m *pipelines.MaxPending, now time.Time) (x excess) {
	if m.Events > 0 {
		x.events = max(0, b.events-int64(m.Events))
	}
	if m.Bytes > 0 {
		x.bytes = max(0, b.bytes-m.Bytes)
	}
	if m.Age > 0 && !b.oldest.IsZero() && b.oldest.Before(now.Add(-m.Age)) {
		x.before = now.Add(-m.Age)
	}
	return x
}

// has says whether an event is to go that was received then.
func (x *excess) has(received time.Time) bool {
	return x.events > 0 || x.bytes > 0 || received.Before(x.before)
}

func (x *excess) any() bool { return x.events > 0 || x.bytes > 0 || !x.before.IsZero() }

// words say what waits.
func (m *gauge) words() string {
	return fmt.Sprintf("more waits for sink %s than its max_pending: %d events, %d bytes", m.name, m.last.events, m.last.bytes)
}

// add notes events that were committed.
func (m *gauge) add(events, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last.events += events
	m.last.bytes += bytes
}

// full says whether as much waits as may, and why; of what was emitted since the last look only what the sink wants, so it waits for
// the next look before it says so.
func (m *gauge) full(ctx context.Context) (string, error) {
	for {
		why, guessed, err := m.look(ctx)
		if !guessed || err != nil {
			return why, err
		}
		if err := wait(ctx, m.clock, gaugeRest); err != nil {
			return why, nil
		}
	}
}

func (m *gauge) look(ctx context.Context) (why string, guessed bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock.Now()
	reached := func() bool {
		b := m.last
		b.events, b.bytes = b.events+1, b.bytes+1 // one more would be too much
		x := b.beyond(m.most, now)
		return x.any()
	}
	rested := now.Before(m.looked) || now.Sub(m.looked) >= gaugeRest
	if rested && (reached() || now.Sub(m.looked) >= gaugeFresh || now.Before(m.looked)) {
		if err := m.lookLocked(ctx, now); err != nil {
			return "", false, err
		}
	}
	if !reached() {
		return "", false, nil
	}
	if !rested {
		return m.words(), true, nil
	}
	if hidden, ok := m.fold.allow(now, ""); ok {
		m.logger.Warn("as much waits for the sink as may: the pipeline takes no events", "overflow", string(m.plan.Overflow),
			"events", m.last.events, "bytes", m.last.bytes, "folded", hidden)
	}
	return m.words(), false, nil
}

func (m *gauge) lookLocked(ctx context.Context, now time.Time) error {
	all, err := m.log.(History).StatusOf(ctx, m.subscriptions())
	if err != nil {
		return err
	}
	m.looked, m.last = now, backlog{}
	for _, s := range all {
		m.last.events += s.Lag + s.Retrying + s.Held
		m.last.bytes += s.Pinned
		m.last.oldest = earliest(m.last.oldest, s.Oldest)
	}
	return nil
}

// admit lets a source go on, or says that nothing is taken because of a sink for which as much waits as may. With overflow: block it waits
// for room as long as the source does.
func (p *pipeline) admit(ctx context.Context) error {
	for _, s := range p.sinks {
		m := s.gauge
		if m == nil || s.plan.Overflow == pipelines.OverflowDeadLetter {
			continue
		}
		if err := m.admit(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (m *gauge) admit(ctx context.Context) error {
	why, err := m.full(ctx)
	if why == "" || err != nil {
		return err
	}
	m.blocked.Add(1)
	defer m.blocked.Add(-1)
	for why != "" && m.plan.Overflow == pipelines.OverflowBlock && ctx.Err() == nil {
		if wait(ctx, m.clock, gaugeFresh) == nil {
			if why, err = m.full(ctx); err != nil {
				break
			}
		}
	}
	switch {
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		return context.Cause(ctx)
	case why == "" || err != nil && ctx.Err() == nil:
		return err
	}
	m.refusals.Add(1)
	return fmt.Errorf("%s: %w", why, event.ErrFull)
}

// admitted tells the gauges what was committed.
func (p *pipeline) admitted(x *prepared) {
	for _, s := range p.sinks {
		if s.gauge != nil {
			s.gauge.add(int64(x.Len()), int64(x.Size()))
		}
	}
}

// excess is what is to become dead letters. Before anything does, what is settled already is on disk, so that it is not counted.
func (f *feed) excess(stop, work context.Context, now time.Time) (x excess, err error) {
	m := f.gauge
	if m == nil || f.plan.Overflow != pipelines.OverflowDeadLetter {
		return x, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.Sub(m.looked) < gaugeFresh && !now.Before(m.looked) {
		return x, nil
	}
	for range 2 {
		if err := m.guard.do(stop, "read what waits", func() error { return m.lookLocked(stop, now) }); err != nil {
			return x, err
		}
		if x = m.last.beyond(m.most, now); !x.any() {
			return x, nil
		}
		if err := f.commitAll(work); err != nil {
			return x, err
		}
	}
	return x, nil
}

// commitAll waits until all that was settled is on disk.
func (f *feed) commitAll(work context.Context) error {
	if err := f.flush(work); err != nil {
		return err
	}
	return f.guard.do(work, "settle", func() error {
		_, err := f.log.Commit(work, event.Commit{})
		return err
	})
}

// shed makes dead letters of the oldest new events while more waits than may, of the lowest priority first. leave takes what an event comes
// to. may says whether an event of a lane may be settled: not further than a window ahead of what is not. It takes a part
// of what is too much; the next turn looks again.
func (f *feed) shed(
	stop context.Context, x excess, now time.Time, may func(*lane, event.Offset) bool, leave func(*task, event.Outcome),
) (n int, err error) {
	for _, l := range slices.Backward(f.lanes) {
		for len(l.outcomes) < Window {
			item, err := l.peek(stop)
			if err != nil {
				return n, err
			}
			if item == nil || !x.has(l.oldest(nil)) || !may(l, item.last()) {
				break
			}
			x.events, n = x.events-int64(item.last()-item.offset)-1, n+1
			t, o, err := l.take(stop, now)
			if err != nil {
				return n, err
			}
			if o != nil {
				l.outcomes = append(l.outcomes, *o)
			}
			if t != nil {
				x.bytes -= int64(t.item.weight())
				leave(t, f.overflown(t, now))
			}
		}
	}
	return n, nil
}

// overflown is the end of a task for which there is no room.
func (f *feed) overflown(t *task, now time.Time) event.Outcome {
	t.x.Error = fmt.Sprintf("more waited than max_pending lets: %s", boundWords(f.plan.MaxPending))
	o := t.kept(event.Dead, event.ReasonOverflow, time.Time{})
	f.dead(t.id(), o.Exception)
	return o
}

func boundWords(m *pipelines.MaxPending) (text string) {
	add := func(set bool, what string, value any) {
		if set {
			text += fmt.Sprintf(" %s %v", what, value)
		}
	}
	add(m.Events > 0, "events", m.Events)
	add(m.Bytes > 0, "bytes", m.Bytes)
	add(m.Age > 0, "age", m.Age)
	return text[1:]
}

// looksAgain says whether the next turn looks again, because n events are gone.
func (f *feed) looksAgain(n int) bool {
	f.gauge.mu.Lock()
	defer f.gauge.mu.Unlock()
	if n > 0 {
		f.gauge.looked = time.Time{}
	}
	return n > 0
}

// shedAlarm is at, or earlier when a sink that sleeps has to look how old is what waits.
func (f *feed) shedAlarm(at time.Time) time.Time {
	m := f.gauge
	if m == nil || f.plan.Overflow != pipelines.OverflowDeadLetter {
		return at
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last.events > 0 || m.looked.IsZero() {
		at = earliest(at, m.looked.Add(shedEvery))
	}
	return at
}

// shedOver makes dead letters of what is too much.
func (l *loop) shedOver(stop, work context.Context, now time.Time) error {
	x, err := l.excess(stop, work, now)
	if err != nil || !x.any() {
		return err
	}
	may := func(k *lane, o event.Offset) bool {
		for low := k.lowest(); low != nil && o-low.offset >= Window; low = k.lowest() {
			l.park(low, now)
		}
		return true
	}
	n, err := l.shed(stop, x, now, may, l.leave)
	if err != nil {
		return err
	}
	l.again = l.looksAgain(n)
	return l.commitAll(work)
}

// shedOver makes dead letters of what is too much: first of what is gathered for the next call, which is the oldest.
func (s *serial) shedOver(stop, work context.Context, now time.Time) error {
	x, err := s.excess(stop, work, now)
	if err != nil || !x.any() {
		return err
	}
	leave := func(t *task, o event.Outcome) { t.lane.outcomes = append(t.lane.outcomes, o) }
	s.ungather()
	n := len(s.tasks)
	s.tasks = slices.DeleteFunc(s.tasks, func(t *task) bool {
		if !x.has(t.item.received) {
			return false
		}
		x.events, x.bytes = x.events-1, x.bytes-int64(t.item.weight())
		leave(t, s.overflown(t, now))
		return true
	})
	n -= len(s.tasks)
	if len(s.tasks) == 0 {
		more, err := s.shed(stop, x, now, func(*lane, event.Offset) bool { return true }, leave)
		if n += more; err != nil {
			return err
		}
	}
	s.sort()
	s.again = s.looksAgain(n)
	return s.commitAll(work)
}

// ungather makes the tasks of a call that waits for more, and one that did not fit, those of the next call.
func (s *serial) ungather() {
	if s.partial != nil {
		s.tasks, s.partial = s.partial.tasks, nil
	}
	if s.spare != nil {
		s.tasks, s.spare = append(s.tasks, s.spare), nil
	}
}

// shedOver makes dead letters of what is too much. Where events wait in memory for others of their key, those go first.
func (p *puller) shedOver(stop, work context.Context, now time.Time) error {
	x, err := p.excess(stop, work, now)
	if err != nil || !x.any() {
		return err
	}
	may := func(k *lane, _ event.Offset) bool { return k.order == nil || k.order.behind == 0 }
	n, err := p.shed(stop, x, now, may, p.leave)
	if err != nil {
		return err
	}
	p.again = p.looksAgain(n)
	return p.commitAll(work)
}
