package rules

import (
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
)

// term is a comparison of a member of the data with a constant, such as data.status >= 500.
type term struct {
	member string
	holds  func(c int) bool // of -1, 0 or 1
	number int64
	text   string
	isText bool // text is the constant, of == and != only
}

var comparisons = map[string]func(c int) bool{
	"==": func(c int) bool { return c == 0 }, "!=": func(c int) bool { return c != 0 },
	"<": func(c int) bool { return c < 0 }, "<=": func(c int) bool { return c <= 0 },
	">": func(c int) bool { return c > 0 }, ">=": func(c int) bool { return c >= 0 },
}

// plainTerms takes a rewritten expression apart if it is nothing but such terms joined by &&. It returns nil for any other.
func (x *Expr) plainTerms(n ast.Node) []term {
	if b, ok := n.(*ast.BinaryNode); ok && (b.Operator == "&&" || b.Operator == "and") {
		left, right := callOf(b.Left, "%andLeft"), callOf(b.Right, "%andRight")
		if len(left) != 2 || len(right) != 2 {
			return nil
		}
		first, second := x.plainTerms(left[1]), x.plainTerms(right[1])
		if first == nil || second == nil {
			return nil
		}
		return append(first, second...)
	}
	if t, ok := x.plainTerm(n); ok {
		return []term{t}
	}
	return nil
}

func (x *Expr) plainTerm(n ast.Node) (t term, ok bool) {
	c, ok := n.(*ast.CallNode)
	if !ok {
		return t, false
	}
	op, _ := c.Callee.(*ast.IdentifierNode)
	if op == nil || comparisons[op.Value] == nil || len(c.Arguments) != 3 {
		return t, false
	}
	t.holds = comparisons[op.Value]
	at := callOf(c.Arguments[1], "%slot")
	if len(at) != 1 {
		return t, false
	}
	place, _ := at[0].(*ast.ConstantNode)
	i, ok := place.Value.(int)
	if !ok || x.slots[i].root != rootData || x.slots[i].member == "" {
		return t, false
	}
	t.member = x.slots[i].member
	switch v := c.Arguments[2].(type) {
	case *ast.ConstantNode:
		t.number, ok = v.Value.(int64)
		return t, ok
	case *ast.StringNode:
		t.text, t.isText = v.Value, true
		// U+FFFD stands for bytes of a line that are no text, which is for the machine to see.
		return t, (op.Value == "==" || op.Value == "!=") && !strings.ContainsRune(v.Value, utf8.RuneError)
	}
	return t, false
}

// callOf are the arguments of a call of an operation, behind the evaluation; nil if n is no such call.
func callOf(n ast.Node, name string) []ast.Node {
	c, ok := n.(*ast.CallNode)
	if !ok || len(c.Arguments) == 0 {
		return nil
	}
	if id, ok := c.Callee.(*ast.IdentifierNode); !ok || id.Value != name {
		return nil
	}
	return c.Arguments[1:]
}

// plainly decides without the machine where that is beyond doubt: every member that is looked at is there, and is of the kind of the
// constant that it is compared with. All else, such as what is missing, is null or needs exact numbers, is for the machine to say.
func (x *Expr) plainly(r *record) (ok, known bool) {
	for i := range x.plain {
		t := &x.plain[i]
		at := r.find(t.member)
		if at < 0 {
			return false, false
		}
		c := 0
		switch v := &r.values[at]; {
		case t.isText && (v.kind == foundText || v.kind == foundPlain):
			if v.text != t.text {
				c = 1
			}
		case !t.isText && v.kind == foundNumber:
			n, whole := wholeOf(v.text)
			if !whole {
				return false, false
			}
			c = compareInts(n, t.number)
		default:
			return false, false
		}
		if !t.holds(c) {
			return false, true
		}
	}
	return true, true
}

// membersOf notes the members of an object, which it checks as scan does. False says that b is something else, or has a name with
// an escape, or is broken: then r is of no use.
func (r *record) membersOf(b []byte) bool {
	r.reset()
	i := afterSpace(b, 0)
	if i >= len(b) || b[i] != '{' {
		return false
	}
	for i = afterSpace(b, i+1); ; i = afterSpace(b, i+1) {
		if i >= len(b) || b[i] != '"' {
			return false // an empty object has nothing to note
		}
		behind, escaped, ok := skipText(b, i)
		if !ok || escaped {
			return false
		}
		name := alias(b[i+1 : behind-1])
		if i = afterSpace(b, behind); i >= len(b) || b[i] != ':' {
			return false
		}
		i = afterSpace(b, i+1)
		v, end := foundAt(b, i)
		if end < 0 {
			return false
		}
		r.names, r.values = append(r.names, name), append(r.values, v) // without an index find returns the first of equal names
		if i = afterSpace(b, end); i >= len(b) || b[i] != ',' {
			return i < len(b) && b[i] == '}' && afterSpace(b, i+1) == len(b)
		}
	}
}

// foundAt is the value at a place of an object, and the place behind it; -1 if there is none.
func foundAt(b []byte, i int) (found, int) {
	end, ok := skip(b, i, 1)
	if !ok || end < 0 {
		return found{}, -1
	}
	text := alias(b[i:end])
	switch c := b[i]; {
	case c == '"' && strings.IndexByte(text, '\\') < 0:
		return found{foundPlain, text[1 : len(text)-1]}, end
	case c == 'n':
		return found{}, end
	case c == 't' || c == 'f':
		return found{foundBool, text}, end
	case c == '-' || isDigit(c):
		return found{foundNumber, text}, end
	}
	return found{foundJSON, text}, end
}
