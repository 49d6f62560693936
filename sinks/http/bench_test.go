package http

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
)

// BenchmarkDeliver measures deliveries of 1 KB, by 16 at a time, to a peer that does as little as it can: it looks for the end of
// each request, which it can tell by the last byte of the body.
func BenchmarkDeliver(b *testing.B) {
	for _, count := range []int{1, 64} {
		b.Run(fmt.Sprint("batch ", count), func(b *testing.B) { benchmarkDeliver(b, count) })
	}
}

func benchmarkDeliver(b *testing.B, count int) {
	url := rawServer(b, func(c net.Conn) {
		buffer := make([]byte, 256<<10)
		for {
			n, err := c.Read(buffer)
			if err != nil {
				return
			}
			if !bytes.HasSuffix(buffer[:n], []byte("}")) && !bytes.HasSuffix(buffer[:n], []byte("}]")) {
				continue
			}
			if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok"); err != nil {
				return
			}
		}
	})
	s := newSink(b, url+"/in")
	if count > 1 {
		s = batchSink(b, url+"/in")
	}
	ev := order().Event
	ev.Data = fmt.Appendf(nil, `{"text": "%s"}`, bytes.Repeat([]byte("x"), 1000))
	ev.Subject = "plain"
	batch := make([]event.Delivery, count)
	for i := range batch {
		batch[i] = event.Delivery{Event: ev, Key: order().Key, Attempt: 1}
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ReportAllocs()
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if left.Add(-1)%int64(count) != 0 {
				continue
			}
			ctx, cancel := context.WithTimeout(b.Context(), 15*time.Second)
			if v := s.Deliver(ctx, batch).Verdicts[0]; v != nil {
				b.Error(v)
			}
			cancel()
		}
	})
}
