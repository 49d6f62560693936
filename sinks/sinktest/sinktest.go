// Package sinktest is the conformance suite of sinks: what the router relies on, whatever a sink writes to.
package sinktest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace-run/millrace/event"
)

// Sink is what the router calls. It and Stateful say what router.Sink and router.Stateful say; they stand here so that a sink's
// tests do not build the router.
type Sink interface {
	Deliver(ctx context.Context, batch []event.Delivery) event.Settling
}

// Stateful is a sink with state.
type Stateful interface {
	Open(ctx context.Context, state map[string][]byte, save func(context.Context, event.Changes) error) error
}

// Harness tells the suite how to make a sink.
type Harness struct {
	// New makes a fresh destination and a sink that delivers to it. What it starts is ended by Subject.Close.
	New func(t *testing.T) *Subject
	// Serial says that Deliver is never called concurrently, and that events arrive in the order of their delivery.
	Serial bool
	// Upsert says that an event that comes again takes the place of what is there.
	Upsert bool
	// Deaf says why a delivery that waits for its destination cannot be interrupted; empty if it can.
	Deaf string
}

// Subject is one sink with its destination.
type Subject struct {
	Sink Sink
	// Received returns what the destination has accepted, in order of arrival.
	Received func(t *testing.T) []Received
	// Down makes the destination fail until Up is called.
	Down, Up func()
	// Stall makes the destination take what comes without answering, until release is called. reached receives a value when a
	// delivery has got that far.
	Stall func() (reached <-chan struct{}, release func())
	// Verdicts are answers of the destination, or faults of events, and what the sink must make of them.
	Verdicts []Verdict
	// Close ends the sink and the destination.
	Close func()
}

// Received is one accepted event. Key is the idempotency key, empty where the destination sees none.
type Received struct {
	ID   string
	Key  string
	Data []byte
}

// Verdict is one case of a failed attempt.
type Verdict struct {
	Name    string
	Prepare func()                      // brings the destination there; may be nil
	Spoil   func(ev *event.Event)       // makes the event what the case needs; may be nil
	Class   event.Class                 // what the failure must be
	Check   func(f event.Failure) error // looks closer; may be nil
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, s *session)
	}{
		{"delivers", delivers},
		{"empty batch", emptyBatch},
		{"large event", largeEvent},
		{"same event again", again},
		{"hears a context that ended", hearsEnded},
		{"hears a context that ends", hearsEnding},
		{"waits for a slow peer", slowPeer},
		{"peer down then up", downThenUp},
		{"verdicts", verdicts},
		{"concurrent", concurrent},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			s := &session{Harness: h, Subject: h.New(t), state: map[string][]byte{}}
			s.open(t)
			c.run(t, s)
			s.Close()
			if err := goleak.Find(before); err != nil {
				t.Errorf("goroutines are left behind: %v", err)
			}
		})
	}
}

// session is a sink with the part of the router that commits its state.
type session struct {
	Harness
	*Subject
	mu    sync.Mutex // guards state
	state map[string][]byte
}

func (s *session) open(t *testing.T) {
	t.Helper()
	stateful, ok := s.Sink.(Stateful)
	if !ok {
		return
	}
	s.mu.Lock()
	state := maps.Clone(s.state)
	s.mu.Unlock()
	if err := stateful.Open(t.Context(), state, s.save); err != nil {
		t.Fatalf("open: %v", err)
	}
}

func (s *session) save(_ context.Context, changes event.Changes) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range changes {
		if v == nil {
			delete(s.state, k)
		} else {
			s.state[k] = bytes.Clone(v)
		}
	}
	return nil
}

// deliver calls the sink and commits what it answers.
func (s *session) deliver(ctx context.Context, t *testing.T, batch ...event.Delivery) []error {
	t.Helper()
	out := s.Sink.Deliver(ctx, batch)
	if len(out.Verdicts) != len(batch) {
		t.Errorf("%d verdicts for %d deliveries", len(out.Verdicts), len(batch))
		return make([]error, len(batch))
	}
	_ = s.save(ctx, out.Changes)
	return out.Verdicts
}

func (s *session) accept(t *testing.T, batch ...event.Delivery) {
	t.Helper()
	for i, err := range s.deliver(t.Context(), t, batch...) {
		if err != nil {
			t.Errorf("event %s: %v", batch[i].Event.ID, err)
		}
	}
}

// delivery returns the delivery of an event whose data tells its number.
func delivery(n int) event.Delivery {
	return event.Delivery{
		Event: &event.Event{
			ID: fmt.Sprintf("e-%d", n), Source: "/sinktest", Type: "test.event", DataContentType: "application/json",
			Data: fmt.Appendf(nil, `{"n":%d,"text":"a\"b\\c \u00e4 ü"}`, n), Received: time.Unix(1700000000, 0).UTC(),
		},
		Key: fmt.Sprintf("%032x", n), Attempt: 1,
	}
}

func deliveries(n int) []event.Delivery {
	batch := make([]event.Delivery, n)
	for i := range batch {
		batch[i] = delivery(i)
	}
	return batch
}

