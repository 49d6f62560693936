package codec

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/cloudevents/sdk-go/v2/binding"
	sdk "github.com/cloudevents/sdk-go/v2/event"
	sdkhttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/millrace-run/millrace/event"
)

// These benchmarks are the measurement of docs/decisions/0001-compact-event.md: the same order of 1 KB through this
// package (Ours) and through the SDK (SDK). Ours includes all checks, the SDK's none but those of its parser.

func order() event.Event {
	return event.Event{ID: "0199c5a8-7e1c-7b6e-9d5e-1a2b3c4d5e6f", Source: "https://shop.example.com/orders",
		Type: "shop.order.created", Subject: "o-100042",
		Time: "2026-01-02T03:04:05.678Z", DataContentType: "application/json", Extensions: []event.Extension{{Name: "partitionkey",
			Text: "c-77"}}, Data: kilobyte()}
}

func BenchmarkDecodeStructured(b *testing.B) {
	e := order()
	line := EncodeJSON(nil, &e)
	b.Run("Ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := DecodeJSON(line, 64); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("SDK", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var e sdk.Event
			if err := e.UnmarshalJSON(line); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkEncodeStructured(b *testing.B) {
	e := order()
	b.Run("Ours", func(b *testing.B) {
		b.ReportAllocs()
		var line []byte
		for b.Loop() {
			line = EncodeJSON(line[:0], &e)
		}
	})
	b.Run("SDK", func(b *testing.B) {
		converted, err := ToSDK(&e)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		var line bytes.Buffer
		for b.Loop() {
			line.Reset()
			if err := sdk.WriteJson(&converted, &line); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkReadBinary(b *testing.B) {
	e := order()
	h := http.Header{}
	WriteBinary(h, &e)
	b.Run("Ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ReadBinary(h, e.Data); err != nil {
				b.Fatal(err)
			}
			if err := CheckJSON(e.Data, 64); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("SDK", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := binding.ToEvent(b.Context(), sdkhttp.NewMessage(h, io.NopCloser(bytes.NewReader(e.Data)))); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkWriteBinary(b *testing.B) {
	e := order()
	b.Run("Ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			WriteBinary(http.Header{}, &e)
		}
	})
	b.Run("SDK", func(b *testing.B) {
		converted, err := ToSDK(&e)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			r := &http.Request{Header: http.Header{}}
			if err := sdkhttp.WriteRequest(b.Context(), binding.ToMessage(&converted), r); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkConvert is what an SDK at the edges alone would add to each event that passes one.
func BenchmarkConvert(b *testing.B) {
	e := order()
	b.ReportAllocs()
	for b.Loop() {
		converted, err := ToSDK(&e)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := FromSDK(converted); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBatch reads and writes a batch of 64 orders in the JSON batch format.
func BenchmarkBatch(b *testing.B) {
	const n = 64
	events := make([]event.Event, n)
	for i := range events {
		events[i] = order()
	}
	text := EncodeBatch(nil, events)
	perEvent := func(b *testing.B) {
		b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "events/s")
	}
	b.Run("Encode", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		var into []byte
		for b.Loop() {
			into = EncodeBatch(into[:0], events)
		}
		perEvent(b)
	})
	b.Run("Decode", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		for b.Loop() {
			if got, err := DecodeBatch(text, 64); err != nil || len(got) != n {
				b.Fatal(len(got), err)
			}
		}
		perEvent(b)
	})
}

// BenchmarkEncodeLines is 20 events into one buffer that begins empty, as a sink that writes lines does.
func BenchmarkEncodeLines(b *testing.B) {
	e := order()
	b.ReportAllocs()
	for b.Loop() {
		var lines []byte
		for range 20 {
			lines = append(EncodeJSON(lines, &e), '\n')
		}
	}
}
