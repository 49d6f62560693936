package engine_test

import (
	"maps"
	"reflect"
	"testing"
	"time"

	"github.com/millrace-run/millrace/brokers/engine"
	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/router"
	"github.com/millrace-run/millrace/router/routertest"
)

var _ router.Log = (*engine.Engine)(nil)

func TestMemoryConformance(t *testing.T) {
	routertest.Run(t, routertest.Harness{Open: func(t *testing.T, _ string) (router.Log, func() error) {
		e := memory(t, engine.Options{})
		return e, e.Close
	}})
}

// memory is an engine in memory that the test closes.
func memory(t *testing.T, o engine.Options) *engine.Engine {
	t.Helper()
	e, err := engine.NewMemory(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return e
}

func TestMemoryCan(t *testing.T) {
	want := event.Capabilities{Atomic: true, Shared: true, Ordered: true, Stateful: true, Dead: true, Dedupe: true, Keyed: true}
	if got := memory(t, engine.Options{}).Can(); got != want {
		t.Errorf("Can() = %+v, want %+v", got, want)
	}
}

// Room and Held say what closing an engine in memory takes with it, an event once however many subscriptions owe it.
func TestMemoryHolds(t *testing.T) {
	e := memory(t, engine.Options{DeadAfter: 100})
	configure(t, e, layout)
	if got := e.Held(); len(got) != 0 {
		t.Errorf("an empty engine holds %v", got)
	}
	commit(t, e, appending("a", events(3, 10)))
	commit(t, e, appending("b", events(1, 10)))
	first, second := subscribe(t, e, "a/1"), subscribe(t, e, "a/2")
	first.take(3)
	second.take(3)
	first.settle(event.Outcome{Offset: 1}, event.Outcome{Offset: 2, Exception: dead(1)}, event.Outcome{Offset: 3})
	second.settle(event.Outcome{Offset: 1})
	held := map[string]engine.Held{"a": {Events: 2, Dead: 1}, "b": {Events: 1}}
	if got := e.Held(); !maps.Equal(got, held) {
		t.Errorf("it holds %v, want %v", got, held)
	}
	room := e.Room()
	if room.Events != 3 || room.Bytes < 3*10 || room.MaxBytes != 64<<20 || room.MaxEvents != 100_000 || room.Forgotten != 0 {
		t.Errorf("%+v", room)
	}
	letters, err := e.DeadLetters(t.Context(), event.DeadQuery{After: 100})
	if err != nil || len(letters) != 1 || letters[0].ID != 101 {
		t.Errorf("%+v %v", letters, err)
	}
}

// What a source emitted is its own again once the commit has returned: the engine keeps copies.
func TestMemoryKeepsCopies(t *testing.T) {
	e := memory(t, engine.Options{})
	configure(t, e, layout)
	list := []event.Event{
		{ID: "1", Source: "s", Type: "t", Data: []byte("one"), Received: time.Unix(1, 0).UTC(), Ran: []string{"filter"},
			Extensions: []event.Extension{{Name: "n", Kind: event.Integer, Text: "1"}}},
		{ID: "2", Source: "s", Type: "t", Data: []byte{}, Received: time.Unix(1, 0).UTC()},
		{ID: "3", Source: "s", Type: "t", Received: time.Unix(1, 0).UTC()},
	}
	commit(t, e, appending("b", list))
	copy(list[0].Data, "xxx")
	list[1].ID = "x"
	got := subscribe(t, e, "b/1").take(3)
	want := []event.Record{
		{Offset: 1, Event: event.Event{ID: "1", Source: "s", Type: "t", Data: []byte("one"), Received: time.Unix(1, 0).UTC(),
			Ran: []string{"filter"}, Extensions: []event.Extension{{Name: "n", Kind: event.Integer, Text: "1"}}}},
		{Offset: 2, Event: event.Event{ID: "2", Source: "s", Type: "t", Data: []byte{}, Received: time.Unix(1, 0).UTC()}},
		{Offset: 3, Event: event.Event{ID: "3", Source: "s", Type: "t", Received: time.Unix(1, 0).UTC()}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
