package rules

import (
	"net/url"
	"strings"
	"testing"
)

func TestTemplate(t *testing.T) {
	for _, c := range []struct{ src, want string }{
		{``, ``},
		{`plain { text }`, `plain { text }`},
		{`Order {{ data.id }} is on its way`, `Order o-1 is on its way`},
		{`{{data.price}}/{{ data.big }}/{{ data.count }}`, `10.50/12345678901234567890/3`},
		{`{{ data.customer.tags }}`, `["new","eu"]`},
		{`{{ received }} {{ received.Format('2006-01-02') }}`, `2026-03-04T11:00:00Z 2026-03-04`},
		{`{{ data.paid }}`, `true`},
		{`{{ data.x ?? 'none' }}`, `none`},
		{`{{ "}}" }}{{ '}}' }}{{ "\"}}" }}`, `}}}}"}}`},
		{"{{ `}}` }}", `}}`},
		{`{{ {a: {b: 1}} }}`, `{"a":{"b":1}}`},
		{`{{ {a: {b: 1}}.a.b }}`, `1`},
		{`{{ 1 /* }} */ + 1 }}`, `2`},
		{`{{ "{{" }}x`, `{{x`},
		{"{{ data.id\n}}", `o-1`},
	} {
		tpl, err := CompileTemplate(c.src, Options{})
		if err != nil {
			t.Errorf("%s: %v", c.src, err)
			continue
		}
		if got, err := tpl.Render(&Input{Event: orderEvent()}); err != nil || got != c.want {
			t.Errorf("%s: got %q, %v; want %q", c.src, got, err, c.want)
		}
		if tpl.String() != c.src {
			t.Errorf("%s: its source is %s", c.src, tpl)
		}
	}
}

func TestTemplateParts(t *testing.T) {
	for _, c := range []struct {
		src, prefix string
		literal     bool
	}{
		{"a/b", "a/b", true},
		{"a/{{ id }}/c", "a/", false},
		{"{{ id }}/c", "", false},
		{"", "", true},
	} {
		tpl, err := CompileTemplate(c.src, Options{})
		if err != nil {
			t.Fatal(err)
		}
		s, ok := tpl.Literal()
		if ok != c.literal || ok && s != c.src || tpl.Prefix() != c.prefix {
			t.Errorf("%q: literal %v %q, prefix %q", c.src, ok, s, tpl.Prefix())
		}
	}
	if s, err := (Template{}).Render(&Input{}); s != "" || err != nil {
		t.Errorf("the zero template renders %q, %v", s, err)
	}
}

func TestTemplateEscapes(t *testing.T) {
	tpl, err := CompileTemplate(`/a b/{{ "c d/e" }}`, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := tpl.RenderEscaped(&Input{}, url.PathEscape); err != nil || got != "/a b/c%20d%2Fe" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestTemplateErrors(t *testing.T) {
	for _, c := range []struct {
		src       string
		line, col int
		problem   string
	}{
		{"Dear {{ subjct }}", 1, 9, `unknown name "subjct"`},
		{"é\nDear {{ id }} {{\n  dat.x }}", 3, 3, `unknown name "dat"`},
		{"a {{ id", 1, 3, "{{ has no }}"},
		{"a {{ }}", 1, 5, "the expression is empty"},
	} {
		_, err := CompileTemplate(c.src, Options{})
		e, ok := err.(*Error)
		if !ok || e.Line != c.line || e.Col != c.col || e.Problem != c.problem {
			t.Errorf("%q: got %+v", c.src, err)
		}
	}
	for _, c := range []struct{ src, problem string }{
		{"Dear\n{{ data.customer.phone }}", "data.customer.phone is missing, at 2:3"},
		{"{{ data.note }}", "data.note is missing, at 1:3"},
		{"{{ data.x * 2 }}", "data.x is missing, at 1:3"},
		{"{{ data.id + 1 }}", "+ does not work on a string and a number"},
	} {
		tpl, err := CompileTemplate(c.src, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tpl.Render(&Input{Event: orderEvent()}); err == nil || !strings.HasPrefix(err.Error(), c.problem) {
			t.Errorf("%q: got %v", c.src, err)
		}
	}
}

// The literal text around an expression often holds a secret, and an error goes to logs, dead letters and clients.
func TestErrorsDoNotQuoteTheTemplate(t *testing.T) {
	for _, src := range []string{"Bearer s3cr3t {{ data.nothing }}", "{{ data.id - 1 }}s3cr3t", "s3cr3t{{ data.nothing + 1 }}"} {
		tpl, err := CompileTemplate(src, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tpl.Render(&Input{Event: orderEvent()}); err == nil || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%q: got %v", src, err)
		}
	}
}
