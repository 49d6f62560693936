package pipelines

import (
	"fmt"
	"regexp"
	"strings"
)

// value is the text of a scalar after substitution.
type value struct {
	node   *node
	text   string
	parts  []part
	whole  bool   // the scalar is one ${…} and nothing else: it takes the type that its key wants
	hidden string // what is shown instead of the text; empty when the text is the file's own
	unset  bool   // it holds a stand-in for a variable that is not set
}

// part says where a piece of the text came from: literal pieces can be mapped back to the file.
type part struct {
	at      int // offset in the text
	from    int // offset in the node's text
	literal bool
}

// place is the place of an offset of the text in the file: within what was substituted, the beginning of its ${.
func (v *value) place(off int) Place {
	from := off
	for _, p := range v.parts {
		if p.at > off {
			break
		}
		if from = p.from; p.literal {
			from += off - p.at
		}
	}
	return v.node.textPlace(from)
}

// shown is the value in messages.
func (v *value) shown() string {
	if v.hidden != "" {
		return v.hidden
	}
	return v.node.describe()
}

// unsetText stands for a variable that is not set where that is allowed.
const unsetText = "unset"

var reference = regexp.MustCompile(`^\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?:(:-)([^}]*))?|file:([^}]+))\}`)

// substitute replaces ${NAME}, ${NAME:-default}, ${file:/path} and $${ in a scalar. What it puts in is never read again, and
// goes through escape. A ${{ is a dollar sign before a template's expression. ok is false when a fault was reported.
func (l *loader) substitute(n *node, escape func(string) string) (v value, ok bool) {
	v, ok = value{node: n}, true
	s := n.text
	var b strings.Builder
	literal := func(text string, from int) {
		v.parts = append(v.parts, part{b.Len(), from, true})
		b.WriteString(text)
	}
	var hidden []string
	done := 0
	for i := 0; i < len(s); {
		rest := s[i:]
		switch {
		case strings.HasPrefix(rest, "$${") && !strings.HasPrefix(rest, "$${{"):
			literal(s[done:i], done)
			literal("${", i+1)
			i += 3
			done = i
		case strings.HasPrefix(rest, "${") && !strings.HasPrefix(rest, "${{"):
			literal(s[done:i], done)
			guardBrace(&b, escape)
			got, good := l.resolveReference(n, i, &v)
			if !good {
				return v, false
			}
			v.parts = append(v.parts, part{b.Len(), i, false})
			b.WriteString(escape(got.text))
			if got.hidden {
				hidden = append(hidden, got.name)
			}
			v.whole = i == 0 && got.length == len(s)
			i += got.length
			done = i
		default:
			i++
		}
	}
	literal(s[done:], done)
	v.text = b.String()
	if len(hidden) > 0 {
		v.hidden = "the value of " + strings.Join(hidden, " and ")
	}
	return v, ok
}

// guardBrace escapes a brace that stands right before what is put in: together they must not open an expression.
func guardBrace(b *strings.Builder, escape func(string) string) {
	if text := b.String(); strings.HasSuffix(text, "{") && escape("{") != "{" {
		b.Reset()
		b.WriteString(text[:len(text)-1])
		b.WriteString(escape("{"))
	}
}

// referenced is what a ${…} stands for.
type referenced struct {
	text   string
	name   string // ${NAME}
	length int    // of the reference in the file
	hidden bool   // the text is not in the file
}

func (l *loader) resolveReference(n *node, off int, v *value) (referenced, bool) {
	m := reference.FindStringSubmatch(n.text[off:])
	if m == nil {
		l.faultAt(n, n.textPlace(off), 2, codeReference, "this ${ is not of the form ${NAME}, ${NAME:-default} or ${file:/path}",
			"for a literal ${ write $${")
		return referenced{}, false
	}
	if path := m[4]; path != "" {
		return l.resolveFile(n, off, len(m[0]), path)
	}
	r := referenced{name: "${" + m[1] + "}", length: len(m[0])}
	text, set := l.lookup(m[1])
	switch {
	case m[2] != "" && text == "":
		r.text = m[3]
	case set:
		r.text, r.hidden = text, true
		l.secrets.add(text, r.name)
	case l.o.AllowUnset:
		l.unset[m[1]] = true
		r.text, v.unset = unsetText, true
	default:
		l.faultAt(n, n.textPlace(off), len(m[0]), codeUnset, fmt.Sprintf("the variable %s is not set", m[1]),
			fmt.Sprintf("set it, or give a default: ${%s:-default}", m[1]))
		return r, false
	}
	return r, true
}

func (l *loader) resolveFile(n *node, off, length int, path string) (referenced, bool) {
	r := referenced{name: "${file:" + path + "}", length: length, hidden: true}
	data, err := l.readFile(path)
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("it has more than 1 MiB")
	}
	if err != nil {
		l.faultAt(n, n.textPlace(off), length, codeSecretFile, fmt.Sprintf("cannot read %s: %s", quote(path), reason(err)), "")
		return r, false
	}
	r.text = strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	l.secrets.add(r.text, r.name)
	return r, true
}

func (l *loader) lookup(name string) (string, bool) {
	if l.o.Env == nil {
		return "", false
	}
	return l.o.Env(name)
}

// references finds where an expression's text uses ${…}, which is not replaced there.
var references = regexp.MustCompile(`\$\{(?:[A-Za-z_][A-Za-z0-9_]*(?::-[^}]*)?|file:[^}]*)\}`)

// inExpression finds the first ${…} of a text that stands inside an expression: anywhere in one, between {{ and }} of a
// template. It returns its offset and length, or -1.
func inExpression(text string, template bool) (off, length int) {
	for _, m := range references.FindAllStringIndex(text, -1) {
		before := text[:m[0]]
		if !template || strings.LastIndex(before, "{{") > strings.LastIndex(before, "}}") {
			return m[0], m[1] - m[0]
		}
	}
	return -1, 0
}

// literalTemplate writes text so that a template shows it as it is: a brace that came from outside must not open an expression.
func literalTemplate(text string) string {
	return strings.ReplaceAll(text, "{", `{{"{"}}`)
}

func asIs(text string) string { return text }
