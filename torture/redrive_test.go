package torture

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRedriveIsResumed redrives thousands of dead letters at a rate with an edit that must not be made twice, to their own sink and to a
// storage sink. The instance is killed in the middle, then the command; the same command goes on. None is lost: each arrives as it was
// edited once, under one new key, and in the file once.
func TestRedriveIsResumed(t *testing.T) {
	n, rate := 10000, "3000/s"
	if testing.Short() {
		n, rate = 1000, "500/s"
	}
	a := newReceiver(t)
	a.answers(func(string) int { return 422 })
	p := newPlace(t, "path: data/millrace.db", orders+`
      a: { http: { url: "`+a.url+`/a" } }
      moved: { when: 'data.total > 1000', storage: { path: data/moved.ndjson } }
`)
	r, _ := p.start()
	acked := p.load(t.Context(), 16, n, 5000, func(i int) int { return 1 + i%2 })
	p.eventually(60*time.Second, "all are dead letters", func() bool { return p.dead() == n })
	before := a.renewed()
	edit := []string{"--edit", "data.total = data.total * 10", "--rate", rate}
	r = p.redriveThroughKills(r, n, append([]string{"--where", "data.total == 1"}, edit...)...)
	p.eventually(60*time.Second, "the first half arrives", func() bool {
		return len(a.missing(acked, func(total int) bool { return total == 1 })) == 0
	})
	r = p.redriveThroughKills(r, n/2, append([]string{"--to", "moved", "--pipeline", "orders", "--sink", "a"}, edit...)...)
	moved := filepath.Join(p.dir, "data/moved.ndjson")
	p.eventually(60*time.Second, "the other half is in the file", func() bool { return len(archiveLines(t, moved, true)) == n/2 })
	stop := time.Now()
	r.kill()
	p.start()
	t.Logf("%d dead letters, %d duplicates at the http sink, last restart %v", n, a.duplicates(), time.Since(stop))

	a.check(t)
	a.mu.Lock()
	defer a.mu.Unlock()
	got := archive(t, moved)
	for id, total := range acked {
		switch {
		case total == 1 && (a.totals[id] != 10 || a.keys[id] == before[id] || got[id] != 0):
			t.Fatalf("order %s came with the total %d and the key %s, before it was %s; %d times in the file", id, a.totals[id], a.keys[id], before[id], got[id])
		case total == 2 && (a.got[id] != 0 || got[id] != 1):
			t.Fatalf("order %s came to the other sink %d times, and is in the file %d times", id, a.got[id], got[id])
		}
	}
	text, err := os.ReadFile(moved)
	if err != nil || strings.Count(string(text), `"total":20,`) != n/2 {
		t.Errorf("%d orders in the file are edited once, want %d (%v)", strings.Count(string(text), `"total":20,`), n/2, err)
	}
}

// renewed returns the keys so far, by event id, and forgets them: others may come from now on.
func (r *receiver) renewed() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.keys
	r.keys, r.answer = map[string]string{}, nil
	return old
}

// redriveThroughKills gives dead letters back, n/2 of n or all of them, by one command line, which is given three times: at the first the instance is
// killed, at the second the command.
func (p *place) redriveThroughKills(r *process, n int, args ...string) *process {
	p.t.Helper()
	args = append([]string{"dead-letters", "redrive", "--all", "-c", filepath.Join(p.dir, "pipelines.yaml")}, args...)
	for kills := range 2 {
		cmd := exec.Command(binary, args...)
		cmd.Dir = p.dir
		if err := cmd.Start(); err != nil {
			p.t.Fatal(err)
		}
		left := n - (kills+1)*n/6
		p.eventually(60*time.Second, "the redrive is under way", func() bool { return p.dead() <= left })
		if kills == 0 {
			r.kill()
		} else if err := cmd.Process.Kill(); err != nil {
			p.t.Errorf("the command was not killed under way: %v", err)
		}
		if err := cmd.Wait(); err == nil {
			p.t.Error("the command came to its end")
		}
		if kills == 0 {
			r, _ = p.start()
		}
	}
	p.command(append(args[:3:3], args[5:]...)...)
	if left := p.dead(); left != n/2 && left != 0 {
		p.t.Errorf("%d dead letters are left", left)
	}
	return r
}

// dead counts the dead letters.
func (p *place) dead() (n int) {
	p.t.Helper()
	var counts []struct{ Count int }
	out := p.command("dead-letters", "list", "--count", "-o", "json")
	if err := json.Unmarshal([]byte(out), &counts); err != nil {
		p.t.Fatalf("%v: %s", err, out)
	}
	for _, c := range counts {
		n += c.Count
	}
	return n
}
