package webhook

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/millrace-run/millrace/event"
)

// order is a body of about 1 KB.
func order() string {
	var items []string
	for i := range 7 {
		items = append(items,
			fmt.Sprintf(`{"sku":"SKU-%04d","name":"A thing with a name of some length, and more","quantity":%d,"price":%d.99}`, i, i+1,
				i*10))
	}
	return `{"id":"o-100042","total":129.95,"customer":{"id":"c-77","email":"zoe@example.com","city":"Exampletown"},"items":[` + strings.Join(items, ",") +
		`],"note":"Please leave the parcel with the neighbor if nobody is at home.","created":"2026-01-02T03:04:05Z"}`
}

// discard answers without a connection, as cheaply as can be.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(status int) {
	if status != http.StatusAccepted {
		panic(fmt.Sprint("refused with ", status))
	}
}

func benchmarkHandler(b *testing.B, body string, header http.Header) {
	c := Defaults()
	c.Path = "/orders"
	s, err := New(c)
	if err != nil {
		b.Fatal(err)
	}
	ids := []string{"0199c5a8-7e1c-7b6e-9d5e-1a2b3c4d5e6f"}
	s.gate.open(func(context.Context, event.Batch) ([]string, error) { return ids, nil })
	reader := strings.NewReader(body)
	r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "/orders", io.NopCloser(reader))
	if err != nil {
		b.Fatal(err)
	}
	r.ContentLength, r.Header = int64(len(body)), header
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		reader.Reset(body)
		s.ServeHTTP(&discard{http.Header{}}, r)
	}
}

// BenchmarkHandler is the whole way of a post without net/http and without the log.
func BenchmarkHandler(b *testing.B) {
	b.Run("json", func(b *testing.B) { benchmarkHandler(b, order(), http.Header{"Content-Type": {"application/json"}}) })
	b.Run("binary", func(b *testing.B) {
		benchmarkHandler(b, order(), http.Header{"Content-Type": {"application/json"}, "Ce-Specversion": {"1.0"}, "Ce-Id": {"o-100042"},
			"Ce-Source": {"https://shop.example.com/orders"}, "Ce-Type": {"shop.order.created"}, "Ce-Time": {"2026-01-02T03:04:05Z"}})
	})
	b.Run("structured", func(b *testing.B) {
		benchmarkHandler(b, `{"specversion":"1.0","id":"o-100042","source":"https://shop.example.com/orders","type":"shop.order.created","data":`+order()+`}`,
			http.Header{"Content-Type": {"application/cloudevents+json"}})
	})
	b.Run("ndjson100", func(b *testing.B) {
		benchmarkHandler(b, strings.Repeat(order()+"\n", 100), http.Header{"Content-Type": {"application/x-ndjson"}})
	})
}