// expect compares what arrived with what was sent, in order if ordered.
func (s *session) expect(t *testing.T, ordered bool, sent ...event.Delivery) {
	t.Helper()
	got := s.Received(t)
	if !ordered {
		slices.SortStableFunc(got, func(a, b Received) int { return strings.Compare(a.ID, b.ID) })
		sent = slices.Clone(sent)
		slices.SortStableFunc(sent, func(a, b event.Delivery) int { return strings.Compare(a.Event.ID, b.Event.ID) })
	}
	if len(got) != len(sent) {
		t.Fatalf("%d events arrived, want %d", len(got), len(sent))
	}
	for i, g := range got {
		want := sent[i]
		if g.ID != want.Event.ID {
			t.Errorf("event %d is %s, want %s", i, g.ID, want.Event.ID)
		}
		if g.Key != "" && g.Key != want.Key {
			t.Errorf("event %s has the key %s, want %s", g.ID, g.Key, want.Key)
		}
		if !bytes.Equal(g.Data, want.Event.Data) {
			t.Errorf("event %s has %d bytes of data that differ from the %d sent", g.ID, len(g.Data), len(want.Event.Data))
		}
	}
}

func delivers(t *testing.T, s *session) {
	batch := deliveries(20)
	for _, d := range batch[:5] {
		s.accept(t, d)
	}
	s.accept(t, batch[5:]...)
	s.expect(t, s.Serial, batch...)
}

func emptyBatch(t *testing.T, s *session) {
	s.accept(t)
	s.expect(t, true)
}

func largeEvent(t *testing.T, s *session) {
	d := delivery(1)
	d.Event.Data = fmt.Appendf(nil, `{"n":1,"text":"%s"}`, strings.Repeat("0123456789abcdef", 1<<16))
	s.accept(t, d)
	s.expect(t, true, d)
}

// again: the router decides what is delivered twice, a sink does not drop what it has seen.
func again(t *testing.T, s *session) {
	d := delivery(1)
	s.accept(t, d)
	d.Attempt = 2
	s.accept(t, d)
	if s.Upsert {
		s.expect(t, true, d)
		return
	}
	s.expect(t, true, d, d)
}

func hearsEnded(t *testing.T, s *session) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	unavailable(t, s.deliver(ctx, t, deliveries(3)...))
	s.expect(t, true)
}

func hearsEnding(t *testing.T, s *session) {
	if s.Deaf != "" {
		t.Skip(s.Deaf)
	}
	reached, release := s.Stall()
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan []error, 1)
	go func() { done <- s.deliver(ctx, t, deliveries(2)...) }()
	await(t, reached, "the delivery to reach the destination")
	cancel()
	unavailable(t, await(t, done, "the delivery to hear its context"))
}

func slowPeer(t *testing.T, s *session) {
	reached, release := s.Stall()
	d := delivery(1)
	done := make(chan []error, 1)
	go func() { done <- s.deliver(t.Context(), t, d) }()
	await(t, reached, "the delivery to reach the destination")
	select {
	case v := <-done:
		t.Errorf("answered %v before the destination did", v)
		release()
	default:
		release()
		if v := await(t, done, "the delivery to end"); v[0] != nil {
			t.Errorf("a slow answer is an answer: %v", v[0])
		}
	}
	s.expect(t, true, d)
}

func downThenUp(t *testing.T, s *session) {
	first, second := delivery(1), delivery(2)
	s.accept(t, first)
	s.Down()
	for attempt := range 3 {
		second.Attempt = attempt + 1
		unavailable(t, s.deliver(t.Context(), t, second))
	}
	s.Up()
	second.Attempt = 4
	s.accept(t, second)
	s.expect(t, true, first, second)
}

func verdicts(t *testing.T, s *session) {
	if len(s.Verdicts) == 0 {
		t.Fatal("the harness has no verdicts")
	}
	for i, c := range s.Verdicts {
		if c.Prepare != nil {
			c.Prepare()
		}
		d := delivery(i)
		if c.Spoil != nil {
			c.Spoil(d.Event)
		}
		err := s.deliver(t.Context(), t, d)[0]
		if err == nil {
			t.Errorf("%s: accepted", c.Name)
			continue
		}
		f := event.VerdictOf(err)
		if f.Class != c.Class {
			t.Errorf("%s: class %d, want %d: %v", c.Name, f.Class, c.Class, err)
		}
		if c.Check != nil {
			if err := c.Check(f); err != nil {
				t.Errorf("%s: %v", c.Name, err)
			}
		}
	}
}

func concurrent(t *testing.T, s *session) {
	if s.Serial {
		t.Skip("the sink is serial")
	}
	batch := deliveries(128)
	var group sync.WaitGroup
	for part := range slices.Chunk(batch, 8) {
		group.Go(func() {
			for _, d := range part {
				s.accept(t, d)
			}
		})
	}
	group.Wait()
	s.expect(t, false, batch...)
}

func unavailable(t *testing.T, verdicts []error) {
	t.Helper()
	for i, err := range verdicts {
		if err == nil {
			t.Errorf("event %d was accepted", i)
		} else if f := event.VerdictOf(err); f.Class != event.UnavailableClass {
			t.Errorf("event %d: class %d, want Unavailable: %v", i, f.Class, err)
		}
	}
}

// await receives a value, or fails the test after a time that no healthy machine needs.
func await[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(30 * time.Second):
		t.Fatalf("gave up waiting for %s", what)
		panic("unreachable")
	}
}
