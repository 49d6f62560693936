package outbox_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/outbox"
)

// An outbox that somebody has open stays as it is; one that nobody has is gone, and a new one begins at its path.
func TestRemove(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "outbox.db")
	if err := outbox.Remove(path); err != nil {
		t.Fatalf("there is none: %v", err)
	}
	open := func() *outbox.Outbox {
		t.Helper()
		o, err := outbox.Open(t.Context(), outbox.Options{Path: path, Reserve: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if err := o.Configure(t.Context(), event.Layout{Topics: []event.Topic{{Name: "t"}}}); err != nil {
			t.Fatal(err)
		}
		return o
	}
	appendOne := func(o *outbox.Outbox) event.Offset {
		t.Helper()
		first, err := o.Commit(t.Context(), event.Commit{Appends: []event.Append{{Topic: "t", Events: []event.Event{{ID: "1", Source: "/s", Type: "t"}}}}})
		if err != nil {
			t.Fatal(err)
		}
		return first[0].First
	}
	o := open()
	appendOne(o)
	var locked *outbox.LockedError
	if err := outbox.Remove(path); !errors.As(err, &locked) || locked.Holder != os.Getpid() {
		t.Errorf("removed under its holder: %v", err)
	}
	if offset := appendOne(o); offset != 2 {
		t.Errorf("offset %d", offset)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if err := outbox.Remove(path); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "outbox.db.lock" {
		t.Errorf("left behind: %v, %v", left, err)
	}
	o = open()
	if offset := appendOne(o); offset != 1 {
		t.Errorf("the new one begins at %d", offset)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
}
