package torture

import (
	"context"
	"maps"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"
)

// TestTerminate stops the program in order at random moments under load: exit code 0 in time, and no 202 is lost.
func TestTerminate(t *testing.T) {
	rounds := 50
	if testing.Short() {
		rounds = 5
	}
	audit := newReceiver(t)
	p := newPlace(t, "path: data/millrace.db", orders+`
      audit: { http: { url: "`+audit.url+`/audit" } }
`)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	all := map[string]int{}
	var slowest time.Duration
	for range rounds {
		r, _ := p.start()
		ctx, cancel := context.WithCancel(t.Context())
		sent := make(chan map[string]int)
		go func() { sent <- p.load(ctx, 16, 100000, 3000, totals) }()
		<-time.After(time.Duration(random.IntN(400)) * time.Millisecond)
		begin := time.Now()
		r.signal(syscall.SIGTERM)
		code := r.code(4 * time.Second)
		slowest = max(slowest, time.Since(begin))
		cancel()
		maps.Copy(all, <-sent)
		if code != 0 {
			t.Fatalf("exit code %d:\n%s", code, r.output)
		}
	}
	t.Logf("%d orders acknowledged, slowest stop %v", len(all), slowest)
	r, _ := p.start()
	p.eventually(20*time.Second, "every order arrived", func() bool { return len(audit.missing(all, positive)) == 0 })
	archived(t, p, all)
	r.signal(syscall.SIGTERM)
	r.code(4 * time.Second)
	checkArchive(t, p, all)
	audit.check(t)
	if d := audit.duplicates(); d != 0 {
		t.Errorf("%d duplicates without a crash", d)
	}
}

// TestHungSink stops the program while a sink never answers: the attempts in flight are given up in time and stay pending.
func TestHungSink(t *testing.T) {
	hung := newReceiver(t)
	release := make(chan struct{})
	hung.hang = release
	p := newPlace(t, "path: data/millrace.db", orders+`
      hung: { http: { url: "`+hung.url+`/hung" } }
`)
	r, _ := p.start()
	acked := p.load(t.Context(), 4, 50, 1000, func(int) int { return 1 })
	r.signal(syscall.SIGTERM)
	if code := r.code(4 * time.Second); code != 0 {
		t.Errorf("exit code %d:\n%s", code, r.output)
	}
	close(release)
	p.start()
	p.eventually(20*time.Second, "every order arrived", func() bool { return len(hung.missing(acked, positive)) == 0 })
}
