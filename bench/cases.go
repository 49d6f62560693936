package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/millrace-run/millrace/bench/internal/load"
	"github.com/millrace-run/millrace/bench/internal/sink"
)

const (
	connections = 64
	bulk        = 100 // orders of an NDJSON body
	bulkConns   = 16  // for NDJSON: 1.6 MB are on their way, which is enough to keep the writer busy
)

// nothing is a pipeline whose sink takes no event: only the intake, the outbox and the runner work.
const nothing = `    sinks:
      none: { when: false, storage: { path: none.ndjson } }
`

// duplicates has no tolerance: without a crash nothing is sent twice.
var duplicates = figure{name: "sent twice", value: "duplicates", unit: "events", must: new(0.0), less: true}

// cases are the table of `make bench`.
func cases(s settings) []benchCase {
	all := []benchCase{
		{"intake", []figure{
			{name: "one event a request, 202 after fsync ÷ bare net/http", value: rate, must: new(0.45), aim: new(0.60)},
		}, openIntake},
		{"ndjson", []figure{
			{name: "NDJSON of 100 ÷ one event a request", value: rate, must: new(3.0), aim: new(6.0)},
		}, openBulk},
		{"http-3", []figure{
			{name: "filter and 3 HTTP sinks, every event delivered ÷ bare net/http", value: rate, must: new(0.11), aim: new(0.22)},
			duplicates,
		}, func(ctx context.Context, b *bench) (pair, error) { return openSinks(ctx, b, "") }},
		{"http-3-batch", []figure{
			{name: "the same, up to 64 events a delivery ÷ bare net/http", value: rate, must: new(0.30), aim: new(0.40)},
			duplicates,
		}, func(ctx context.Context, b *bench) (pair, error) { return openSinks(ctx, b, "batch: { count: 64 }, ") }},
		{"outbox", []figure{
			{name: "1 producer, 3 subscriptions ÷ a row per delivery", value: rate, must: new(2.5), aim: new(6.0)},
		}, openOutbox},
		{"append", []figure{{name: "batches of 512 ÷ a file with one fdatasync a batch", value: rate}}, openAppend},
	}
	for _, n := range s.backlogs {
		all = append(all, benchCase{fmt.Sprintf("backlog-%s", short(n)), []figure{
			{name: "append behind a backlog ÷ empty", value: "appended/s", must: new(0.9), aim: new(1.0)},
			{name: "deliver from a backlog ÷ empty", value: "delivered/s", must: new(0.9), aim: new(1.0)},
		}, func(ctx context.Context, b *bench) (pair, error) { return openBacklog(ctx, b, n) }})
	}
	all = append(all,
		benchCase{"ack", []figure{
			{name: "p99 of the answer at half of the maximum", value: "p99", unit: "ms", must: new(8.0), aim: new(4.0), less: true},
			{name: "p50", value: "p50", unit: "ms"},
			{name: "requests sent late", value: "late", unit: "%"},
		}, openAck},
		benchCase{"idle", []figure{
			{name: "resident memory, idle", value: "memory", unit: "MB", must: new(30.0), aim: new(20.0), less: true},
			{name: "from exec to ready", value: "ready", unit: "ms", must: new(100.0), aim: new(50.0), less: true},
		}, openIdle},
	)
	all = append(all, logCases()...)
	all = append(all, benchCase{"sql", []figure{
		{name: "a backlog into PostgreSQL, whole orders a second ÷ psql \\copy", value: rate, must: new(0.5), aim: new(0.8)},
	}, func(ctx context.Context, b *bench) (pair, error) { return openSQL(ctx, b, wholeOrders) }}, benchCase{"sql-narrow", []figure{
		{name: "the same, five short columns of each order", value: rate},
	}, func(ctx context.Context, b *bench) (pair, error) { return openSQL(ctx, b, narrowOrders) }})
	if len(s.backlogs) > 0 {
		n := s.backlogs[len(s.backlogs)-1]
		all = append(all, benchCase{"memory-" + short(n), []figure{
			{name: "resident memory with a backlog ÷ empty", value: "memory", must: new(1.5), aim: new(1.1), less: true},
			{name: "from exec to ready with a backlog", value: "ready", unit: "ms"},
		}, func(ctx context.Context, b *bench) (pair, error) { return openMemory(ctx, b, n) }})
	}
	return all
}

