package router

import (
	"runtime"
	"sync"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/rules"
)

// pushChunk is how many events make it worth while to use another processor.
const pushChunk = 512

// pushDown runs the first stages of a pipeline before anything is stored. It is for a source that can be read again: what these stages
// drop was never accepted, so that a log of which one line in a hundred matters costs a hundredth of the disk. What passes is
// stored with the names of the stages that ran, for the runner begins behind them.
type pushDown struct {
	shaper *shaper
	tally  *tally
	names  []string // of the stages
	pool   sync.Pool
}

func newPushDown(p *pipelines.Pipeline, s *shaper, t *tally) *pushDown {
	if p.PushDown == 0 {
		return nil
	}
	d := &pushDown{shaper: s, tally: t, pool: sync.Pool{New: func() any { return &pusher{tally: t.scratch()} }}}
	for _, stage := range p.Stages[:p.PushDown] {
		d.names = append(d.names, stage.Name)
	}
	return d
}

// prepared is a batch as it is to be committed: what is left of its events, and what was counted on the way. The counts are merged
// once it is committed, so that a batch that is tried again counts once.
type prepared struct {
	events []event.Event
	packed []event.Packed // in place of events
	tally  *tally         // a scratch tally; nil when no stage ran
	shares bool           // events have the memory of what was read
	size   int            // of the events
}

// Len implements event.Prepared.
func (p *prepared) Len() int {
	n := len(p.events)
	for i := range p.packed {
		n += p.packed[i].Count
	}
	return n
}

// Size implements event.Prepared.
func (p *prepared) Size() int { return p.size }

// Own implements event.Prepared.
func (p *prepared) Own() bool { return !p.shares }

// Join implements event.Prepared.
func (p *prepared) Join(other event.Prepared) {
	next := other.(*prepared)
	p.events, p.packed = append(p.events, next.events...), append(p.packed, next.packed...)
	p.shares, p.size = p.shares || next.shares, p.size+next.size
	if next.tally != nil {
		p.tally.merge(next.tally)
	}
}

// packer is a Log that keeps events in a form of its own, which takes less memory and can be made ahead of a commit.
type packer interface {
	Pack(n int, next func(i int, e *event.Event)) ([]event.Packed, error)
}

// prepare makes of a batch, which was received now, what is to be committed.
func (r *Router) prepare(p *pipeline, b *event.Batch) (*prepared, error) {
	now := r.clock.Now().UTC()
	if p.push != nil {
		return p.push.run(b, now), nil
	}
	log, ok := r.log.(packer)
	if !ok || b.Make == nil || p.keyer != nil || len(p.topics) > 1 {
		x := &prepared{events: b.All(), shares: true}
		for i := range x.events {
			receivedAt(&x.events[i], now)
		}
		return x, nil
	}
	packed, err := log.Pack(b.Count, func(i int, e *event.Event) {
		b.Make(i, e)
		if b.Complete != nil {
			b.Complete(i, e)
		}
		receivedAt(e, now)
	})
	x := &prepared{packed: packed}
	for i := range packed {
		x.size += len(packed[i].Body)
	}
	return x, err
}

// run runs the stages on the events of a batch, which was received now, on several processors if they are many. It keeps their order
// and changes none of them.
func (d *pushDown) run(b *event.Batch, now time.Time) *prepared {
	n := min(runtime.GOMAXPROCS(0), b.Len()/pushChunk+1)
	parts := make([]*pusher, n)
	var done sync.WaitGroup
	for i := range parts {
		from, to := b.Len()*i/n, b.Len()*(i+1)/n
		parts[i] = d.pool.Get().(*pusher)
		if i == n-1 {
			parts[i].run(d, b, from, to, now)
			break
		}
		done.Go(func() { parts[i].run(d, b, from, to, now) })
	}
	done.Wait()
	kept, given, left := 0, 0, 0
	for _, p := range parts {
		kept, given, left = kept+len(p.kept), given+p.given, left+p.left
	}
	out := &prepared{tally: d.tally.scratch(), size: left, shares: kept > 0 && !isFew(left, given)}
	if kept > 0 {
		out.events = make([]event.Event, 0, kept)
	}
	for _, p := range parts {
		out.events = append(out.events, p.kept...)
		clear(p.kept) // else they stay in memory
		out.tally.merge(p.tally)
		d.pool.Put(p)
	}
	if !out.shares {
		detach(out.events)
	}
	return out
}

// detach frees events from the memory that they share with the batch; see isFew.
func detach(events []event.Event) {
	for i := range events {
		e := &events[i]
		ran := e.Ran // the names are those of the plan
		e.Ran = nil
		*e = e.Detached()
		e.Ran = ran
	}
}

// pusher runs stages on one event after the other.
type pusher struct {
	subject rules.Subject
	tally   *tally
	kept    []event.Event

	given, left int // bytes of data before the stages, and of the events that passed
}

func (p *pusher) run(d *pushDown, b *event.Batch, from, to int, now time.Time) {
	p.kept, p.given, p.left = p.kept[:0], 0, 0
	ev := &p.subject.Event
	for i := from; i < to; i++ {
		if b.Make != nil {
			b.Make(i, p.subject.Begin())
		} else {
			p.subject.Reset(b.Events[i])
		}
		receivedAt(ev, now)
		p.given += len(ev.Data)
		if p.keeps(d, b, i) {
			p.subject.Finish()
			p.kept = append(p.kept, *ev)
			p.left += ev.Size()
		}
	}
	p.subject = rules.Subject{}
}

// keeps runs the stages on one event and says whether it is to be stored. One that fails is stored as it was before that stage, which
// then fails again behind the log and makes the dead letter.
func (p *pusher) keeps(d *pushDown, b *event.Batch, i int) bool {
	ev, complete := &p.subject.Event, b.Complete == nil
	finish := func() {
		if !complete {
			b.Complete(i, ev)
			complete = true
		}
	}
	ran := len(d.names)
	for k := range d.names {
		stage := &d.shaper.stages[k]
		if !stage.DataOnly {
			finish()
		}
		var before event.Event
		if d.shaper.strict { // a stage that has done its work can still fail
			p.subject.Finish()
			before = *ev
		}
		counted := p.tally.counted(k)
		keep, err := d.shaper.step(k, &p.subject, p.tally)
		if err != nil && d.shaper.strict {
			p.subject.Reset(before)
		}
		switch {
		case err != nil && stage.OnError == pipelines.OnErrorDrop:
			return false
		case err != nil:
			p.tally.uncount(k, counted) // it is counted where it becomes a dead letter
			ran = k
		case !keep:
			p.tally.filtered(k)
			return false
		}
		if ran < len(d.names) {
			break
		}
	}
	finish()
	ev.Ran = d.names[:ran:ran]
	return true
}
