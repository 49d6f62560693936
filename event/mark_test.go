package event_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/millrace-run/millrace/event"
)

// A mark is of the very bytes that were checked: copies of the event have it, other data has not, however alike.
func TestMarkJSON(t *testing.T) {
	data := []byte(`{"a":1} [2]`)
	e := event.Event{Data: data[:7]}
	if e.MarkedJSON() {
		t.Error("marked before anybody checked it")
	}
	e.MarkJSON()
	twin := e
	if a, b := fmt.Sprintf("%v", e), fmt.Sprintf("%v", event.Event{Data: e.Data}); a != b {
		t.Errorf("prints as %s, without a mark as %s", a, b)
	}
	if !e.MarkedJSON() || !twin.MarkedJSON() {
		t.Error("the mark is lost")
	}
	for name, other := range map[string][]byte{
		"a copy": bytes.Clone(e.Data), "a part": data[:6], "more": data, "another part": data[8:], "empty": data[:0], "none": nil,
		"the same bytes": slices.Clip(data[:7]),
	} {
		twin.Data = other
		if got, want := twin.MarkedJSON(), name == "the same bytes"; got != want {
			t.Errorf("%s: marked is %v", name, got)
		}
	}
	for _, empty := range [][]byte{nil, {}} {
		e.Data = empty
		if e.MarkJSON(); e.MarkedJSON() {
			t.Errorf("%#v is marked, and is no JSON", empty)
		}
	}
}
