package rules

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/event"
)

func TestFilterAndDrop(t *testing.T) {
	for _, c := range []struct {
		src          string
		filter, drop bool // whether the event goes on
		missing      string
	}{
		{`data.count == 3`, true, false, ""},
		{`data.count == 4`, false, true, ""},
		{`data.x > 1`, false, true, "data.x"},
		{`not (data.x > 1)`, false, true, "data.x"},
		{`data.x == 1`, false, true, "data.x"},
	} {
		x := mustCompile(t, c.src)
		for _, op := range []struct {
			name string
			op   Op
			want bool
		}{{"filter", Filter(x), c.filter}, {"drop", Drop(x), c.drop}} {
			if keep, missing, err := op.op.Apply(orderEvent()); err != nil || keep != op.want || missing != c.missing {
				t.Errorf("%s: %s: keep %v, missing %q, %v", op.name, c.src, keep, missing, err)
			}
		}
	}
	if keep, _, err := Drop(mustCompile(t, `data.count`)).Apply(orderEvent()); err == nil || keep {
		t.Error("a number decided to drop:", keep, err)
	}
}

func TestMap(t *testing.T) {
	for _, c := range []struct{ src, mediaType, data, wantType, want, missing string }{
		{`{id: data.id, n: data.n}`, "application/json", `{"id":"é","n":1.50}`, "application/json", `{"id":"é","n":1.50}`, ""},
		{`data.b`, "application/x+json", `{"b":{"z":1,"a":2}}`, "application/x+json", `{"z":1,"a":2}`, ""},
		{`{line: data}`, "text/plain", "hello\tyou", "application/json", `{"line":"hello\tyou"}`, ""},
		{`{a: data.x}`, "application/json", `{}`, "application/json", `{"a":null}`, "data.x"},
		{`nil`, "application/json", `{}`, "application/json", `null`, ""},
	} {
		ev := &event.Event{DataContentType: c.mediaType, Data: []byte(c.data)}
		keep, missing, err := Map(mustCompile(t, c.src)).Apply(ev)
		if !keep || err != nil || string(ev.Data) != c.want || ev.DataContentType != c.wantType || missing != c.missing {
			t.Errorf("%s: %v %q %v: %s %s", c.src, keep, missing, err, ev.DataContentType, ev.Data)
		}
	}
}

// set applies assignments "path = expression".
func set(t testing.TB, assignments ...string) Op {
	t.Helper()
	var list []Assignment
	for _, a := range assignments {
		path, src, _ := strings.Cut(a, " = ")
		list = append(list, Assignment{path, mustCompile(t, src)})
	}
	op, err := Set(list)
	if err != nil {
		t.Fatal(err)
	}
	return op
}

func TestSetData(t *testing.T) {
	for _, c := range []struct{ name, data, assignment, want string }{
		{"replace", "{ \"a\" : 1.0,\n \"b\":2 }", `data.a = 5`, "{ \"a\" : 5,\n \"b\":2 }"},
		{"add", "{ \"a\" : 1.0 }", `data.b = "x"`, "{ \"a\" : 1.0,\"b\":\"x\" }"},
		{"add to an empty one", "{ }", `data.b = true`, "{\"b\":true }"},
		{"add parents", `{"a":1}`, `data.b.c.d = data.a`, `{"a":1,"b":{"c":{"d":1}}}`},
		{"null is no parent", `{"a": null }`, `data.a.b = 1`, `{"a": {"b":1} }`},
		{"null data", ` null`, `data.a = 1`, ` {"a":1}`},
		{"first of repeated", `{"a":1,"a":2}`, `data.a = 3`, `{"a":3,"a":2}`},
		{"escaped name", `{"\u0061":1}`, `data.a = 3`, `{"\u0061":3}`},
		{"strange names", `{"a.b":{"*":1}}`, `data["a.b"]["*"] = 2`, `{"a.b":{"*":2}}`},
		{"element", `{"a":[1, {"b":2} ]}`, `data.a[1].b = 3`, `{"a":[1, {"b":3} ]}`},
		{"last element", `{"a":[1, 2]}`, `data.a[-1] = 3`, `{"a":[1, 3]}`},
		{"numbers keep their text", `{"a":1.50,"b":12345678901234567890}`, `data.c = data.b`,
			`{"a":1.50,"b":12345678901234567890,"c":12345678901234567890}`},
		{"cents", `{"total":19.99}`, `data.cents = int(data.total * 100)`, `{"total":19.99,"cents":1999}`},
		{"object", `{}`, `data.a = {x: [1, nil]}`, `{"a":{"x":[1,null]}}`},
	} {
		ev := &event.Event{ID: "1", Source: "s", Type: "t", Data: []byte(c.data)}
		before := ev.Data
		keep, missing, err := set(t, c.assignment).Apply(ev)
		if !keep || missing != "" || err != nil || string(ev.Data) != c.want {
			t.Errorf("%s: %v %q %v\n got %s\nwant %s", c.name, keep, missing, err, ev.Data, c.want)
		}
		if string(before) != c.data {
			t.Errorf("%s: the old data was written to", c.name)
		}
	}
}

