package outbox

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain runs the tests, or the work of a child that a crash test has started.
func TestMain(m *testing.M) {
	if scenario := os.Getenv("OUTBOX_CHILD"); scenario != "" {
		os.Exit(child(scenario))
	}
	goleak.VerifyTestMain(m)
}
