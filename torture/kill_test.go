package torture

import (
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const orders = `
  orders:
    source:
      webhook: { path: /orders, type: shop.order.created }
    stages:
      - filter: data.total > 0
    sinks:
      archive: { storage: { path: data/orders.ndjson } }
`

func positive(total int) bool { return total > 0 }
func large(total int) bool    { return total >= 100 }

// totals makes one order in ten free (filtered), and of the rest every second one large.
func totals(i int) int {
	if i%10 == 0 {
		return 0
	}
	return i%2*100 + 1
}

// TestKill sends 60,000 orders at 3,000 a second from 16 clients while the program is killed again and again.
func TestKill(t *testing.T) {
	n, kills := 60000, 5
	if testing.Short() {
		n, kills = 6000, 2
	}
	killed(t, orders, n, kills)
}

// TestKillWithPriorities is TestKill in small where large orders go first.
func TestKillWithPriorities(t *testing.T) {
	killed(t, strings.Replace(orders, "    stages:", "    priority: 'data.total >= 100 ? 9 : 1'\n    stages:", 1), 6000, 2)
}

func killed(t *testing.T, orders string, n, kills int) {
	const rate = 3000
	payments, audit := newReceiver(t), newReceiver(t)
	p := newPlace(t, "path: data/millrace.db", orders+`
      audit: { http: { url: "`+audit.url+`/audit" } }
      payments: { when: data.total >= 100, http: { url: "`+payments.url+`/payments" } }
`)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	r, _ := p.start()
	sent := make(chan map[string]int)
	go func() { sent <- p.load(t.Context(), 16, n, rate, totals) }()
	live := 0
	var slowest time.Duration
	for range kills {
		before := len(archiveAfterKill(t, p))
		<-time.After(time.Duration(float64(n) / rate / float64(kills+1) * (0.5 + random.Float64()) * float64(time.Second)))
		r.kill()
		if len(archiveAfterKill(t, p)) > before {
			live++
		}
		var took time.Duration
		r, took = p.start()
		slowest = max(slowest, took)
	}
	acked := <-sent
	t.Logf("%d orders acknowledged, %d of %d kills hit live load, slowest restart %v", len(acked), live, kills, slowest)
	if live < kills*3/5 || len(acked) != n || slowest > 3*time.Second {
		t.Errorf("the run does not count, or a restart took more than 3 s")
	}
	p.eventually(30*time.Second, "every order is everywhere", func() bool {
		return len(payments.missing(acked, large))+len(audit.missing(acked, positive)) == 0
	})
	archived(t, p, acked)
	r.signal(syscall.SIGTERM)
	if code := r.code(4 * time.Second); code != 0 {
		t.Errorf("exit code %d:\n%s", code, r.output)
	}
	checkArchive(t, p, acked)
	payments.check(t)
	audit.check(t)
	t.Logf("duplicates: payments %d, audit %d", payments.duplicates(), audit.duplicates())
	// In flight at a kill: 16 attempts and what was answered since the last commit began, which is at most 10 ms and a commit old.
	if most := kills * (16 + rate/10); payments.duplicates() > most || audit.duplicates() > most {
		t.Errorf("more duplicates than %d", most)
	}
}

// archiveAfterKill reads what is there right after a kill; a torn end is allowed then, it is cut at the next start.
func archiveAfterKill(t *testing.T, p *place) map[string]int {
	t.Helper()
	return archiveLines(t, filepath.Join(p.dir, "data/orders.ndjson"), true)
}

// archived waits until the archive has every order that it must have: it is another sink, and may come later than the others.
func archived(t *testing.T, p *place, acked map[string]int) {
	t.Helper()
	p.eventually(20*time.Second, "every order is in the archive", func() bool {
		got := archiveAfterKill(t, p)
		for id, total := range acked {
			if total > 0 && got[id] == 0 {
				return false
			}
		}
		return true
	})
}

// checkArchive: each acknowledged order that the filter lets through is in the file once, and nothing is in it twice.
func checkArchive(t *testing.T, p *place, acked map[string]int) {
	t.Helper()
	got := archive(t, filepath.Join(p.dir, "data/orders.ndjson"))
	for id, total := range acked {
		want := 0
		if total > 0 {
			want = 1
		}
		if got[id] != want {
			t.Fatalf("order %s with total %d is in the archive %d times", id, total, got[id])
		}
	}
	unknown := 0
	for id, times := range got {
		if times != 1 {
			t.Fatalf("order %s is in the archive %d times", id, times)
		}
		if _, ok := acked[id]; !ok {
			unknown++
		}
	}
	t.Logf("%d orders in the archive, %d of them stored without an answer", len(got), unknown)
}
