package outbox

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/millrace-run/millrace/event"
)

// TestReadersClose: closing waits for the reads under way; those who wait for a connection hear that it is closed.
func TestReadersClose(t *testing.T) {
	b := opened(t, Options{})
	begun, finish := make(chan struct{}), make(chan struct{})
	results := make(chan error, maxReaders+1)
	for range maxReaders {
		go func() {
			results <- b.readers.with(t.Context(), func(*conn) error {
				begun <- struct{}{}
				<-finish
				return nil
			})
		}()
	}
	for range maxReaders {
		<-begun
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.readers.with(ctx, func(*conn) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	waiting := make(chan error)
	go func() { waiting <- b.readers.with(t.Context(), func(*conn) error { return nil }) }()
	closing := make(chan error)
	go func() { closing <- b.Close() }()
	if err := <-waiting; !errors.Is(err, event.ErrClosed) {
		t.Error(err)
	}
	close(finish)
	for range maxReaders {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if err := <-closing; err != nil {
		t.Error(err)
	}
	if err := b.readers.with(t.Context(), func(*conn) error { return nil }); !errors.Is(err, event.ErrClosed) {
		t.Error(err)
	}
}

// TestReadersFail: a connection that cannot be opened takes no place.
func TestReadersFail(t *testing.T) {
	r := newReaders(filepath.Join(t.TempDir(), "missing.db"))
	for range 2 * maxReaders {
		if err := r.with(t.Context(), func(*conn) error { return nil }); err == nil {
			t.Error("there is no file")
		}
	}
	if err := r.close(); err != nil {
		t.Error(err)
	}
}

// TestRingEvicts: what has left the ring is read from disk, and who holds records of it keeps them.
func TestRingEvicts(t *testing.T) {
	b := opened(t, Options{})
	held := event.Event{ID: "held", Data: make([]byte, 2<<20)}
	put(t, b, "0")
	for range 6 {
		if err := commit(t.Context(), b, appending(held)); err != nil {
			t.Fatal(err)
		}
	}
	if b.ring.bytes > ringSize || len(b.ring.blocks) != len(b.ring.byname[b.topic("t")]) {
		t.Errorf("%d bytes, %d blocks", b.ring.bytes, len(b.ring.blocks))
	}
	_, first := b.ring.at(b.topic("t"), 1)
	if _, last := b.ring.at(b.topic("t"), 7); first || !last {
		t.Error("the oldest goes first")
	}
	s := subscribed(t, b, "t/lazy")
	for o := event.Offset(1); o <= 7; {
		records, err := s.Next(t.Context(), 10, 10)
		if err != nil || len(records) == 0 {
			t.Fatal(o, err)
		}
		for _, r := range records {
			if r.Offset != o || o > 1 && len(r.Event.Data) != len(held.Data) {
				t.Errorf("%d with %d bytes, want %d", r.Offset, len(r.Event.Data), o)
			}
			o++
		}
	}
}

// A topic is told of once it has had an event, also when it is no longer named, after a restart and when the event is gone.
func TestTopics(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.db")
	b := opened(t, Options{Path: path})
	layout := event.Layout{Topics: []event.Topic{{Name: "b"}, {Name: "a"}, {Name: "never"}}}
	if err := b.Configure(t.Context(), layout); err != nil {
		t.Fatal(err)
	}
	e := []event.Event{{ID: "1", Source: "/s", Type: "t"}}
	if _, err := b.Commit(t.Context(), event.Commit{Appends: []event.Append{{Topic: "b", Events: e}, {Topic: "a", Events: e}}}); err != nil {
		t.Fatal(err)
	}
	if err := b.Configure(t.Context(), event.Layout{Topics: layout.Topics[1:]}); err != nil {
		t.Fatal(err)
	}
	if got := b.Topics(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("topics %v", got)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if got := opened(t, Options{Path: path}).Topics(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("after a restart: topics %v", got)
	}
}
