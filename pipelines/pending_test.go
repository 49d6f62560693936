package pipelines

import (
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
)

func TestFromAndMaxPending(t *testing.T) {
	at := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	for text, want := range map[string]event.Start{
		"from: now": {}, "timeout: 1s": {}, "from: beginning": {Beginning: true}, "from: 2026-11-20T08:00:00Z": {Time: at},
		"from: '2026-11-20T09:00:00+01:00'": {Time: at},
	} {
		if s := timed(t, text); s.From != want || s.MaxPending != nil {
			t.Errorf("%s: %+v, %+v", text, s.From, s.MaxPending)
		}
	}
	s := timed(t, "max_pending: { events: 1000, bytes: 1MiB, age: 1h }, overflow: reject")
	if *s.MaxPending != (MaxPending{Events: 1000, Bytes: 1 << 20, Age: time.Hour}) || s.Overflow != OverflowReject {
		t.Errorf("%+v %s", *s.MaxPending, s.Overflow)
	}
	if s = timed(t, "max_pending: { events: 1 }"); s.Overflow != OverflowBlock {
		t.Error(s.Overflow)
	}
}
