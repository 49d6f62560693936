package outbox

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
)

func openBench(b *testing.B) *Outbox {
	o, err := Open(b.Context(), Options{Path: b.TempDir() + "/outbox.db"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = o.Close() })
	err = o.Configure(b.Context(), event.Layout{Topics: []event.Topic{{Name: "t", Subscriptions: []string{"t/a", "t/b", "t/c"}}}})
	if err != nil {
		b.Fatal(err)
	}
	return o
}

func benchEvent(i int) event.Event {
	return event.Event{
		ID: fmt.Sprintf("order-%d", i), Source: "/orders", Type: "shop.order.created", Time: "2026-01-01T00:00:00Z",
		DataContentType: "application/json", Received: time.Unix(int64(i), 0).UTC(), Data: bytes.Repeat([]byte("x"), 1000),
	}
}

// BenchmarkAppend is one event a commit by each of 64 callers: what group commit makes of single webhooks.
func BenchmarkAppend(b *testing.B) {
	o := openBench(b)
	e := benchEvent(1)
	var work sync.WaitGroup
	each := b.N/64 + 1
	b.SetBytes(1000)
	b.ResetTimer()
	for range 64 {
		work.Go(func() {
			for range each {
				if _, err := o.Commit(context.Background(), event.Commit{Appends: []event.Append{{Topic: "t", Events: []event.Event{e}}}}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	work.Wait()
	b.ReportMetric(float64(each*64)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(each*64)/float64(o.writer.commits), "events/commit")
}

// BenchmarkQueue is one producer with batches of 512 and three subscriptions that settle everything.
func BenchmarkQueue(b *testing.B) {
	o := openBench(b)
	batch := make([]event.Event, 512)
	for i := range batch {
		batch[i] = benchEvent(i)
	}
	rounds := b.N/512 + 1
	b.SetBytes(1000)
	b.ResetTimer()
	var work sync.WaitGroup
	work.Go(func() {
		for range rounds {
			if _, err := o.Commit(context.Background(), event.Commit{Appends: []event.Append{{Topic: "t", Events: batch}}}); err != nil {
				b.Error(err)
			}
		}
	})
	for _, name := range []string{"t/a", "t/b", "t/c"} {
		s, err := o.Subscribe(name)
		if err != nil {
			b.Fatal(err)
		}
		work.Go(func() { consume(b, s, rounds*512) })
	}
	work.Wait()
	b.ReportMetric(float64(rounds*512)/b.Elapsed().Seconds(), "events/s")
}

func consume(b *testing.B, s event.Subscription, want int) {
	ctx := context.Background()
	for got := 0; got < want; {
		records, err := s.Next(ctx, 1<<62, 512)
		if err != nil {
			b.Error(err)
			return
		}
		if len(records) == 0 {
			<-s.Wake()
			continue
		}
		outcomes := make([]event.Outcome, len(records))
		for i := range records {
			outcomes[i].Offset = records[i].Offset
		}
		if err := s.Settle(ctx, outcomes); err != nil {
			b.Error(err)
			return
		}
		got += len(records)
	}
}

// BenchmarkRead reads a backlog from disk.
func BenchmarkRead(b *testing.B) {
	o := openBench(b)
	batch := make([]event.Event, 4096)
	for i := range batch {
		batch[i] = benchEvent(i)
	}
	for range 20 {
		if _, err := o.Commit(b.Context(), event.Commit{Appends: []event.Append{{Topic: "t", Events: batch}}}); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(1000)
	b.ResetTimer()
	for n := 0; n < b.N; {
		for at := event.Offset(1); at < 20*4096 && n < b.N; {
			records, err := o.read(b.Context(), o.topic("t"), at)
			if err != nil {
				b.Fatal(err)
			}
			n += len(records)
			at += event.Offset(len(records))
		}
	}
}
