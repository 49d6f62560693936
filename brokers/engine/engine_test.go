package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-run/millrace/brokers/engine"
	"github.com/millrace-run/millrace/event"
)

var layout = event.Layout{Topics: []event.Topic{
	{Name: "a", Subscriptions: []string{"a/1", "a/2"}},
	{Name: "b", Subscriptions: []string{"b/1"}},
}}

func configure(t *testing.T, e *engine.Engine, l event.Layout) {
	t.Helper()
	if err := e.Configure(t.Context(), l); err != nil {
		t.Fatal(err)
	}
}

func events(n, size int) []event.Event {
	list := make([]event.Event, n)
	for i := range list {
		list[i] = event.Event{ID: fmt.Sprint(i), Source: "s", Type: "t", Data: make([]byte, size), Received: time.Unix(1, 0).UTC()}
	}
	return list
}

func appending(topic string, list []event.Event) event.Commit {
	return event.Commit{Appends: []event.Append{{Topic: topic, Events: list}}}
}

func commit(t *testing.T, e *engine.Engine, c event.Commit) {
	t.Helper()
	if _, err := e.Commit(t.Context(), c); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

// reader is a subscription whose calls must succeed.
type reader struct {
	t   *testing.T
	sub event.Subscription
}

func subscribe(t *testing.T, e *engine.Engine, name string) reader {
	t.Helper()
	sub, err := e.Subscribe(name)
	if err != nil {
		t.Fatal(err)
	}
	return reader{t, sub}
}

// take waits for n records.
func (r reader) take(n int) []event.Record {
	r.t.Helper()
	var got []event.Record
	for len(got) < n {
		recs, err := r.sub.Next(r.t.Context(), math.MaxInt64, n-len(got))
		if err != nil {
			r.t.Fatal(err)
		}
		if len(recs) == 0 {
			<-r.sub.Wake()
		}
		got = append(got, recs...)
	}
	return got
}

func (r reader) settle(outcomes ...event.Outcome) {
	r.t.Helper()
	if err := r.sub.Settle(r.t.Context(), outcomes); err != nil {
		r.t.Fatal(err)
	}
}

func dead(attempts int) *event.Exception {
	return &event.Exception{State: event.Dead, Reason: event.ReasonPermanent, Attempts: attempts}
}

// TestFullWaits: a commit for which there is no room waits until every subscription has settled enough, and no longer.
func TestFullWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := memory(t, engine.Options{MaxEvents: 10}) // 9 for those that only append
		configure(t, e, layout)
		commit(t, e, appending("a", events(9, 1)))
		done := make(chan error, 1)
		go func() {
			_, err := e.Commit(t.Context(), appending("b", events(2, 1)))
			done <- err
		}()
		waits := func(why string) {
			t.Helper()
			synctest.Wait()
			select {
			case err := <-done:
				t.Fatalf("the commit did not wait %s: %v", why, err)
			default:
			}
		}
		waits("although there is no room")
		one, two := subscribe(t, e, "a/1"), subscribe(t, e, "a/2")
		one.settle(event.Outcome{Offset: 1}, event.Outcome{Offset: 2}, event.Outcome{Offset: 3})
		waits("for the second subscription")
		two.settle(event.Outcome{Offset: 1})
		waits("for room for both events")
		two.settle(event.Outcome{Offset: 3, Exception: dead(1)}) // a dead letter is not in flight
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		subscribe(t, e, "b/1").take(2)
	})
}

// TestFullRefuses: the caller that stops waiting hears ErrFull, and nothing was stored.
func TestFullRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := memory(t, engine.Options{MaxBytes: 10_000})
		configure(t, e, layout)
		commit(t, e, appending("a", events(1, 7000)))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := e.Commit(ctx, appending("b", events(1, 3000)))
		if !errors.Is(err, event.ErrFull) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("commit = %v, want ErrFull and the deadline", err)
		}
		if _, head := subscribe(t, e, "b/1").sub.Position(); head != 0 {
			t.Errorf("%d events were stored", head)
		}
		if _, err := e.Commit(t.Context(), appending("b", events(1, 9000))); !errors.Is(err, event.ErrFull) {
			t.Errorf("a commit that never fits: %v, want ErrFull", err)
		}
	})
}

