package rules

import (
	"errors"
	"strings"
	"testing"

	"github.com/millrace-run/millrace/event"
)

func TestCESQL(t *testing.T) {
	ev := &event.Event{ID: "1", Source: "/s", Type: "a.b"}
	ev.SetExtension(event.Extension{Name: "region", Text: "eu"})
	for _, c := range []struct {
		src     string
		want    bool
		missing string
		err     string
	}{
		{`cesql("type = 'a.b'")`, true, "", ""},
		{`cesql("type = 'a'") || ext.region == "eu"`, true, "", ""},
		{`not cesql("type = 'a'")`, true, "", ""},
		{`cesql("subject = 'a'")`, false, "subject", ""},
		{`not cesql("subject = 'a'")`, false, "subject", ""},
		{`cesql("subject = 'a'", true)`, true, "", ""},
		{`not cesql("subject = 'a'", false)`, true, "", ""},
		{`cesql("region + 1 = 2")`, false, "", `cesql: "eu" is no Integer, at 1:1 of `},
		{`cesql("region + 1 = 2", false)`, false, "", ""},
		{`cesql('region = "eu"') ? true : false`, true, "", ""},
	} {
		ok, missing, err := mustCompile(t, c.src).Bool(&Input{Event: ev})
		if ok != c.want || missing != c.missing || (err == nil) != (c.err == "") || err != nil && !strings.HasPrefix(err.Error(), c.err) {
			t.Errorf("%s: %v, %q, %v", c.src, ok, missing, err)
		}
	}
	if x := mustCompile(t, `cesql("TRUE")`); x.DataOnly() {
		t.Error("CESQL reads attributes")
	}
}

func TestCESQLFaults(t *testing.T) {
	for _, c := range []struct {
		src        string
		col, width int
		problem    string
	}{
		{`data.a > 1 && cesql("id == 'x'")`, 26, 1, "cesql: an expression is missing before ="},
		{`cesql("id == \"x\"")`, 7, 13, "cesql: an expression is missing before ="},
		{`cesql(subject)`, 1, 5, "cesql takes a text in quotes"},
		{`cesql("id = 'x'", data.x)`, 24, 1, "the second argument of cesql is true or false"},
		{`cesql()`, 1, 5, "cesql takes 1 to 2 arguments, not 0"},
	} {
		_, err := Compile(c.src, Options{})
		var e *Error
		if !errors.As(err, &e) || e.Col != c.col || e.Width != c.width || !strings.HasPrefix(e.Problem, c.problem) {
			t.Errorf("%s: %d+%d %v", c.src, e.Col, e.Width, err)
		}
	}
	x, err := CompileCESQL("id = 'ä' AND\n subject LIKE \"%\\\"\"")
	if err != nil || x.String() != `cesql("id = 'ä' AND\n subject LIKE \"%\\\"\"")` {
		t.Error(x, err)
	}
	var e *Error
	if _, err = CompileCESQL("id = 'ä' AND\n subject ="); !errors.As(err, &e) || e.Line != 2 || e.Col != 11 {
		t.Errorf("%+v", err)
	}
}

// FuzzCESQL holds that what compiles by itself compiles as an expression too, and that nothing panics.
func FuzzCESQL(f *testing.F) {
	for _, s := range []string{"id = 'x'", "subject LIKE \"%\\\"\" OR NOT EXISTS é", "\u200b", "id = '\x7f'", "1 IN (2, hop)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		x, err := CompileCESQL(src)
		if err != nil {
			checkPlace(t, src, err)
			return
		}
		if _, _, err := x.Bool(&Input{Event: orderEvent()}); err != nil {
			checkPlace(t, src, err)
		}
	})
}
