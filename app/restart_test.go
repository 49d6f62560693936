package app

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-run/millrace/event"
)

func TestSourcesStartAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		begun := time.Now()
		var starts []time.Duration
		keep(ctx, func(ctx context.Context) error {
			starts = append(starts, time.Since(begun))
			switch len(starts) {
			case 2:
				panic("broken")
			case 8:
				<-time.After(time.Minute) // long enough to begin anew
			case 10:
				cancel()
			}
			return errors.New("the origin is gone")
		}, event.SystemClock{}, quiet)
		var pauses []time.Duration
		for i := 1; i < len(starts); i++ {
			pauses = append(pauses, starts[i]-starts[i-1])
		}
		want := []time.Duration{1, 2, 4, 8, 16, 30, 30, 61, 2}
		for i, w := range want {
			if i >= len(pauses) || pauses[i] != w*time.Second {
				t.Fatalf("pauses %v, want %v seconds", pauses, want)
			}
		}
	})
}

func TestSourcesEndWithTheirContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			keep(ctx, func(context.Context) error { return errors.New("no") }, event.SystemClock{}, quiet)
		}()
		synctest.Wait() // in its pause
		cancel()
		<-done
	})
}
