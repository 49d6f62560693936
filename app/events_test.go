package app

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/brokers/engine"
	"github.com/millrace-run/millrace/console"
	"github.com/millrace-run/millrace/event"
)

// finding is a log that finds one event, and says what could not be read.
type finding struct {
	statusLog
	found []event.Located
	fault error
	lost  error
}

func (f finding) Find(context.Context, string, int) ([]event.Located, error) { return f.found, f.fault }

func (f finding) Standings(context.Context, string, event.Offset) ([]event.Standing, error) {
	at := time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)
	return []event.Standing{
		{Subscription: "orders/", State: event.StandsSettled},
		{Subscription: "orders/mail", State: event.StandsRetrying, Exception: &event.Exception{
			Reason: event.ReasonFailed, Status: 451, Attempts: 2, Error: "later", LastAt: at, NextAt: at.Add(time.Minute),
		}},
		{Subscription: "orders/old", State: event.StandsForeign},
		{Subscription: "orders/payments", State: event.StandsSettled, Receipts: []event.DatedReceipt{
			{Receipt: event.Receipt{Attempt: 1, Status: 202, Took: 1500 * time.Microsecond}, At: at},
		}},
	}, f.lost
}

func TestEvents(t *testing.T) {
	at := time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)
	log := finding{found: []event.Located{{Topic: "orders", Record: event.Record{Offset: 7, Event: event.Event{
		ID: "o-1", Source: "/shop", Type: "t", Data: []byte(`{"secret":1}`), DataContentType: "application/json", Received: at,
	}}}}}
	places, err := letters{log: log}.Events(t.Context(), "o-1", 10)
	if err != nil || len(places) != 1 {
		t.Fatal(places, err)
	}
	p := places[0]
	if strings.Contains(string(p.Attributes), "secret") || !strings.Contains(string(p.Attributes), `"id":"o-1"`) {
		t.Errorf("attributes are %s", p.Attributes)
	}
	want := []console.Delivery{
		{Sink: "", State: "settled", Receipts: []console.Receipt{}},
		{
			Sink: "mail", State: "retry", Attempts: 2, Reason: "failed", Status: 451, LastError: "later", LastAt: new(at),
			NextAt: new(at.Add(time.Minute)), Receipts: []console.Receipt{},
		},
		{Sink: "old", State: "not_owed", Receipts: []console.Receipt{}},
		{Sink: "payments", State: "settled", Receipts: []console.Receipt{{Attempt: 1, Status: 202, Millis: 1, At: at}}},
	}
	if d := cmp.Diff(want, p.Deliveries); d != "" {
		t.Error(d)
	}
	if p.Pipeline != "orders" || p.Topic != "orders" || p.Offset != 7 || !p.ReceivedAt.Equal(at) || p.Fault != "" {
		t.Errorf("%+v", p)
	}
}

// What could not be read is said beside what was found, and is the answer when nothing was.
func TestEventsWithFaults(t *testing.T) {
	one := []event.Located{{Topic: "orders", Record: event.Record{Offset: 7}}}
	places, err := letters{log: finding{found: one, fault: errors.New("segment 9 is damaged"), lost: errors.New("receipts are damaged")}}.
		Events(t.Context(), "o-1", 10)
	if err != nil || len(places) != 1 || places[0].Fault != "segment 9 is damaged\nreceipts are damaged" {
		t.Errorf("%+v, %v", places, err)
	}
	if _, err := (letters{log: finding{fault: errors.New("segment 9 is damaged")}}).Events(t.Context(), "o-1", 10); err == nil {
		t.Error("nothing was found and nothing is said")
	}
	if places, err := (letters{log: finding{}}).Events(t.Context(), "o-1", 10); err != nil || len(places) != 0 {
		t.Errorf("%+v, %v", places, err)
	}
	memory, err := openMemory(engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = memory.close() }()
	if _, err := (letters{log: memory}).Events(t.Context(), "o-1", 10); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a log in memory answers %v", err)
	}
}