// short writes 5000000 as 5m.
func short(n int) string {
	switch {
	case n%1_000_000 == 0:
		return fmt.Sprint(n/1_000_000, "m")
	case n%1000 == 0:
		return fmt.Sprint(n/1000, "k")
	default:
		return fmt.Sprint(n)
	}
}

// bare is the bare net/http server under the load of single orders.
func (b *bench) bare(ctx context.Context) (r reading, err error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	server, err := start(ctx, exec.CommandContext(ctx, b.self, "floor", address), "http://"+address)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	return server.metered(func() (load.Result, error) {
		return load.Run(ctx, load.Options{Address: address, Path: "/orders", Connections: connections, Batch: 1, For: b.duration})
	})
}

// metered reads a load's rate, latency and what it cost the server. A load that was not wholly accepted is an error.
func (p *process) metered(send func() (load.Result, error)) (reading, error) {
	before, err := p.cpu()
	if err != nil {
		return nil, err
	}
	result, err := send()
	if err == nil {
		err = whole(&result)
	}
	if err != nil {
		return nil, err
	}
	after, err := p.cpu()
	return reading{
		rate: result.Rate(), cpu: micros(after-before) / float64(result.Accepted),
		"p50": millis(result.Latency.Quantile(0.5)), "p99": millis(result.Latency.Quantile(0.99)),
	}, err
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// whole says what of a load was not accepted.
func whole(r *load.Result) error {
	if r.Refused > 0 || r.Failed > 0 || r.Accepted == 0 {
		return fmt.Errorf("%d orders were accepted, %d refused (answers by status: %v), %d requests failed: %w",
			r.Accepted, r.Refused, r.Statuses, r.Failed, errors.Join(errors.New("the load was not taken"), r.Err))
	}
	return nil
}

// with runs the program in a new place for one reading and leaves nothing behind.
func (b *bench) with(ctx context.Context, pipeline string, f func(*place, *process) (reading, error)) (r reading, err error) {
	p, err := b.newPlace(ctx, "", pipeline)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.remove()) }()
	return p.with(ctx, f)
}

