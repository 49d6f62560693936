package pubsub_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-run/millrace/outbox/pubsub"
)

// The messages have 1 KiB and two entries of metadata. Each Publish returns after an fsync; one operation is one message.

func benchMessages(n int) []*message.Message {
	all := make([]*message.Message, n)
	for i := range all {
		all[i] = message.NewMessage(fmt.Sprintf("00000000-0000-0000-0000-%012d", i), make([]byte, 1024))
		all[i].Metadata = message.Metadata{"correlation_id": "7d4f1c", "content-type": "application/json"}
	}
	return all
}

// BenchmarkPublish has 64 callers that share commits.
func BenchmarkPublish(b *testing.B) {
	for _, batch := range []int{1, 100} {
		b.Run(fmt.Sprint("batch=", batch), func(b *testing.B) {
			p := opened(b, pubsub.Config{})
			publisher := p.Publisher()
			var left atomic.Int64
			left.Store(int64(b.N))
			done := make(chan error, 64)
			b.SetBytes(1024)
			b.ReportAllocs()
			b.ResetTimer()
			for range cap(done) {
				go func() {
					for all := benchMessages(batch); left.Add(int64(-batch)) > int64(-batch); {
						if err := publisher.Publish("t", all...); err != nil {
							done <- err
							return
						}
					}
					done <- nil
				}()
			}
			for range cap(done) {
				if err := <-done; err != nil {
					b.Error(err)
				}
			}
		})
	}
}

// BenchmarkSubscribe hands out what is on disk and is acknowledged at once.
func BenchmarkSubscribe(b *testing.B) {
	for _, inFlight := range []int{1, 64} {
		b.Run(fmt.Sprint("inflight=", inFlight), func(b *testing.B) {
			p := opened(b, pubsub.Config{MaxInFlight: inFlight})
			if err := subscriber(b, p, "g").SubscribeInitialize("t"); err != nil {
				b.Fatal(err)
			}
			all := benchMessages(1000)
			for n := 0; n < b.N; n += len(all) {
				if err := p.Publisher().Publish("t", all...); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(1024)
			b.ReportAllocs()
			b.ResetTimer()
			messages := subscribed(b, p, "g", "t")
			for range b.N {
				(<-messages).Ack()
			}
		})
	}
}
