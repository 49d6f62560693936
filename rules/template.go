package rules

import (
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr/file"
)

// Template is a string with {{ expressions }} in it. Safe for concurrent use. The zero Template renders the empty string.
type Template struct {
	src   string
	parts []part
}

// part is either literal text or an expression.
type part struct {
	literal string
	x       *Expr
}

// CompileTemplate compiles a template; text without {{ is a literal. Its error is an *Error, with its place in src. A }} ends an
// expression only outside of its strings, comments and braces. Two literal braces are written {{ "{{" }}.
func CompileTemplate(src string, o Options) (Template, error) {
	t := Template{src: src}
	rest, begin := src, 0 // begin counts characters, as places do
	for {
		open := strings.Index(rest, "{{")
		if open < 0 {
			break
		}
		if open > 0 {
			t.parts = append(t.parts, part{literal: rest[:open]})
		}
		begin += utf8.RuneCountInString(rest[:open])
		length := expressionEnd(rest[open+2:])
		if length < 0 {
			return Template{}, text{whole: src, begin: begin}.fault(file.Location{To: 2}, "{{ has no }}", "")
		}
		x, err := compile(text{src: rest[open+2 : open+2+length], whole: src, begin: begin + 2}, o)
		if err != nil {
			return Template{}, err
		}
		t.parts = append(t.parts, part{x: x})
		end := open + 2 + length + 2
		begin += utf8.RuneCountInString(rest[open:end])
		rest = rest[end:]
	}
	if rest != "" {
		t.parts = append(t.parts, part{literal: rest})
	}
	return t, nil
}

// expressionEnd finds the }} that ends an expression, or -1.
func expressionEnd(s string) int {
	braces := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\'' || c == '`':
			i = stringEnd(s, i)
		case strings.HasPrefix(s[i:], "/*"):
			i = skipTo(s, i+2, "*/")
		case strings.HasPrefix(s[i:], "//"):
			i = skipTo(s, i+2, "\n")
		case c == '{':
			braces++
		case c == '}' && braces > 0:
			braces--
		case strings.HasPrefix(s[i:], "}}"):
			return i
		}
	}
	return -1
}

// stringEnd is the place of the quote that ends the string that begins at i. A raw string knows no backslash but doubles its quote,
// which reads as two strings here, to the same effect.
func stringEnd(s string, i int) int {
	quote := s[i]
	for i++; i < len(s) && s[i] != quote; i++ {
		if s[i] == '\\' && quote != '`' {
			i++
		}
	}
	return i
}

// skipTo is the place of the last byte of mark, from i on.
func skipTo(s string, i int, mark string) int {
	at := strings.Index(s[i:], mark)
	if at < 0 {
		return len(s)
	}
	return i + at + len(mark) - 1
}

// String returns the source text.
func (t Template) String() string { return t.src }

// Literal returns the text and true when the template holds no expression.
func (t Template) Literal() (string, bool) {
	for _, p := range t.parts {
		if p.x != nil {
			return "", false
		}
	}
	return t.src, true
}

// Names are the names that its expressions use, such as data and type. They may repeat.
func (t Template) Names() (names []string) {
	for _, p := range t.parts {
		if p.x != nil {
			names = append(names, p.x.Names()...)
		}
	}
	return names
}

// Prefix is the literal text before the first expression.
func (t Template) Prefix() string {
	if len(t.parts) == 0 || t.parts[0].x != nil {
		return ""
	}
	return t.parts[0].literal
}

// Render fills in the template: strings as they are, numbers as in the data, times as RFC 3339, arrays and objects as compact JSON.
// A nil value is an error that names the field.
func (t Template) Render(in *Input) (string, error) {
	return t.RenderEscaped(in, func(s string) string { return s })
}

// RenderEscaped is Render with escape applied to what each expression yields, not to the literal text.
func (t Template) RenderEscaped(in *Input, escape func(string) string) (string, error) {
	if s, ok := t.Literal(); ok {
		return s, nil
	}
	var b strings.Builder
	for _, p := range t.parts {
		if p.x == nil {
			b.WriteString(p.literal)
			continue
		}
		s, err := p.x.render(in)
		if err != nil {
			return "", err
		}
		b.WriteString(escape(s))
	}
	return b.String(), nil
}
