package lab

import (
	"net/http"
	"strings"
	"testing"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
)

func TestBatch(t *testing.T) {
	events := []event.Event{
		{ID: "o-1", Source: "/shop", Type: "order", Subject: "a", DataContentType: "application/json", Data: []byte(`{"n":1}`),
			Extensions: []event.Extension{{Name: "idempotencykey", Text: "k1"}, {Name: "region", Text: "north"}}},
		{ID: "o-2", Source: "/shop", Type: "order"},
	}
	show := func(kind string, body []byte) string {
		h := http.Header{"Content-Type": {kind}, "Idempotency-Keys": {`"k1"`}}
		return printed(false, func(p *Printer) {
			p.request(orders, Request{Method: "POST", URL: "http://a/", Header: h, Body: body, Size: int64(len(body))})
		})
	}
	got := show(codec.TypeBatch, codec.EncodeBatch(nil, events))
	want := "03:04:05  orders/warehouse  POST http://a/\n" +
		"          a batch of 2 events\n" +
		"          event    type order · id o-1 · source /shop · subject a · region north\n" +
		"          {\n" +
		"            \"n\": 1\n" +
		"          }\n" +
		"          event    type order · id o-2 · source /shop\n" +
		"          no data\n\n"
	if got != want {
		t.Errorf("printed:\n%s\nwant:\n%s", got, want)
	}
	if got := show("application/json", []byte(`[{"n":1},null]`)); !strings.Contains(got, "null") || strings.Contains(got, "headers") {
		t.Errorf("an array of data:\n%s", got)
	}
	if got := show(codec.TypeBatch, []byte(`[{"n":1}]`)); !strings.Contains(got, `"n": 1`) {
		t.Errorf("a batch that is none:\n%s", got)
	}
	for len(events) < maxMembers+1 {
		events = append(events, events[0])
	}
	if got := show(codec.TypeBatch, codec.EncodeBatch(nil, events)); !strings.Contains(got, "a batch of 21 events") ||
		!strings.Contains(got, "… and 1 event more") || strings.Count(got, "event  ") != maxMembers {
		t.Errorf("a long batch:\n%s", got)
	}
}
