package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/millrace-run/millrace/bench/internal/floor"
	"github.com/millrace-run/millrace/bench/internal/load"
	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/outbox"
)

// The cases of this file use the outbox itself, in this process, without HTTP and without the router.

const (
	topic = "t"
	batch = 512
	sinks = 3
)

// engine is an open outbox with one topic.
type engine struct {
	*outbox.Outbox
	dir           string
	subscriptions []event.Subscription
	events        []event.Event // what each commit appends
}

// openEngine makes an outbox in a new folder with n subscriptions.
func (b *bench) openEngine(ctx context.Context, n int) (*engine, error) {
	dir, err := os.MkdirTemp(b.dir, "outbox-")
	if err != nil {
		return nil, err
	}
	o, err := outbox.Open(ctx, outbox.Options{Path: filepath.Join(dir, "millrace.db")})
	if err != nil {
		return nil, err
	}
	e := &engine{Outbox: o, dir: dir}
	if err := e.configure(ctx, n); err != nil {
		return nil, errors.Join(err, e.close())
	}
	for i := range batch {
		e.events = append(e.events, event.Event{
			ID: fmt.Sprintf("0199c5a8-7e1c-7b6e-9d5e-%012d", i), Source: "/orders", Type: "order.created",
			Time: "2026-01-02T03:04:05.678901Z", DataContentType: "application/json", Received: time.Now().UTC(),
			Data: load.Order(i, time.Now()),
		})
	}
	return e, nil
}

func (e *engine) configure(ctx context.Context, n int) error {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("%s/%d", topic, i))
	}
	if err := e.Configure(ctx, event.Layout{Topics: []event.Topic{{Name: topic, Subscriptions: names}}}); err != nil {
		return err
	}
	for _, name := range names {
		s, err := e.Subscribe(name)
		if err != nil {
			return err
		}
		e.subscriptions = append(e.subscriptions, s)
	}
	return nil
}

// close closes the outbox and deletes its files.
func (e *engine) close() error { return errors.Join(e.Close(), os.RemoveAll(e.dir)) }

func (e *engine) append(ctx context.Context) error {
	_, err := e.Commit(ctx, event.Commit{Appends: []event.Append{{Topic: topic, Events: e.events}}})
	return err
}

// appendFor appends for a time and returns how many events that were.
func (e *engine) appendFor(ctx context.Context, d time.Duration) (n int, err error) {
	for end := time.Now().Add(d); time.Now().Before(end); n += batch {
		if err := e.append(ctx); err != nil {
			return n, err
		}
	}
	return n, nil
}

