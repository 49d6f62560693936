package codec

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/millrace-run/millrace/event"
)

// headers makes canonical headers from pairs.
func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func TestDetect(t *testing.T) {
	tests := []struct {
		h    http.Header
		want Mode
	}{
		{headers(), None},
		{headers("Content-Type", "application/json"), None},
		{headers("Content-Type", "application/json", "ce-subject", "s"), None},
		{headers("ce-specversion", "1.0"), Binary},
		{headers("ce-id", ""), Binary},
		{headers("CE-SOURCE", "/s"), Binary},
		{headers("ce-type", "t", "Content-Type", "application/json"), Binary},
		{headers("Content-Type", "application/cloudevents+json"), Structured},
		{headers("Content-Type", "Application/CloudEvents+JSON; charset=UTF-8", "ce-id", "1"), Structured},
		{headers("Content-Type", "application/cloudevents-batch+json;charset=utf-8"), Batch},
		{headers("Content-Type", "application/cloudevents"), Foreign},
		{headers("Content-Type", "application/cloudevents+avro"), Foreign},
		{headers("Content-Type", "application/cloudevents-batch+xml"), Foreign},
	}
	for _, tt := range tests {
		if got := Detect(tt.h); got != tt.want {
			t.Errorf("%v: got %d, want %d", tt.h, got, tt.want)
		}
	}
}

