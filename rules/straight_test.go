package rules

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/millrace-run/millrace/event"
)

// drawDecision is an expression of what is evaluated without the machine.
func drawDecision(t *rapid.T, depth int) string {
	term := func() string {
		return rapid.SampledFrom([]string{
			"data.a", "data.b", "data.c.d", "data.e[1]", "data.a?.b", "type", "subject", "time", "ext.n", "ext.none", "ext.s", "ext.b",
			"string(ext.n)", "string(ext.s)", "string(ext.none)", "nil", "true", "false",
			"1", "-2", "1.50", "1e3", `"x"`, `"1"`, `""`, `[1, "x", nil]`, `["a.x.b", "x"]`, `date("2026-01-02")`,
		}).Draw(t, "term")
	}
	if depth == 0 {
		return term()
	}
	switch rapid.IntRange(0, 7).Draw(t, "kind") {
	case 4:
		pattern := rapid.SampledFrom([]string{"*", "#", "a.*.b", "a.#", "#.x.#.b", "x", ""}).Draw(t, "pattern")
		return fmt.Sprintf("topic(%s, %q)", term(), pattern)
	case 5:
		src := rapid.SampledFrom([]string{"TRUE", "s = 'x'", "n = 1", "b", "none = 1", "s + 1 = 2", "subject LIKE '%x'"}).Draw(t, "cesql")
		return fmt.Sprintf("cesql(%q%s)", src, rapid.SampledFrom([]string{"", ", false", ", true"}).Draw(t, "else"))
	case 0:
		return "not (" + drawDecision(t, depth-1) + ")"
	case 1, 2:
		join := rapid.SampledFrom([]string{"&&", "||", "and", "or"}).Draw(t, "join")
		return "(" + drawDecision(t, depth-1) + ") " + join + " (" + drawDecision(t, depth-1) + ")"
	case 3:
		test := rapid.SampledFrom([]string{"matches", "contains", "startsWith", "endsWith"}).Draw(t, "test")
		return term() + " " + test + ` "x"`
	}
	operator := rapid.SampledFrom([]string{"==", "!=", "<", "<=", ">", ">=", "in"}).Draw(t, "operator")
	return "(" + drawDecision(t, depth-1) + ") " + operator + " (" + term() + ")"
}

// drawEvent is an event with fields that are there, null, missing, of any kind, and with data that is no JSON at all.
func drawEvent(t *rapid.T) *event.Event {
	value := func() string {
		return rapid.SampledFrom([]string{"null", "true", "false", "0", "1", "1.5", "-2", "1000", `"x"`, `"1"`, `"axb"`, `{"b":1}`,
			"[1,2]", `"\u0078"`, "123456789012345678901234567890"}).Draw(t, "value")
	}
	data := "{"
	for _, name := range []string{"a", "b", "a"} {
		if rapid.Bool().Draw(t, "there") {
			data += fmt.Sprintf("%q:%s,", name, value())
		}
	}
	data += fmt.Sprintf(`"c":{"d":%s},"e":[0,%s]}`, value(), value())
	if rapid.IntRange(0, 9).Draw(t, "broken") == 0 {
		data = data[:len(data)/2]
	}
	e := &event.Event{ID: "1", Source: "/s", Type: "x", DataContentType: "application/json", Data: []byte(data)}
	e.Time = rapid.SampledFrom([]string{"", "2026-01-02T00:00:00Z", "never"}).Draw(t, "time")
	e.Subject = rapid.SampledFrom([]string{"", "x"}).Draw(t, "subject")
	e.Extensions = []event.Extension{{Name: "b", Kind: event.Boolean, Text: "true"}, {Name: "n", Kind: event.Integer, Text: "1"},
		{Name: "s", Text: rapid.SampledFrom([]string{"x", "a.x.b", "", "1"}).Draw(t, "s")}}
	return e
}

// What is evaluated without the machine comes to what the machine says: value, missing field, and error with its place.
func TestStraightEqualsMachine(t *testing.T) {
	straight := 0
	rapid.Check(t, func(t *rapid.T) {
		src := drawDecision(t, rapid.IntRange(0, 3).Draw(t, "depth"))
		x, err := Compile(src, Options{})
		if err != nil {
			t.Skip(err)
		}
		machine, err := Compile(src, Options{})
		if err != nil {
			t.Fatal(err)
		}
		machine.direct = nil
		if x.direct != nil {
			straight++
		}
		in := &Input{Event: drawEvent(t)}
		for range 2 { // the second time with what the first one left
			v1, missing1, err1 := x.Value(in)
			v2, missing2, err2 := machine.Value(in)
			if diff := cmp.Diff(v2, v1); diff != "" || missing1 != missing2 || fmt.Sprint(err1) != fmt.Sprint(err2) {
				t.Fatalf("%s of %s: value %v, %q, %v; the machine says %v, %q, %v", src, in.Event.Data, v1, missing1, err1, v2, missing2, err2)
			}
			ok1, missing1, err1 := x.Bool(in)
			ok2, missing2, err2 := machine.Bool(in)
			if ok1 != ok2 || missing1 != missing2 || fmt.Sprint(err1) != fmt.Sprint(err2) {
				t.Fatalf("%s of %s: %v, %q, %v; the machine says %v, %q, %v", src, in.Event.Data, ok1, missing1, err1, ok2, missing2, err2)
			}
		}
	})
	if straight == 0 {
		t.Error("nothing was evaluated without the machine")
	}
}

// The usual decisions need no machine.
func TestStraight(t *testing.T) {
	for src, want := range map[string]bool{
		`data.total > 0`: true, `data.amount > 100 && type == "order.created"`: true, `false`: true, `not (data.a in ["x", "y"])`: true,
		`data.a.b?.c matches "^x"`: true, `ext.region == "eu" or subject startsWith "a"`: true,
		`topic(type, "a.#") && string(ext.n) in ["1", "2"]`: true, `cesql("id = 'x'")`: true, `not cesql("EXISTS a", false)`: true,
		`len(data) > 3`: false, `any(data.items, .qty > 7)`: false, `data.a + 1 > 2`: false, `let x = data.a; x > 1`: false,
	} {
		x, err := Compile(src, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := x.direct != nil; got != want {
			t.Errorf("%s: without the machine is %v", src, got)
		}
	}
}