func TestSetInOrder(t *testing.T) {
	ev := orderEvent()
	ev.Data = []byte(`{"total":2}`)
	op := set(t, `data.cents = data.total * 100`, `subject = string(data.cents)`, `data.label = subject + "c"`,
		`ext.cents = data.cents`)
	if _, _, err := op.Apply(ev); err != nil || string(ev.Data) != `{"total":2,"cents":200,"label":"200c"}` || ev.Subject != "200" {
		t.Errorf("%v: %s %s", err, ev.Data, ev.Subject)
	}
	if x, _ := ev.Extension("cents"); x != (event.Extension{Name: "cents", Kind: event.Integer, Text: "200"}) {
		t.Errorf("ext.cents is %+v", x)
	}
}

func TestSetMissing(t *testing.T) {
	ev := orderEvent()
	ev.Data = []byte(`{"a":1,"n":null}`)
	_, missing, err := set(t, `data.n2 = data.n`, `data.b = data.x * 100`, `data.c = data.y`).Apply(ev)
	if err != nil || missing != "data.x" || string(ev.Data) != `{"a":1,"n":null,"n2":null,"b":null,"c":null}` {
		t.Errorf("missing %q, %v: %s", missing, err, ev.Data)
	}
	before := orderEvent()
	before.Subject = "s"
	ev = orderEvent()
	ev.Subject = "s"
	_, _, err = set(t, `data.count = 1`, `subject = nil`, `id = data.x`).Apply(ev)
	if err == nil || !strings.Contains(err.Error(), "data.x is missing") {
		t.Errorf("id became nothing: %v", err)
	}
	if diff := cmp.Diff(before, ev); diff != "" {
		t.Errorf("a failed set changed the event:\n%s", diff)
	}
}

func TestSetAttributes(t *testing.T) {
	for _, c := range []struct {
		assignment string
		get        func(e *event.Event) string
		want       string
	}{
		{`id = "x"`, func(e *event.Event) string { return e.ID }, "x"},
		{`source = "/shop?a=1"`, func(e *event.Event) string { return e.Source }, "/shop?a=1"},
		{`type = "a.b"`, func(e *event.Event) string { return e.Type }, "a.b"},
		{`subject = 5`, func(e *event.Event) string { return e.Subject }, "5"},
		{`subject = data.nothing ?? ""`, func(e *event.Event) string { return e.Subject }, ""},
		{`time = received`, func(e *event.Event) string { return e.Time }, "2026-03-04T11:00:00Z"},
		{`time = nil`, func(e *event.Event) string { return e.Time }, ""},
		{`dataschema = "https://example.com/s"`, func(e *event.Event) string { return e.DataSchema }, "https://example.com/s"},
		{`datacontenttype = "text/json"`, func(e *event.Event) string { return e.DataContentType }, "text/json"},
		{`ext.a = true`, func(e *event.Event) string { return e.Extensions[0].Text }, "true"},
		{`ext.region = nil`, func(e *event.Event) string { return e.Extensions[len(e.Extensions)-1].Name }, "test"},
		{`ext.big = 5000000000`, func(e *event.Event) string { return e.Extensions[0].Text }, "5000000000"},
	} {
		ev := orderEvent()
		if _, _, err := set(t, c.assignment).Apply(ev); err != nil || c.get(ev) != c.want {
			t.Errorf("%s: got %q, %v", c.assignment, c.get(ev), err)
		}
	}
}

