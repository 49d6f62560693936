package engine_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-run/millrace/brokers/engine"
	"github.com/millrace-run/millrace/event"
)

func keyed(keys string) event.Commit {
	a := event.Append{Topic: "a"}
	for _, key := range keys {
		a.Events = append(a.Events, event.Event{ID: string(key), Source: "/s", Type: "t", Data: make([]byte, 2000)})
		a.Keys = append(a.Keys, string(key))
	}
	return event.Commit{Appends: []event.Append{a}}
}

// TestDedupeRemembersWhatWasTaken: a commit for which there was no room has left no key, and a key is forgotten when its window is
// over or there are too many.
func TestDedupeRemembersWhatWasTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := memory(t, engine.Options{MaxEvents: 10})
		d := event.Dedupe{Window: time.Hour, MaxKeys: 5}
		configure(t, e, event.Layout{Topics: []event.Topic{{Name: "a", Subscriptions: []string{"a/1"}, Dedupe: &d}}})
		left := func(keys string) int {
			t.Helper()
			got, err := e.Commit(t.Context(), keyed(keys))
			if err != nil {
				t.Fatal(err)
			}
			return len(got[0].Duplicates)
		}
		if n := left("abca"); n != 1 {
			t.Errorf("%d duplicates", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := e.Commit(ctx, keyed("defghijkl")); !errors.Is(err, event.ErrFull) {
			t.Fatalf("more than fits: %v", err)
		}
		if n := left("adc"); n != 2 {
			t.Errorf("%d duplicates after a commit that did not fit", n)
		}
		<-time.After(time.Hour)
		if n := left("a"); n != 0 {
			t.Error("the window does not end")
		}
		got, err := e.Commit(t.Context(), keyed("xyz"))
		if err != nil || got[0].Forgotten != 0 {
			t.Errorf("%+v, %v", got, err)
		}
		d.MaxKeys = 2
		configure(t, e, event.Layout{Topics: []event.Topic{{Name: "a", Subscriptions: []string{"a/1"}, Dedupe: &d}}})
		if got, err = e.Commit(t.Context(), keyed("z")); err != nil || got[0].Forgotten != 2 || got[0].Duplicates[0] != "z" {
			t.Errorf("%+v, %v", got, err)
		}
		for _, keys := range [][]string{{}, {"a", "b"}} {
			c := keyed("q")
			c.Appends[0].Keys = keys
			if _, err := e.Commit(t.Context(), c); err == nil {
				t.Errorf("%d keys for one event were taken", len(keys))
			}
		}
	})
}

// TestDedupeOverABroker: other processes append there too, so it is refused.
func TestDedupeOverABroker(t *testing.T) {
	e := over(t, newBroker(), engine.Options{})
	l := event.Layout{Topics: []event.Topic{{Name: "a", Dedupe: &event.Dedupe{Window: time.Hour, MaxKeys: 5}}}}
	if err := e.Configure(t.Context(), l); err == nil || e.Can().Dedupe {
		t.Errorf("%v, %+v", err, e.Can())
	}
}
