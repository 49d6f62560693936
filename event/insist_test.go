package event

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestInsist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, tries, told := time.Now(), 0, 0
		end := errors.New("over")
		err := Insist(t.Context(), SystemClock{}, func() error {
			tries++
			return [...]error{ErrFull, ErrBusy, ErrFull, ErrFull, ErrFull, ErrFull, ErrFull, ErrFull, ErrFull, end}[tries-1]
		}, func(error) { told++ })
		// 50 ms doubles seven times before it would pass 5 s.
		if want := 6350*time.Millisecond + 10*time.Second; err != end || tries != 10 || told != 2 || time.Since(began) != want {
			t.Errorf("%v after %d tries in %v, told %d times", err, tries, time.Since(began), told)
		}
	})
}

func TestInsistHearsItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("stopped")
		time.AfterFunc(time.Hour, func() { cancel(why) })
		if err := Insist(ctx, SystemClock{}, func() error { return ErrFull }, nil); err != why {
			t.Error(err)
		}
	})
}