func TestSetFailures(t *testing.T) {
	for _, c := range []struct{ mediaType, data, assignment, problem string }{
		{"", `{"a":5}`, `data.a.b = 1`, `data.a.b: "b" needs an object around it, and the data has a number there`},
		{"", `{"a":[]}`, `data.a.b = 1`, `data.a.b: "b" needs an object around it, and the data has an array there`},
		{"", `{"a":{}}`, `data.a[0] = 1`, `data.a[0]: [0] needs an array around it, and the data has an object there`},
		{"", `{"a":[1]}`, `data.a[1] = 1`, `data.a[1]: [1] is not an element of the array, which has 1`},
		{"", `{}`, `data.a[0] = 1`, `data.a[0]: [0] is an element of an array that is not there`},
		{"", `{"a":`, `data.a = 1`, `data.a: the data is broken: not valid JSON at byte 6`},
		{"text/plain", `x`, `data.a = 1`, `data.a: the data is text/plain, not JSON`},
		{"", `{}`, `type = ""`, `type: an event cannot be without it`},
		{"", `{}`, `type = data`, `an attribute holds a text, not an object, at 1:1 of "data"`},
		{"", `{}`, `time = "now"`, `time: not an RFC 3339 time`},
		{"", `{}`, `source = "a b"`, `source: not a URI reference`},
		{"", `{}`, `dataschema = "x"`, `dataschema: not an absolute URI`},
		{"", `{}`, `datacontenttype = "/"`, `datacontenttype: not a media type`},
		{"", `{}`, `subject = "a\nb"`, `subject: the text holds control characters or is not UTF-8`},
		{"", `{"a":"x"}`, `data.b = data.a * 2`, `* does not work on a string and a number, at 1:8 of "data.a * 2"`},
	} {
		ev := &event.Event{ID: "1", Source: "s", Type: "t", DataContentType: c.mediaType, Data: []byte(c.data)}
		if _, _, err := set(t, c.assignment).Apply(ev); err == nil || err.Error() != c.problem {
			t.Errorf("%s on %s:\n got %v\nwant %s", c.assignment, c.data, err, c.problem)
		}
	}
}

func TestPaths(t *testing.T) {
	x := mustCompile(t, "1")
	for _, c := range []struct{ path, problem string }{
		{"data", "data: set writes a member of the data"},
		{"received", "received: when the event was accepted cannot be changed"},
		{"total", "total: not a part of an event"},
		{"subject.x", "subject.x: not a part of an event"},
		{"ext", "ext: not a part of an event"},
		{"ext.Region", "ext.Region: no extension attribute can have this name"},
		{"ext.id", "ext.id: no extension attribute can have this name"},
		{"data.order-id", "data.order-id: not a path"},
		{"data.", "data.: unexpected end of expression"},
		{"data[data.x]", "data[data.x]: not a path"},
		{"", ": not a path"},
	} {
		_, err := Set([]Assignment{{c.path, x}})
		if e, ok := err.(*Error); !ok || !strings.HasPrefix(e.Problem, c.problem) {
			t.Errorf("%q: got %v", c.path, err)
		}
	}
	for _, path := range []string{"id", "source", "type", "received", "nothing"} {
		if _, err := Remove([]string{path}); err == nil {
			t.Errorf("%s may be removed", path)
		}
	}
}

func TestRemove(t *testing.T) {
	for _, c := range []struct{ data, path, want string }{
		{`{ "a": 1, "b": 2, "c": 3 }`, "data.a", `{ "b": 2, "c": 3 }`},
		{`{ "a": 1, "b": 2, "c": 3 }`, "data.b", `{ "a": 1, "c": 3 }`},
		{`{ "a": 1, "b": 2, "c": 3 }`, "data.c", `{ "a": 1, "b": 2 }`},
		{`{ "a": 1 }`, "data.a", `{  }`},
		{`{"a":1,"b":2,"a":3}`, "data.a", `{"b":2}`},
		{`{"b":2,"a":1,"a":3}`, "data.a", `{"b":2}`},
		{`{"a":1,"a":3}`, "data.a", `{}`},
		{`{"a":1,"b":2,"a":3,"c":4,"a":5}`, "data.a", `{"b":2,"c":4}`},
		{`{"x":{"a":1.50}}`, "data.x.a", `{"x":{}}`},
		{`[1, 2 ,3]`, "data[1]", `[1, 3]`},
		{`[1, 2 ,3]`, "data[-1]", `[1, 2]`},
		{`{"a":1}`, "data.b", `{"a":1}`},
		{`{"a":1}`, "data.a.b", `{"a":1}`},
		{`5`, "data.a", `5`},
		{`{"a":1}`, "data", ``},
	} {
		op, err := Remove([]string{c.path})
		if err != nil {
			t.Fatal(err)
		}
		ev := &event.Event{Data: []byte(c.data)}
		if keep, _, err := op.Apply(ev); !keep || err != nil || string(ev.Data) != c.want {
			t.Errorf("%s without %s: got %s, %v; want %s", c.data, c.path, ev.Data, err, c.want)
		}
	}
	op, err := Remove([]string{"subject", "ext.region", "ext.none", "time"})
	if err != nil {
		t.Fatal(err)
	}
	ev := orderEvent()
	if _, _, err := op.Apply(ev); err != nil || ev.Time != "" || len(ev.Extensions) != 2 {
		t.Errorf("%v: %+v", err, ev)
	}
}
