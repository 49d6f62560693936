package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/millrace-run/millrace/bench/internal/floor"
	"github.com/millrace-run/millrace/bench/internal/load"
	"github.com/millrace-run/millrace/bench/internal/sink"
)

// longCases are the table of `make bench-long`.
func longCases(s settings) []benchCase {
	return []benchCase{
		{"stored-" + short(s.events), []figure{
			{name: "ready after kill -9", value: "ready", unit: "ms", must: new(3000.0), less: true},
			{name: "p99 of the answer ÷ empty", value: "p99"},
			{name: "deliver what is new ÷ empty", value: "delivered/s", must: new(0.9), aim: new(1.0)},
			{name: "resident memory ÷ empty", value: "memory", must: new(1.5), aim: new(1.1), less: true},
		}, openStored},
		{"sink-down", []figure{
			{name: "rows made", value: "rows", unit: "rows", must: new(0.0), less: true},
			{name: "largest WAL", value: "wal", unit: "MB"},
			{name: "resident memory in the outage ÷ before", value: "memory ÷", unit: "×", must: new(1.5), aim: new(1.1), less: true},
			{name: "p99 of the other sink in the outage", value: "other p99", unit: "ms"},
			{name: "p99 of the other sink before", value: "p99 before", unit: "ms"},
			{name: "catching up under load ÷ the normal rate", value: "catch-up ÷", unit: "×", must: new(0.5)},
		}, func(_ context.Context, b *bench) (pair, error) { return pair{thing: b.sinkDown}, nil }},
		{"retention", []figure{
			{name: "p99 of the answer while it purges ÷ without", value: "p99", must: new(2.0), less: true},
			{name: "pages freed in the time", value: "freed", unit: "%"},
		}, openRetention},
		{"disk-full", []figure{
			{name: "accepted and lost", value: "lost", unit: "events", must: new(0.0), less: true},
			{name: "refused with 503", value: "refused", unit: "events"},
			{name: "pending delivered while full", value: "drained", unit: "%", must: new(100.0)},
			{name: "takes events again after", value: "recovered", unit: "ms"},
		}, func(_ context.Context, b *bench) (pair, error) { return pair{thing: b.diskFull}, nil }},
	}
}

// sinkAt is a sink of a pipeline.
func sinkAt(name, address string) string {
	return fmt.Sprintf("      %s: { http: { url: \"http://%s/%s\" } }\n", name, address, name)
}

// scheduleRate is the fixed rate at which a place is kept busy, in orders a second.
const scheduleRate = 2000

