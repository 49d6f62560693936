package webhook

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestLimitsAreSharedForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l limits
		began := time.Now()
		first := l.next(5 * time.Second)
		<-time.After(249 * time.Millisecond)
		if l.next(5*time.Second) != first {
			t.Error("a request shortly after another has a limit of its own")
		}
		<-time.After(time.Millisecond)
		second := l.next(5 * time.Second)
		for i, c := range []context.Context{first, second} {
			if c.Err() != nil {
				t.Errorf("limit %d: %v before its time", i, c.Err())
			}
			<-c.Done()
			want := began.Add(5*time.Second + time.Duration(i)*250*time.Millisecond)
			if until, ok := c.Deadline(); !ok || !until.Equal(want) || !time.Now().Equal(want) {
				t.Errorf("limit %d ended at %v and said %v, want %v", i, time.Now(), until, want)
			}
			if !errors.Is(c.Err(), context.DeadlineExceeded) || c.Value(i) != nil {
				t.Errorf("limit %d: %v", i, c.Err())
			}
		}
	})
}
