package torture

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// bucket is an object store that can end the program in the middle of an upload.
type bucket struct {
	backend *s3mem.Backend
	store   http.Handler
	server  *httptest.Server

	mu     sync.Mutex // guards what follows
	victim *process   // to be killed at an upload; nil for none
	left   int        // uploads until then
	after  bool       // when the object is stored, and not before
}

func newBucket(t *testing.T) *bucket {
	t.Helper()
	b := &bucket{backend: s3mem.New()}
	b.store = gofakes3.New(b.backend, gofakes3.WithLogger(gofakes3.DiscardLog()), gofakes3.WithIntegrityCheck(true)).Server()
	if err := b.backend.CreateBucket("orders"); err != nil {
		t.Fatal(err)
	}
	b.server = httptest.NewServer(b)
	t.Cleanup(b.server.Close)
	return b
}

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	victim, after := b.strikes(r)
	if victim != nil && !after {
		victim.kill()
	}
	if victim == nil || after || rand.IntN(2) == 0 { // what was on its way may arrive, or not
		b.store.ServeHTTP(w, r)
	}
	if victim != nil && after {
		victim.kill()
	}
}

// strikes says whether this is the request at which the program is to be killed, and takes it off the list.
func (b *bucket) strikes(r *http.Request) (*process, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.victim == nil || r.Method != http.MethodPut {
		return nil, false
	}
	if b.left--; b.left > 0 {
		return nil, false
	}
	victim := b.victim
	b.victim = nil
	return victim, b.after
}

func (b *bucket) aim(victim *process, left int, after bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.victim, b.left, b.after = victim, left, after
}

// orders are how often each order is in an object.
func (b *bucket) orders(t *testing.T) (times map[string]int, objects int) {
	t.Helper()
	list, err := b.backend.ListBucket("orders", nil, gofakes3.ListBucketPage{})
	if err != nil {
		t.Fatal(err)
	}
	times = map[string]int{}
	for _, c := range list.Contents {
		o, err := b.backend.GetObject("orders", c.Key, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(o.Contents)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(body) {
			var order struct {
				ID    string
				Total int
			}
			if err := json.Unmarshal(line, &order); err != nil || !strings.HasPrefix(c.Key, fmt.Sprint(order.Total, "/")) {
				t.Fatalf("%q in %s: %v", line, c.Key, err)
			}
			times[order.ID]++
		}
	}
	return times, len(list.Contents)
}

// TestKillAtUploads kills the program before, in and after uploads to an object store: 10 times, or 50 where MILLRACE_TORTURE is set.
// Each order is in one object, once.
func TestKillAtUploads(t *testing.T) {
	kills := 10
	if os.Getenv("MILLRACE_TORTURE") != "" {
		kills = 50
	}
	b := newBucket(t)
	p := newPlace(t, "path: data/millrace.db", `
  orders:
    source:
      webhook: { path: /orders, type: shop.order.created }
    sinks:
      lake:
        s3:
          bucket: orders
          key: "{{ data.total }}/"
          endpoint: `+b.server.URL+`
          path_style: true
          credentials: { access_key: me, secret_key: "${KEY}" }
          content: data
          size: 64KiB
          age: 30ms
        retry: { initial: 10ms, max: 100ms }
`)
	p.env = []string{"KEY=not-to-be-shown"}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r, _ := p.start()
	sent := make(chan map[string]int)
	go func() { sent <- p.load(ctx, 16, 1<<30, 1000, totals) }()
	for range kills {
		b.aim(r, 1+rand.IntN(6), rand.IntN(2) == 0)
		select {
		case <-r.exited:
		case <-time.After(20 * time.Second):
			t.Fatalf("no upload within 20 s:\n%s", r.output)
		}
		if strings.Contains(r.output.String(), "not-to-be-shown") {
			t.Error("the secret is in the log")
		}
		r, _ = p.start()
	}
	stop()
	acked := <-sent
	p.eventually(30*time.Second, "every order is stored", func() bool {
		times, _ := b.orders(t)
		for id := range acked {
			if times[id] == 0 {
				return false
			}
		}
		return true
	})
	r.signal(syscall.SIGTERM)
	if code := r.code(4 * time.Second); code != 0 {
		t.Errorf("exit code %d:\n%s", code, r.output)
	}
	times, objects := b.orders(t)
	for id, n := range times {
		if n != 1 {
			t.Errorf("order %s is stored %d times", id, n)
		}
	}
	t.Logf("%d orders acknowledged, %d stored in %d objects, %d kills", len(acked), len(times), objects, kills)
}
