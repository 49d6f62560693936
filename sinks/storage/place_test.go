package storage

import (
	"strings"
	"testing"

	"github.com/millrace-run/millrace/event"
)

func TestPlace(t *testing.T) {
	for _, c := range []struct{ path, subject, want, err string }{
		{"data/x.ndjson", "ignored", "x.ndjson", ""},
		{"data/{{ subject }}.ndjson", "a", "a.ndjson", ""},
		{"data/{{ subject }}/{{ type }}", "../..", "%2E.%2F../t", ""},
		{"data/{{ subject }}//x", "a", "a/x", ""},
		{"data/{{ subject }}/../../../x", "a", "", "below"},
		{"data/{{ subject }}", "", "", "subject"},
		{"data/{{ subject }}{{ subject }}{{ subject }}", strings.Repeat("x", 100), "", "longer"},
		{"data/" + strings.Repeat("{{ subject }}/", 40) + "x", strings.Repeat("x", 100), "", "longer"},
	} {
		config := Defaults()
		config.Path = template(t, c.path)
		s, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.place.of(&event.Event{Subject: c.subject, Type: "t"})
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s with %q: %q, %v, want %q %q", c.path, c.subject, got, err, c.want, c.err)
		}
	}
}

func TestNumbered(t *testing.T) {
	for _, c := range []struct {
		name string
		n    int
		want string
	}{
		{"a/archive.ndjson", 0, "a/archive.ndjson"},
		{"a/archive.ndjson", 1, "a/archive.1.ndjson"},
		{"archive", 12, "archive.12"},
		{"a.b/.log", 2, "a.b/.log.2"},
	} {
		if got := numbered(c.name, c.n); got != c.want {
			t.Errorf("%s %d: %s, want %s", c.name, c.n, got, c.want)
		}
	}
}
