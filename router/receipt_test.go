package router

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
)

// answering is a sink that says with which status it took what it took, and takes its time.
type answering struct {
	Sink
	statuses []int
	takes    time.Duration
}

func (a answering) Deliver(ctx context.Context, batch []event.Delivery) event.Settling {
	<-time.After(a.takes)
	s := a.Sink.Deliver(ctx, batch)
	s.Statuses = a.statuses
	return s
}

// A receipt says how an event was delivered: attempt, status and time. What was not wanted, failed or is the runner's has none.
func TestReceipts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	play(t, func(s *scene) {
		t := s.t
		flaky := newFakeSink(func(_ context.Context, d event.Delivery) error {
			if d.Event.ID == "e2" && d.Attempt == 1 {
				return errors.New("not now")
			}
			if d.Event.ID == "e3" {
				return event.Permanent(errors.New("422"))
			}
			return nil
		})
		s.sink("flaky", answering{flaky, []int{204}, 30 * time.Millisecond})
		s.sink("silent", newFakeSink(nil))
		s.sink("picky", answering{newFakeSink(nil), []int{200}, 0})
		s.file(&file{})
		l := s.live(path, map[string]decider{"picky": only("e1")})
		l.append(1, 3)
		l.pass(time.Minute)
		for _, c := range []struct {
			subscription string
			offset       event.Offset
			want         string
		}{
			{"p/flaky", 1, "attempt 1, 204, 30ms"}, {"p/flaky", 2, "attempt 2, 204, 30ms"}, {"p/flaky", 3, ""},
			{"p/silent", 1, "attempt 1, 0, 0s"}, {"p/picky", 1, "attempt 1, 200, 0s"}, {"p/picky", 2, ""},
			{"p/file", 3, "attempt 1, 0, 0s"}, {"p/", 1, ""},
		} {
			receipts, err := l.box.Receipts(t.Context(), c.subscription, c.offset)
			got := ""
			for _, r := range receipts {
				got += fmt.Sprintf("attempt %d, %d, %v", r.Attempt, r.Status, r.Took)
			}
			if err != nil || got != c.want {
				t.Errorf("%s, event %d: %q, want %q (%v)", c.subscription, c.offset, got, c.want, err)
			}
		}
		l.end()
	})
}