// take reads and settles what follows; it waits when there is nothing. It returns how many events it took.
func take(ctx context.Context, s event.Subscription) (int, error) {
	records, err := s.Next(ctx, 1<<62, batch)
	if err != nil {
		return 0, err
	}
	if len(records) == 0 {
		select {
		case <-s.Wake():
			return 0, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	outcomes := make([]event.Outcome, len(records))
	for i := range records {
		outcomes[i].Offset = records[i].Offset
	}
	return len(records), s.Settle(ctx, outcomes)
}

// settled waits until everything up to the end is settled on disk.
func settled(ctx context.Context, s event.Subscription, end event.Offset) error {
	for {
		if cursor, _ := s.Position(); cursor >= end {
			return nil
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
}

// turnover appends for a time while all subscriptions take and settle, and waits until all is settled on disk.
func (e *engine) turnover(ctx context.Context, d time.Duration) (n int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		all   sync.WaitGroup
		total atomic.Int64 // known once the producer has ended
		errs  = make([]error, len(e.subscriptions)+1)
	)
	total.Store(1 << 62)
	for i, s := range e.subscriptions {
		all.Go(func() {
			var got, more int
			for errs[i] == nil && int64(got) < total.Load() {
				more, errs[i] = take(ctx, s)
				got += more
			}
			errs[i] = errors.Join(errs[i], settled(ctx, s, event.Offset(got)))
		})
	}
	n, errs[len(errs)-1] = e.appendFor(ctx, d)
	total.Store(int64(n))
	// One more batch wakes those that have taken everything before they could know the total.
	errs[len(errs)-1] = errors.Join(errs[len(errs)-1], e.append(ctx))
	if errs[len(errs)-1] != nil {
		cancel()
	}
	all.Wait()
	return n, errors.Join(errs...)
}

// own is the processor time of this process.
func own() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it cannot fail with these arguments
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// timed makes a reading of work in this process that handled n events.
func timed(work func() (n int, err error)) (reading, error) {
	begin, before := time.Now(), own()
	n, err := work()
	if err != nil {
		return nil, err
	}
	return reading{rate: float64(n) / time.Since(begin).Seconds(), cpu: micros(own()-before) / float64(n)}, nil
}

func (b *bench) engineReading(ctx context.Context, subscriptions int, work func(*engine) (int, error)) (r reading, err error) {
	e, err := b.openEngine(ctx, subscriptions)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	return timed(func() (int, error) { return work(e) })
}

func openOutbox(_ context.Context, b *bench) (pair, error) {
	return pair{
		thing: func(ctx context.Context) (reading, error) {
			return b.engineReading(ctx, sinks, func(e *engine) (int, error) { return e.turnover(ctx, b.duration) })
		},
		floor: b.rowPerDelivery,
	}, nil
}

// rowPerDelivery is the same load through a table with a row for each event and sink.
func (b *bench) rowPerDelivery(ctx context.Context) (r reading, err error) {
	dir, err := os.MkdirTemp(b.dir, "rows-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	q, err := floor.OpenQueue(filepath.Join(dir, "rows.db"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	return timed(func() (int, error) { return q.Turnover(ctx, load.Order(1, time.Now()), batch, sinks, b.duration) })
}

func openAppend(_ context.Context, b *bench) (pair, error) {
	return pair{
		thing: func(ctx context.Context) (reading, error) {
			return b.engineReading(ctx, 1, func(e *engine) (int, error) { return e.appendFor(ctx, b.duration) })
		},
		floor: func(ctx context.Context) (r reading, err error) {
			dir, err := os.MkdirTemp(b.dir, "file-")
			if err != nil {
				return nil, err
			}
			defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
			return timed(func() (int, error) {
				return floor.File(ctx, filepath.Join(dir, "log"), load.Order(1, time.Now()), batch, b.duration)
			})
		},
	}, nil
}

// openBacklog makes an outbox with n events that one subscription has not read, and compares it with a new one.
func openBacklog(ctx context.Context, b *bench, n int) (pair, error) {
	full, err := b.openEngine(ctx, 1)
	if err != nil {
		return pair{}, err
	}
	p := pair{
		thing: func(ctx context.Context) (reading, error) { return full.backAndForth(ctx, b.duration) },
		floor: func(ctx context.Context) (r reading, err error) {
			empty, err := b.openEngine(ctx, 1)
			if err != nil {
				return nil, err
			}
			defer func() { err = errors.Join(err, empty.close()) }()
			return empty.backAndForth(ctx, b.duration)
		},
		close: full.close,
	}
	for at := 0; at < n; at += batch {
		if err := full.append(ctx); err != nil {
			return p, err
		}
	}
	fmt.Fprintf(b.progress, "  stored %s events\n", short(n))
	return p, nil
}

// backAndForth appends for a time, and then takes as many events from where the subscription stands: the backlog stays as large.
func (e *engine) backAndForth(ctx context.Context, d time.Duration) (reading, error) {
	begin := time.Now()
	n, err := e.appendFor(ctx, d)
	if err != nil {
		return nil, err
	}
	appended := time.Since(begin)
	s := e.subscriptions[0]
	cursor, _ := s.Position()
	begin = time.Now()
	for got := 0; got < n; {
		more, err := take(ctx, s)
		if err != nil {
			return nil, err
		}
		got += more
	}
	if err := settled(ctx, s, cursor+event.Offset(n)); err != nil {
		return nil, err
	}
	return reading{"appended/s": float64(n) / appended.Seconds(), "delivered/s": float64(n) / time.Since(begin).Seconds()}, nil
}
