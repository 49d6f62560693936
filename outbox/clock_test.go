package outbox

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-run/millrace/event"
)

// TestClockJumpsAndRows: rows that were written by a clock which was ahead wait their pause, not until that clock would be right.
func TestClockJumpsAndRows(t *testing.T) {
	for name, jump := range map[string]time.Duration{"hour": time.Hour, "year": 365 * 24 * time.Hour} {
		for _, again := range []bool{false, true} {
			t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { rowsAfterJump(t, jump, again) }) })
		}
	}
}

func rowsAfterJump(t *testing.T, jump time.Duration, again bool) {
	b, clock := keeping(t, Options{})
	s := subscribed(t, b, "t/eager")
	receive(t, b, "t", 10, 4)
	ahead := clock.Now().Add(jump)
	row := func(o event.Offset, last, next time.Time, state event.ExceptionState) event.Outcome {
		return event.Outcome{Offset: o, Exception: &event.Exception{
			State: state, Reason: event.ReasonFailed, FirstAt: last, LastAt: last, NextAt: next,
		}}
	}
	look := func() []event.Exceptional {
		t.Helper()
		rows, _, err := s.Due(t.Context(), clock.Now(), 10)
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	settle(t, b, "t/eager", row(1, clock.Now(), clock.Now().Add(10*time.Minute), event.Retry))
	clock.by.Store(int64(jump))
	settle(t, b, "t/eager", row(2, ahead, ahead.Add(20*time.Minute), event.Retry),
		row(3, ahead, time.Time{}, event.Dead), row(4, ahead, time.Time{}, event.Dead))
	if got := look(); len(got) != 1 || got[0].Record.Offset != 1 {
		t.Fatalf("while the clock is ahead: %+v", got)
	}
	letters, err := b.DeadLetters(t.Context(), event.DeadQuery{})
	if err != nil || len(letters) != 2 {
		t.Fatal(letters, err)
	}
	if _, err := b.Redrive(t.Context(), event.DeadQuery{IDs: []int64{letters[0].ID}}); err != nil {
		t.Fatal(err)
	}
	clock.by.Store(0)
	if again {
		s = subscribed(t, b, "t/eager")
	}
	got := look()
	if len(got) != 1 {
		t.Fatalf("%d rows at once: %+v", len(got), got)
	}
	if got[0].Record.Offset != 3 || got[0].Exception.NextAt.After(clock.Now()) {
		t.Errorf("the redriven one: %+v", got[0])
	}
	pass(21 * time.Minute)
	found := map[event.Offset]event.Exception{}
	for _, x := range look() {
		found[x.Record.Offset] = x.Exception
	}
	x, ok := found[2]
	if _, first := found[1]; !ok || first != again || x.LastAt.After(clock.Now()) || x.FirstAt.After(clock.Now()) {
		t.Errorf("after its pause: %+v", found)
	}
	if letters, err = b.DeadLetters(t.Context(), event.DeadQuery{}); err != nil || len(letters) != 1 || letters[0].Exception.LastAt != ahead.UTC() {
		t.Errorf("dead letters wait for nothing and stay as they are: %+v, %v", letters, err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestClockJumpsAndHistory: a clock that is ahead purges what is settled and nothing else; when it is back, what came meanwhile
// ages from then on.
func TestClockJumpsAndHistory(t *testing.T) {
	for name, jump := range map[string]time.Duration{"hour": time.Hour, "year": 365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { historyAfterJump(t, jump) }) })
	}
}

func historyAfterJump(t *testing.T, jump time.Duration) {
	b, clock := keeping(t, Options{Retention: Retention{Age: 30 * time.Minute}})
	for range 3 {
		receive(t, b, "t", 10, 1)
	}
	settle(t, b, "t/eager", all(1, 3)...)
	settle(t, b, "t/lazy", all(1, 2)...)
	clock.by.Store(int64(jump))
	receive(t, b, "t", 10, 1)
	for range 300 {
		receive(t, b, "t", 10, 1)
	}
	pass(2 * time.Second)
	purgedTo(t, b, "t", 2)
	for o := event.Offset(4); o <= 304; o++ {
		settle(t, b, "t/eager", all(o, o)...)
	}
	settle(t, b, "t/lazy", all(3, 304)...)
	clock.by.Store(0)
	pass(5 * time.Minute)
	purgedTo(t, b, "t", 2) // the third is not too old yet
	receive(t, b, "t", 10, 1)
	settle(t, b, "t/eager", all(305, 305)...)
	settle(t, b, "t/lazy", all(305, 305)...)
	pass(31 * time.Minute)
	purgedTo(t, b, "t", 305)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}