// TestFullDrains: the last tenth is for commits that settle something.
func TestFullDrains(t *testing.T) {
	e := memory(t, engine.Options{MaxEvents: 10})
	configure(t, e, layout)
	commit(t, e, appending("a", events(9, 1)))
	c := appending("b", events(1, 1))
	c.Settles = []event.Settle{{Subscription: "a/1", Outcomes: []event.Outcome{{Offset: 1}}}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := e.Commit(ctx, c); err != nil {
		t.Errorf("a commit that settles was refused: %v", err)
	}
}

// TestNobodyOwes: events without subscriptions take no room.
func TestNobodyOwes(t *testing.T) {
	e := memory(t, engine.Options{MaxEvents: 10})
	configure(t, e, event.Layout{Topics: []event.Topic{{Name: "a"}}})
	for range 10 {
		commit(t, e, appending("a", events(9, 1)))
	}
}

// TestRoomComesBack: whatever becomes of an event, its room comes back in the end.
func TestRoomComesBack(t *testing.T) {
	e := memory(t, engine.Options{MaxEvents: 10})
	configure(t, e, layout)
	one, two := subscribe(t, e, "a/1"), subscribe(t, e, "a/2")
	for round := range event.Offset(5) {
		commit(t, e, appending("a", events(9, 1)))
		for o := round*9 + 1; o <= round*9+9; o++ {
			retry := &event.Exception{State: event.Retry, NextAt: time.Unix(1, 0)}
			one.settle(event.Outcome{Offset: o, Exception: retry})
			one.settle(event.Outcome{Offset: o, Exception: dead(1), Row: true})
			two.settle(event.Outcome{Offset: o, Exception: dead(1)})
		}
		if n, err := e.Redrive(t.Context(), event.DeadQuery{}); n != 18 || err != nil {
			t.Fatalf("redrive = %d, %v", n, err)
		}
		for o := round*9 + 1; o <= round*9+9; o++ {
			one.settle(event.Outcome{Offset: o, Row: true})
			two.settle(event.Outcome{Offset: o, Exception: &event.Exception{State: event.Retry}, Row: true})
			two.settle(event.Outcome{Offset: o, Row: true})
		}
	}
}

// TestDeadLettersAreBounded: beyond the bound the oldest is forgotten and counted.
func TestDeadLettersAreBounded(t *testing.T) {
	for name, o := range map[string]engine.Options{"count": {MaxDead: 3}, "bytes": {MaxDeadBytes: 3 * 1600}} {
		t.Run(name, func(t *testing.T) {
			e := memory(t, o)
			configure(t, e, layout)
			commit(t, e, appending("b", events(5, 1000)))
			r := subscribe(t, e, "b/1")
			for _, rec := range r.take(5) {
				r.settle(event.Outcome{Offset: rec.Offset, Exception: dead(int(rec.Offset))})
			}
			list, err := e.DeadLetters(t.Context(), event.DeadQuery{})
			if err != nil || len(list) != 3 || list[0].Record.Offset != 3 || e.Forgotten() != 2 {
				t.Errorf("dead letters %v, %v; %d forgotten, want the last three", list, err, e.Forgotten())
			}
			if rows, err := r.sub.Rows(t.Context(), 1, 5); err != nil || len(rows) != 3 {
				t.Errorf("rows %v, %v; want the last three", rows, err)
			}
		})
	}
}

// TestCloseWakesWaiting: a commit that waits for room is answered when the engine closes.
func TestCloseWakesWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := memory(t, engine.Options{MaxEvents: 10})
		configure(t, e, layout)
		commit(t, e, appending("a", events(9, 1)))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if _, err := e.Commit(t.Context(), appending("a", events(1, 1))); !errors.Is(err, event.ErrClosed) {
					t.Errorf("commit = %v, want ErrClosed", err)
				}
			})
		}
		synctest.Wait()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
}

