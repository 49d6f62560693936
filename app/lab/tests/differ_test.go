package tests

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/pipelines"
)

func TestValue(t *testing.T) {
	for _, c := range []struct{ want, got, faults string }{
		{`{}`, `{"a":1}`, ""},
		{`{ a: 1 }`, `{"a":1.0,"b":2}`, ""},
		{`{ a: 1 }`, `{"a":2,"a":1}`, "data.a: 1 | 2"},
		{`{ a: "1" }`, `{"a":1}`, `data.a: "1" | 1`},
		{`{ a: 1 }`, `{"a":"1"}`, `data.a: 1 | "1"`},
		{`{ a: true, b: false }`, `{"a":true,"b":0}`, "data.b: false | 0"},
		{`{ a: ~, b: ~ }`, `{"a":null}`, ""},
		{`{ a: ~ }`, `{"a":0}`, "data.a: null | 0"},
		{`{ a: 1 }`, `{"a":null}`, "data.a: 1 | null"},
		{`{ a: 1 }`, `{}`, "data.a: 1 | nothing"},
		{`{ a: { b: [1, 2] } }`, `{"a":{"b":[1,3],"c":1}}`, "data.a.b[1]: 2 | 3"},
		{`{ a: [1] }`, `{"a":[1,2]}`, "data.a: [1] | [1,2]"},
		{`{ a: [1] }`, `{"a":{}}`, "data.a: [1] | {}"},
		{`{ a: {} }`, `{"a":[]}`, "data.a: {} | []"},
		{`{ "a b": 1 }`, `{"a b":2}`, `data["a b"]: 1 | 2`},
		{`[1, x]`, `[1,"x"]`, ""},
		{`text`, `"text"`, ""},
		{`<&>`, `"<>"`, `data: "<&>" | "<>"`},
		{`12345678901234567890`, `12345678901234567891`, "data: 12345678901234567890 | 12345678901234567891"},
	} {
		v, err := decode([]byte(c.got))
		if err != nil {
			t.Fatal(err)
		}
		d := &differ{}
		d.value("data", parse(t, c.want), v, true)
		if diff := cmp.Diff(c.faults, faults(Result{Faults: d.faults})); diff != "" {
			t.Errorf("%s, %s: %s", c.want, c.got, diff)
		}
	}
}

// parse is a value as a test writes it.
func parse(t *testing.T, text string) pipelines.Value {
	t.Helper()
	p := plan(t, "- name: n\n  given: { data: {} }\n  expect:\n    archive:\n      - data: "+text)
	v, _ := p.Pipelines[0].Tests[0].Expect.Sinks[0].Events[0].Member("data")
	return v
}

func TestSameNumber(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"1", "1.0", true}, {"100", "1e2", true}, {"0.10", "1E-1", true}, {"-0", "0.00", true}, {"-1", "1", false},
		{"12345678901234567890", "12345678901234567891", false}, {"1e5", "1e6", false}, {"10", "1", false}, {"0.01", "0.1", false},
		{"1e999999999999", "1e999999999999", true}, {"1e999999999999", "1", false}, {"1e99999999", "10e99999998", true},
	} {
		if got := sameNumber(c.a, c.b); got != c.want {
			t.Errorf("%s and %s: %v", c.a, c.b, got)
		}
	}
}

func TestClip(t *testing.T) {
	if got := []rune(clip(strings.Repeat("ä", maxShown+1))); len(got) != maxShown || got[maxShown-1] != '…' {
		t.Errorf("%d characters", len(got))
	}
	if got := clip(strings.Repeat("ä", maxShown)); strings.Contains(got, "…") {
		t.Error("what fits was cut")
	}
}