// with runs the program in its place for one reading.
func (p *place) with(ctx context.Context, f func(*place, *process) (reading, error)) (r reading, err error) {
	server, err := p.start(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	return f(p, server)
}

func openIntake(_ context.Context, b *bench) (pair, error) {
	return pair{thing: b.single, floor: b.bare}, nil
}

// single is the program under the load of single orders.
func (b *bench) single(ctx context.Context) (reading, error) {
	return b.with(ctx, nothing, func(p *place, s *process) (reading, error) {
		return s.metered(func() (load.Result, error) {
			return p.load(ctx, load.Options{Connections: connections, Batch: 1, For: b.duration})
		})
	})
}

func openBulk(_ context.Context, b *bench) (pair, error) {
	thing := func(ctx context.Context) (reading, error) {
		return b.with(ctx, nothing, func(p *place, s *process) (reading, error) {
			return s.metered(func() (load.Result, error) {
				return p.load(ctx, load.Options{Connections: bulkConns, Batch: bulk, For: b.duration})
			})
		})
	}
	return pair{thing: thing, floor: b.single}, nil
}

// openSinks sends a fixed number of orders through a filter that all of them pass to three HTTP sinks. option is written into each
// sink.
func openSinks(_ context.Context, b *bench, option string) (pair, error) {
	thing := func(ctx context.Context) (r reading, err error) {
		far, err := sink.Listen("127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, far.Close()) }()
		return b.with(ctx, threeSinks(far.Address(), option), func(p *place, s *process) (reading, error) {
			return b.deliver(ctx, p, s, far)
		})
	}
	return pair{thing: thing, floor: b.bare}, nil
}

func threeSinks(address, option string) string {
	text := "    stages:\n      - filter: 'data.amount > 100 && type == \"order.created\"'\n    sinks:\n"
	for _, name := range []string{"a", "b", "c"} {
		text += fmt.Sprintf("      %s: { %shttp: { url: \"http://%s/%s\" } }\n", name, option, address, name)
	}
	return text
}

// deliver sends orders as fast as they are taken and waits until each has come to all three sinks. The rate counts until then.
func (b *bench) deliver(ctx context.Context, p *place, s *process, far *sink.Server) (reading, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	before, err := s.cpu()
	if err != nil {
		return nil, err
	}
	begin, last, duplicates := time.Now(), time.Time{}, 0
	sent, err := p.load(ctx, load.Options{Connections: connections, Batch: 1, Events: int(perSecond * b.duration.Seconds())})
	if err == nil {
		err = whole(&sent)
	}
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"/a", "/b", "/c"} {
		if err := far.Path(name).Wait(ctx, sent.Accepted); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		t := far.Path(name).Tally()
		if t.Last.After(last) {
			last = t.Last
		}
		duplicates += t.Duplicates
	}
	after, err := s.cpu()
	return reading{
		rate: float64(sent.Accepted) / last.Sub(begin).Seconds(), cpu: micros(after-before) / float64(sent.Accepted),
		"duplicates": float64(duplicates),
	}, err
}

// perSecond is how many orders the delivery cases send for each second that a run shall last.
const perSecond = 10_000

// openAck finds the maximum first and then sends half of it on schedule.
func openAck(_ context.Context, b *bench) (pair, error) {
	thing := func(ctx context.Context) (reading, error) {
		return b.with(ctx, nothing, func(p *place, s *process) (reading, error) {
			most, err := p.load(ctx, load.Options{Connections: connections, Batch: 1, For: b.duration})
			if err == nil {
				err = whole(&most)
			}
			if err != nil {
				return nil, err
			}
			return s.scheduled(ctx, p, load.Options{For: b.duration, Rate: most.Rate() / 2, First: most.Next})
		})
	}
	return pair{thing: thing}, nil
}

// scheduled reads the latency of single orders that are sent on schedule.
func (p *process) scheduled(ctx context.Context, at *place, o load.Options) (reading, error) {
	o.Connections, o.Batch = connections, 1
	late := 0.0
	r, err := p.metered(func() (load.Result, error) {
		result, err := at.load(ctx, o)
		late = float64(result.Late) / float64(max(1, result.Latency.Count()))
		return result, err
	})
	if err == nil {
		r["late"] = 100 * late
	}
	return r, err
}

func openIdle(_ context.Context, b *bench) (pair, error) {
	thing := func(ctx context.Context) (reading, error) {
		return b.with(ctx, nothing, func(_ *place, s *process) (reading, error) {
			if err := pause(ctx, time.Second); err != nil {
				return nil, err
			}
			memory, err := s.memory()
			return reading{"memory": memory / 1e6, "ready": millis(s.startup)}, err
		})
	}
	return pair{thing: thing}, nil
}

// openMemory stores a backlog once and then starts the program with it and without, under a little load.
func openMemory(ctx context.Context, b *bench, n int) (pair, error) {
	silent, err := freeAddress()
	if err != nil {
		return pair{}, err
	}
	pipeline := fmt.Sprintf("    sinks:\n      down: { http: { url: \"http://%s/\" } }\n", silent)
	full, err := b.filled(ctx, pipeline, n)
	if err != nil {
		return pair{}, err
	}
	read := func(p *place, s *process) (reading, error) {
		if _, err := s.scheduled(ctx, p, load.Options{For: b.duration, Rate: scheduleRate, First: 2 * n}); err != nil {
			return nil, err
		}
		memory, err := s.memory()
		return reading{"memory": memory / 1e6, "ready": millis(s.startup)}, err
	}
	return pair{
		thing: func(ctx context.Context) (reading, error) { return full.with(ctx, read) },
		floor: func(ctx context.Context) (reading, error) { return b.with(ctx, pipeline, read) },
		close: full.remove,
	}, nil
}

// filled makes a place whose outbox holds n orders.
func (b *bench) filled(ctx context.Context, pipeline string, n int) (*place, error) {
	p, err := b.newPlace(ctx, "", pipeline)
	if err != nil {
		return nil, err
	}
	if err := b.fill(ctx, p, n); err != nil {
		return nil, errors.Join(err, p.remove())
	}
	return p, nil
}

// fill sends n orders in bulk and kills the program after the last answer.
func (b *bench) fill(ctx context.Context, p *place, n int) error {
	server, err := p.start(ctx)
	if err != nil {
		return err
	}
	defer server.kill()
	for at, piece := 0, n/10+1; at < n; at += piece {
		r, err := p.load(ctx, load.Options{Connections: bulkConns, Batch: bulk, Events: min(piece, n-at), First: at})
		if err == nil {
			err = whole(&r)
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(b.progress, "  stored %s of %s events, %s a second\n", short(r.Next), short(n), round(r.Rate()))
	}
	return nil
}
