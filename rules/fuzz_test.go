package rules

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

var seeds = []string{
	`data.total > 0`, `data.x ?? 1`, `not (data.a.b[0]["c"] in [1, 2])`, `all(data.items, .qty > 0 && #.price < 5)`,
	`let x = data; x.a + 1`, `if data.a { 1 } else { [2, {a: 3}] }`, `data | keys() | sort("desc")`, `reduce(1..10, #acc + #, 0)`,
	`received.Format("2006") + string(time - received)`, `topic(type, "a.*.#")`, `sum(data.items, .qty * 1.10)`, `"a" matches data.p`,
	`data.a?.b ?? ext.c`, `groupBy(data.items, .sku)`, `findLast(data.items, # == nil)`,
	`data.items[-1:][0]`, `b"x"`, `1 < data.a <= 3`,
	`timezone("UTC")`, `date("2026-01-01").AddDate(0, 1, 0)`, `$env`, `env("A")`, `#`, `{`, `"`, `data.`, `- -1`, `2 ** 1000 ** 1000`,
	`replace(data.s, "", data.s)`, `flatten([[1], [2, [3]]])`, `toPairs({a: 1}) | fromPairs()`, `bitshl(1, 100)`, `1e400`, `0x`, "`",
}

// FuzzCompile compiles anything: it is an expression or an *Error with a place inside of the text.
func FuzzCompile(f *testing.F) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		for _, scope := range []Scope{EventScope, IntakeScope} {
			_, err := Compile(src, Options{Scope: scope})
			checkPlace(t, src, err)
		}
		_, err := CompileTemplate("é\n{{ "+src+" }} {{ "+src, Options{})
		checkPlace(t, "é\n{{ "+src+" }} {{ "+src, err)
		if _, err := Set([]Assignment{{Path: src}}); err == nil {
			t.Fatal("a path without a value was set")
		}
		_, _ = Remove([]string{src})
	})
}

func checkPlace(t *testing.T, src string, err error) {
	if err == nil {
		return
	}
	var e *Error
	if !errors.As(err, &e) || e.Line < 1 || e.Col < 1 || e.Width < 1 || e.Problem == "" {
		t.Fatalf("%q: %+v", src, err)
	}
	for _, bug := range []string{"runtime error", "interface conversion", "reflect", "cannot be compiled", "stack underflow"} {
		if strings.Contains(e.Problem, bug) && !strings.Contains(src, "reflect") {
			t.Fatalf("%q: %s", src, e.Problem)
		}
	}
	if e.Line*e.Col > (utf8.RuneCountInString(src)+2)*(utf8.RuneCountInString(src)+2) {
		t.Fatalf("%q: the fault is at %d:%d", src, e.Line, e.Col)
	}
}

// FuzzEval evaluates anything on anything, twice: it does not panic, and its answers are the same.
func FuzzEval(f *testing.F) {
	for _, s := range seeds {
		f.Add(s, []byte(order), "application/json")
		f.Add(s, []byte(`[1,{"a":null}]`), "")
		f.Add(s, []byte("plain \xff"), "text/plain")
	}
	f.Fuzz(func(t *testing.T, src string, data []byte, mediaType string) {
		x, err := Compile(src, Options{})
		if err != nil {
			return
		}
		ev := orderEvent()
		ev.Data, ev.DataContentType = data, mediaType
		in := &Input{Event: ev}
		json1, missing1, err1 := x.JSON(in)
		json2, missing2, err2 := x.JSON(in)
		if string(json1) != string(json2) || missing1 != missing2 || (err1 == nil) != (err2 == nil) {
			t.Fatalf("%q on %q: %s %q %v, then %s %q %v", src, data, json1, missing1, err1, json2, missing2, err2)
		}
		if s := (&scanner{}); err1 == nil && s.scan(json1, nil) != nil {
			t.Fatalf("%q on %q: %s is no JSON", src, data, json1)
		}
		_, _, _ = x.Bool(in)
		_, _, _ = x.Value(in)
		if op, err := Set([]Assignment{{"data.a.b", x}, {"subject", x}, {"ext.x", x}}); err == nil {
			_, _, _ = op.Apply(ev)
		}
		for _, err := range []error{err1, err2} {
			checkPlace(t, src, err)
		}
	})
}
