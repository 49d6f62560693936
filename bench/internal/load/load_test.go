package load

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// target answers as it is told and keeps what it was sent.
type target struct {
	*httptest.Server
	answer func(n int) int // the status of the n-th request, from 0

	mu      sync.Mutex // guards what follows
	n       int
	numbers []int
	kinds   map[string]int // requests by content type
}

func newTarget(t *testing.T, answer func(n int) int) *target {
	s := &target{answer: answer, kinds: map[string]int{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *target) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	n := s.n
	s.n++
	s.kinds[r.Header.Get("Content-Type")]++
	for number, _, rest, ok := Tag(body); ok; number, _, rest, ok = Tag(rest) {
		s.numbers = append(s.numbers, number)
	}
	s.mu.Unlock()
	w.WriteHeader(s.answer(n))
	_, _ = w.Write(bytes.Repeat([]byte("x"), 3000)) // long enough to be sent in chunks
}

func always(status int) func(int) int { return func(int) int { return status } }

func (s *target) address() string { return strings.TrimPrefix(s.URL, "http://") }

func TestClosedLoop(t *testing.T) {
	for _, c := range []struct {
		name            string
		events, batch   int
		requests        int
		kind            string
		answer          func(int) int
		accepted, wrong int
	}{
		{"single", 500, 1, 500, "application/json", always(202), 500, 0},
		{"ndjson", 500, 100, 5, "application/x-ndjson", always(202), 500, 0},
		{"the last body is shorter", 101, 10, 11, "application/x-ndjson", always(202), 101, 0},
		{"refused", 40, 1, 40, "application/json", always(503), 0, 40},
		{"every fourth is refused", 40, 1, 40, "application/json", func(n int) int { return 202 + 301*(n%4/3) }, 30, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newTarget(t, c.answer)
			r, err := Run(t.Context(), Options{
				Address: s.address(), Path: "/orders", Connections: 4, Batch: c.batch, Events: c.events, First: 1000,
			})
			if err != nil || r.Accepted != c.accepted || r.Refused != c.wrong || r.Failed != 0 || r.Next != 1000+c.events {
				t.Errorf("%+v, %v", r, err)
			}
			got := r.Statuses[202] + r.Statuses[503]
			if got != c.requests || s.kinds[c.kind] != c.requests || int(r.Latency.Count()) != got {
				t.Errorf("%d answers, %v requests, %d latencies, want %d", got, s.kinds, r.Latency.Count(), c.requests)
			}
			slices.Sort(s.numbers)
			for i, number := range s.numbers {
				if number != 1000+i {
					t.Fatalf("order %d is numbered %d", i, number)
				}
			}
			if len(s.numbers) != c.events {
				t.Errorf("%d orders arrived", len(s.numbers))
			}
		})
	}
}

func TestForATime(t *testing.T) {
	s := newTarget(t, always(202))
	told := make(chan int, 1<<20)
	r, err := Run(t.Context(), Options{
		Address: s.address(), Path: "/", Connections: 2, Batch: 1, For: 50 * time.Millisecond,
		Told: func(_, n, status int) { told <- n * status },
	})
	if err != nil || r.Accepted == 0 || r.Accepted != len(s.numbers) || r.Accepted != r.Next || len(told) != r.Accepted {
		t.Errorf("%d accepted, %d arrived, %d told, next %d: %v", r.Accepted, len(s.numbers), len(told), r.Next, err)
	}
	if r.Elapsed < 50*time.Millisecond {
		t.Errorf("it took %v", r.Elapsed)
	}
}

// TestOpenLoop holds up the only connection: what was due meanwhile is sent late, and its latency counts from when it was due.
func TestOpenLoop(t *testing.T) {
	const held = 30 * time.Millisecond
	s := newTarget(t, func(n int) int {
		if n == 0 {
			<-time.After(held)
		}
		return 202
	})
	r, err := Run(t.Context(), Options{Address: s.address(), Path: "/", Connections: 1, Batch: 1, Events: 5, Rate: 1000})
	if err != nil || r.Accepted != 5 {
		t.Fatalf("%+v, %v", r, err)
	}
	if r.Late < 4 { // the first is late too on a machine that is very busy
		t.Errorf("%d of 4 late requests were counted", r.Late)
	}
	if least := r.Latency.Quantile(0); least < held-5*time.Millisecond {
		t.Errorf("a latency of %v, though all were due before %v", least, held)
	}
}

