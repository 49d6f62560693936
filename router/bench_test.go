package router

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/rules"
)

// counting is a sink that takes everything and tells when it has all.
type counting struct {
	mu   sync.Mutex // guards left
	left int
	all  chan struct{}
}

func (c *counting) Deliver(_ context.Context, batch []event.Delivery) event.Settling {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left -= len(batch); c.left == 0 {
		close(c.all)
	}
	return event.Settling{Verdicts: make([]error, len(batch))}
}

// BenchmarkRouter measures events through a runner and its sinks, over a log that costs next to nothing.
func BenchmarkRouter(b *testing.B) {
	for _, c := range []struct {
		name   string
		sinks  int
		serial bool
		change func(p *pipelines.Pipeline)
		keys   int // 0 is no order
	}{
		{"1 sink", 1, false, nil, 0}, {"3 sinks", 3, false, nil, 0}, {"1 serial sink", 1, true, nil, 0},
		{"1 sink of ten priorities", 1, false, priorities, 0}, {"1 serial sink of ten priorities", 1, true, priorities, 0},
		{"1 sink, order of 1000 keys", 1, false, nil, 1000}, {"1 sink, order of 1 key", 1, false, nil, 1},
	} {
		b.Run(c.name, func(b *testing.B) { benchmarkRouter(b, c.sinks, c.serial, c.change, c.keys) })
	}
}

// priorities gives a pipeline all of them, of which the events have one.
func priorities(p *pipelines.Pipeline) {
	var err error
	if p.Priority, err = rules.Compile("data.p", rules.Options{Scope: rules.EventScope}); err != nil {
		panic(err)
	}
}

func benchmarkRouter(b *testing.B, sinks int, serial bool, change func(p *pipelines.Pipeline), keys int) {
	p := &pipelines.Pipeline{Name: "p"}
	if change != nil {
		change(p)
	}
	p.Stages = []pipelines.Stage{{Name: "filter", Op: func(*rules.Subject) (bool, string, error) { return true, "", nil }}}
	var all []*counting
	for i := range sinks {
		c := &counting{left: b.N, all: make(chan struct{})}
		all = append(all, c)
		p.Sinks = append(p.Sinks, &pipelines.Sink{
			Name: fmt.Sprint("s", i), Component: pipelines.Component{Value: c}, Concurrency: 16, Timeout: 15e9,
			Serial: serial, Batch: pipelines.Batch{Count: 4096, Bytes: 1 << 20}, Breaker: breakerDefaults(),
		})
		if !serial {
			p.Sinks[i].Batch.Count = 1
		}
		if keys > 0 {
			p.Sinks[i].Order = byKey(b)
		}
	}
	log := newQuickLog(b.N)
	for i := range keys {
		e := benchEvent
		e.DataContentType, e.Data = "application/json", fmt.Appendf(nil, `{"k":%d,"pad":"%0280d"}`, i, i)
		log.events = append(log.events, e)
	}
	r := New(&pipelines.Plan{Pipelines: []*pipelines.Pipeline{p}}, log, Options{})
	if err := r.Configure(b.Context()); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error)
	b.ReportAllocs()
	b.ResetTimer()
	go func() { ended <- r.Run(ctx) }()
	for _, c := range all {
		<-c.all
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	cancel()
	<-ended
}

// quickLog hands out n equal events of the default priority to everyone and believes what it is told.
type quickLog struct {
	Log
	n      event.Offset
	events []event.Event // in turn
}

type quickSub struct {
	Subscription
	log  *quickLog
	read event.Offset
	due  []event.Exceptional
	wake chan struct{}
}

func newQuickLog(n int) *quickLog { return &quickLog{n: event.Offset(n)} }

func (l *quickLog) Can() event.Capabilities {
	return event.Capabilities{Shared: true, Atomic: true, Ordered: true, Keyed: true}
}
func (l *quickLog) Configure(context.Context, event.Layout) error { return nil }
func (l *quickLog) Subscribe(name string) (Subscription, error) {
	if _, priority, _ := ParseSubscription(name); priority != DefaultPriority {
		return &quickSub{log: &quickLog{}}, nil
	}
	return &quickSub{log: l, wake: make(chan struct{}, 1)}, nil
}
func (l *quickLog) Commit(context.Context, event.Commit) ([]event.Appended, error) { return nil, nil }

// Settle keeps what is released: on a machine that is busy a call may take so long that what waits behind it is held.
func (s *quickSub) Settle(_ context.Context, outcomes []event.Outcome) error {
	for _, o := range outcomes {
		if o.Exception != nil && o.Exception.State == event.Released {
			x := event.Exception{State: event.Retry, NextAt: event.AtOnce}
			s.due = append(s.due, event.Exceptional{Record: s.record(o.Offset), Exception: x})
			select {
			case s.wake <- struct{}{}:
			default:
			}
		}
	}
	return nil
}

func (s *quickSub) Due(context.Context, time.Time, int) (due []event.Exceptional, next time.Time, err error) {
	due, s.due = s.due, nil
	return due, time.Time{}, nil
}

func (s *quickSub) Keyed(context.Context, event.ExceptionState, event.Offset, int) ([]event.Keyed, error) {
	return nil, nil
}
func (s *quickSub) Dropped() int64                        { return 0 }
func (s *quickSub) Wake() <-chan struct{}                 { return s.wake }
func (s *quickSub) Position() (cursor, head event.Offset) { return 0, s.log.n }

func (s *quickSub) Next(_ context.Context, upTo event.Offset, limit int) ([]event.Record, error) {
	n := min(upTo, s.log.n) - s.read
	records := make([]event.Record, min(int(n), limit))
	for i := range records {
		s.read++
		records[i] = s.record(s.read)
	}
	return records, nil
}

func (s *quickSub) record(o event.Offset) event.Record {
	r := event.Record{Offset: o, Event: benchEvent}
	if n := len(s.log.events); n > 0 {
		r.Event = s.log.events[int(o)%n]
	}
	return r
}

var benchEvent = event.Event{ID: "an-id-of-a-usual-length", Source: "/bench", Type: "bench", Data: make([]byte, 300)}
