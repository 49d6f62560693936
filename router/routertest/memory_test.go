package routertest_test

import (
	"context"
	"errors"
	"testing"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/router"
	"github.com/millrace-run/millrace/router/routertest"
)

// TestMemory runs the suite on the log that the suite compares others with.
func TestMemory(t *testing.T) {
	logs := map[string]*routertest.Memory{} // by folder, as files would be
	routertest.Run(t, routertest.Harness{Open: func(_ *testing.T, dir string) (router.Log, func() error) {
		if logs[dir] == nil {
			logs[dir] = routertest.NewMemory()
		} else {
			logs[dir] = logs[dir].Reopen()
		}
		return logs[dir], logs[dir].Close
	}})
}

func TestMemoryRefuses(t *testing.T) {
	m := routertest.NewMemory()
	ctx := t.Context()
	if err := m.Configure(ctx, event.Layout{Topics: []event.Topic{{Name: "a", Subscriptions: []string{"a/1"}}}}); err != nil {
		t.Fatal(err)
	}
	one := event.Commit{Appends: []event.Append{{Topic: "a", Events: []event.Event{{ID: "1", Source: "s", Type: "t"}}}}}
	m.Refuse(func(event.Commit) error { return event.ErrFull })
	if _, err := m.Commit(ctx, one); !errors.Is(err, event.ErrFull) {
		t.Errorf("commit = %v, want ErrFull", err)
	}
	m.Refuse(nil)
	if first, err := m.Commit(ctx, one); err != nil || first[0].First != 1 {
		t.Errorf("commit = %v, %v, want offset 1", first, err)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := m.Commit(canceled, one); !errors.Is(err, event.ErrBusy) {
		t.Errorf("commit = %v, want ErrBusy", err)
	}
}
