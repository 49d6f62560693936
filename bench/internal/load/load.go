// Package load sends orders to a webhook over kept connections, as fast as they are answered (closed loop) or on a schedule (open
// loop), and says what became of them.
package load

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace-run/millrace/bench/internal/wire"
)

// Options say what to send. Exactly one of Events and For must be set.
type Options struct {
	Address     string        // host:port
	Path        string        // such as /orders
	Connections int           // each sends one request at a time
	Batch       int           // orders a request: 1 is a JSON body, more is NDJSON
	Events      int           // how many orders to send
	For         time.Duration // how long to send
	Rate        float64       // orders a second on schedule; 0 sends as fast as they are answered
	First       int           // number of the first order

	// Told hears of every answer: the number of the request's first order, how many it held, and the status. The connections call
	// it concurrently. nil is nobody.
	Told func(first, n, status int)
}

// Result is what became of the load.
type Result struct {
	Accepted int         // orders in requests that were answered 202
	Refused  int         // orders in requests that were answered otherwise
	Failed   int         // requests without an answer: the connection broke
	Late     int         // requests of an open loop that no connection was free for within LateAfter of their time
	Statuses map[int]int // requests by status
	Next     int         // number of the order after the last that was sent
	Elapsed  time.Duration
	Latency  Histogram // from the time a request was due (open loop) or begun (closed loop) to its answer
	Err      error     // the first cause of Failed
}

// LateAfter is how long after its time a request of an open loop counts as late.
const LateAfter = time.Millisecond

// Rate is the number of accepted orders a second.
func (r *Result) Rate() float64 { return float64(r.Accepted) / r.Elapsed.Seconds() }

// Run sends the load and waits for all its answers. When ctx ends it stops early. Its error is of the load itself; whether it went
// well is told by the result.
func Run(ctx context.Context, o Options) (Result, error) {
	if o.Connections < 1 || o.Batch < 1 || (o.Events > 0) == (o.For > 0) {
		return Result{}, fmt.Errorf("load: %+v says nothing to send, or two things", o)
	}
	g := &generator{Options: o, begin: time.Now()}
	workers := make([]worker, o.Connections)
	var all sync.WaitGroup
	for i := range workers {
		w := &workers[i]
		w.init(g)
		all.Go(func() { w.run(ctx) })
	}
	all.Wait()
	r := Result{Elapsed: time.Since(g.begin), Statuses: map[int]int{}, Next: o.First + g.sent()}
	for i := range workers {
		workers[i].addTo(&r)
	}
	return r, ctx.Err()
}

// generator deals out the orders to the workers.
type generator struct {
	Options
	begin time.Time
	taken atomic.Int64 // orders dealt out, also those after the end
	last  atomic.Int64 // orders that were sent
}

func (g *generator) sent() int { return int(g.last.Load()) }

// take returns the next request: the place of its first order, how many, and when it is due. None is left when n is 0.
func (g *generator) take() (at, n int, due time.Time) {
	at = int(g.taken.Add(int64(g.Batch))) - g.Batch
	n, due = g.Batch, time.Now()
	if g.Rate > 0 {
		due = g.begin.Add(time.Duration(float64(at) / g.Rate * float64(time.Second)))
	}
	if g.Events > 0 {
		n = min(n, g.Events-at)
	} else if due.Sub(g.begin) >= g.For {
		n = 0
	}
	if n <= 0 {
		return 0, 0, due
	}
	for last := g.last.Load(); int64(at+n) > last && !g.last.CompareAndSwap(last, int64(at+n)); last = g.last.Load() {
	}
	return at, n, due
}

// worker is one connection and its counts.
type worker struct {
	g       *generator
	request []byte // head and body; only the tags change
	tags    []int
	size    int // orders in request
	conn    net.Conn
	reader  *bufio.Reader
	deaf    func() bool // ends the watch by which an exchange hears the end of the context
	answer  wire.Message

	accepted, refused, failed, late int
	statuses                        [600]int
	latency                         Histogram
	err                             error
}

func (w *worker) init(g *generator) {
	w.g = g
	w.make(g.Batch)
}

// make writes a request of n orders, tags apart.
func (w *worker) make(n int) {
	body, tags := orders(n)
	kind := "application/json"
	if w.g.Batch > 1 {
		kind = "application/x-ndjson"
	}
	w.request = fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %s\r\n\r\n",
		w.g.Path, w.g.Address, kind, strconv.Itoa(len(body)))
	for i := range tags {
		tags[i] += len(w.request)
	}
	w.request, w.tags, w.size = append(w.request, body...), tags, n
}

func (w *worker) run(ctx context.Context) {
	defer w.close()
	for ctx.Err() == nil {
		at, n, due := w.g.take()
		if n == 0 || !w.wait(ctx, due) {
			return
		}
		if w.conn == nil {
			if err := w.dial(ctx); err != nil {
				w.fail(err)
				w.wait(ctx, time.Now().Add(redial))
				continue
			}
		}
		w.send(at, n, due)
	}
}

// redial is how long a worker waits after a connection was refused, so that it does not spin while nobody listens.
const redial = 5 * time.Millisecond

// wait waits until t. It says whether ctx is still alive.
func (w *worker) wait(ctx context.Context, t time.Time) bool {
	d := time.Until(t)
	if d <= 0 {
		if w.g.Rate > 0 && d < -LateAfter {
			w.late++
		}
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (w *worker) dial(ctx context.Context) error {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", w.g.Address)
	if err != nil {
		return err
	}
	w.conn, w.reader = conn, bufio.NewReaderSize(conn, 8<<10)
	w.deaf = context.AfterFunc(ctx, func() { _ = conn.Close() })
	return nil
}

// send sends n orders from number at on and counts the answer.
func (w *worker) send(at, n int, due time.Time) {
	if n != w.size {
		w.make(n)
	}
	for i, tag := range w.tags {
		putTag(w.request[tag:], w.g.First+at+i, due)
	}
	status, err := w.exchange()
	if err != nil {
		w.fail(err)
		w.close()
		return
	}
	w.latency.Add(time.Since(due))
	w.statuses[status]++
	if w.g.Told != nil {
		w.g.Told(w.g.First+at, n, status)
	}
	if status == 202 {
		w.accepted += n
	} else {
		w.refused += n
	}
	if w.answer.Close {
		w.close()
	}
}

func (w *worker) exchange() (status int, err error) {
	if _, err := w.conn.Write(w.request); err != nil {
		return 0, err
	}
	if err := w.answer.Read(w.reader, nil); err != nil {
		return 0, err
	}
	return w.answer.Status()
}

func (w *worker) fail(err error) {
	w.failed++
	if w.err == nil {
		w.err = err
	}
}

func (w *worker) close() {
	if w.conn != nil {
		w.deaf()
		_ = w.conn.Close() // nothing is lost by it: every answer that counts was read
		w.conn = nil
	}
}

func (w *worker) addTo(r *Result) {
	r.Accepted += w.accepted
	r.Refused += w.refused
	r.Failed += w.failed
	r.Late += w.late
	for status, n := range w.statuses {
		if n > 0 {
			r.Statuses[status] += n
		}
	}
	r.Latency.Merge(&w.latency)
	if r.Err == nil {
		r.Err = w.err
	}
}
