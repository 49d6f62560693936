package router

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/rules"
)

// pushScene has a pipeline with three stages that run before the log: an event whose number is not divided by three is dropped, e9
// fails at the second stage, the third changes the subject.
func pushScene(s *scene) *fakeSink {
	s.stage(func(ev *event.Event) (bool, string, error) { return nth(string(ev.Data))%3 == 0, "", nil }, "")
	s.stage(func(ev *event.Event) (bool, string, error) {
		if string(ev.Data) == "e9" {
			return false, "", errors.New("no nine")
		}
		return true, "", nil
	}, pipelines.OnErrorDeadLetter)
	s.stage(func(ev *event.Event) (bool, string, error) { ev.Subject += "!"; return true, "", nil }, "")
	p := s.pipeline()
	p.PushDown = 3
	p.Stages[0].DataOnly, p.Stages[1].DataOnly = true, true
	sink := newFakeSink(nil)
	s.sink("out", sink)
	return sink
}

// nth is the number of an event: 7 of e7.
func nth(id string) int {
	n, _ := strconv.Atoi(id[1:])
	return n
}

// unread is a batch of n events that have no id before they are completed, and counts the completions.
func unread(n int, completed *atomic.Int64) event.Batch {
	b := event.Batch{State: event.Changes{"position": []byte(fmt.Sprint(n))}}
	for i := range n {
		b.Events = append(b.Events, event.Event{Source: "/log", Type: "line", Data: []byte(fmt.Sprint("e", i+1))})
	}
	b.Complete = func(i int, e *event.Event) { e.ID = fmt.Sprint("e", i+1); completed.Add(1) }
	return b
}

func TestPushDown(t *testing.T) {
	play(t, func(s *scene) {
		sink := pushScene(s)
		s.start(nil)
		var completed atomic.Int64
		ids, err := s.r.Emit("p")(t.Context(), unread(12, &completed))
		synctest.Wait()
		if err != nil || !slices.Equal(ids, []string{"e3", "e6", "e9", "e12"}) || completed.Load() != 4 {
			t.Fatalf("stored %v (%v), %d completed", ids, err, completed.Load())
		}
		stored := s.log.topics["p"]
		if got := stored[0]; got.Subject != "!" || !slices.Equal(got.Ran, []string{"stage1", "stage2", "stage3"}) {
			t.Errorf("e3 is stored as %+v", got)
		}
		if got := stored[2]; got.Subject != "" || !slices.Equal(got.Ran, []string{"stage1"}) {
			t.Errorf("e9 is stored as %+v", got)
		}
		if got := slices.Sorted(slices.Values(sink.got())); !slices.Equal(got, []string{"e12", "e3", "e6"}) {
			t.Errorf("delivered %v", got)
		}
		if d := sink.attempts("e3")[0]; d.Event.Subject != "!" || d.Event.Ran != nil {
			t.Errorf("e3 came as %+v", d.Event)
		}
		if dead := s.dead(); len(dead) != 1 || dead[0].Exception.Stage != "stage2" || dead[0].Record.Event.ID != "e9" {
			t.Errorf("dead letters %+v", dead)
		}
		for _, m := range []struct {
			name   string
			labels []string
			want   float64
		}{
			{"millrace_events_filtered_total", []string{"p", "stage1"}, 8},
			{"millrace_stage_errors_total", []string{"p", "stage2", "dead_letter"}, 1},
			{"millrace_events_received_total", []string{"p"}, 4},
		} {
			if got := s.metric(m.name, m.labels...); got != m.want {
				t.Errorf("%s is %v, want %v", m.name, got, m.want)
			}
		}
		s.end()
	})
}