func TestReadBinary(t *testing.T) {
	h := headers("ce-specversion", "1.0", "ce-id", "1", "ce-source", "/s", "ce-type", "t", "ce-subject",
		"Euro%20%E2%82%AC%20%f0%9f%98%80",
		"ce-time", "2026-01-02T03:04:05.500+01:00", "ce-dataschema", "https://example.com/s", "ce-zz", "5", "ce-aa", "true",
		"Content-Type", "application/json; charset=utf-8", "User-Agent", "x")
	got, err := ReadBinary(h, []byte("{ }"))
	if err != nil {
		t.Fatal(err)
	}
	want := event.Event{ID: "1", Source: "/s", Type: "t", Subject: "Euro € 😀", Time: "2026-01-02T03:04:05.500+01:00",
		DataSchema:      "https://example.com/s",
		DataContentType: "application/json; charset=utf-8", Extensions: []event.Extension{{Name: "aa", Text: "true"}, {Name: "zz",
			Text: "5"}}, Data: []byte("{ }")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	h = headers("ce-specversion", "1.0", "ce-id", "1", "ce-source", "/s", "ce-type", "t")
	if got, err = ReadBinary(h, []byte{}); err != nil || got.Data != nil || got.DataContentType != "" {
		t.Errorf("got %v, %v; want no data and no type", got, err)
	}
}

func TestReadBinaryRefuses(t *testing.T) {
	base := func(pairs ...string) http.Header {
		h := headers("ce-specversion", "1.0", "ce-id", "1", "ce-source", "/s", "ce-type", "t")
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
		}
		return h
	}
	without := func(name string) http.Header {
		h := base()
		h.Del(name)
		return h
	}
	twice := base()
	twice.Add("ce-id", "2")
	tests := []struct {
		h    http.Header
		want string
	}{
		{without("ce-specversion"), "specversion: is missing"},
		{without("ce-id"), "id: is missing"},
		{without("ce-source"), "source: is missing"},
		{without("ce-type"), "type: is missing"},
		{base("ce-specversion", "0.3"), `specversion: must be 1.0, not "0.3"`},
		{base("ce-id", ""), "id: must not be empty"},
		{base("ce-subject", ""), "subject: must not be empty"},
		{base("ce-id", "%C0%A0"), "id: is not valid UTF-8"},
		{base("ce-id", "%e2%82"), "id: is not valid UTF-8"},
		{base("ce-id", "\xff"), "id: is not valid UTF-8"},
		{base("ce-id", "a%00"), "id: must not contain control characters"},
		{base("ce-id", "a%0Ab"), "id: must not contain control characters"},
		{base("ce-id", `"abc`), "id: the closing quote is missing"},
		{base("ce-id", `"abc\`), "id: the closing quote is missing"},
		{base("ce-id", `"a"b`), "id: something follows the closing quote"},
		{base("ce-data", "x"), "data: the name is reserved"},
		{base("ce-my-ext", "x"), "my-ext: a name consists of"},
		{base("ce-datacontenttype", "text/plain"), "datacontenttype: belongs into the header Content-Type"},
		{base("Content-Type", "nonsense"), "datacontenttype: is not a media type"},
		{base("ce-time", "now"), "time: is not a time"},
		{twice, "id: the header was sent more than once"},
	}
	for _, tt := range tests {
		if _, err := ReadBinary(tt.h, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: got %v, want …%s…", tt.h, err, tt.want)
		}
	}
}

func TestHeaderEncoding(t *testing.T) {
	encode := map[string]string{
		"": "", "abc~!#$&'()*+,/:;=?@[]": "abc~!#$&'()*+,/:;=?@[]", "Euro € 😀": "Euro%20%E2%82%AC%20%F0%9F%98%80", `a"b%c`: "a%22b%25c",
		"\u00ff": "%C3%BF", "a\x7fb": "a%7Fb", "tab\t": "tab%09", "100%25": "100%2525",
	}
	for text, want := range encode {
		if got := encodeHeader(text); got != want {
			t.Errorf("encode %q: got %q, want %q", text, got, want)
		}
		if got, problem := decodeHeader(want); got != text || problem != "" {
			t.Errorf("decode %q: got %q %s, want %q", want, got, problem, text)
		}
	}
	decode := map[string]string{
		"%41%62": "Ab", "%e2%82%ac": "€", "%2541": "%41", "100%": "100%", "5%zz": "5%zz", "%4": "%4", "raw €": "raw €",
		`5" pipe`: `5" pipe`,
		`"a b"`:   "a b", `"a \"b\" \\ %20"`: `a "b" \  `, `""`: "", `"\€"`: "€", `"%22"`: `"`,
	}
	for text, want := range decode {
		if got, problem := decodeHeader(text); got != want || problem != "" {
			t.Errorf("decode %q: got %q %s, want %q", text, got, problem, want)
		}
	}
}

func TestBinaryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent(t)
		for i := range e.Extensions {
			e.Extensions[i].Kind = event.String // headers carry no types
		}
		if len(e.Data) == 0 {
			e.Data = nil
		}
		h := http.Header{}
		WriteBinary(h, &e)
		for name, values := range h {
			if strings.Trim(values[0], printable) != "" && name != "Content-Type" {
				t.Fatalf("%s: %q is not printable ASCII", name, values[0])
			}
		}
		got, err := ReadBinary(h, e.Data)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(e, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestWriteStructured(t *testing.T) {
	e := small()
	h := headers("Content-Type", "text/plain")
	body := WriteStructured(h, nil, &e)
	if got, err := DecodeJSON(body, 1); Detect(h) != Structured || err != nil || !cmp.Equal(got, e) {
		t.Errorf("%v: got %v, %v", h, got, err)
	}
	body = WriteBatch(h, nil, []event.Event{e})
	if got, err := DecodeBatch(body, 1); Detect(h) != Batch || err != nil || !cmp.Equal(got, []event.Event{e}) {
		t.Errorf("%v: got %v, %v", h, got, err)
	}
}

const printable = "!#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~"

// anyEvent draws a valid event.
func anyEvent(t *rapid.T) event.Event {
	text := rapid.StringOf(rapid.RuneFrom([]rune(` abcXYZ09"\%/€é😀'{}<>+-_~`)))
	required := text.Filter(func(s string) bool { return s != "" })
	e := event.Event{
		ID: required.Draw(t, "id"), Type: required.Draw(t, "type"), Subject: text.Draw(t, "subject"),
		Source: rapid.SampledFrom([]string{"/s", "https://example.com/a?b=c#d", "urn:x:y", "a/b", "mailto:shop@example.com",
			"%20"}).Draw(t, "source"),
		Time:       rapid.SampledFrom([]string{"", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.1+02:00"}).Draw(t, "time"),
		DataSchema: rapid.SampledFrom([]string{"", "https://example.com/schema", "urn:x"}).Draw(t, "dataschema"),
		DataContentType: rapid.SampledFrom([]string{"", "application/json", "text/plain; charset=utf-8",
			"application/octet-stream"}).Draw(t, "datacontenttype"),
	}
	switch {
	case e.DataContentType == "application/json":
		e.Data = []byte(rapid.SampledFrom([]string{`{"a":[1.50,"\u00e9"]}`, "null", `"x"`, "[ 1 ]"}).Draw(t, "data"))
	case rapid.Bool().Draw(t, "has data"):
		e.Data = append([]byte{}, rapid.SliceOf(rapid.Byte()).Draw(t, "data")...)
	}
	for _, name := range rapid.SliceOfDistinct(rapid.StringMatching(`[e-h][a-z0-9]{0,3}`), rapid.ID).Draw(t, "extensions") {
		if NameProblem(name) == "" {
			e.SetExtension(anyExtension(t, name, text))
		}
	}
	return e
}

func anyExtension(t *rapid.T, name string, text *rapid.Generator[string]) event.Extension {
	switch rapid.IntRange(0, 2).Draw(t, "kind") {
	case 0:
		return event.Extension{Name: name, Kind: event.Boolean, Text: rapid.SampledFrom([]string{"true", "false"}).Draw(t, "boolean")}
	case 1:
		return event.Extension{Name: name, Kind: event.Integer, Text: rapid.SampledFrom([]string{"0", "-1", "2147483647",
			"-2147483648"}).Draw(t, "integer")}
	}
	return event.Extension{Name: name, Text: text.Draw(t, "text")}
}
