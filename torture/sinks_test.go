package torture

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestOutage takes one of three sinks away for the whole load. The others are as fast as without that, and the third gets everything
// when it is back, though three attempts are all that an event has.
func TestOutage(t *testing.T) {
	n, rate := 20000, 2000
	if testing.Short() {
		n = 4000
	}
	a, b, c := newReceiver(t), newReceiver(t), newReceiver(t)
	p := newPlace(t, "path: data/millrace.db", orders+`
      a: { http: { url: "`+a.url+`/a" } }
      b: { http: { url: "`+b.url+`/b" } }
      c: { http: { url: "`+c.url+`/c" }, retry: { max_attempts: 3 } }
`)
	p.start()
	healthy := p.load(t.Context(), 16, n/2, rate, totals)
	p.eventually(10*time.Second, "a, b and c have the first half", func() bool {
		return len(a.missing(healthy, positive))+len(b.missing(healthy, positive))+len(c.missing(healthy, positive)) == 0
	})
	before := lag(a, b)
	c.answers(func(string) int { return 503 })
	acked := p.load(t.Context(), 16, n, rate, totals)
	p.eventually(2*time.Second, "a and b have everything soon after the load", func() bool {
		return len(a.missing(acked, positive))+len(b.missing(acked, positive)) == 0
	})
	during := lag(a, b)
	t.Logf("a and b got an order after %v (99 of 100) beside a healthy c, after %v beside one that is down", before, during)
	if during > 3*before && during > 300*time.Millisecond {
		t.Error("the outage of one sink slowed the others")
	}
	if missing := len(c.missing(acked, positive)); missing < n/2 {
		t.Errorf("only %d orders waited for c", missing)
	}
	back := time.Now()
	c.answers(nil)
	p.eventually(25*time.Second, "c has everything", func() bool { return len(c.missing(acked, positive)) == 0 })
	t.Logf("c had everything %v after its return", time.Since(back))
	if letters := p.deadLetters(); len(letters) != 0 {
		t.Errorf("%d dead letters of an outage, such as %v", len(letters), letters[0])
	}
	for _, r := range []*receiver{a, b, c} {
		r.check(t)
		if d := r.duplicates(); d != 0 {
			t.Errorf("%d duplicates without a crash", d)
		}
	}
}

// lag is the time from acceptance to delivery that 99 of 100 orders stayed under since the last call, over all receivers.
func lag(receivers ...*receiver) time.Duration {
	var all []time.Duration
	for _, r := range receivers {
		r.mu.Lock()
		all = append(all, r.lags...)
		r.lags = nil
		r.mu.Unlock()
	}
	slices.Sort(all)
	if len(all) == 0 {
		return 0
	}
	return all[len(all)*99/100]
}

type letter struct {
	ID       int64  `json:"id"`
	EventID  string `json:"event_id"`
	Sink     string `json:"sink"`
	Reason   string `json:"reason"`
	Status   int    `json:"status"`
	Attempts int    `json:"attempts"`
}

func (p *place) deadLetters() (letters []letter) {
	p.t.Helper()
	out := p.command("dead-letters", "list", "-o", "json")
	if err := json.Unmarshal([]byte(out), &letters); err != nil {
		p.t.Fatalf("dead-letters list: %v\n%s", err, out)
	}
	return letters
}

// TestRedrive has a sink refuse one event. It becomes one dead letter, and arrives after a redrive.
func TestRedrive(t *testing.T) {
	a := newReceiver(t)
	a.answers(func(id string) int {
		if strings.HasPrefix(id, "o-42-") {
			return 422
		}
		return 200
	})
	p := newPlace(t, "path: data/millrace.db", orders+`
      a: { http: { url: "`+a.url+`/a" } }
`)
	r, _ := p.start()
	acked := p.load(t.Context(), 8, 200, 2000, func(int) int { return 1 })
	p.eventually(10*time.Second, "all but one are delivered", func() bool { return len(a.missing(acked, positive)) == 1 })
	p.eventually(10*time.Second, "there is a dead letter", func() bool { return len(p.deadLetters()) == 1 })
	if l := p.deadLetters()[0]; !strings.HasPrefix(l.EventID, "o-42-") || l.Status != 422 || l.Reason != "permanent" || l.Sink != "a" || l.Attempts != 1 {
		t.Errorf("the dead letter is %+v", l)
	}
	r.kill()
	p.start()
	if len(p.deadLetters()) != 1 {
		t.Error("the dead letter did not survive a kill")
	}
	a.answers(nil)
	p.command("dead-letters", "redrive", "--all")
	p.eventually(10*time.Second, "the redriven order arrives", func() bool { return len(a.missing(acked, positive)) == 0 })
	p.eventually(10*time.Second, "no dead letter is left", func() bool { return len(p.deadLetters()) == 0 })
	a.check(t)
}