func TestOpenLoopKeepsItsRate(t *testing.T) {
	s := newTarget(t, always(202))
	r, err := Run(t.Context(), Options{
		Address: s.address(), Path: "/", Connections: 8, Batch: 1, For: 100 * time.Millisecond, Rate: 500,
	})
	if err != nil || r.Accepted != 50 {
		t.Errorf("%d of 50 orders were sent: %v", r.Accepted, err)
	}
}

func TestNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), Options{Address: l.Addr().String(), Path: "/", Connections: 2, Batch: 1, Events: 6})
	if err != nil || r.Failed != 6 || r.Accepted != 0 || r.Err == nil {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestCanceled ends a load whose answer never comes.
func TestCanceled(t *testing.T) {
	release, arrived := make(chan struct{}), make(chan struct{}, 1)
	s := newTarget(t, func(int) int { arrived <- struct{}{}; <-release; return 202 })
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	r, err := Run(ctx, Options{Address: s.address(), Path: "/", Connections: 1, Batch: 1, Events: 3})
	if err == nil || r.Accepted != 0 || r.Failed != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{}, {Connections: 1, Batch: 1}, {Connections: 1, Events: 1}, {Batch: 1, Events: 1},
		{Connections: 1, Batch: 1, Events: 1, For: time.Second},
	} {
		if _, err := Run(t.Context(), o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

func TestOrders(t *testing.T) {
	due := time.Unix(0, 1767323045678901234)
	body, tags := orders(3)
	for i, tag := range tags {
		putTag(body[tag:], 7+i, due)
	}
	lines := bytes.Split(bytes.TrimSuffix(body, []byte("\n")), []byte("\n"))
	for _, line := range lines {
		if len(line) != Size || !json.Valid(line) {
			t.Errorf("%d bytes: %s", len(line), line)
		}
	}
	rest := body
	for i := range 3 {
		var number int
		var at time.Time
		var ok bool
		if number, at, rest, ok = Tag(rest); !ok || number != 7+i || !at.Equal(due) {
			t.Errorf("order %d reads back as %d, %v, %v", 7+i, number, at, ok)
		}
	}
	for _, strange := range []string{"", `{"order":"`, `{"order":"00000000000x","sent":1767323045678901234`} {
		if _, _, _, ok := Tag([]byte(strange)); ok {
			t.Errorf("there is an order in %q", strange)
		}
	}
	if one := Order(7, due); !bytes.Equal(one, lines[0]) {
		t.Errorf("alone it is %s", one)
	}
}

func TestHistogram(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var all []time.Duration
	var h, half Histogram
	for i := range 20_000 {
		d := time.Duration(random.ExpFloat64() * float64(time.Millisecond))
		all = append(all, d)
		if i%2 == 0 {
			h.Add(d)
		} else {
			half.Add(d)
		}
	}
	h.Merge(&half)
	slices.Sort(all)
	for _, q := range []float64{0, 0.01, 0.5, 0.9, 0.99, 0.999} {
		want, got := all[int(q*float64(len(all)))], h.Quantile(q)
		if got > want || float64(got) < float64(want)*(1-1.0/64)-1 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if h.Max() != all[len(all)-1] || h.Count() != uint64(len(all)) || h.Quantile(1) != h.Max() {
		t.Errorf("max %v, count %d, quantile 1 %v", h.Max(), h.Count(), h.Quantile(1))
	}
	var edges Histogram
	for _, d := range []time.Duration{-1, 0, 127, 128, 1<<63 - 1} {
		edges.Add(d)
	}
	if edges.Count() != 5 || edges.Quantile(0) != 0 || edges.Quantile(0.99) < 1<<62 {
		t.Errorf("%d, %v, %v", edges.Count(), edges.Quantile(0), edges.Quantile(0.99))
	}
}

// BenchmarkRequest is what the generator itself costs for a request, without a connection.
func BenchmarkRequest(b *testing.B) {
	body, tags := orders(1)
	due := time.Now()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		putTag(body[tags[0]:], i, due)
	}
}
