package storage

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/millrace-run/millrace/event"
)

// BenchmarkDeliver measures batches as a pipeline behind a log has them, 4,096 lines of 120 bytes in files of this machine, syncs
// included. MB/s are bytes of data. Set TMPDIR to a file system in memory to see what the processor does alone.
func BenchmarkDeliver(b *testing.B) {
	for _, c := range []struct{ name, path, content string }{
		{"event", "f.ndjson", contentEvent},
		{"line", "f.log", contentData},
		{"templated", "{{ subject }}.ndjson", contentEvent},
	} {
		b.Run(c.name, func(b *testing.B) { benchmarkDeliver(b, c.path, c.content) })
	}
}

func benchmarkDeliver(b *testing.B, path, content string) {
	config := Defaults()
	config.Path, config.Content = template(b, b.TempDir()+"/"+path), content
	s, err := New(config)
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Open(b.Context(), nil, func(context.Context, event.Changes) error { return nil }); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	batch, size := logLines(4096)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if n%64 == 63 { // so that the disk does not fill
			b.StopTimer()
			for _, e := range s.opened {
				if err := e.file.Truncate(0); err != nil {
					b.Fatal(err)
				}
				e.Length, e.tail, e.Tail = 0, nil, hashOf(nil)
			}
			b.StartTimer()
		}
		for _, err := range s.Deliver(b.Context(), batch).Verdicts {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

// logLines are events as a tail source makes them.
func logLines(n int) (batch []event.Delivery, size int) {
	for i := range n {
		text := fmt.Sprintf(`192.0.2.7 - - [02/Jan/2026:15:04:05 +0000] "GET /a/%06d HTTP/1.1" 200 12 "-" "%s"`,
			i, strings.Repeat("curl/8 ", 6))
		size += len(text)
		batch = append(batch, event.Delivery{Attempt: 1, Event: &event.Event{
			ID: fmt.Sprintf("%032x", i), Source: "/var/log/nginx/access.log", Type: "millrace.line", Subject: fmt.Sprint(i % 16),
			Time: "2026-01-02T15:04:05Z", DataContentType: "text/plain", Data: []byte(text),
		}})
	}
	return batch, size
}
