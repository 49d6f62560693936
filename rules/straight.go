package rules

import (
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"

	"github.com/millrace-run/millrace/event"
)

// straight is a part of an expression that is evaluated without the machine, by the very operations that the machine would call, in
// the same order. Most decisions are a comparison or two of a field with a constant, and the machine takes longer than they do.
type straight func(r *run) (any, error)

// straightOperations are those that look at the values they are given and keep none of the slices that hold them.
var straightOperations = map[string]bool{
	"%slot": true, "%attribute": true, "%named": true, "%not": true, "%quiet": true, "==": true, "!=": true, "<": true, "<=": true,
	">": true, ">=": true, "in": true, "matches": true, "contains": true, "startsWith": true, "endsWith": true,
	"%fn topic": true, "%fn string": true, "%fn cesql": true,
}

// straightly returns a rewritten expression as a straight one; nil if it has anything else in it.
func (x *Expr) straightly(n ast.Node) straight {
	switch t := n.(type) {
	case *ast.BoolNode:
		return always(t.Value)
	case *ast.StringNode:
		return always(t.Value)
	case *ast.ConstantNode:
		return always(t.Value)
	case *ast.NilNode:
		return always(nil)
	case *ast.CallNode:
		return x.textTest(t, x.straightCall(t))
	case *ast.BinaryNode:
		switch t.Operator {
		case "&&", "and":
			return x.straightTerms(t, false)
		case "||", "or":
			return x.straightTerms(t, true)
		}
	}
	return nil
}

func always(v any) straight { return func(*run) (any, error) { return v, nil } }

// straightTerms is && or ||, whose sides are an operation on each term: the right side counts unless the left one is decided.
func (x *Expr) straightTerms(n *ast.BinaryNode, decided bool) straight {
	left, right := x.straightly(n.Left), x.straightly(n.Right)
	if left == nil || right == nil {
		return nil
	}
	return func(r *run) (any, error) {
		if v, err := left(r); err != nil || v == decided {
			return v, err
		}
		return right(r)
	}
}

// straightCall is a call of an operation: the arguments, what it costs, then the operation itself.
func (x *Expr) straightCall(n *ast.CallNode) straight {
	callee, ok := n.Callee.(*ast.IdentifierNode)
	if !ok {
		return nil
	}
	do := operationOf(callee.Value)
	switch callee.Value {
	case "%andLeft":
		do = opAndLeft
	case "%orLeft":
		do = opOrLeft
	case "%andRight", "%orRight":
	default:
		if !straightOperations[callee.Value] {
			return nil
		}
	}
	from := x.arguments
	x.arguments += len(n.Arguments) - 1 // the first is the evaluation
	to := x.arguments
	arguments := make([]straight, 0, to-from)
	for _, a := range n.Arguments[1:] {
		f := x.straightly(a)
		if f == nil {
			return nil
		}
		arguments = append(arguments, f)
	}
	return func(r *run) (any, error) {
		a := r.arguments[from:to:to]
		for i, f := range arguments {
			var err error
			if a[i], err = f(r); err != nil {
				return nil, err
			}
		}
		if err := r.charge(1); err != nil {
			return nil, err
		}
		return do(r, a)
	}
}

// operationOf is what a rewritten expression calls by this name, without the machine's own part of it.
func operationOf(name string) operation {
	if f, ok := strings.CutPrefix(name, "%fn "); ok {
		return functions[f].call
	}
	return operators[name]
}

// textTest is a call that looks at nothing but the text of an attribute, such as type == "a" or topic(type, "a.*"). It is made
// without a value that would cost memory for each event. Everything else, such as an extension that is a boolean,
// goes by the call itself.
func (x *Expr) textTest(n *ast.CallNode, whole straight) straight {
	callee, ok := n.Callee.(*ast.IdentifierNode)
	if whole == nil || !ok || len(n.Arguments) != 3 {
		return whole
	}
	text, name := attributeText(n.Arguments[1])
	wanted, known := constantOf(n.Arguments[2])
	holds, cost := textTestOf(callee.Value, wanted)
	if text == nil || !known || holds == nil {
		return whole
	}
	absent, err := operationOf(callee.Value)(&run{}, []any{missing{name: name}, wanted})
	if err != nil {
		return whole
	}
	return func(r *run) (any, error) {
		s, is := text(r.in.Event)
		switch is {
		case textThere:
			return holds(s), r.charge(1 + len(s)*cost/16)
		case textAbsent:
			return absent, nil
		}
		return whole(r)
	}
}

