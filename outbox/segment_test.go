package outbox

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/millrace-run/millrace/event"
)

func drawEvent(t *rapid.T) event.Event {
	few := rapid.SampledFrom([]string{"", "a", "https://example.com/schema", "ünïcode\x00"})
	e := event.Event{
		ID: rapid.String().Draw(t, "id"), Source: few.Draw(t, "source"), Type: few.Draw(t, "type"), Subject: rapid.String().Draw(t, "subject"),
		Time: few.Draw(t, "time"), DataContentType: few.Draw(t, "content type"), DataSchema: few.Draw(t, "schema"),
		Received: time.Unix(rapid.Int64Range(0, 1<<32).Draw(t, "s"), rapid.Int64Range(0, 999999999).Draw(t, "ns")).UTC(),
		Data:     rapid.SampledFrom([][]byte{nil, {}, []byte("{}"), bytes.Repeat([]byte{0, 255}, 300)}).Draw(t, "data"),
	}
	for _, name := range rapid.SampledFrom([][]string{nil, {"a"}, {"a", "traceparent"}}).Draw(t, "extensions") {
		e.SetExtension(event.Extension{Name: name, Kind: event.Kind(rapid.IntRange(0, 6).Draw(t, "kind")), Text: few.Draw(t, "text")})
	}
	e.Ran = rapid.SampledFrom([][]string{nil, {"parse"}, {"parse", "filter-2"}}).Draw(t, "ran")
	return e
}

// TestSegmentVersion1 reads a body that was written before segments named the stages that ran.
func TestSegmentVersion1(t *testing.T) {
	var s segmentEncoder
	want := []event.Record{{Offset: 3, Event: event.Event{ID: "1", Source: "/a", Type: "t", Data: []byte("data")}}}
	body := bytes.Clone(s.encode(want))
	head := segmentHeader + 1 + len("\x02/a\x01t\x00\x00\x00")
	body = append(body[:head:head], body[head+1:]...) // without the count of stages
	body[0] = 1
	sum(body)
	got, err := decodeSegment(body, 3, 1)
	got[0].Event.Received = time.Time{}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Fatal(err, diff)
	}
}

func TestSegmentRoundTrip(t *testing.T) {
	var s segmentEncoder
	rapid.Check(t, func(t *rapid.T) {
		var records []event.Record
		for i := range rapid.IntRange(1, 20).Draw(t, "n") {
			records = append(records, event.Record{Offset: 7 + event.Offset(i), Event: drawEvent(t)})
		}
		got, err := decodeSegment(bytes.Clone(s.encode(records)), 7, len(records))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(records, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestSegmentDamage flips every bit of a body in turn: none may pass for another event.
func TestSegmentDamage(t *testing.T) {
	var s segmentEncoder
	body := s.encode([]event.Record{{Offset: 1, Event: event.Event{ID: "1", Source: "/a", Type: "t", Data: []byte("data")}}})
	for i := range len(body) * 8 {
		damaged := bytes.Clone(body)
		damaged[i/8] ^= 1 << (i % 8)
		if _, err := decodeSegment(damaged, 1, 1); !errors.Is(err, errDamaged) {
			t.Fatalf("bit %d flipped: %v", i, err)
		}
	}
}

// FuzzSegment feeds bodies whose checksum is right: nothing may panic or ask for memory that the body does not have.
func FuzzSegment(f *testing.F) {
	var s segmentEncoder
	f.Add(s.encode([]event.Record{{Offset: 1, Event: event.Event{ID: "1", Source: "/a", Type: "t", Data: []byte("data")}}})[segmentHeader:], 1)
	f.Fuzz(func(t *testing.T, rest []byte, n int) {
		body := append([]byte{segmentVersion, 0, 0, 0, 0}, rest...)
		sum(body)
		_, _ = decodeSegment(body, 1, n)
	})
}
