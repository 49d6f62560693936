package router

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
)

// some are n events as a batch.
func (s *scene) some(n int) event.Batch {
	var b event.Batch
	for range n {
		s.n++
		b.Events = append(b.Events, event.Event{ID: fmt.Sprint("e", s.n), Source: "/test", Type: "test"})
	}
	return b
}

// A sink that keeps up takes from the runner what it shaped, and does not read the log. What the stages dropped costs it nothing.
func TestSinksFollowTheRunner(t *testing.T) {
	for _, serial := range []bool{false, true} {
		play(t, func(s *scene) {
			s.stage(func(ev *event.Event) (bool, string, error) {
				if ev.ID == "e700" {
					return false, "", fmt.Errorf("no such event")
				}
				return nth(ev.ID)%100 == 1, "", nil
			}, pipelines.OnErrorDeadLetter)
			sink := newFakeSink(nil)
			s.sink("a", sink).Serial = serial
			s.start(map[string]decider{"a": when(func(ev *event.Event) (bool, string, error) { return ev.ID != "e301", "", nil })})
			s.emit(3000)
			s.emit(3000)
			if got := len(sink.got()); got != 59 {
				t.Errorf("serial %v: %d were delivered", serial, got)
			}
			sub := s.log.subs["p/a"]
			if sub.given > 3*readBatch {
				t.Errorf("serial %v: the sink read %d events from the log", serial, sub.given)
			}
			if n := s.metric("millrace_deliveries_settled_total", "p", "a", "skipped"); n != 6000-59 {
				t.Errorf("serial %v: %v were skipped", serial, n)
			}
			s.settledAllBut("p/", 700)
			s.end()
		})
	}
}

// settledAllBut demands that the runner has one row, and that nothing else is open.
func (s *scene) settledAllBut(name string, o event.Offset) {
	s.t.Helper()
	if rows := s.rows(name); len(rows) != 1 || rows[o].State != event.Dead {
		s.t.Errorf("%s: rows %v", name, rows)
	}
	for name, sub := range s.log.subs {
		if cursor, head := sub.Position(); cursor != head {
			s.t.Errorf("%s: cursor %d of %d", name, cursor, head)
		}
	}
}

// aheadSource keeps what it is given.
type aheadSource struct {
	prepare func(event.Batch) (event.Prepared, error)
}

func (a *aheadSource) Ahead(prepare func(event.Batch) (event.Prepared, error)) { a.prepare = prepare }
func (a *aheadSource) Run(context.Context, Emit) error                         { return nil }

// Batches that were prepared ahead are joined, committed once, and counted then.
func TestPreparedBatches(t *testing.T) {
	play(t, func(s *scene) {
		sink := pushScene(s)
		s.start(nil)
		source := &aheadSource{}
		if err := s.r.OpenSource(s.t.Context(), "p", source); err != nil {
			t.Fatal(err)
		}
		all := event.Batch{State: event.Changes{"position": []byte("3")}}
		for range 3 {
			b := s.some(10)
			for i := range b.Events {
				b.Events[i].Data = []byte(b.Events[i].ID)
			}
			p, err := source.prepare(b)
			if err != nil {
				t.Fatal(err)
			}
			if all.Prepared == nil {
				all.Prepared = p
			} else {
				all.Prepared.Join(p)
			}
		}
		if n := s.metric("millrace_events_filtered_total", "p", "stage1"); n != 0 {
			t.Errorf("%v are counted before the commit", n)
		}
		before := s.log.commits
		s.log.onWrite = func(event.Commit) error { return event.ErrFull }
		if _, err := s.r.Emit("p")(s.t.Context(), all); err == nil {
			t.Error("it was not refused")
		}
		s.log.onWrite = nil
		if _, err := s.r.Emit("p")(s.t.Context(), all); err != nil || all.Prepared.Len() != 10 {
			t.Fatal(err, all.Prepared.Len())
		}
		synctest.Wait()
		if n := s.metric("millrace_events_filtered_total", "p", "stage1"); n != 20 || s.log.commits == before {
			t.Errorf("%v are counted", n)
		}
		if got := len(sink.got()); got != 9 { // e9 is a dead letter
			t.Errorf("%d were delivered", got)
		}
		s.end()
	})
}