// TestPushDownRedriven: a dead letter whose first stages ran before the log goes on with today's stages behind them.
func TestPushDownRedriven(t *testing.T) {
	play(t, func(s *scene) {
		sink := pushScene(s)
		s.start(nil)
		var completed atomic.Int64
		if _, err := s.r.Emit("p")(t.Context(), unread(12, &completed)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		s.end()

		again := 0
		p := s.pipeline()
		p.Stages[0].Op = func(*rules.Subject) (bool, string, error) { again++; return true, "", nil }
		p.Stages[1].Op = func(s *rules.Subject) (bool, string, error) { s.Event.Subject = "mended"; return true, "", nil }
		s.start(nil)
		s.redrive()
		if got := sink.attempts("e9"); len(got) != 1 || got[0].Event.Subject != "mended!" || got[0].Event.Ran != nil {
			t.Errorf("e9 came as %+v", got)
		}
		if sink.count("e3") != 1 || again != 0 || len(s.dead()) != 0 {
			t.Errorf("e3 came %d times, the first stage ran %d times, dead letters %+v", sink.count("e3"), again, s.dead())
		}
		s.settledAll()
		s.end()
	})
}

// TestPushDownAgain holds that a batch which was refused can be emitted again, unchanged, and is counted once.
func TestPushDownAgain(t *testing.T) {
	play(t, func(s *scene) {
		sink := pushScene(s)
		s.start(nil)
		var completed atomic.Int64
		b := unread(6, &completed)
		s.log.onWrite = func(event.Commit) error { return event.ErrFull }
		for range 3 {
			if _, err := s.r.Emit("p")(t.Context(), b); !errors.Is(err, event.ErrFull) {
				t.Fatal(err)
			}
		}
		s.log.onWrite = nil
		if _, err := s.r.Emit("p")(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := slices.Sorted(slices.Values(sink.got())); !slices.Equal(got, []string{"e3", "e6"}) {
			t.Errorf("delivered %v", got)
		}
		if got := s.metric("millrace_events_filtered_total", "p", "stage1"); got != 4 {
			t.Errorf("counted %v as filtered", got)
		}
		s.end()
	})
}

// TestPushDownKeepsOrder uses as many events as every processor takes a part of.
func TestPushDownKeepsOrder(t *testing.T) {
	play(t, func(s *scene) {
		pushScene(s)
		s.start(nil)
		var completed atomic.Int64
		b := unread(9000, &completed)
		for i := range 9 {
			b.Events[i].Data = []byte("e1") // e9 and its neighbors
		}
		ids, err := s.r.Emit("p")(t.Context(), b)
		if err != nil || len(ids) != 2997 || !slices.IsSortedFunc(ids, func(a, b string) int { return nth(a) - nth(b) }) {
			t.Errorf("%d stored (%v): %v", len(ids), err, ids[:min(9, len(ids))])
		}
		synctest.Wait()
		s.end()
	})
}

// TestFewThatPassKeepNoBuffer holds that what a batch shares, such as the piece of a file that its lines were read with or a row of the
// log, does not stay in memory for the few events of it that pass: who keeps them counts their own bytes only.
func TestFewThatPassKeepNoBuffer(t *testing.T) {
	for _, c := range []struct {
		every, push int
		shared      bool
	}{{1, 1, true}, {100, 1, false}, {1, 0, true}, {100, 0, false}} {
		play(t, func(s *scene) {
			s.stage(func(ev *event.Event) (bool, string, error) { return nth(ev.ID)%c.every == 0, "", nil }, "")
			s.pipeline().PushDown = c.push
			sink := newFakeSink(nil)
			s.sink("out", sink)
			s.start(nil)
			buffer := bytes.Repeat([]byte("0123456789"), 2000)
			b := event.Batch{}
			for i := range 1000 {
				at := 20 * i
				b.Events = append(b.Events, event.Event{ID: fmt.Sprint("e", i+1), Source: "/log", Type: "line", Data: buffer[at : at+20]})
			}
			if _, err := s.r.Emit("p")(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			clear(buffer)
			got := sink.attempts(fmt.Sprint("e", c.every))
			if len(got) != 1 || len(sink.got()) != 1000/c.every {
				t.Fatalf("%+v: %d delivered", c, len(sink.got()))
			}
			if shared := got[0].Event.Data[0] == 0; shared != c.shared || got[0].Event.Source != "/log" {
				t.Errorf("%+v: shared is %v: %+v", c, shared, got[0].Event)
			}
			s.end()
		})
	}
}

func TestNothingPassesButThePosition(t *testing.T) {
	play(t, func(s *scene) {
		pushScene(s)
		s.start(nil)
		var completed atomic.Int64
		if _, err := s.r.Emit("p")(t.Context(), unread(2, &completed)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := string(s.log.states["source:p"]["position"]); got != "2" || len(s.log.topics["p"]) > 0 || completed.Load() > 0 {
			t.Errorf("position %q, %d stored, %d completed", got, len(s.log.topics["p"]), completed.Load())
		}
		s.end()
	})
}

// TestAfter holds where the stages of a changed file begin for an event that was stored behind earlier ones.
func TestAfter(t *testing.T) {
	stages := func(names ...string) (all []pipelines.Stage) {
		for _, n := range names {
			all = append(all, pipelines.Stage{Name: n})
		}
		return all
	}
	for _, c := range []struct {
		file []pipelines.Stage
		ran  []string
		want int
	}{
		{stages("a", "b", "c"), nil, 0},
		{stages("a", "b", "c"), []string{"a", "b"}, 2},
		{stages("a", "new", "b", "c"), []string{"a", "b"}, 3},
		{stages("a", "c"), []string{"a", "b"}, 1},
		{stages("b", "a", "c"), []string{"a", "b"}, 1},
		{stages("x", "y", "z"), []string{"a", "b"}, 2},
		{stages("x"), []string{"a", "b"}, 1},
		{nil, []string{"a"}, 0},
	} {
		s := &shaper{stages: c.file}
		if got := s.after(c.ran); got != c.want {
			t.Errorf("after %v of %v: %d, want %d", c.ran, c.file, got, c.want)
		}
	}
}
