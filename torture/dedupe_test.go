package torture

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestKillWithKeys: clients that send each order again under the same Idempotency-Key until they are told yes, through kills: every
// order is in the archive once, whichever of its requests was stored.
func TestKillWithKeys(t *testing.T) {
	n, kills := 6000, 4
	if testing.Short() {
		n, kills = 2000, 2
	}
	p := newPlace(t, "path: data/millrace.db", orders+"    dedupe: {}\n")
	r, _ := p.start()
	var next, repeated atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var clients sync.WaitGroup
	for range 16 {
		clients.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
			defer client.CloseIdleConnections()
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				repeated.Add(p.insist(ctx, client, fmt.Sprint("o-", i)))
			}
		})
	}
	for i := range kills {
		p.eventually(time.Minute, "a part of the orders is sent", func() bool { return next.Load() > int64((i+1)*n/(kills+2)) })
		r.kill()
		r, _ = p.start()
	}
	clients.Wait()
	archived := filepath.Join(p.dir, "data/orders.ndjson")
	p.eventually(30*time.Second, "every order is archived", func() bool { return len(archiveLines(t, archived, true)) == n })
	r.signal(syscall.SIGTERM)
	if code := r.code(4 * time.Second); code != 0 {
		t.Errorf("exit code %d:\n%s", code, r.output)
	}
	got := archive(t, archived)
	for i := 1; i <= n; i++ {
		if id := fmt.Sprint("o-", i); got[id] != 1 {
			t.Fatalf("order %s is in the archive %d times", id, got[id])
		}
	}
	t.Logf("%d orders, %d requests sent again", len(got), repeated.Load())
	if len(got) != n || repeated.Load() == 0 {
		t.Errorf("%d orders in the archive, %d requests were sent again", len(got), repeated.Load())
	}
}

// insist sends an order until it is accepted, and once more, and returns how often it did.
func (p *place) insist(ctx context.Context, client *http.Client, id string) (again int64) {
	for accepted := 0; accepted < 2 && ctx.Err() == nil; {
		if p.post(client, "/orders", id, 1) == http.StatusAccepted {
			accepted++
			continue
		}
		again++
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return again
}