// TestConfigureRefuses: a layout that can't be changes nothing.
func TestConfigureRefuses(t *testing.T) {
	e := memory(t, engine.Options{})
	configure(t, e, layout)
	for name, topics := range map[string][]event.Topic{
		"topic twice":        {{Name: "a"}, {Name: "a"}},
		"subscription twice": {{Name: "a", Subscriptions: []string{"x"}}, {Name: "b", Subscriptions: []string{"x"}}},
		"other topic":        {{Name: "a", Subscriptions: []string{"b/1"}}},
	} {
		if err := e.Configure(t.Context(), event.Layout{Topics: topics}); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	commit(t, e, appending("a", events(1, 1)))
	subscribe(t, e, "a/1").take(1)
	if _, err := e.Subscribe("x"); err == nil {
		t.Error("a subscription of a refused layout exists")
	}
}

// TestConnectFails: when one subscription can't be connected, the layout stays as it was, and a later attempt may succeed.
func TestConnectFails(t *testing.T) {
	b := newBroker()
	e := over(t, b, engine.Options{})
	refused := errors.New("no such group")
	b.connect = func(group string) error {
		if group == "b/1" {
			return refused
		}
		return nil
	}
	if err := e.Configure(t.Context(), layout); !errors.Is(err, refused) {
		t.Fatalf("configure = %v, want the broker's error", err)
	}
	if _, err := e.Subscribe("a/1"); err == nil {
		t.Error("a subscription of a failed layout exists")
	}
	b.connect = nil
	configure(t, e, layout)
	commit(t, e, appending("a", events(1, 1)))
	subscribe(t, e, "a/1").take(1)
}

// TestPublishFails: nobody knows what the broker has, so the answer is neither yes nor no, and nothing was settled.
func TestPublishFails(t *testing.T) {
	b := newBroker()
	e := over(t, b, engine.Options{})
	configure(t, e, layout)
	commit(t, e, appending("a", events(1, 1)))
	r := subscribe(t, e, "a/1")
	recs := r.take(1)
	down := errors.New("connection refused")
	b.publish = func(string) error { return down }
	c := appending("b", events(1, 1))
	c.Settles = []event.Settle{{Subscription: "a/1", Outcomes: []event.Outcome{{Offset: recs[0].Offset}}}}
	if _, err := e.Commit(t.Context(), c); !errors.Is(err, event.ErrUnknown) || !errors.Is(err, down) {
		t.Errorf("commit = %v, want ErrUnknown and the cause", err)
	}
	if cursor, _ := r.sub.Position(); cursor != 0 {
		t.Errorf("the cursor went on to %d", cursor)
	}
	b.publish = nil
	commit(t, e, c)
	if cursor, _ := r.sub.Position(); cursor != 1 {
		t.Errorf("the cursor is at %d, want 1", cursor)
	}
}

// TestStateRefused: what a broker can't keep is refused, not dropped.
func TestStateRefused(t *testing.T) {
	e := over(t, newBroker(), engine.Options{})
	configure(t, e, layout)
	c := event.Commit{States: []event.State{{Owner: "o", Changes: event.Changes{"k": []byte("v")}}}}
	if _, err := e.Commit(t.Context(), c); err == nil {
		t.Error("state was accepted")
	}
}

// TestAcknowledges: the broker hears of an event when it is settled for good, not of one that waits or is dead.
func TestAcknowledges(t *testing.T) {
	b := newBroker()
	e := over(t, b, engine.Options{})
	configure(t, e, layout)
	commit(t, e, appending("b", events(4, 1)))
	r := subscribe(t, e, "b/1")
	recs := r.take(4)
	r.settle(event.Outcome{Offset: recs[0].Offset})
	r.settle(event.Outcome{Offset: recs[1].Offset, Exception: dead(1)})
	r.settle(event.Outcome{Offset: recs[2].Offset, Exception: &event.Exception{State: event.Retry}})
	if n := b.unsettled("b/1"); n != 3 {
		t.Errorf("%d messages are not acknowledged, want 3", n)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}

	again := over(t, b, engine.Options{}) // a restart: the broker hands out again what was not acknowledged
	configure(t, again, layout)
	r = subscribe(t, again, "b/1")
	for i, rec := range r.take(3) {
		if rec.Event.ID != recs[i+1].Event.ID {
			t.Errorf("record %d is event %s, want %s", i, rec.Event.ID, recs[i+1].Event.ID)
		}
		r.settle(event.Outcome{Offset: rec.Offset})
	}
	if n := b.unsettled("b/1"); n != 0 {
		t.Errorf("%d messages are not acknowledged, want none", n)
	}
}

// TestHoldsNoMore: over a broker a subscription takes no more than its bound, and goes on when something was settled; another
// one is not held up.
func TestHoldsNoMore(t *testing.T) {
	for name, o := range map[string]engine.Options{"events": {MaxEvents: 3}, "bytes": {MaxBytes: 3 * 1500}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := over(t, newBroker(), o)
				configure(t, e, layout)
				commit(t, e, appending("a", events(10, 1000)))
				slow, quick := subscribe(t, e, "a/1"), subscribe(t, e, "a/2")
				for range 10 {
					quick.settle(event.Outcome{Offset: quick.take(1)[0].Offset})
				}
				synctest.Wait()
				if _, head := slow.sub.Position(); head != 3 {
					t.Errorf("it took %d messages, want 3", head)
				}
				for range 10 {
					slow.settle(event.Outcome{Offset: slow.take(1)[0].Offset})
				}
			})
		})
	}
}

