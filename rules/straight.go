package rules

import "github.com/expr-lang/expr/ast"

// straight is a part of an expression that is evaluated without the machine, by the very operations that the machine would call, in
// the same order. Most decisions are a comparison or two of a field with a constant, and the machine takes longer than they do.
type straight func(r *run) (any, error)

// straightOperations are those that look at the values they are given and keep none of the slices that hold them.
var straightOperations = map[string]bool{
	"%slot": true, "%attribute": true, "%named": true, "%not": true, "%quiet": true, "==": true, "!=": true, "<": true, "<=": true,
	">": true, ">=": true, "in": true, "matches": true, "contains": true, "startsWith": true, "endsWith": true,
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
		return x.straightCall(t)
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
	do := operators[callee.Value]
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
