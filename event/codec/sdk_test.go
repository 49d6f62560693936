package codec

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/cloudevents/sdk-go/v2/binding"
	sdk "github.com/cloudevents/sdk-go/v2/event"
	sdkhttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/millrace-run/millrace/event"
)

// normal makes events comparable that went through the SDK, which parses times and URIs and cannot tell empty from absent data.
func normal(t interface{ Fatal(...any) }, e event.Event) event.Event {
	converted, err := ToSDK(&e)
	if err != nil {
		t.Fatal(err)
	}
	back, err := FromSDK(converted)
	if err != nil {
		t.Fatal(err)
	}
	if len(back.Data) == 0 {
		back.Data = nil
	}
	return back
}

func TestToSDKAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent(t)
		got := normal(t, e)
		if e.Time != "" {
			e.Time = got.Time
		}
		if len(e.Data) == 0 {
			e.Data = nil
		}
		if diff := cmp.Diff(e, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestSDKReadsOurJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent(t)
		line := EncodeJSON(nil, &e)
		var decoded sdk.Event
		if err := decoded.UnmarshalJSON(line); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		got, err := FromSDK(decoded)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if len(got.Data) == 0 {
			got.Data = nil
		}
		if diff := cmp.Diff(normal(t, e), got); diff != "" {
			t.Fatalf("%s\n%s", line, diff)
		}
	})
}

func TestWeReadJSONOfTheSDK(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent(t)
		if e.DataContentType == "" {
			e.Data = nil // the SDK writes data without a type as JSON, whatever it is
		}
		converted, err := ToSDK(&e)
		if err != nil {
			t.Fatal(err)
		}
		text, err := converted.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeJSON(text, 64)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if len(got.Data) == 0 {
			got.Data = nil
		}
		if diff := cmp.Diff(normal(t, e), got); diff != "" {
			t.Fatalf("%s\n%s", text, diff)
		}
	})
}

// The SDK neither encodes nor decodes header values, so that only attributes which need no encoding are its to judge.
func TestSDKReadsOurBinaryMode(t *testing.T) {
	e := event.Event{ID: "1", Source: "/s", Type: "t", Subject: "s", Time: "2026-01-02T03:04:05Z", DataSchema: "urn:x",
		DataContentType: "application/json",
		Extensions:      []event.Extension{{Name: "region", Text: "eu"}}, Data: []byte(`{"a": 1}`)}
	h := http.Header{}
	WriteBinary(h, &e)
	decoded, err := binding.ToEvent(t.Context(), sdkhttp.NewMessage(h, io.NopCloser(bytes.NewReader(e.Data))))
	if err != nil {
		t.Fatal(err)
	}
	got, err := FromSDK(*decoded)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(e, got); diff != "" {
		t.Error(diff)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := sdkhttp.WriteRequest(t.Context(), binding.ToMessage(decoded), r); err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got, err = ReadBinary(r.Header, body); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(e, got); diff != "" {
		t.Error(diff)
	}
}

func TestFromSDKChecks(t *testing.T) {
	if _, err := FromSDK(sdk.Event{}); err == nil || err.Error() != "specversion: is missing" {
		t.Errorf("got %v", err)
	}
	e := sdk.New()
	e.SetSource("/s")
	if _, err := FromSDK(e); err == nil || err.Error() != "id: is missing" {
		t.Errorf("got %v", err)
	}
}

func TestToSDKRefuses(t *testing.T) {
	for _, tt := range []struct {
		change func(*event.Event)
		name   string
	}{
		{func(e *event.Event) { e.Time = "x" }, "time"},
		{func(e *event.Event) { e.Source = "http://[" }, "source"},
		{func(e *event.Event) { e.DataSchema = "http://[" }, "dataschema"},
		{func(e *event.Event) { e.Extensions = []event.Extension{{Name: "a", Kind: event.Binary, Text: "?"}} }, "a"},
		{func(e *event.Event) { e.Extensions = []event.Extension{{Name: "a", Kind: event.Timestamp, Text: "?"}} }, "a"},
	} {
		e := small()
		tt.change(&e)
		_, err := ToSDK(&e)
		if a, ok := err.(*AttributeError); !ok || a.Name != tt.name {
			t.Errorf("got %v, want a fault of %s", err, tt.name)
		}
	}
}
