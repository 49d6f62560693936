package webhook

import (
	"slices"
	"testing"

	"github.com/millrace-run/millrace/event"
)

// TestBodyOfAKey: the log hears the body of requests whose events have the Idempotency-Key as their id, and of no others.
func TestBodyOfAKey(t *testing.T) {
	in := &inbox{}
	url := serve(t, in.emit, build(t, nil)) + "/hook"
	const structured = `{"specversion":"1.0","id":"a","source":"/s","type":"t"}`
	for _, c := range [][]string{
		{`{"a":1}`, "Content-Type", jsonType, "Idempotency-Key", `"k"`},
		{"1\n2\n", "Content-Type", "application/x-ndjson", "Idempotency-Key", `"k"`},
		{``, "Content-Type", "text/plain", "Idempotency-Key", `"k"`},
		{`{"a":2}`, "Content-Type", jsonType},
		{structured, "Content-Type", "application/cloudevents+json", "Idempotency-Key", `"k"`},
		{`3`, "Content-Type", jsonType, "Idempotency-Key", `"k"`, "ce-specversion", "1.0", "ce-id", "a", "ce-source", "/s", "ce-type", "t"},
	} {
		if got := post(t, url, c[0], c[1:]...); got.status != 202 {
			t.Errorf("%q: %d %s", c, got.status, got.body)
		}
	}
	if want := []string{`{"a":1}`, "1\n2\n", ""}; !slices.Equal(in.bodies, want) {
		t.Errorf("%q, want %q", in.bodies, want)
	}
	in.failWith(event.ErrConflict)
	checkProblem(t, post(t, url, `{}`, "Content-Type", jsonType, "Idempotency-Key", "k"), 422, "key-reused", "nothing was stored")
}
