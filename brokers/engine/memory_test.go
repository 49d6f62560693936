package engine_test

import (
	"testing"

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
	want := event.Capabilities{Atomic: true, Shared: true, Ordered: true, Stateful: true, Dead: true, Dedupe: true}
	if got := memory(t, engine.Options{}).Can(); got != want {
		t.Errorf("Can() = %+v, want %+v", got, want)
	}
}
