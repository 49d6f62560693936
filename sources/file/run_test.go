package file

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-run/millrace/event"
)

// running is a source that runs in a bubble, in which time passes at once.
func running(t *testing.T, ctx context.Context, dir string, emit Emit) <-chan error { //nolint:revive // t belongs first
	t.Helper()
	c := Defaults()
	c.Path = filepath.Join(dir, "*.txt")
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(ctx, emit); err == nil || !strings.Contains(err.Error(), "not opened") {
		t.Errorf("it runs without its state: %v", err)
	}
	if err := s.Open(ctx, nil, nil); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, emit) }()
	return ended
}

// A log that is full or busy gets the same batch until it takes it, and a file that comes later is found.
func TestRunWaitsForTheLog(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		answers := []error{event.ErrFull, event.ErrBusy, nil, nil}
		var got []string
		ended := running(t, ctx, dir, func(_ context.Context, b event.Batch) ([]string, error) {
			err := answers[0]
			answers = answers[1:]
			for _, e := range b.Events {
				got = append(got, string(e.Data))
			}
			return nil, err
		})
		write := func(name, text string) {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			<-time.After(10 * time.Second) // of the bubble
			synctest.Wait()
		}
		write("a.txt", "a\n")
		write("b.txt", "b\n")
		if strings.Join(got, "") != "aaab" || len(answers) != 0 {
			t.Errorf("%q, %d answers are left", got, len(answers))
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// After any other failure nobody knows what is committed: the source ends, to be opened again.
func TestRunEndsWhenTheLogFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.txt"), []byte("a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ended := running(t, t.Context(), dir, func(context.Context, event.Batch) ([]string, error) { return nil, event.ErrUnknown })
		if err := <-ended; !errors.Is(err, event.ErrUnknown) {
			t.Error(err)
		}
	})
}

// A stop is heard while the log takes nothing.
func TestRunHearsItsContext(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.txt"), []byte("a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		calls := 0
		ended := running(t, ctx, dir, func(context.Context, event.Batch) ([]string, error) {
			if calls++; calls == 5 {
				stop()
			}
			return nil, event.ErrFull
		})
		if err := <-ended; err != nil || calls != 5 {
			t.Error(err, calls)
		}
	})
}
