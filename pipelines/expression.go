package pipelines

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/millrace-run/millrace/rules"
)

// compile compiles an expression; nil: a fault was reported, or a variable is not set.
func (l *loader) compile(n *node, f *field) *rules.Expr {
	if off, length := inExpression(n.text, false); off >= 0 {
		l.insideExpression(n, off, length)
		return nil
	}
	text := n.text
	if n.style == plainStyle {
		text = constant(text)
	}
	l.envUnset = false
	x, err := rules.Compile(text, rules.Options{Scope: scopeOf(f), Env: l.expressionEnv, Decision: f.decision})
	if err != nil {
		l.expressionFault(value{node: n, text: text, parts: []part{{0, 0, true}}}, f, err)
		return nil
	}
	return x
}

func scopeOf(f *field) rules.Scope {
	switch {
	case f.intake:
		return rules.IntakeScope
	case f.digest:
		return rules.DigestScope
	}
	return rules.EventScope
}

// compileTemplate compiles a template; what is substituted in it stays text.
func (l *loader) compileTemplate(n *node, f *field) (rules.Template, bool) {
	if off, length := inExpression(n.text, true); off >= 0 {
		l.insideExpression(n, off, length)
		return rules.Template{}, false
	}
	v, ok := l.substitute(n, literalTemplate)
	if !ok {
		return rules.Template{}, false
	}
	if f.secret {
		l.keepSecretTemplate(v, f)
	}
	if v.unset {
		l.standIns[n] = true
	}
	l.envUnset = false
	t, err := rules.CompileTemplate(v.text, rules.Options{Scope: scopeOf(f), Env: l.expressionEnv})
	if err != nil {
		l.expressionFault(v, f, err)
		return rules.Template{}, false
	}
	return t, true
}

func (l *loader) insideExpression(n *node, off, length int) {
	name := strings.Trim(n.text[off:off+length], "${}")
	name, _, _ = strings.Cut(name, ":")
	hint := "write the value with quotes in the expression"
	if name != "file" {
		hint = fmt.Sprintf("in an expression write env(%q)", name)
	}
	l.faultAt(n, n.textPlace(off), length, codeInExpression, "a ${…} is not replaced inside an expression", hint)
}

// expressionEnv is env() of the expression language.
func (l *loader) expressionEnv(name string) (string, bool) {
	text, ok := l.lookup(name)
	if ok {
		l.secrets.add(text, fmt.Sprintf("env(%s)", name))
		return text, true
	}
	if l.o.AllowUnset {
		l.unset[name], l.envUnset = true, true
		return unsetText, true
	}
	return "", false
}

// expressionFault reports the fault of an expression at its place within the value.
func (l *loader) expressionFault(v value, f *field, err error) {
	if l.envUnset {
		return // what fails may be the stand-in
	}
	var fault *rules.Error
	if !errors.As(err, &fault) {
		l.fault(v.node, codeExpression, l.secrets.hide(fmt.Sprintf("%s: %v", f.name, err)), "")
		return
	}
	at, width := v.node.at, v.node.width()
	if fault.Line > 0 && fault.Col > 0 {
		off := lineCol(v.text, fault.Line, fault.Col)
		at = v.place(off)
		width = max(1, min(fault.Width, utf8.RuneCountInString(v.node.src.line(at.Line))-at.Col+1))
	}
	problem := l.secrets.hide(fmt.Sprintf("%s: %s", f.name, fault.Problem))
	l.faultAt(v.node, at, width, codeExpression, problem, l.secrets.hide(fault.Hint))
}