// TestRemovedGivesBack: what a removed subscription held belongs to the broker, which hands it out when it is named again.
func TestRemovedGivesBack(t *testing.T) {
	b := newBroker()
	e := over(t, b, engine.Options{})
	configure(t, e, layout)
	commit(t, e, appending("b", events(3, 1)))
	r := subscribe(t, e, "b/1")
	recs := r.take(3)
	r.settle(event.Outcome{Offset: recs[0].Offset}, event.Outcome{Offset: recs[1].Offset, Exception: dead(1)})
	configure(t, e, event.Layout{Topics: layout.Topics[:1]})
	if list, err := e.DeadLetters(t.Context(), event.DeadQuery{}); err != nil || len(list) != 0 {
		t.Errorf("dead letters of the removed subscription: %v, %v", list, err)
	}
	configure(t, e, layout)
	r = subscribe(t, e, "b/1")
	for i, rec := range r.take(2) {
		if rec.Event.ID != recs[i+1].Event.ID {
			t.Errorf("record %d is event %s, want %s", i, rec.Event.ID, recs[i+1].Event.ID)
		}
	}
}

// TestForeignMessages: a CloudEvent that others published is taken; what is none becomes a dead letter with its bytes.
func TestForeignMessages(t *testing.T) {
	b := newBroker()
	e := over(t, b, engine.Options{})
	configure(t, e, layout)
	garbage := message.NewMessage("uuid-1", []byte("garbage"))
	foreign := message.NewMessage("uuid-2", []byte("{}"))
	foreign.Metadata = message.Metadata{
		"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "t", "ce-tenant": "x",
		"content-type": "application/json", "other": "y",
	}
	if err := b.Publish("b", garbage, foreign); err != nil {
		t.Fatal(err)
	}
	got := subscribe(t, e, "b/1").take(1)[0].Event
	tenant, _ := got.Extension("tenant")
	if got.ID != "1" || string(got.Data) != "{}" || got.Received.IsZero() || len(got.Extensions) != 1 || tenant.Text != "x" {
		t.Errorf("the foreign event is %+v", got)
	}
	list, err := e.DeadLetters(t.Context(), event.DeadQuery{})
	if err != nil || len(list) != 1 || string(list[0].Record.Event.Data) != "garbage" || list[0].Exception.Error == "" {
		t.Errorf("dead letters are %v, %v", list, err)
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := engine.New(engine.Broker{}, engine.Options{}); err == nil {
		t.Error("an engine without a broker was made")
	}
}

// BenchmarkMemory is one event at a time through the memory engine to one subscription.
func BenchmarkMemory(b *testing.B) {
	e, err := engine.NewMemory(engine.Options{})
	if err != nil {
		b.Fatal(err)
	}
	ctx := b.Context()
	if err := e.Configure(ctx, layout); err != nil {
		b.Fatal(err)
	}
	sub, err := e.Subscribe("b/1")
	if err != nil {
		b.Fatal(err)
	}
	c := appending("b", events(100, 500))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Commit(ctx, c); err != nil {
			b.Fatal(err)
		}
		recs, err := sub.Next(ctx, math.MaxInt64, 100)
		if err != nil || len(recs) != 100 {
			b.Fatal(len(recs), err)
		}
		for _, r := range recs {
			if err := sub.Settle(ctx, []event.Outcome{{Offset: r.Offset}}); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
}
