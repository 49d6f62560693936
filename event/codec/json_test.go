package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/event"
)

// small is an event with nothing but what is required.
func small() event.Event { return event.Event{ID: "1", Source: "/s", Type: "t"} }

func TestDecodeJSON(t *testing.T) {
	const head = `"specversion":"1.0","id":"1","source":"/s","type":"t"`
	with := func(change func(*event.Event)) event.Event {
		e := small()
		change(&e)
		return e
	}
	jsonData := func(data string) event.Event {
		return with(func(e *event.Event) { e.DataContentType, e.Data = "application/json", []byte(data) })
	}
	tests := []struct {
		name, text string
		want       event.Event
	}{
		{"required only", `{` + head + `}`, small()},
		{"white space", " \n{ " + head + " }\t", small()},
		{"all attributes", `{` + head + `,"subject":"sub","time":"2026-01-02T03:04:05.6700+02:00","datacontenttype":"application/json;v=1","dataschema":"https://example.com/s#d"}`,
			event.Event{ID: "1", Source: "/s", Type: "t", Subject: "sub", Time: "2026-01-02T03:04:05.6700+02:00",
				DataContentType: "application/json;v=1", DataSchema: "https://example.com/s#d"}},
		{"null is absent", `{` + head + `,"subject":null,"time":null,"datacontenttype":null,"dataschema":null,"ext":null,"data_base64":null}`, small()},
		{"extensions are sorted", `{"zz":"s",` + head + `,"b1":true,"c":-5,"a":"","averyveryverylongname123":"x"}`,
			with(func(e *event.Event) {
				e.Extensions = []event.Extension{{Name: "a"}, {Name: "averyveryverylongname123", Text: "x"}, {Name: "b1",
					Kind: event.Boolean, Text: "true"},
					{Name: "c", Kind: event.Integer, Text: "-5"}, {Name: "zz", Text: "s"}}
			})},
		{"the first of repeated members counts",
			`{` + head + `,"id":"2","x":1,"data":1,"x":"two","data":2,"subject":null,"subject":"late"}`, with(func(e *event.Event) {
				e.DataContentType, e.Data = "application/json", []byte("1")
				e.Extensions = []event.Extension{{Name: "x", Kind: event.Integer, Text: "1"}}
			})},
		{"escapes", `{"specversion":"1.0","\u0069d":"\u20ac \ud83d\ude00 \"\\\/","source":"\/s","type":"t"}`,
			with(func(e *event.Event) { e.ID = `€ 😀 "\/` })},
		{"JSON data byte for byte", `{` + head + `,"data": {"n":1.0e2, "s":"\u0041\ud800", "a":1,"a":2 ,"big":12345678901234567890.10} }`,
			jsonData(`{"n":1.0e2, "s":"\u0041\ud800", "a":1,"a":2 ,"big":12345678901234567890.10}`)},
		{"null is data", `{` + head + `,"data":null}`, jsonData("null")},
		{"a JSON string stays one", `{` + head + `,"data":"{\"a\":1}"}`, jsonData(`"{\"a\":1}"`)},
		{"data before its type", `{"data":"<a/>","datacontenttype":"text/xml",` + head + `}`,
			with(func(e *event.Event) { e.DataContentType, e.Data = "text/xml", []byte("<a/>") })},
		{"null under another type is no data", `{` + head + `,"datacontenttype":"text/xml","data":null}`,
			with(func(e *event.Event) { e.DataContentType = "text/xml" })},
		{"empty text", `{` + head + `,"datacontenttype":"text/plain","data":""}`,
			with(func(e *event.Event) { e.DataContentType, e.Data = "text/plain", []byte{} })},
		{"base64", `{` + head + `,"datacontenttype":"image/png","data_base64":"iVBORw=="}`,
			with(func(e *event.Event) { e.DataContentType, e.Data = "image/png", []byte("\x89PNG") })},
		{"base64 of JSON", `{` + head + `,"datacontenttype":"application/json","data_base64":"eyJhIjoxfQ=="}`, jsonData(`{"a":1}`)},
		{"base64 without a type infers none", `{` + head + `,"data_base64":"eyJhIjoxfQ=="}`,
			with(func(e *event.Event) { e.Data = []byte(`{"a":1}`) })},
		{"+json", `{` + head + `,"datacontenttype":"Application/Vnd.X+JSON; a=b","data":[1 ,2]}`,
			with(func(e *event.Event) { e.DataContentType, e.Data = "Application/Vnd.X+JSON; a=b", []byte("[1 ,2]") })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := DecodeJSON([]byte(tt.text), 64)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestDecodeJSONRefuses(t *testing.T) {
	valid := func(more string) string {
		return `{"specversion":"1.0","id":"1","source":"/s","type":"t"` + more + `}`
	}
	tests := []struct{ text, want string }{
		{``, "byte 0: there is no JSON value"},
		{`[]`, "byte 0: a CloudEvent is a JSON object"},
		{`"x"`, "byte 0: a CloudEvent is a JSON object"},
		{valid("") + valid(""), "something follows the JSON value"},
		{`{"id":"1","source":"/s","type":"t"}`, "specversion: is missing"},
		{`{"specversion":"0.3","id":"1","source":"/s","type":"t"}`, `specversion: must be 1.0, not "0.3"`},
		{`{"specversion":1.0,"id":"1","source":"/s","type":"t"}`, "specversion: must be a string"},
		{`{"specversion":"1.0","source":"/s","type":"t"}`, "id: is missing"},
		{`{"specversion":"1.0","id":null,"source":"/s","type":"t"}`, "id: is missing"},
		{`{"specversion":"1.0","id":"","source":"/s","type":"t"}`, "id: must not be empty"},
		{`{"specversion":"1.0","id":7,"source":"/s","type":"t"}`, "id: must be a string"},
		{`{"specversion":"1.0","id":"1","type":"t"}`, "source: is missing"},
		{`{"specversion":"1.0","id":"1","source":"a b","type":"t"}`, "source: is not a URI reference"},
		{`{"specversion":"1.0","id":"1","source":"/s"}`, "type: is missing"},
		{`{"specversion":"1.0","id":"a\u0000b","source":"/s","type":"t"}`, "id: must not contain control characters"},
		{`{"specversion":"1.0","id":"\udc00","source":"/s","type":"t"}`, "id: contains half a surrogate pair"},
		{`{"specversion":"1.0","id":"\ud800x","source":"/s","type":"t"}`, "id: contains half a surrogate pair"},
		{valid(`,"subject":""`), "subject: must not be empty; leave it out"},
		{valid(`,"time":"yesterday"`), "time: is not a time of RFC 3339"},
		{valid(`,"dataschema":"/relative"`), "dataschema: must be an absolute URI"},
		{valid(`,"datacontenttype":"json"`), "datacontenttype: is not a media type"},
		{valid(`,"traceParent":"x"`), "traceParent: a name consists of lower-case letters and digits"},
		{valid(`,"my_ext":null`), "my_ext: a name consists of lower-case letters and digits"},
		{valid(`,"":1`), ": a name must not be empty"},
		{valid(`,"\ud800":1`), `\ud800: a name consists of lower-case letters and digits`},
		{valid(`,"x":1.5`), "x: must be an integer"},
		{valid(`,"x":1e3`), "x: must be an integer"},
		{valid(`,"x":2147483648`), "x: must be an integer of 32 bits"},
		{valid(`,"x":{"a":1}`), "x: must be a string, a boolean or an integer"},
		{valid(`,"x":[]`), "x: must be a string, a boolean or an integer"},
		{valid(`,"x":"a\nb"`), "x: must not contain control characters"},
		{valid(`,"data":1,"data_base64":"AA=="`), "data: data and data_base64 exclude each other"},
		{valid(`,"data":null,"data_base64":"AA=="`), "data: data and data_base64 exclude each other"},
		{valid(`,"data_base64":"A"`), "data_base64: is not base64"},
		{valid(`,"data_base64":1`), "data_base64: must be a string"},
		{valid(`,"datacontenttype":"text/plain","data":{}`), "data: must be a string, because datacontenttype is not JSON"},
		{valid(`,"datacontenttype":"text/plain","data":"\udc00"`), "data: contains half a surrogate pair"},
		{valid(`,"data":{"a":}`), "where a value belongs"},
	}
	for _, tt := range tests {
		e, err := DecodeJSON([]byte(tt.text), 64)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want …%s…", tt.text, err, tt.want)
			continue
		}
		var syntax *SyntaxError
		var attribute *AttributeError
		if !errors.As(err, &syntax) && !errors.As(err, &attribute) {
			t.Errorf("%s: %T is no documented type", tt.text, err)
		}
		if e.ID != "" || e.Data != nil {
			t.Errorf("%s: an event came with the error", tt.text)
		}
	}
}

func TestDepthCountsTheDataOnly(t *testing.T) {
	text := func(depth int) string {
		return `{"specversion":"1.0","id":"1","source":"/s","type":"t","data":` + strings.Repeat("[", depth) + strings.Repeat("]",
			depth) + `}`
	}
	if _, err := DecodeJSON([]byte(text(64)), 64); err != nil {
		t.Error(err)
	}
	if _, err := DecodeBatch([]byte("["+text(64)+"]"), 64); err != nil {
		t.Error(err)
	}
	if _, err := DecodeJSON([]byte(text(65)), 64); err == nil || !strings.Contains(err.Error(), "nested more than 64 deep") {
		t.Errorf("got %v", err)
	}
	if _, err := DecodeBatch([]byte("["+text(65)+"]"), 64); err == nil || !strings.Contains(err.Error(), "nested more than 64 deep") {
		t.Errorf("got %v", err)
	}
	if _, err := DecodeJSON([]byte(text(10_000)), 0); err != nil {
		t.Error(err)
	}
}

func TestBatch(t *testing.T) {
	for text, want := range map[string]int{"[]": 0, " [ ] ": 0, `[{"specversion":"1.0","id":"1","source":"/s","type":"t"} ,
		{"specversion":"1.0","id":"2","source":"/s","type":"t"}]`: 2} {
		got, err := DecodeBatch([]byte(text), 64)
		if err != nil || len(got) != want || got == nil {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		`{}`: "byte 0: a batch of CloudEvents is a JSON array",
		`[{"specversion":"1.0","id":"1","source":"/s","type":"t"},{"specversion":"1.0"}]`: "event 2: id: is missing",
		`[1]`: "event 1: byte 1: a CloudEvent is a JSON object",
		`[{"specversion":"1.0","id":"1","source":"/s","type":"t"},]`: "event 2: byte 57: a CloudEvent is a JSON object",
		`[{"specversion":"1.0","id":"1","source":"/s","type":"t"}`:   `byte 56: the text ends where "," or "]" belongs`,
		`[] []`: "byte 3: something follows",
	} {
		if got, err := DecodeBatch([]byte(text), 64); err == nil || !strings.Contains(err.Error(), want) || got != nil {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	a, b := small(), small()
	b.ID = "2"
	text := EncodeBatch(nil, []event.Event{a, b})
	got, err := DecodeBatch(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]event.Event{a, b}, got); diff != "" {
		t.Error(diff)
	}
	if got := EncodeBatch(nil, nil); string(got) != "[]" {
		t.Errorf("got %s", got)
	}
}

func TestEncodeJSON(t *testing.T) {
	const head = `{"specversion":"1.0","id":"1","source":"/s","type":"t"`
	tests := []struct {
		name       string
		dataType   string
		data, want string
	}{
		{"JSON is embedded as it is", "application/json", `{"a": 1.0e2, "s":"\u0041\ud800\/" }`,
			`,"data":{"a": 1.0e2, "s":"\u0041\ud800\/" }`},
		{"line breaks between tokens go", "application/json", "{\r\n\t\"a b\": [1.00, \"x  \\n y\"],\n\"c\" : \"\\\"\\\\\"}\n",
			`,"data":{"a b":[1.00,"x  \n y"],"c":"\"\\"}`},
		{"a JSON string", "text/json", `"x"`, `,"data":"x"`},
		{"not JSON after all", "application/json", `{"a":`, `,"data_base64":"eyJhIjo="`},
		{"empty is not JSON", "application/json", ``, `,"data_base64":""`},
		{"text", "text/plain; charset=utf-8", "a\"b\\\n\r\t\x01é\u2028\x00", `,"data":"a\"b\\\n\r\t\u0001é` + "\u2028" + `\u0000"`},
		{"empty text", "text/plain", "", `,"data":""`},
		{"bytes", "text/plain", "\xff", `,"data_base64":"/w=="`},
		{"octets are not text", "application/octet-stream", "abc", `,"data_base64":"YWJj"`},
		{"without a type nothing is assumed", "", `{"a":1}`, `,"data_base64":"eyJhIjoxfQ=="`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := small()
			e.DataContentType, e.Data = tt.dataType, []byte(tt.data)
			want := head
			if tt.dataType != "" {
				want += `,"datacontenttype":"` + tt.dataType + `"`
			}
			got := EncodeJSON([]byte("> "), &e)
			if string(got) != "> "+want+tt.want+"}" {
				t.Errorf("got  %s\nwant > %s%s}", got, want, tt.want)
			}
			if bytes.ContainsAny(got, "\n\r") || !json.Valid(got[2:]) {
				t.Errorf("%s is not one line of JSON", got)
			}
		})
	}
}

func TestEncodeJSONAttributes(t *testing.T) {
	e := event.Event{ID: "é\"", Source: "/s", Type: "t", Subject: "s", Time: "2026-01-02T03:04:05.100Z", DataSchema: "urn:x",
		Extensions: []event.Extension{
			{Name: "b", Kind: event.Boolean, Text: "true"}, {Name: "i", Kind: event.Integer, Text: "-7"}, {Name: "n", Kind: event.Integer,
				Text: "7,8"},
			{Name: "s", Text: "12"}, {Name: "u", Text: "\xff"}}}
	want := `{"specversion":"1.0","id":"é\"","source":"/s","type":"t","subject":"s","time":"2026-01-02T03:04:05.100Z","dataschema":"urn:x",` +
		`"b":true,"i":-7,"n":"7,8","s":"12","u":"` + "\uFFFD" + `"}`
	if got := string(EncodeJSON(nil, &e)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// What is decoded, encoded and decoded again is the same event, and never panics.
func FuzzDecodeJSON(f *testing.F) {
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t","time":"2026-01-02T03:04:05Z","x":true,"y":5,"data":{"a":[1,"\n"]}}`))
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"text/plain","data":"x\u00e9\ud83d\ude00"}`))
	f.Add([]byte(`{"specversion":"1.0","id":"\u20ac","source":"/s","type":"t","data_base64":"AA=="}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := DecodeJSON(data, 64)
		if err != nil {
			return
		}
		line := EncodeJSON(nil, &first)
		second, err := DecodeJSON(line, 64)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if bytes.ContainsAny(first.Data, "\n\r") && first.IsJSON() {
			first.Data = appendOneLine(nil, first.Data)
		} else if first.IsJSON() {
			first.Data, second.Data = bytes.TrimSpace(first.Data), bytes.TrimSpace(second.Data)
		}
		if diff := cmp.Diff(first, second); diff != "" {
			t.Errorf("%s\n%s", line, diff)
		}
	})
}
