package routertest

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/millrace-run/millrace/event"
)

var received = time.Date(2026, 3, 1, 12, 30, 45, 123456789, time.UTC)

// plain is a small event with no more than it needs.
func plain(id string) event.Event {
	return event.Event{
		ID: id, Source: "/orders", Type: "shop.order.created",
		DataContentType: "application/json", Data: []byte(`{"id":"` + id + `"}`), Received: received,
	}
}

// numbered returns n plain events whose ids are the prefix and a number.
func numbered(prefix string, n int) []event.Event {
	events := make([]event.Event, n)
	for i := range events {
		events[i] = plain(fmt.Sprintf("%s-%05d", prefix, i))
	}
	return events
}

// full is an event with every attribute and an extension of every kind.
func full(id string) event.Event {
	e := plain(id)
	e.Subject = "customers/7 & more, ünïcode €"
	e.Time = "2024-02-29T23:59:60.000000001+05:30"
	e.DataContentType = `application/json; charset="utf-8"`
	e.DataSchema = "https://example.com/schema?a=b#c"
	e.Data = []byte("{ \"total\" : 1.50e+2,\r\n\t\"big\":12345678901234567890 ,\"a\":1,\"a\":2}\n")
	e.Extensions = []event.Extension{
		{Name: "binary", Kind: event.Binary, Text: "AAEC/w=="},
		{Name: "boolean", Kind: event.Boolean, Text: "true"},
		{Name: "integer", Kind: event.Integer, Text: "-0042"},
		{Name: "reference", Kind: event.URIReference, Text: "../up?q=1"},
		{Name: "string", Kind: event.String, Text: " \"quoted\", with: commas; and = signs\t€ "},
		{Name: "timestamp", Kind: event.Timestamp, Text: "2020-01-01T00:00:00.10Z"},
		{Name: "uri", Kind: event.URI, Text: "https://example.com/%7Ea"},
	}
	return e
}

// unusual are events that a careless encoding changes.
func unusual() []event.Event {
	with := func(id, contentType string, data []byte) event.Event {
		e := full(id)
		e.DataContentType, e.Data = contentType, data
		return e
	}
	allBytes := make([]byte, 256)
	for i := range allBytes {
		allBytes[i] = byte(i)
	}
	minimal := event.Event{ID: "minimal", Source: "s", Type: "t", Received: received.Add(1)}
	midnight := plain("midnight")
	midnight.Received = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return []event.Event{
		full("full"), minimal, midnight,
		with("no data", "application/json", nil), with("no data, no type", "", nil),
		with("empty data", "text/plain", []byte{}), with("empty data, no type", "", []byte{}),
		with("every byte", "application/octet-stream", allBytes),
		with("bytes under a text type", "text/plain; charset=utf-8", []byte("\xff\xfe\x00abc")),
		with("not JSON under a JSON type", "application/json", []byte("{\"a\":")),
		with("zeros", "application/octet-stream", make([]byte, 5000)),
	}
}

// large is an event with n bytes of data that no compression makes small.
func large(id string, n int) event.Event {
	e := plain(id)
	e.DataContentType = "application/octet-stream"
	e.Data = make([]byte, n)
	x := uint64(n)
	for i := range e.Data {
		x = x*6364136223846793005 + 1442695040888963407
		e.Data[i] = byte(x >> 56)
	}
	return e
}

// sameEvent fails the test when got is not want to the last byte.
func sameEvent(t *testing.T, got, want event.Event) {
	t.Helper()
	if reflect.DeepEqual(got, want) {
		return
	}
	if len(want.Data) > 1<<12 { // too long to show, and slow to compare by reflection
		if !bytes.Equal(got.Data, want.Data) {
			t.Errorf("event %s: its %d bytes of data came back as %d others", want.ID, len(want.Data), len(got.Data))
		}
		got.Data, want.Data = nil, nil
	}
	noExtensions := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Extensions" }, cmpopts.EquateEmpty())
	if d := cmp.Diff(want, got, noExtensions); d != "" {
		t.Errorf("event %s came back changed (-want +got):\n%s", want.ID, d)
	}
	if got.Received.Location() != time.UTC {
		t.Errorf("event %s: received came back in %v, not in UTC", want.ID, got.Received.Location())
	}
}

// sameException fails the test when got is not want; an empty answer equals none.
func sameException(t *testing.T, what string, got, want event.Exception) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("exception of %s came back changed (-want +got):\n%s", what, d)
	}
}

func ids(recs []event.Record) []string {
	out := make([]string, len(recs))
	for i, r := range recs {
		out[i] = r.Event.ID
	}
	return out
}

// sameIDs fails the test when the records are not those events, in this order.
func sameIDs(t *testing.T, got []event.Record, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, ids(got), cmpopts.EquateEmpty()); d != "" {
		t.Errorf("records (-want +got):\n%s", d)
	}
}

// settled settles records for good.
func settled(recs ...event.Record) []event.Outcome {
	out := make([]event.Outcome, len(recs))
	for i, r := range recs {
		out[i].Offset = r.Offset
	}
	return out
}

// failed is an outcome that keeps a record open as x says; row says that it has a row already.
func failed(r event.Record, x event.Exception, row bool) event.Outcome {
	return event.Outcome{Offset: r.Offset, Exception: &x, Row: row}
}

// waiting is an exception that is due at next, with every field in use.
func waiting(next time.Time) event.Exception {
	return event.Exception{
		State: event.Retry, Reason: event.ReasonFailed, Stage: "", Status: 500, Attempts: 3, Counted: 2,
		NextAt: next, FirstAt: received.Add(time.Second), LastAt: received.Add(time.Minute + 7),
		Error: "the destination answered 500", Answer: []byte("oh \x00 no\xff"), Progress: []byte{0, 1, 2, 255},
	}
}

// buried is the exception of a dead letter, with every field in use.
func buried(attempts int) event.Exception {
	x := waiting(time.Time{})
	x.State, x.Reason, x.Stage, x.Status, x.Attempts, x.Counted = event.Dead, event.ReasonPermanent, "filter", 422, attempts, 1
	return x
}
