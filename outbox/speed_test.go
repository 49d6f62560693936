package outbox

import (
	"context"
	"fmt"
	"testing"

	"github.com/millrace-run/millrace/event"
)

// BenchmarkAppendAlone is one caller that waits for each commit: what a sync costs, with one event and with a batch of them.
func BenchmarkAppendAlone(b *testing.B) {
	for _, batch := range []int{1, 512} {
		b.Run(fmt.Sprint(batch), func(b *testing.B) {
			o := openBench(b)
			events := benchEvents(batch)
			n := 0
			b.SetBytes(int64(1000 * batch))
			b.ReportAllocs()
			for ; b.Loop(); n += batch {
				appendBench(b, o, events)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

func benchEvents(n int) []event.Event {
	events := make([]event.Event, n)
	for i := range events {
		events[i] = benchEvent(i)
	}
	return events
}

func appendBench(b *testing.B, o *Outbox, events []event.Event) {
	b.Helper()
	if _, err := o.Commit(b.Context(), event.Commit{Appends: []event.Append{{Topic: "t", Events: events}}}); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkNext reads through a subscription: what the ring still holds, and what it lost long ago. At the end it begins anew.
func BenchmarkNext(b *testing.B) {
	const batch = 512
	for _, c := range []struct {
		name         string
		stored, upTo int // batches
	}{{"ring", 20, 20}, {"disk", 160, 80}} {
		b.Run(c.name, func(b *testing.B) {
			o := openBench(b)
			events := benchEvents(batch)
			for range c.stored {
				appendBench(b, o, events)
			}
			s := subscribeBench(b, o)
			n := 0
			b.ReportAllocs()
			for b.Loop() {
				records, err := s.Next(b.Context(), event.Offset(c.upTo*batch), batch)
				if err != nil {
					b.Fatal(err)
				}
				if len(records) == 0 {
					s = subscribeBench(b, o)
				}
				n += len(records)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

func subscribeBench(b *testing.B, o *Outbox) event.Subscription {
	b.Helper()
	s, err := o.Subscribe("t/a")
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// BenchmarkSettle settles events that are stored already, 512 at a time, until the cursor on disk has passed them. One operation
// is one event; the events must be there before, so their number has to be known.
func BenchmarkSettle(b *testing.B) {
	const batch = 512
	o := openBench(b)
	small := benchEvents(batch)
	for i := range small {
		small[i].Data = small[i].Data[:10]
	}
	rounds := b.N/batch + 1
	for range rounds {
		appendBench(b, o, small)
	}
	s := subscribeBench(b, o)
	b.ReportAllocs()
	b.ResetTimer()
	outcomes := make([]event.Outcome, batch)
	for round := range rounds {
		for i := range outcomes {
			outcomes[i].Offset = event.Offset(round*batch + i + 1)
		}
		if err := s.Settle(context.Background(), outcomes); err != nil {
			b.Fatal(err)
		}
	}
	for cursor := event.Offset(0); cursor < event.Offset(rounds*batch); cursor, _ = s.Position() {
		// An empty commit rides with what waits, or waits for it.
		if _, err := o.Commit(context.Background(), event.Commit{States: []event.State{{Owner: "bench"}}}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(rounds*batch)/b.Elapsed().Seconds(), "events/s")
}
