package codec

import (
	"errors"
	"strings"
	"testing"

	"github.com/millrace-run/millrace/event"
)

func TestTimes(t *testing.T) {
	for _, s := range []string{"2026-01-02T03:04:05Z", "2026-01-02t03:04:05z", "2026-01-02T03:04:05.123456789012Z",
		"2026-12-31T23:59:60Z",
		"2024-02-29T00:00:00-00:00", "2000-02-29T00:00:00+23:59", "0000-01-01T00:00:00Z", "1985-04-12T23:20:50.52+05:30"} {
		if problem := timeProblem(s); problem != "" {
			t.Errorf("%s: %s", s, problem)
		}
	}
	for _, s := range []string{"", "2026-01-02", "2026-01-02T03:04:05", "2026-01-02 03:04:05Z", "2026-1-2T03:04:05Z",
		"2026-13-02T03:04:05Z", "2026-00-02T03:04:05Z",
		"2026-04-31T03:04:05Z", "2026-02-29T03:04:05Z", "1900-02-29T03:04:05Z", "2026-01-00T03:04:05Z", "2026-01-02T24:04:05Z",
		"2026-01-02T03:60:05Z",
		"2026-01-02T03:04:61Z", "2026-01-02T03:04:05.Z", "2026-01-02T03:04:05,5Z", "2026-01-02T03:04:05+0100",
		"2026-01-02T03:04:05+24:00",
		"2026-01-02T03:04:05+01:60", "2026-01-02T03:04:05 Z", "2026-01-02T03:04:05ZZ", "2026-01-02T03:04:05.5",
		"+2026-01-02T03:04:05Z", "202d-01-02T03:04:05Z"} {
		if timeProblem(s) == "" {
			t.Errorf("%s was taken", s)
		}
	}
}

func TestURIs(t *testing.T) {
	for _, s := range []string{"/", "a", "//example.com/x", "https://example.com:80/a?b=[c]#d", "urn:event:from:x/1",
		"mailto:shop@example.com", "1-555-123-4567",
		"sensors/tn-1/alerts", "?q", "#f", "./a:b", "a%20b", "http://[::1]:8080/", "//[::1]", "//u:p@example.com:80?a[]=1",
		"http://example.com:/", "urn:a//[", "file:///x"} {
		if problem := uriReferenceProblem(s); problem != "" {
			t.Errorf("%s: %s", s, problem)
		}
	}
	for s, want := range map[string]string{"a b": `' ' must be percent-encoded`, "/größe": `'ö' must be percent-encoded`,
		"a%2": "two hexadecimal", "a%zz": "two hexadecimal",
		"/{x}": `'{' must be`, "1a:b": "is not a scheme", ":x": "is not a scheme", "a\nb": "must be percent-encoded", "ä": "must be",
		"\xff": "must be", "http://[x": "its host", "//[]/": "its host", "//[::1]x": "its host", "//a[b]": "its host",
		"http://example.com:8x/": "its port", "//[::1]:x": "its port"} {
		if got := uriReferenceProblem(s); !strings.Contains(got, want) {
			t.Errorf("%q: got %q, want …%s…", s, got, want)
		}
	}
	for _, s := range []string{"urn:x", "https://example.com/s#f", "a+b-c.d1:e"} {
		if problem := uriProblem(s); problem != "" {
			t.Errorf("%s: %s", s, problem)
		}
	}
	for _, s := range []string{"/a", "a", "x:", "//example.com", "?a:b", "ur n:x"} {
		if uriProblem(s) == "" {
			t.Errorf("%s was taken", s)
		}
	}
}

func TestText(t *testing.T) {
	for _, s := range []string{"", "abc", "Zoë 😀 \u00a0 \u2028 \ufffd \ue000"} {
		if problem := textProblem(s); problem != "" {
			t.Errorf("%q: %s", s, problem)
		}
	}
	for s, want := range map[string]string{"\x00": "control", "a\x1f": "control", "\x7f": "control", "é\u0085": "control",
		"\u009f": "control", "\ufdd0": "nonchar",
		"\ufffe": "nonchar", "\U0010ffff": "nonchar", "a\xff": "UTF-8", "\xed\xa0\x80": "UTF-8"} {
		if got := textProblem(s); !strings.Contains(got, want) {
			t.Errorf("%q: got %q, want …%s…", s, got, want)
		}
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		change     func(*event.Event)
		name, want string
	}{
		{func(e *event.Event) {}, "", ""},
		{func(e *event.Event) { e.ID = "" }, "id", "is missing"},
		{func(e *event.Event) { e.Source = "" }, "source", "is missing"},
		{func(e *event.Event) { e.Type = "" }, "type", "is missing"},
		{func(e *event.Event) { e.Subject = "\n" }, "subject", "control"},
		{func(e *event.Event) { e.Time = "x" }, "time", "RFC 3339"},
		{func(e *event.Event) { e.DataContentType = "a/b\r\nX: y" }, "datacontenttype", "media type"},
		{func(e *event.Event) { e.DataContentType = "a/b; c=\x01" }, "datacontenttype", "control"},
		{func(e *event.Event) { e.DataSchema = "x" }, "dataschema", "absolute"},
		{func(e *event.Event) { e.Extensions = []event.Extension{{Name: "A"}} }, "A", "lower-case"},
		{func(e *event.Event) { e.Extensions = []event.Extension{{Name: "time"}} }, "time", "not an extension"},
		{func(e *event.Event) { e.Extensions = []event.Extension{{Name: "b"}, {Name: "a"}} }, "a", "sorted"},
		{func(e *event.Event) { e.Extensions = []event.Extension{{Name: "a"}, {Name: "a"}} }, "a", "unique"},
		{func(e *event.Event) { e.Extensions = []event.Extension{{Name: "a", Kind: event.Boolean, Text: "TRUE"}} }, "a", "true"},
		{func(e *event.Event) { e.Extensions = []event.Extension{{Name: "a", Kind: event.Integer, Text: "01"}} }, "a", "integer"},
		{func(e *event.Event) { e.Extensions = []event.Extension{{Name: "a", Kind: event.Integer, Text: "--1"}} }, "a", "integer"},
		{func(e *event.Event) {
			e.Extensions = []event.Extension{{Name: "a", Kind: event.Integer, Text: "-2147483649"}}
		}, "a", "32 bits"},
		{func(e *event.Event) { e.Extensions = []event.Extension{{Name: "a", Kind: event.Binary, Text: "?"}} }, "a", "base64"},
		{func(e *event.Event) { e.Extensions = []event.Extension{{Name: "a", Kind: event.URI, Text: "/a"}} }, "a", "absolute"},
		{func(e *event.Event) {
			e.Extensions = []event.Extension{{Name: "a", Kind: event.URIReference, Text: " "}}
		}, "a", "URI reference"},
		{func(e *event.Event) { e.Extensions = []event.Extension{{Name: "a", Kind: event.Timestamp, Text: "x"}} }, "a", "RFC 3339"},
	}
	for _, tt := range tests {
		e := small()
		tt.change(&e)
		err := Validate(&e)
		if tt.want == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		var a *AttributeError
		if !errors.As(err, &a) || a.Name != tt.name || !strings.Contains(a.Problem, tt.want) {
			t.Errorf("got %v, want %s: …%s…", err, tt.name, tt.want)
		}
	}
}
