package rules

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/millrace-run/millrace/event"
)

// TestMembers holds that JSON whose members were noted while it was parsed is decided upon as, and gives what, JSON gives that is
// looked into later.
func TestMembers(t *testing.T) {
	values := []string{"1", "500", "-3", "1.0", "0.5", "1e2", "500.0", "99999999999999999999", `"a"`, `"b\n"`, `"500"`, `""`, "\"\xff\"", "null", "true", "[1]", `{"a":1}`}
	constants := []string{"1", "500", "-3", "0.5", `"a"`, `"500"`, `""`, "nil", "true"}
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SampledFrom([]string{"a", "b", "c", `a\u0041`, "a.b"})
		data := "{"
		if rapid.IntRange(0, 9).Draw(t, "long") == 0 {
			data += strings.Repeat(`"d":1,`, 40)
		}
		for i := range rapid.IntRange(0, 4).Draw(t, "members") {
			if i > 0 {
				data += rapid.SampledFrom([]string{",", " , "}).Draw(t, "comma")
			}
			data += fmt.Sprintf(`"%s"%s`, names.Draw(t, "name"), rapid.SampledFrom([]string{":", ": ", " :"}).Draw(t, "colon"))
			data += rapid.SampledFrom(values).Draw(t, "value")
		}
		data += rapid.SampledFrom([]string{"}", "}", "}", " } ", ",}", "", "}x"}).Draw(t, "end")
		src := ""
		for i := range rapid.IntRange(1, 3).Draw(t, "terms") {
			if i > 0 {
				src += rapid.SampledFrom([]string{" && ", " && ", " || "}).Draw(t, "join")
			}
			op := rapid.SampledFrom([]string{"==", "!=", "<", "<=", ">", ">="}).Draw(t, "op")
			src += fmt.Sprintf("data.%s %s %s", rapid.SampledFrom([]string{"a", "b", "c", "a.b"}).Draw(t, "field"), op, rapid.SampledFrom(constants).Draw(t, "constant"))
		}
		x, err := Compile(src, Options{})
		if err != nil {
			t.Skip(err)
		}
		parse, err := Parse(ParseOptions{Format: "json"})
		if err != nil {
			t.Fatal(err)
		}
		ev := event.Event{DataContentType: "text/plain", Data: []byte(data)}
		s := Subject{Event: ev}
		_, _, err = parse(&s)
		scan := scanner{}
		if bad := scan.scan(ev.Data, nil); (bad == nil) != (err == nil) {
			t.Fatalf("parsing %s says %v, the scanner %v", data, err, bad)
		}
		if err != nil {
			return
		}
		if string(s.Event.Data) != data {
			t.Fatalf("%s became %s", data, s.Event.Data)
		}
		ev.DataContentType = jsonType
		slow, err := Compile(src, Options{})
		if err != nil {
			t.Fatal(err)
		}
		ok, missing, err := x.Bool(s.in())
		ok2, missing2, err2 := slow.Bool(&Input{Event: &ev})
		if ok != ok2 || missing != missing2 || fmt.Sprint(err) != fmt.Sprint(err2) {
			t.Fatalf("%s of %s: %v %q %v, and %v %q %v", src, data, ok, missing, err, ok2, missing2, err2)
		}
		whole := mustMap(t, "data")
		a, _, err := whole.JSON(s.in())
		b, _, err2 := whole.JSON(&Input{Event: &ev})
		if string(a) != string(b) || err != nil || err2 != nil {
			t.Fatalf("the whole of %s is %s (%v) and %s (%v)", data, a, err, b, err2)
		}
	})
}

func mustMap(t *rapid.T, src string) *Expr {
	x, err := Compile(src, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return x
}
