package outbox

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/event"
)

// TestStatus: lag counts what is pending only, the oldest is the first of pending and waiting, a removed subscription is owed
// nothing more.
func TestStatus(t *testing.T) {
	o, err := Open(t.Context(), Options{Path: t.TempDir() + "/outbox.db"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = o.Close() }()
	layout := event.Layout{Topics: []event.Topic{{Name: "t", Subscriptions: []string{"t/", "t/a"}}}}
	configure := func() {
		if err := o.Configure(t.Context(), layout); err != nil {
			t.Fatal(err)
		}
	}
	at := func(i int) time.Time { return time.Unix(int64(1000+i), 0).UTC() }
	commit := func(c event.Commit) {
		if _, err := o.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	events := make([]event.Event, 10)
	for i := range events {
		events[i] = event.Event{ID: "e", Received: at(i + 1)}
	}
	configure()
	commit(event.Commit{Appends: []event.Append{{Topic: "t", Events: events}}})
	commit(event.Commit{Settles: []event.Settle{{Subscription: "t/a", Outcomes: []event.Outcome{
		{Offset: 1}, {Offset: 2}, {Offset: 3, Exception: &event.Exception{State: event.Dead, Attempts: 9}}, {Offset: 6},
		{Offset: 4, Exception: &event.Exception{State: event.Retry, Attempts: 4, NextAt: at(0)}},
	}}}})
	layout.Topics[0].Subscriptions = []string{"t/a"}
	configure()
	commit(event.Commit{Appends: []event.Append{{Topic: "t", Events: events[:2]}}})
	got, err := o.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []event.SubscriptionStatus{
		{Name: "t/", Topic: "t", Removed: true, Head: 10, Lag: 10, Pinned: 124, Oldest: at(1)},
		{Name: "t/a", Topic: "t", Cursor: 4, Head: 12, Lag: 7, Retrying: 1, Dead: 1, Attempts: 4, Pinned: 160, Oldest: at(4)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestStatusOfDamagedEvent: a segment that cannot be read takes the age of the oldest event away, and nothing else.
func TestStatusOfDamagedEvent(t *testing.T) {
	path := t.TempDir() + "/outbox.db"
	o, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = o.Close() }()
	if err := o.Configure(t.Context(), event.Layout{Topics: []event.Topic{{Name: "t", Subscriptions: []string{"t/"}}}}); err != nil {
		t.Fatal(err)
	}
	events := []event.Event{{ID: "e", Received: time.Unix(1000, 0)}}
	if _, err := o.Commit(t.Context(), event.Commit{Appends: []event.Append{{Topic: "t", Events: events}}}); err != nil {
		t.Fatal(err)
	}
	err = o.do(t.Context(), func(c *conn) (func(), error) { return func() {}, c.exec("UPDATE segments SET body = x'00'") })
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if o, err = Open(t.Context(), Options{Path: path}); err != nil { // what memory held is gone
		t.Fatal(err)
	}
	got, err := o.Status(t.Context())
	want := []event.SubscriptionStatus{{Name: "t/", Topic: "t", Head: 1, Lag: 1, Pinned: 25}} // named until a Configure says otherwise
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
}
