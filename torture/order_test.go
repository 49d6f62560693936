package torture

import (
	"bufio"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestKillInOrder: a thousand keys, 32 deliveries at a time of which one in twenty fails, through kills. The archive has the orders as they
// were accepted; of each key the receiver takes them in that order.
func TestKillInOrder(t *testing.T) {
	n, rate, kills := 8000, 2000, 3
	switch {
	case testing.Short():
		n, kills = 2000, 1
	case os.Getenv("MILLRACE_TORTURE") != "":
		n, kills = 100000, 10
	}
	payments := newReceiver(t)
	payments.answers(func(string) int {
		switch x := rand.IntN(100); {
		case x < 3:
			return 402 // counts
		case x < 5:
			return 503 // does not
		}
		return 200
	})
	p := newPlace(t, "path: data/millrace.db", orders+`
      payments:
        http: { url: "`+payments.url+`/payments" }
        order_key: data.total
        concurrency: 32
        retry: { initial: 20ms, max: 200ms, max_attempts: 1000 }
`)
	r, _ := p.start()
	sent := make(chan map[string]int)
	go func() { sent <- p.load(t.Context(), 16, n, rate, func(i int) int { return i%1000 + 1 }) }()
	for range kills {
		<-time.After(time.Duration(float64(n/rate) / float64(kills+1) * (0.5 + rand.Float64()) * float64(time.Second)))
		r.kill()
		r, _ = p.start()
	}
	acked := <-sent
	p.eventually(60*time.Second, "every order is everywhere", func() bool { return len(payments.missing(acked, positive)) == 0 })
	archived(t, p, acked)
	p.eventually(20*time.Second, "orders that were stored without an answer arrive too", func() bool {
		payments.mu.Lock()
		defer payments.mu.Unlock()
		return len(payments.got) == len(archiveAfterKill(t, p))
	})
	r.signal(syscall.SIGTERM)
	if code := r.code(4 * time.Second); code != 0 {
		t.Errorf("exit code %d:\n%s", code, r.output)
	}
	payments.check(t)
	place := map[string]int{}
	total := map[string]int{}
	for i, line := range accepted(t, filepath.Join(p.dir, "data/orders.ndjson")) {
		place[line.ID], total[line.ID] = i+1, line.Data.Total
	}
	last := map[int]string{}
	inversions := 0
	for _, id := range payments.first {
		if key := total[id]; place[id] < place[last[key]] {
			inversions++
			t.Logf("%s (accepted as number %d) came behind %s (%d)", id, place[id], last[key], place[last[key]])
		} else {
			last[key] = id
		}
	}
	t.Logf("%d orders of %d keys, %d duplicates, %d inversions", len(payments.first), len(last), payments.duplicates(), inversions)
	if inversions > 0 || len(payments.first) < n {
		t.Errorf("%d inversions among %d orders", inversions, len(payments.first))
	}
}

type acceptedOrder struct {
	ID   string
	Data struct{ Total int }
}

// accepted reads the archive, which has the orders as they were accepted.
func accepted(t *testing.T, path string) (lines []acceptedOrder) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var line acceptedOrder
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	return lines
}
