package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

const jsonType = "application/json"

// plain is what a plain post becomes.
func plain(id, contentType, data string) event.Event {
	return event.Event{ID: id, Source: "/hook", Type: "millrace.webhook", Time: noonText, DataContentType: contentType,
		Data: []byte(data), Received: noon}
}

// cloud is a CloudEvent that was received.
func cloud(id, contentType, data string) event.Event {
	e := event.Event{ID: id, Source: "/s", Type: "t", DataContentType: contentType, Received: noon}
	if data != "" {
		e.Data = []byte(data)
	}
	return e
}

func TestAccepts(t *testing.T) {
	const structured = `{"specversion":"1.0","id":"a","source":"/s","type":"t","data":{"n": 1.0}}`
	binary := []string{"ce-specversion", "1.0", "ce-id", "a%20b", "ce-source", "/s", "ce-type", "t"}
	tests := []struct {
		name    string
		body    string
		headers []string
		want    []event.Event
	}{
		{"JSON, byte for byte", " {\"n\": 1.0e2, \"n\": 2,\n\"s\":\"\\ud800\"}\n", []string{"Content-Type", jsonType},
			[]event.Event{plain("id-1", jsonType, " {\"n\": 1.0e2, \"n\": 2,\n\"s\":\"\\ud800\"}\n")}},
		{"a content type with parameters", `1`, []string{"Content-Type", "Application/JSON; charset=utf-8"},
			[]event.Event{plain("id-1", "Application/JSON; charset=utf-8", "1")}},
		{"null", `null`, []string{"Content-Type", jsonType}, []event.Event{plain("id-1", jsonType, "null")}},
		{"an array is one event", `[1,2]`, []string{"Content-Type", jsonType}, []event.Event{plain("id-1", jsonType, "[1,2]")}},
		{"+json", `{}`, []string{"Content-Type", "application/vnd.shop+json"}, []event.Event{plain("id-1",
			"application/vnd.shop+json", "{}")}},
		{"no content type, JSON", `{"a":1}`, nil, []event.Event{plain("id-1", jsonType, `{"a":1}`)}},
		{"no content type, not JSON", `{"a":1`, nil, []event.Event{plain("id-1", "application/octet-stream", `{"a":1`)}},
		{"no content type, nothing", ``, nil, []event.Event{plain("id-1", "application/octet-stream", ``)}},
		{"text", "hé\r\n", []string{"Content-Type", "text/plain; charset=utf-8"}, []event.Event{plain("id-1",
			"text/plain; charset=utf-8", "hé\r\n")}},
		{"empty text", "", []string{"Content-Type", "text/plain"}, []event.Event{plain("id-1", "text/plain", "")}},
		{"bytes", "\x00\xff", []string{"Content-Type", "image/png"}, []event.Event{plain("id-1", "image/png", "\x00\xff")}},
		{"a form", "a=1&b={", []string{"Content-Type", "application/x-www-form-urlencoded"}, []event.Event{plain("id-1",
			"application/x-www-form-urlencoded", "a=1&b={")}},
		{"identity encoding", `{}`, []string{"Content-Type", jsonType, "Content-Encoding", "Identity"}, []event.Event{plain("id-1",
			jsonType, "{}")}},
		{"a key in quotes", `{}`, []string{"Content-Type", jsonType, "Idempotency-Key", `"k \"1\"";x=1`}, []event.Event{plain(`k "1"`,
			jsonType, "{}")}},
		{"a bare key", `{}`, []string{"Content-Type", jsonType, "Idempotency-Key", `8e03978e/x;y`},
			[]event.Event{plain("8e03978e/x;y", jsonType, "{}")}},
		{"other ce- headers do not make a CloudEvent", `{}`, []string{"Content-Type", jsonType, "ce-subject", "x", "ce-time",
			"never"}, []event.Event{plain("id-1", jsonType, "{}")}},
		{"NDJSON", "{\"a\":1}\r\n\n  \n [2] \nnull", []string{"Content-Type", "application/x-ndjson"},
			[]event.Event{plain("id-1", jsonType, `{"a":1}`), plain("id-2", jsonType, ` [2] `), plain("id-3", jsonType, `null`)}},
		{"NDJSON with a key", "1\n\n3\n", []string{"Content-Type", "application/jsonl; charset=utf-8", "Idempotency-Key", `"k"`},
			[]event.Event{plain("k/1", jsonType, "1"), plain("k/3", jsonType, "3")}},
		{"structured", structured, []string{"Content-Type", "application/cloudevents+json; charset=UTF-8", "Idempotency-Key", "ignored"},
			[]event.Event{cloud("a", jsonType, `{"n": 1.0}`)}},
		{"structured, the payload wins over headers", structured, append([]string{"Content-Type", "application/cloudevents+json"},
			binary...), []event.Event{cloud("a", jsonType, `{"n": 1.0}`)}},
		{"a batch", `[` + structured + `, {"specversion":"1.0","id":"b","source":"/s","type":"t"}]`, []string{"Content-Type",
			"application/cloudevents-batch+json"},
			[]event.Event{cloud("a", jsonType, `{"n": 1.0}`), cloud("b", "", "")}},
		{"an empty batch", `[]`, []string{"Content-Type", "application/cloudevents-batch+json"}, nil},
		{"binary", `{ }`, append([]string{"Content-Type", jsonType}, binary...), []event.Event{cloud("a b", jsonType, `{ }`)}},
		{"binary without a type", `{ }`, binary, []event.Event{cloud("a b", "", `{ }`)}},
		{"binary without data", ``, append([]string{"Content-Type", jsonType}, binary...), []event.Event{cloud("a b", jsonType, "")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := &inbox{}
			url := serve(t, in.emit, build(t, nil)) + "/hook"
			got := post(t, url, tt.body, tt.headers...)
			var ids []string
			for _, e := range tt.want {
				ids = append(ids, fmt.Sprintf("%q", e.ID))
			}
			if want := `{"ids":[` + strings.Join(ids, ",") + "]}\n"; got.status != http.StatusAccepted || got.body != want {
				t.Errorf("got %d %s, want 202 %s", got.status, got.body, want)
			}
			if kind := got.header.Get("Content-Type"); kind != jsonType {
				t.Errorf("got Content-Type %q", kind)
			}
			taken := in.take()
			if diff := cmp.Diff(tt.want, taken); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			for _, e := range taken {
				if e.MarkedJSON() != (e.DataContentType != "" && e.IsJSON() && len(e.Data) > 0) {
					t.Errorf("%s %q: marked as JSON is %v", e.DataContentType, e.Data, e.MarkedJSON())
				}
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	in := &inbox{}
	s := build(t, func(c *Config) { c.MaxBody = 4096 })
	limited := build(t, func(c *Config) { c.Path, c.Accept = "/limited", []string{"application/json", "Text/*"} })
	base := serve(t, in.emit, s, limited)
	binary := []string{"ce-specversion", "1.0", "ce-id", "a", "ce-source", "/s", "ce-type", "t"}
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	tests := []struct {
		name, path, body string
		headers          []string
		status           int
		problem, detail  string
	}{
		{"not JSON", "/hook", `{"a":1,}`, []string{"Content-Type", jsonType}, 400, "malformed", "not valid JSON: byte 7"},
		{"two values", "/hook", `{} {}`, []string{"Content-Type", jsonType}, 400, "malformed", "something follows"},
		{"empty JSON", "/hook", ``, []string{"Content-Type", jsonType}, 400, "malformed", "no JSON value"},
		{"blank JSON", "/hook", " \n", []string{"Content-Type", "text/json"}, 400, "malformed", "no JSON value"},
		{"not UTF-8", "/hook", "\"\xff\"", []string{"Content-Type", jsonType}, 400, "malformed", "byte 1: invalid UTF-8"},
		{"a byte order mark", "/hook", "\xEF\xBB\xBF{}", []string{"Content-Type", jsonType}, 400, "malformed", "byte order mark"},
		{"too deep", "/hook", deep(65), []string{"Content-Type", jsonType}, 400, "malformed", "nested more than 64 deep"},
		{"NDJSON with a bad line", "/hook", "{}\n\n{\"a\":}\n{}", []string{"Content-Type", "application/x-ndjson"}, 400, "malformed",
			"line 3 is not valid JSON: byte 5"},
		{"NDJSON, a line too deep", "/hook", "{}\n" + deep(65), []string{"Content-Type", "application/ndjson"}, 400, "malformed",
			"line 2 is not valid JSON: byte 64"},
		{"NDJSON, a value over two lines", "/hook", "{\"a\":\n1}", []string{"Content-Type", "application/x-ndjson"}, 400, "malformed",
			"line 1"},
		{"NDJSON without a line", "/hook", "\n \n", []string{"Content-Type", "application/x-ndjson"}, 400, "malformed", "no line"},
		{"NDJSON, nothing", "/hook", "", []string{"Content-Type", "application/x-ndjson"}, 400, "malformed", "no line"},
		{"NDJSON, too many lines", "/hook", strings.Repeat("1\n", 257), []string{"Content-Type", "application/x-ndjson"}, 413,
			"too-large", "more than 256 lines"},
		{"JSON under a form", "/hook", ` {"a":1}`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415,
			"unsupported-media-type", "-H 'Content-Type: application/json'"},
		{"an array under a form", "/hook", `[1]`, []string{"Content-Type", "application/x-www-form-urlencoded; charset=utf-8"}, 415,
			"unsupported-media-type", "-H 'Content-Type: application/json'"},
		{"a CloudEvent under a form", "/hook", `{}`, append([]string{"Content-Type", "application/x-www-form-urlencoded"}, binary...),
			415, "unsupported-media-type", "-H 'Content-Type: application/json'"},
		{"gzip", "/hook", `{}`, []string{"Content-Type", jsonType, "Content-Encoding", "gzip"}, 415, "unsupported-media-type",
			"gzip is not taken"},
		{"identity and gzip", "/hook", `{}`, []string{"Content-Type", jsonType, "Content-Encoding", "identity", "Content-Encoding",
			"br"}, 415, "unsupported-media-type", "br is not taken"},
		{"no media type", "/hook", `{}`, []string{"Content-Type", "json"}, 415, "unsupported-media-type", `"json" is not a media type`},
		{"two content types", "/hook", `{}`, []string{"Content-Type", jsonType, "Content-Type", "text/plain"}, 400, "malformed",
			"more than once"},
		{"another format of CloudEvents", "/hook", `x`, []string{"Content-Type", "application/cloudevents+avro"}, 415,
			"unsupported-media-type", "only JSON"},
		{"not accepted", "/limited", `x`, []string{"Content-Type", "image/png"}, 415, "unsupported-media-type",
			"image/png is not taken here, only application/json, Text/*"},
		{"not accepted without a type", "/limited", `x`, nil, 415, "unsupported-media-type",
			"application/octet-stream is not taken here"},
		{"CloudEvents are not accepted", "/limited", `{}`, []string{"Content-Type", "application/cloudevents+json"}, 415,
			"unsupported-media-type", "application/cloudevents+json is not taken"},
		{"an incomplete CloudEvent, id", "/hook", `{}`, []string{"Content-Type", jsonType, "ce-id", "1"}, 400, "malformed",
			"specversion: is missing"},
		{"an incomplete CloudEvent, type", "/hook", `{}`, []string{"Content-Type", jsonType, "ce-specversion", "1.0", "ce-type", "t"},
			400, "malformed", "id: is missing"},
		{"an old CloudEvent", "/hook", `{}`, append([]string{"Content-Type", jsonType, "ce-specversion", "0.3"}, binary[2:]...), 400,
			"malformed", "must be 1.0"},
		{"a bad attribute", "/hook", `{}`, append([]string{"Content-Type", jsonType, "ce-time", "now"}, binary...), 400, "malformed",
			"not a valid CloudEvent: time: is not a time"},
		{"binary with bad JSON", "/hook", `{`, append([]string{"Content-Type", jsonType}, binary...), 400, "malformed",
			"not valid JSON: byte 1"},
		{"binary, too deep", "/hook", deep(65), append([]string{"Content-Type", jsonType}, binary...), 400, "malformed",
			"nested more than 64"},
		{"structured, empty", "/hook", ``, []string{"Content-Type", "application/cloudevents+json"}, 400, "malformed", "no JSON value"},
		{"structured, incomplete", "/hook", `{"specversion":"1.0"}`, []string{"Content-Type", "application/cloudevents+json"}, 400,
			"malformed", "id: is missing"},
		{"structured, an array", "/hook", `[]`, []string{"Content-Type", "application/cloudevents+json"}, 400, "malformed",
			"is a JSON object"},
		{"structured, too deep", "/hook", `{"specversion":"1.0","id":"a","source":"/s","type":"t","data":` + deep(65) + `}`,
			[]string{"Content-Type", "application/cloudevents+json"}, 400, "malformed", "nested more than 64"},
		{"a batch with one bad event", "/hook",
			`[{"specversion":"1.0","id":"a","source":"/s","type":"t"},{"specversion":"1.0","id":"","source":"/s","type":"t"}]`,
			[]string{"Content-Type", "application/cloudevents-batch+json"}, 400, "malformed", "event 2: id: must not be empty"},
		{"a batch that is none", "/hook", `{}`, []string{"Content-Type", "application/cloudevents-batch+json"}, 400, "malformed",
			"is a JSON array"},
		{"an empty key", "/hook", `{}`, []string{"Content-Type", jsonType, "Idempotency-Key", `""`}, 400, "malformed",
			"Idempotency-Key is empty"},
		{"an open key", "/hook", `{}`, []string{"Content-Type", jsonType, "Idempotency-Key", `"a`}, 400, "malformed",
			"Idempotency-Key is neither"},
		{"a key and more", "/hook", `{}`, []string{"Content-Type", jsonType, "Idempotency-Key", `"a" b`}, 400, "malformed",
			"Idempotency-Key is neither"},
		{"a bad escape in a key", "/hook", `{}`, []string{"Content-Type", jsonType, "Idempotency-Key", `"\n"`}, 400, "malformed",
			"Idempotency-Key is neither"},
		{"two words for a key", "/hook", `{}`, []string{"Content-Type", jsonType, "Idempotency-Key", `a b`}, 400, "malformed",
			"Idempotency-Key is neither"},
		{"a key beyond ASCII", "/hook", `{}`, []string{"Content-Type", jsonType, "Idempotency-Key", "\"\xc3\xa9\""}, 400, "malformed",
			"Idempotency-Key is neither"},
		{"a long key", "/hook", `{}`, []string{"Content-Type", jsonType, "Idempotency-Key", strings.Repeat("k", 256)}, 400,
			"malformed", "more than 255"},
		{"two keys", "/hook", `{}`, []string{"Content-Type", jsonType, "Idempotency-Key", "a", "Idempotency-Key", "b"}, 400,
			"malformed", "more than once"},
		{"an unknown path", "/hooks", `{}`, []string{"Content-Type", jsonType}, 404, "not-found", "/hooks"},
		{"one byte too many", "/hook", `"` + strings.Repeat("x", 4095) + `"`, []string{"Content-Type", jsonType}, 413, "too-large",
			"more than 4096 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			checkProblem(t, post(t, base+tt.path, tt.body, tt.headers...), tt.status, tt.problem, tt.detail)
			if got := in.take(); len(got) > 0 {
				t.Errorf("stored %v", got)
			}
		})
	}
}

func TestLimitsAreInclusive(t *testing.T) {
	in := &inbox{}
	base := serve(t, in.emit, build(t, func(c *Config) {
		c.MaxBody, c.Accept = 4096, []string{"application/json", "Text/*", "application/x-ndjson"}
	}))
	for _, tt := range []struct{ body, contentType string }{
		{`"` + strings.Repeat("x", 4094) + `"`, jsonType},
		{strings.Repeat("[", 64) + strings.Repeat("]", 64), jsonType},
		{strings.Repeat("1\n", 256), "application/x-ndjson"},
		{"x", "TEXT/html; charset=utf-8"},
	} {
		if got := post(t, base+"/hook", tt.body, "Content-Type", tt.contentType); got.status != http.StatusAccepted {
			t.Errorf("%.40q: got %d %s", tt.body, got.status, got.body)
		}
	}
	if got := post(t, base+"/hook", "{}"); got.status != http.StatusAccepted {
		t.Errorf("a body without a type counts as what it is found to be: got %d %s", got.status, got.body)
	}
}

func TestHeadersTooLarge(t *testing.T) {
	in := &inbox{}
	small := build(t, func(c *Config) { c.Path, c.MaxHeaders = "/small", 2048 })
	base := serve(t, in.emit, small, build(t, nil))
	for _, tt := range []struct {
		path   string
		size   int
		status int
	}{{"/small", 1500, 202}, {"/small", 2048, 431}, {"/hook", 60 << 10, 202}} {
		got := post(t, base+tt.path, "{}", "Content-Type", jsonType, "X-Long", strings.Repeat("x", tt.size))
		if got.status != tt.status {
			t.Errorf("%s with %d bytes: got %d %s", tt.path, tt.size, got.status, got.body)
		}
		if tt.status == 431 {
			checkProblem(t, got, 431, "headers-too-large", "more than 2048 bytes")
		}
	}
	if got := post(t, base+"/small?"+strings.Repeat("q", 3000), "{}", "Content-Type", jsonType); got.status != 431 {
		t.Errorf("a long query: got %d %s", got.status, got.body)
	}
}

func TestMethods(t *testing.T) {
	in := &inbox{}
	base := serve(t, in.emit, build(t, nil))
	for _, method := range []string{"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"} {
		got := send(t, method, base+"/hook", nil, "WebHook-Request-Origin", "example.com")
		if got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") != "POST" || got.header.Get("WebHook-Allowed-Origin") != "" {
			t.Errorf("%s: got %d %v", method, got.status, got.header)
		}
		if method != "HEAD" {
			checkProblem(t, got, 405, "method-not-allowed", "takes POST, not "+method)
		}
	}
	if got := in.take(); len(got) > 0 {
		t.Errorf("stored %v", got)
	}
}

func TestRefusalsOfTheLog(t *testing.T) {
	in := &inbox{}
	base := serve(t, in.emit, build(t, nil))
	for _, tt := range []struct {
		err        error
		name, text string
	}{
		{event.ErrFull, "outbox-full", "nothing was stored"},
		{fmt.Errorf("wrapped: %w", event.ErrFull), "outbox-full", "nothing was stored"},
		{event.ErrBusy, "outbox-busy", "nothing was stored"},
		{context.DeadlineExceeded, "outbox-busy", "nothing was stored"},
		{event.ErrClosed, "stopping", "nothing was stored"},
		{event.ErrUnknown, "outbox-failed", "may or may not be stored"},
		{errors.New("secret path /var/lib"), "outbox-failed", "may or may not be stored"},
	} {
		in.failWith(tt.err)
		got := post(t, base+"/hook", "{}", "Content-Type", jsonType)
		checkProblem(t, got, 503, tt.name, tt.text)
		if after := got.header.Get("Retry-After"); after == "" || strings.Trim(after, "0123456789") != "" || after == "0" {
			t.Errorf("%v: got Retry-After %q", tt.err, after)
		}
		if strings.Contains(got.body, "secret") {
			t.Errorf("the answer tells what is inside: %s", got.body)
		}
	}
	in.failWith(nil)
	if got := post(t, base+"/hook", "{}", "Content-Type", jsonType); got.status != http.StatusAccepted {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

func TestTheAnswerHasTheIDsOfTheLog(t *testing.T) {
	emit := func(context.Context, event.Batch) ([]string, error) { return []string{`first "one"`}, nil }
	base := serve(t, emit, build(t, nil))
	if got := post(t, base+"/hook", "{}", "Content-Type", jsonType); got.body != `{"ids":["first \"one\""]}`+"\n" {
		t.Errorf("got %s", got.body)
	}
}

func TestEncodingHintAndLongDetail(t *testing.T) {
	in := &inbox{}
	base := serve(t, in.emit, build(t, nil))
	if got := post(t, base+"/hook", "x", "Content-Encoding", "gzip"); got.header.Get("Accept-Encoding") != "identity" {
		t.Errorf("got %v", got.header)
	}
	got := post(t, base+"/"+strings.Repeat("%C3%A9", 5000), "x")
	if got.status != 404 || len(got.body) > 1500 {
		t.Errorf("got %d with %d bytes", got.status, len(got.body))
	}
}

func TestExpressions(t *testing.T) {
	in := &inbox{}
	expression := func(text string) *rules.Expr { return compile(t, text) }
	s := build(t, func(c *Config) {
		c.Path = "/shops/{shop}/orders"
		c.Type = template(t, "shop.{{ data.kind }}")
		c.Source = template(t, "/shops/{{ params.shop }}")
		c.Subject = template(t, `{{ headers["x-order"] ?? query.order }}`)
		c.Attributes = map[string]*rules.Expr{
			"tenant": expression("params.shop"), "count": expression("data.count"), "big": expression("data.big"),
			"rate": expression("data.rate"),
			"paid": expression("data.paid"), "gone": expression("data.gone"), "at": expression("received"),
		}
	})
	base := serve(t, in.emit, s)
	got := post(t, base+"/shops/s-1/orders?order=q-1", `{"kind":"created","count":3,"big":12345678901,"rate":0.50,"paid":true}`,
		"Content-Type", jsonType)
	if got.status != http.StatusAccepted {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	want := plain("id-1", jsonType, `{"kind":"created","count":3,"big":12345678901,"rate":0.50,"paid":true}`)
	want.Type, want.Source, want.Subject = "shop.created", "/shops/s-1", "q-1"
	want.Extensions = []event.Extension{{Name: "at", Kind: event.Timestamp, Text: noonText}, {Name: "big", Text: "12345678901"},
		{Name: "count", Kind: event.Integer, Text: "3"}, {Name: "paid", Kind: event.Boolean, Text: "true"}, {Name: "rate",
			Text: "0.50"}, {Name: "tenant", Text: "s-1"}}
	if diff := cmp.Diff([]event.Event{want}, in.take()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	got = post(t, base+"/shops/s-1/orders", "{\"kind\":\"a\"}\n{\"kind\":\"b\"}", "Content-Type", "application/x-ndjson",
		"X-Order", "h-1")
	events := in.take()
	if got.status != http.StatusAccepted || len(events) != 2 || events[0].Type != "shop.a" || events[1].Type != "shop.b" ||
		events[1].Subject != "h-1" {
		t.Errorf("got %d %s, %v", got.status, got.body, events)
	}

	checkProblem(t, post(t, base+"/shops/s-1/orders?order=1", `{}`, "Content-Type", jsonType), 400, "malformed", "data.kind")
	checkProblem(t, post(t, base+"/shops/s-1/orders", `{"kind":"a"}`, "Content-Type", jsonType), 400, "malformed",
		"subject cannot be made")
	checkProblem(t, post(t, base+"/shops/s-1/orders?order=", `{"kind":"a"}`, "Content-Type", jsonType), 400, "malformed",
		"subject is empty")
	checkProblem(t, post(t, base+"/shops/a%20b/orders?order=1", `{"kind":"a"}`, "Content-Type", jsonType), 400, "malformed",
		"source: is not a URI reference")
	checkProblem(t, post(t, base+"/shops/s/orders?order=1", `{"kind":"a","count":{}}`, "Content-Type", jsonType), 400, "malformed",
		"attribute count cannot be made")
	checkProblem(t, post(t, base+"/shops/s/orders?order=1", `{"kind":"a"}`+"\n"+`{}`, "Content-Type", "application/jsonl"), 400,
		"malformed", "line 2: type cannot be made")
	if events := in.take(); len(events) > 0 {
		t.Errorf("stored %v", events)
	}

	got = post(t, base+"/shops/s-1/orders", "{}", "Content-Type", jsonType, "ce-specversion", "1.0", "ce-id", "a", "ce-source",
		"/s", "ce-type", "t")
	if diff := cmp.Diff([]event.Event{cloud("a", jsonType, "{}")}, in.take()); got.status != http.StatusAccepted || diff != "" {
		t.Errorf("a CloudEvent keeps its own attributes: %d %s", got.status, diff)
	}
}
