package router

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
)

// mend redrives the dead letters with data of their own, to a sink if one is named.
func (l *life) mend(data string, to string) {
	l.t.Helper()
	letters, err := l.box.DeadLetters(l.t.Context(), event.DeadQuery{})
	if err != nil {
		l.t.Fatal(err)
	}
	var all []event.Redrive
	for _, d := range letters {
		r := event.Redrive{ID: d.ID, To: to, Last: d.Subscription == "p/"}
		if data != "" {
			r.Event = new(d.Record.Event)
			r.Event.Data = []byte(data)
		}
		all = append(all, r)
	}
	results, err := l.box.RedriveEach(l.t.Context(), all)
	if err != nil || slices.ContainsFunc(results, func(r event.RedriveResult) bool { return r != event.RedriveDone }) {
		l.t.Fatal(results, err)
	}
	l.pass(time.Minute)
}

// An edited event has a key of its own at all of its attempts, over a restart and in another edit of the same content; its row tells
// of every attempt.
func TestEditedEventHasItsOwnKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	play(t, func(s *scene) {
		a := newFakeSink(func(_ context.Context, d event.Delivery) error {
			if string(d.Event.Data) == "good" {
				return nil
			}
			return &event.Failure{Class: event.PermanentClass, Status: 422, Answer: d.Event.Data, Err: errors.New("refused")}
		})
		s.sink("a", a)
		l := s.live(path, nil)
		l.append(1, 1)
		l.pass(time.Second)
		l.mend("bad", "")
		l.end()
		l = s.live(path, nil)
		l.mend("", "")
		l.mend("bad", "")
		letters, err := l.box.DeadLetters(s.t.Context(), event.DeadQuery{})
		if err != nil || len(letters) != 1 || len(letters[0].Exception.History) != 4 || letters[0].Exception.Attempts != 4 {
			t.Fatalf("%+v, %v", letters, err)
		}
		if h := letters[0].Exception.History; h[0].Status != 422 || string(h[0].Answer) != `{"n":1}` || string(h[3].Answer) != "bad" || !h[0].At.Before(h[3].At) {
			t.Errorf("%+v", h)
		}
		l.mend("good", "")
		tries := a.attempts("e1")
		var keys []string
		for _, d := range tries {
			keys = append(keys, d.Key)
		}
		if len(keys) != 5 || keys[0] == keys[1] || keys[1] != keys[2] || keys[2] != keys[3] || keys[4] == keys[3] || keys[4] == keys[0] {
			t.Errorf("the keys are %q", keys)
		}
		a.exactly(t, 1, 1)
		l.settledAll()
		l.end()
	})
}

// What a redrive gives to another sink is delivered there once, by a serial sink too, whatever its when says, and with the key that
// the event has there.
func TestRedriveGivenToAnotherSink(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	play(t, func(s *scene) {
		s.sink("a", newFakeSink(func(context.Context, event.Delivery) error { return event.Permanent(errors.New("refused")) }))
		archive := &file{}
		s.file(archive)
		b := newFakeSink(nil)
		s.sink("b", b)
		name := s.pipeline().Sinks[1].Name
		l := s.live(path, map[string]decider{"b": only(), name: only()})
		l.append(1, 3)
		l.pass(time.Second)
		l.mend("", "p/b")
		b.exactly(t, 1, 3)
		if key, want := b.attempts("e1")[0].Key, l.r.pipelines[0].sinks[2].key("/test", "e1", nil); key != want {
			t.Errorf("its key is %s, want %s", key, want)
		}
		l.append(4, 6)
		l.pass(time.Second)
		l.mend("other", "p/"+name)
		slices.Sort(archive.lines)
		if !slices.Equal(archive.lines, []string{"e4", "e5", "e6"}) {
			t.Errorf("the file has %q", archive.lines)
		}
		l.settledAll()
		l.end()
	})
}

// An edited event at which a stage failed comes to every sink that wants it, once, as an event of its own.
func TestEditedEventOfTheStages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	play(t, func(s *scene) {
		s.stage(func(ev *event.Event) (bool, string, error) {
			if string(ev.Data) != "good" {
				return false, "", errors.New("broken")
			}
			return true, "", nil
		}, "")
		a, b := newFakeSink(nil), newFakeSink(nil)
		s.sink("a", a)
		s.sink("b", b)
		l := s.live(path, map[string]decider{"b": only("e2")})
		l.append(1, 200)
		l.pass(time.Second)
		l.mend("bad", "")
		if n := len(l.dead()); n != 200 {
			t.Errorf("%d are dead after an edit that did not help", n)
		}
		l.end()
		l = s.live(path, map[string]decider{"b": only("e2")})
		l.mend("good", "")
		a.exactly(t, 1, 200)
		b.exactly(t, 2, 2)
		if dead := l.dead(); len(dead) > 0 {
			t.Errorf("dead letters: %v", dead)
		}
		l.settledAll()
		l.end()
	})
}
