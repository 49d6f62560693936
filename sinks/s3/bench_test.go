package s3

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/millrace-run/millrace/event"
)

// BenchmarkDeliver stores objects of 8,192 events of 1 KiB in a store that throws them away.
func BenchmarkDeliver(b *testing.B) {
	for _, compress := range []string{"none", "gzip", "zstd"} {
		b.Run(compress, func(b *testing.B) {
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
			}))
			defer server.Close()
			c := Defaults()
			c.Bucket, c.Endpoint, c.Compress, c.Credentials.AccessKey, c.Credentials.SecretKey = bucket, server.URL, compress, "me", "secret"
			s := mustNew(b, c)
			defer s.Close()
			if err := s.Open(b.Context(), nil, func(context.Context, event.Changes) error { return nil }); err != nil {
				b.Fatal(err)
			}
			batch := ordersOf(1, 8192, "")
			for i := range batch {
				fill := bytes.Repeat(fmt.Appendf(nil, "%x", i*7919), 1000)
				batch[i].Event.Data = fmt.Appendf(nil, `{"n":%d,"fill":"%s"}`, i, fill[:1000])
			}
			b.SetBytes(8 << 20)
			for b.Loop() {
				if out := s.Deliver(b.Context(), batch); out.Verdicts[0] != nil {
					b.Fatal(out.Verdicts[0])
				}
			}
		})
	}
}
