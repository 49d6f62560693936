package outbox

import (
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
)

// TestDueWhileARowIsPublished looks for rows in the one moment in which a commit has told of its row and still has it marked as
// changing. The row is left out then, and the reader must be woken for it afterwards.
func TestDueWhileARowIsPublished(t *testing.T) {
	o, err := Open(t.Context(), Options{Path: t.TempDir() + "/outbox.db"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = o.Close() }()
	if err := o.Configure(t.Context(), crashLayout); err != nil {
		t.Fatal(err)
	}
	retry := &event.Exception{State: event.Retry, Reason: event.ReasonFailed, NextAt: time.Unix(1, 0)}
	for _, c := range []event.Commit{
		{Appends: []event.Append{{Topic: "t", Events: []event.Event{{ID: "e"}}}}},
		{Settles: []event.Settle{{Subscription: "t/eager", Outcomes: []event.Outcome{{Offset: 1, Exception: retry}}}}},
	} {
		if _, err := o.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	s := o.subscription("t/eager")
	due := func() int {
		x, _, err := s.Due(t.Context(), time.Unix(2, 0), 10)
		if err != nil {
			t.Fatal(err)
		}
		return len(x)
	}
	s.change(1)
	s.changed(row{s, 1, retry})
	<-s.Wake()
	if n := due(); n != 0 {
		t.Fatalf("%d rows were handed out while their commit was being published", n)
	}
	s.unchange(1)
	select {
	case <-s.Wake():
	default:
		t.Fatal("nobody is told of the row that was left out")
	}
	if n := due(); n != 1 {
		t.Fatalf("%d rows are due", n)
	}
}
