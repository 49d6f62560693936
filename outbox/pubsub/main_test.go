package pubsub_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain runs the tests, or the work of a child that TestReconnect has started.
func TestMain(m *testing.M) {
	if path := os.Getenv("PUBSUB_CHILD"); path != "" {
		os.Exit(child(path))
	}
	goleak.VerifyTestMain(m)
}
