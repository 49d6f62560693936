//go:build stress

package pubsub_test

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"github.com/millrace-run/millrace/outbox/pubsub"
)

// TestStress runs Watermill's suite ten times (or STRESS_TEST_COUNT) at once, against one outbox. The tag also makes the suite's
// own timeouts longer.
func TestStress(t *testing.T) {
	one, ofGroup := constructors(t, pubsub.Config{})
	tests.TestPubSubStressTest(t, ordered, one, ofGroup)
}

func TestStressConcurrent(t *testing.T) {
	one, ofGroup := constructors(t, pubsub.Config{MaxInFlight: 16})
	tests.TestPubSubStressTest(t, concurrent, one, ofGroup)
}
