package outbox

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
)

// TestReaderAtTheEdge: readers that settle what they read while the purge follows them, one from the ring and one from disk, get
// every event once and in order, and rows find their events wherever these are at the moment.
func TestReaderAtTheEdge(t *testing.T) {
	const total = 6000
	b := opened(t, Options{Retention: Retention{Age: time.Nanosecond}})
	var work sync.WaitGroup
	work.Go(func() {
		for at := 0; at < total; at += 5 {
			c := event.Commit{Appends: []event.Append{{Topic: "t"}}}
			for i := range 5 {
				e := event.Event{ID: fmt.Sprint(at + i + 1), Data: make([]byte, 2000), Received: time.Now()}
				c.Appends[0].Events = append(c.Appends[0].Events, e)
			}
			if err := commit(t.Context(), b, c); err != nil {
				t.Error(err)
				return
			}
			b.ring.forget(at%3 == 0)
		}
	})
	for i, name := range []string{"t/eager", "t/lazy"} {
		s := subscribed(t, b, name)
		work.Go(func() { edge(t, s, total, 7+50*i) })
	}
	work.Wait()
	purgeAll(t, b)
	purgedTo(t, b, "t", total)
	if n := bodies(t, b); n != "0" {
		t.Errorf("%s bodies are left", n)
	}
}

// forget empties the ring, so that readers go to the disk.
func (r *ring) forget(yes bool) {
	if !yes {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blocks, r.byname, r.bytes = nil, nil, 0
}

// edge reads and settles all; each 40th event gets a row, which is settled when it is handed out.
func edge(t *testing.T, s *subscription, total, most int) {
	for want, open := event.Offset(1), 0; want <= event.Offset(total) || open > 0; {
		records, err := s.Next(t.Context(), event.Offset(total), most)
		if err != nil {
			t.Error(err)
			return
		}
		var outcomes []event.Outcome
		for i := range records {
			if r := &records[i]; r.Offset != want || r.Event.ID != fmt.Sprint(want) {
				t.Errorf("%s: offset %d is %q, want %d", s.name, r.Offset, r.Event.ID, want)
				return
			}
			if o := (event.Outcome{Offset: want}); want%40 == 0 {
				outcomes = append(outcomes, retrying(want, false))
				open++
			} else {
				outcomes = append(outcomes, o)
			}
			want++
		}
		due, _, err := s.Due(t.Context(), time.Now(), 10)
		if err != nil {
			t.Error(err)
			return
		}
		for i := range due {
			if r := &due[i].Record; r.Event.ID != fmt.Sprint(r.Offset) {
				t.Errorf("%s: the row of %d has %q", s.name, r.Offset, r.Event.ID)
			}
			outcomes = append(outcomes, event.Outcome{Offset: due[i].Record.Offset, Row: true})
			open--
		}
		if len(outcomes) == 0 {
			<-s.Wake()
			continue
		}
		if err := commit(t.Context(), s.box, event.Commit{Settles: []event.Settle{{Subscription: s.name, Outcomes: outcomes}}}); err != nil {
			t.Error(err)
			return
		}
	}
}

// purgeAll makes commits until there is nothing left to purge.
func purgeAll(t *testing.T, b *Outbox) {
	t.Helper()
	for more := true; more; {
		err := b.do(t.Context(), func(*conn) (func(), error) { b.writer.retention.more = true; return nil, nil })
		if err == nil {
			err = commit(t.Context(), b, event.Commit{})
		}
		if err == nil {
			err = b.do(t.Context(), func(*conn) (func(), error) { more = b.writer.retention.more; return nil, nil })
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