// openStored stores a backlog for a sink that does not answer. Each run kills the program that has it, starts it again and
// measures a sink that does answer; the floor is the same without a backlog.
func openStored(ctx context.Context, b *bench) (pair, error) {
	silent, err := freeAddress()
	if err != nil {
		return pair{}, err
	}
	down := "    sinks:\n" + sinkAt("down", silent)
	full, err := b.filled(ctx, down, b.events)
	if err != nil {
		return pair{}, err
	}
	next := b.events // every run goes on with the numbers
	run := func(ctx context.Context, p *place) (r reading, err error) {
		far, err := sink.Listen("127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, far.Close()) }()
		if err := p.configure(ctx, "", down+sinkAt("live", far.Address())); err != nil {
			return nil, err
		}
		server, err := p.start(ctx)
		if err != nil {
			return nil, err
		}
		defer server.kill()
		r, next, err = b.live(ctx, p, server, far.Path("/live"), next)
		return r, err
	}
	return pair{
		thing: func(ctx context.Context) (reading, error) { return run(ctx, full) },
		floor: func(ctx context.Context) (r reading, err error) {
			empty, err := b.newPlace(ctx, "", down)
			if err != nil {
				return nil, err
			}
			defer func() { err = errors.Join(err, empty.remove()) }()
			return run(ctx, empty)
		},
		close: full.remove,
	}, nil
}

// live reads what a sink sees that takes everything, beside one that is down: the latency at a fixed rate, and the rate at which a
// burst is delivered.
func (b *bench) live(ctx context.Context, p *place, s *process, at *sink.Path, first int) (reading, int, error) {
	r, err := s.scheduled(ctx, p, load.Options{For: b.duration, Rate: scheduleRate, First: first})
	if err != nil {
		return nil, 0, err
	}
	memory, err := s.memory()
	if err != nil {
		return nil, 0, err
	}
	rate, next, err := b.burst(ctx, p, at, first+int(scheduleRate*b.duration.Seconds()))
	r["memory"], r["ready"], r["delivered/s"] = memory/1e6, millis(s.startup), rate
	return r, next, err
}

// burst sends orders as fast as they are taken, waits until all have come to a sink, and returns how many a second that made.
func (b *bench) burst(ctx context.Context, p *place, at *sink.Path, first int) (rate float64, next int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	before, begin := at.Distinct(), time.Now()
	sent, err := p.load(ctx, load.Options{
		Connections: connections, Batch: 1, Events: int(perSecond * b.duration.Seconds()), First: first,
	})
	if err == nil {
		err = whole(&sent)
	}
	if err == nil {
		err = at.Wait(ctx, before+sent.Accepted)
	}
	return float64(sent.Accepted) / at.Tally().Last.Sub(begin).Seconds(), sent.Next, err
}

// outage is a run of sinkDown.
type outage struct {
	*bench
	place  *place
	server *process
	next   int // number of the next order
	r      reading
}

// sinkDown lets one of two sinks refuse connections for a while under a fixed load, and then measures how it catches up.
func (b *bench) sinkDown(ctx context.Context) (r reading, err error) {
	other, err := sink.Listen("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, other.Close()) }()
	down, err := sink.Listen("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, down.Close()) }()
	pipeline := "    sinks:\n" + sinkAt("other", other.Address()) + sinkAt("down", down.Address())
	return b.with(ctx, pipeline, func(p *place, s *process) (reading, error) {
		o := &outage{bench: b, place: p, server: s, r: reading{}}
		normal, err := o.before(ctx, other.Path("/other"), down.Path("/down"))
		if err != nil {
			return nil, err
		}
		if err := down.Close(); err != nil {
			return nil, err
		}
		if err := o.during(ctx, other.Path("/other")); err != nil {
			return nil, err
		}
		again, err := sink.Listen(down.Address())
		if err != nil {
			return nil, err
		}
		again.Take(down)
		down = again
		return o.r, o.after(ctx, down.Path("/down"), normal)
	})
}

// send sends at the fixed rate for a second.
func (o *outage) send(ctx context.Context) error {
	r, err := o.place.load(ctx, load.Options{
		Connections: connections, Batch: 1, For: time.Second, Rate: scheduleRate, First: o.next,
	})
	o.next = r.Next
	return errors.Join(err, whole(&r))
}

// before measures the normal rate, and memory and latency at the fixed load.
func (o *outage) before(ctx context.Context, other, down *sink.Path) (normal float64, err error) {
	if normal, o.next, err = o.burst(ctx, o.place, down, 0); err != nil {
		return 0, err
	}
	if err := other.Wait(ctx, o.next); err != nil {
		return 0, err
	}
	other.TakeLatency()
	for range 5 {
		if err := o.send(ctx); err != nil {
			return 0, err
		}
	}
	latency := other.TakeLatency()
	o.r["p99 before"] = millis(latency.Quantile(0.99))
	o.r["memory before"], err = o.server.memory()
	return normal, err
}

// during keeps the load up and looks once a second.
func (o *outage) during(ctx context.Context, other *sink.Path) error {
	most, wal := 0.0, int64(0)
	for end := time.Now().Add(o.outage); time.Now().Before(end); {
		if err := o.send(ctx); err != nil {
			return err
		}
		memory, err := o.server.memory()
		if err != nil {
			return err
		}
		most, wal = max(most, memory), max(wal, o.place.walSize())
	}
	latency := other.TakeLatency()
	rows, err := o.place.rows(ctx)
	o.r["rows"], o.r["wal"], o.r["memory ÷"] = float64(rows), float64(wal)/1e6, most/o.r["memory before"]
	o.r["other p99"] = millis(latency.Quantile(0.99))
	return err
}

// after measures how fast the sink gets what it missed while the load goes on.
func (o *outage) after(ctx context.Context, down *sink.Path, normal float64) error {
	ctx, cancel := context.WithTimeout(ctx, o.outage+2*time.Minute)
	defer cancel()
	begin, had := time.Time{}, down.Distinct()
	for down.Distinct() < o.next {
		if err := o.send(ctx); err != nil {
			return fmt.Errorf("%d of %d orders caught up with: %w", down.Distinct(), o.next, err)
		}
		if begin.IsZero() && down.Distinct() > had+scheduleRate {
			begin, had = time.Now(), down.Distinct() // what came before was the breaker's probing
		}
	}
	if begin.IsZero() {
		return errors.New("the outage was too short to measure how it is caught up with")
	}
	rate := float64(down.Distinct()-had) / down.Tally().Last.Sub(begin).Seconds()
	o.r["catch-up ÷"] = rate / normal
	return nil
}

// openRetention stores events that no sink wants and then lets retention purge them under a fixed load.
func openRetention(ctx context.Context, b *bench) (pair, error) {
	const purge, keep = ", retention: { age: 1s, size: 1MiB }", ", retention: { age: 1000h, size: 150GiB }"
	p, err := b.newPlace(ctx, purge, nothing) // asked before the events are stored: an older binary refuses the key
	if err != nil {
		return pair{}, err
	}
	if err := errors.Join(p.configure(ctx, keep, nothing), b.fill(ctx, p, b.events)); err != nil {
		return pair{}, errors.Join(err, p.remove())
	}
	run := func(ctx context.Context, p *place) (reading, error) {
		return p.with(ctx, func(p *place, s *process) (reading, error) {
			r, err := s.scheduled(ctx, p, load.Options{For: 10 * b.duration, Rate: 10_000, First: 2 * b.events})
			if err != nil {
				return nil, err
			}
			freed, err := floor.Freed(filepath.Join(p.dir, "data", "millrace.db"))
			r["freed"] = 100 * freed
			return r, err
		})
	}
	return pair{
		thing: func(ctx context.Context) (reading, error) {
			if err := p.configure(ctx, purge, nothing); err != nil {
				return nil, err
			}
			return run(ctx, p)
		},
		floor: func(ctx context.Context) (r reading, err error) {
			empty, err := b.newPlace(ctx, keep, nothing)
			if err != nil {
				return nil, err
			}
			defer func() { err = errors.Join(err, empty.remove()) }()
			return run(ctx, empty)
		},
		close: p.remove,
	}, nil
}

// smallDisk is the size of the disk that is filled.
const smallDisk = "size=256m"

// diskFull fills the disk of the outbox while orders come in, and gives the room back. A machine that does not let a small disk be
// mounted does not support the case.
func (b *bench) diskFull(ctx context.Context) (r reading, err error) {
	far, err := sink.Listen("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, far.Close()) }()
	p, err := b.newPlace(ctx, ", reserve: 8MiB", "    sinks:\n"+sinkAt("slow", far.Address()))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.remove()) }()
	disk := filepath.Join(p.dir, "data")
	if err := os.Mkdir(disk, 0o700); err != nil {
		return nil, err
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, smallDisk); err != nil {
		return nil, fmt.Errorf("%w: a small disk can't be mounted here: %w", errUnsupported, err)
	}
	defer func() { err = errors.Join(err, syscall.Unmount(disk, syscall.MNT_DETACH)) }()
	return p.with(ctx, func(p *place, _ *process) (reading, error) {
		f := &filling{place: p, at: far.Path("/slow"), accepted: map[int]bool{}, ballast: filepath.Join(disk, "ballast"), r: reading{}}
		return f.r, f.run(ctx)
	})
}

// filling is a run of diskFull.
type filling struct {
	place   *place
	at      *sink.Path
	ballast string
	next    int
	r       reading

	mu       sync.Mutex   // guards what follows
	accepted map[int]bool // orders that were answered 202
	refused  int
}

func (f *filling) told(first, _, status int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch status {
	case 202:
		f.accepted[first] = true
	case 503:
		f.refused++
	}
}

// send sends at the fixed rate and returns how many orders were accepted.
func (f *filling) send(ctx context.Context, d time.Duration) (int, error) {
	r, err := f.place.load(ctx, load.Options{
		Connections: 16, Batch: 1, For: d, Rate: scheduleRate, First: f.next, Told: f.told,
	})
	f.next = r.Next
	return r.Accepted, err
}

func (f *filling) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	f.at.Misbehave(sink.Faults{Status: 503, Probability: 1}) // so that something is pending when the disk is full
	if _, err := f.send(ctx, 5*time.Second); err != nil {
		return err
	}
	if err := fill(f.ballast); err != nil {
		return err
	}
	for n := 1; n > 0; {
		var err error
		if n, err = f.send(ctx, time.Second); err != nil {
			return err
		}
	}
	f.at.Misbehave(sink.Faults{})
	drained, err := f.drain(ctx, 30*time.Second)
	if err != nil {
		return err
	}
	if err := os.Remove(f.ballast); err != nil {
		return err
	}
	begin := time.Now()
	for n := 0; n == 0; {
		if n, err = f.send(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	f.r["recovered"], f.r["drained"] = millis(time.Since(begin)), 100*drained
	if _, err := f.send(ctx, 2*time.Second); err != nil {
		return err
	}
	if _, err := f.drain(ctx, 30*time.Second); err != nil {
		return err
	}
	f.r["lost"], f.r["refused"] = float64(f.missing()), float64(f.refused)
	return nil
}

// drain waits until all accepted orders have arrived, at most for d, and returns the share that has.
func (f *filling) drain(ctx context.Context, d time.Duration) (float64, error) {
	for end := time.Now().Add(d); f.missing() > 0 && time.Now().Before(end); {
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return 0, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return 1 - float64(f.missingLocked())/float64(max(1, len(f.accepted))), nil
}

func (f *filling) missing() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.missingLocked()
}

func (f *filling) missingLocked() (n int) {
	for number := range f.accepted {
		if !f.at.Has(number) {
			n++
		}
	}
	return n
}

// fill writes a file until there is no room, to the last byte.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	for size := 1 << 20; size > 0; {
		_, err := f.Write(bytes.Repeat([]byte{'x'}, size))
		switch {
		case errors.Is(err, syscall.ENOSPC):
			size /= 2
		case err != nil:
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}