func constantOf(n ast.Node) (v any, ok bool) {
	switch t := n.(type) {
	case *ast.NilNode:
		return nil, true
	case *ast.StringNode:
		return t.Value, true
	case *ast.ConstantNode:
		return t.Value, true
	}
	return nil, false
}

// textTestOf is what an operation says of a text, and how many times it may look through it; nil where that is not known here.
func textTestOf(name string, wanted any) (holds func(s string) bool, cost int) {
	switch w := wanted.(type) {
	case nil:
		switch name {
		case "==":
			return func(string) bool { return false }, 1
		case "!=":
			return func(string) bool { return true }, 1
		}
	case []string:
		if name == "%fn topic" {
			return func(s string) bool { return matchTopic(s, w) }, len(w)
		}
	case []any:
		if name == "in" {
			return oneOf(w), len(w)
		}
	case string:
		switch name {
		case "==":
			return func(s string) bool { return s == w }, 1
		case "!=":
			return func(s string) bool { return s != w }, 1
		case "startsWith":
			return func(s string) bool { return strings.HasPrefix(s, w) }, 1
		case "endsWith":
			return func(s string) bool { return strings.HasSuffix(s, w) }, 1
		}
	}
	return nil, 0
}

// oneOf looks for a text in a list. What is no text there never equals one.
func oneOf(list []any) func(s string) bool {
	var texts []string
	for _, v := range list {
		if s, ok := v.(string); ok {
			texts = append(texts, s)
		}
	}
	return func(s string) bool { return slices.Contains(texts, s) }
}

// textState says whether an attribute has a text.
type textState uint8

const (
	textElse textState = iota // it is not known here what the attribute comes to
	textThere
	textAbsent
)

// attributeText reads an attribute as text, where its value is its text: not a time, and of extensions none that is typed, unless
// string() asks for its text. name is how the attribute is called where it is missing.
func attributeText(n ast.Node) (text func(ev *event.Event) (string, textState), name string) {
	call, ok := n.(*ast.CallNode)
	if !ok {
		return nil, ""
	}
	callee, ok := call.Callee.(*ast.IdentifierNode)
	if !ok {
		return nil, ""
	}
	switch callee.Value {
	case "%fn string":
		if inner, ok := call.Arguments[1].(*ast.CallNode); ok {
			if id, ok := inner.Callee.(*ast.IdentifierNode); ok && id.Value == "%named" {
				return extensionText(inner, true)
			}
		}
	case "%named":
		return extensionText(call, false)
	case "%attribute":
		at := call.Arguments[1].(*ast.ConstantNode).Value.(attribute)
		if at == attrTime || at == attrReceived {
			return nil, ""
		}
		return func(ev *event.Event) (string, textState) {
			if ev == nil || *at.of(ev) == "" {
				return "", textAbsent
			}
			return *at.of(ev), textThere
		}, at.String()
	}
	return nil, ""
}

func extensionText(call *ast.CallNode, asText bool) (text func(ev *event.Event) (string, textState), name string) {
	from, _ := constantOf(call.Arguments[1])
	key, _ := constantOf(call.Arguments[2])
	called, _ := constantOf(call.Arguments[3])
	k, ok := key.(string)
	if from != collExt || !ok {
		return nil, ""
	}
	return func(ev *event.Event) (string, textState) {
		if ev == nil {
			return "", textAbsent
		}
		v, ok := ev.Extension(k)
		switch {
		case !ok:
			return "", textAbsent
		case v.Kind == event.Boolean || v.Kind == event.Integer && !asText:
			return "", textElse
		}
		return v.Text, textThere
	}, called.(string)
}

// short evaluates without the machine. Where that is not possible, or fails in any way, ok is false and the evaluation is as new:
// what went wrong, and where, is then the machine's to say.
func (x *Expr) short(r *run) (v any, ok bool) {
	if x.direct == nil {
		return nil, false
	}
	defer func() {
		if !ok {
			_ = recover() // the machine makes an error of a panic, and will do so again
			in := r.in
			r.clear()
			r.in = in
		}
	}()
	v, err := x.direct(r)
	return v, err == nil
}
