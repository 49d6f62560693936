package router

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
)

func down(string) error {
	return &event.Failure{Class: event.UnavailableClass, Err: errors.New("down"), Refused: true}
}

func (l *life) emit(ctx context.Context, id string) error {
	e := event.Event{ID: id, Source: "/test", Type: "test", Data: []byte(`{}`)}
	_, err := l.r.Emit("p")(ctx, event.Batch{Events: []event.Event{e}})
	return err
}

// With reject as much is taken as may wait and no more; when the sink is through, events are taken again.
func TestOverflowReject(t *testing.T) {
	seekable(t, func(s *scene, k *pipelines.Sink, sink *taker, path string) {
		k.MaxPending, k.Overflow, k.Breaker = &pipelines.MaxPending{Events: 10}, pipelines.OverflowReject, breakerDefaults()
		sink.answer(down)
		l := s.live(path, nil)
		taken := 0
		for i := range 20 {
			err := l.emit(s.t.Context(), fmt.Sprint("e", i))
			switch {
			case err == nil:
				taken++
			case !errors.Is(err, event.ErrFull):
				s.t.Fatal(err)
			}
		}
		if taken != 10 {
			s.t.Errorf("%d events are taken, 10 may wait", taken)
		}
		sink.answer(nil)
		l.pass(time.Minute)
		if err := l.emit(s.t.Context(), "later"); err != nil {
			s.t.Error(err)
		}
		l.end()
	})
}

// With block the source waits: until there is room, until its time is up, or until it has to end.
func TestOverflowBlock(t *testing.T) {
	seekable(t, func(s *scene, k *pipelines.Sink, sink *taker, path string) {
		k.MaxPending, k.Overflow, k.Breaker = &pipelines.MaxPending{Age: time.Minute}, pipelines.OverflowBlock, breakerDefaults()
		sink.answer(down)
		l := s.live(path, nil)
		l.append(1, 2)
		l.pass(2 * time.Minute)
		begun := time.Now()
		ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
		defer cancel()
		if err := l.emit(ctx, "refused"); !errors.Is(err, event.ErrFull) || time.Since(begun) != 5*time.Second {
			s.t.Errorf("%v after %v", err, time.Since(begun))
		}
		gone, leave := context.WithCancel(s.t.Context())
		leave()
		if err := l.emit(gone, "refused"); !errors.Is(err, context.Canceled) {
			s.t.Error(err)
		}
		sink.answer(nil)
		if err := l.emit(s.t.Context(), "waits"); err != nil || time.Since(begun) < 5*time.Second {
			s.t.Error(err)
		}
		l.pass(time.Minute)
		l.end()
	})
}

// With dead_letter what is too much becomes a dead letter, the oldest first, and the rest is delivered when the sink is back.
func TestOverflowDeadLetter(t *testing.T) {
	seekable(t, func(s *scene, k *pipelines.Sink, sink *taker, path string) {
		k.MaxPending, k.Overflow, k.Breaker = &pipelines.MaxPending{Events: 100}, pipelines.OverflowDeadLetter, breakerDefaults()
		sink.answer(down)
		l := s.live(path, nil)
		for i := 1; i <= 10000; i += 1000 {
			l.append(i, i+999)
			l.pass(time.Second)
		}
		dead := len(l.dead())
		if dead != 9900 {
			s.t.Errorf("%d dead letters, want 9900", dead)
		}
		sink.answer(nil)
		sink.take()
		l.pass(time.Minute)
		delivered := map[string]bool{}
		for _, id := range sink.got {
			delivered[id] = true
		}
		if len(delivered) != 100 || !delivered["e10000"] {
			s.t.Errorf("%d of the others are delivered", len(delivered))
		}
		l.end()
		l = s.live(path, nil)
		l.pass(time.Minute)
		if n := len(l.dead()); n != dead {
			s.t.Errorf("%d dead letters after a restart", n)
		}
		l.end()
	})
}

// What is too old goes though nothing comes that would wake the sink.
func TestOverflowByAge(t *testing.T) {
	seekable(t, func(s *scene, k *pipelines.Sink, sink *taker, path string) {
		k.MaxPending, k.Overflow = &pipelines.MaxPending{Age: time.Minute}, pipelines.OverflowDeadLetter
		l := s.live(filepath.Join(path), nil)
		if err := l.r.Pause(s.t.Context(), "p", "s", "test"); err != nil {
			s.t.Fatal(err)
		}
		l.append(1, 3)
		l.pass(30 * time.Second)
		l.append(4, 5)
		l.pass(45 * time.Second)
		expect(s.t, "dead", fmt.Sprint(l.dead()), "[p/s e1 overflow p/s e2 overflow p/s e3 overflow]")
		l.end()
	})
}
