package rules

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
)

// slot is a field of a document that is fetched without decoding the rest.
type slot struct {
	root   root
	index  int    // in the spans of its document
	member string // the name, where the path is one name; else empty
	absent any    // its value where it is not there, and where it is null
	null   any
}

// tree is what an expression wants of one document.
type tree struct {
	deep    bool // some path is not just one name
	want    *want
	slots   int
	members int
}

// step is one part of a path: a name or an index.
type step struct {
	name  string
	index int
	item  bool
}

// maxSteps bounds the paths that become slots; what goes deeper is read from the decoded part.
const maxSteps = 64

// add puts a path into the tree and returns the index of its span.
func (t *tree) add(path []step) int {
	if t.want == nil {
		t.want = &want{slot: -1}
	}
	w := t.want
	for _, s := range path {
		w = t.branch(w, s)
	}
	if w.slot < 0 {
		w.slot = t.slots
		t.slots++
	}
	return w.slot
}

func (t *tree) branch(w *want, s step) *want {
	if s.item {
		if w.items == nil {
			w.items = map[int]*want{}
		}
		if w.items[s.index] == nil {
			w.items[s.index] = &want{slot: -1}
		}
		return w.items[s.index]
	}
	for _, m := range w.members {
		if m.name == s.name {
			return m.next
		}
	}
	m := &member{name: s.name, id: t.members, next: &want{slot: -1}}
	t.members++
	w.members = append(w.members, m)
	return m.next
}

// builder rewrites a checked expression for the machine: fields with a path that is known become slots, and every operator and
// function becomes an operation of this package, which knows missing fields and exact numbers. What remains of the machine's own
// is control: && and ||, conditionals, variables, and the loops of predicates.
type builder struct {
	x           *Expr
	scope       Scope
	variables   []string
	collections []string // names of the arrays of the predicates around, for the names of fields
}

// call makes a call of an operation on the evaluation and the arguments.
func call(at file.Location, name string, args ...ast.Node) ast.Node {
	callee, r := &ast.IdentifierNode{Value: name}, &ast.IdentifierNode{Value: "$env"}
	c := &ast.CallNode{Callee: callee, Arguments: append([]ast.Node{r}, args...)}
	c.SetLocation(at)
	callee.SetLocation(at)
	r.SetLocation(at)
	return c
}

func constant(at file.Location, v any) ast.Node {
	c := &ast.ConstantNode{Value: v}
	c.SetLocation(at)
	return c
}

func (b *builder) node(n ast.Node) ast.Node {
	at := n.Location()
	switch t := n.(type) {
	case *ast.IdentifierNode:
		return b.identifier(t)
	case *ast.IntegerNode:
		return constant(at, int64(t.Value))
	case *ast.FloatNode:
		return constant(at, numberOf(floatText(t.Value)))
	case *ast.BytesNode:
		return constant(at, string(t.Value))
	case *ast.UnaryNode:
		return b.unary(t)
	case *ast.BinaryNode:
		return b.binary(t)
	case *ast.ChainNode:
		return call(at, "%quiet", b.node(t.Node))
	case *ast.MemberNode:
		return b.member(t)
	case *ast.SliceNode:
		return call(at, "%slice", b.node(t.Node), b.optional(t.From), b.optional(t.To))
	case *ast.CallNode:
		return b.call(t)
	case *ast.BuiltinNode:
		return b.builtin(t)
	case *ast.PointerNode:
		if t.Name == "index" {
			return call(at, "%index", t)
		}
	case *ast.ConditionalNode:
		t.Cond, t.Exp1, t.Exp2 = call(t.Cond.Location(), "%cond", b.node(t.Cond)), b.node(t.Exp1), b.node(t.Exp2)
	case *ast.VariableDeclaratorNode:
		t.Value = b.node(t.Value)
		b.variables = append(b.variables, t.Name)
		t.Expr = b.node(t.Expr)
		b.variables = b.variables[:len(b.variables)-1]
	case *ast.ArrayNode:
		return b.array(t)
	case *ast.MapNode:
		args := make([]ast.Node, 0, 2*len(t.Pairs))
		for _, p := range t.Pairs {
			pair := p.(*ast.PairNode)
			args = append(args, b.node(pair.Key), b.node(pair.Value))
		}
		return call(at, "%object", args...)
	case *ast.SequenceNode:
		for i := range t.Nodes {
			t.Nodes[i] = b.node(t.Nodes[i])
		}
	}
	return n
}

func (b *builder) optional(n ast.Node) ast.Node {
	if n == nil {
		return &ast.NilNode{}
	}
	return b.node(n)
}

func (b *builder) isVariable(name string) bool { return slices.Contains(b.variables, name) }

func (b *builder) identifier(n *ast.IdentifierNode) ast.Node {
	at := n.Location()
	if b.isVariable(n.Value) {
		return n
	}
	if which, ok := rootOf(n.Value, b.scope); ok {
		return call(at, "%whole", constant(at, which))
	}
	if from, ok := collectionOf(n.Value, b.scope); ok {
		b.x.attributes = true
		return call(at, "%allNamed", constant(at, from))
	}
	attr, _ := attributeOf(n.Value)
	b.x.attributes = true
	return call(at, "%attribute", constant(at, attr))
}

func (b *builder) unary(n *ast.UnaryNode) ast.Node {
	inner := b.node(n.Node)
	switch n.Operator {
	case "-":
		if c, ok := inner.(*ast.ConstantNode); ok && isNumber(c.Value) {
			if v, err := negNumber(c.Value); err == nil {
				return constant(n.Location(), v)
			}
		}
		return call(n.Location(), "%negate", inner)
	case "+":
		return call(n.Location(), "%plus", inner)
	}
	return call(n.Location(), "%not", inner)
}

func (b *builder) binary(n *ast.BinaryNode) ast.Node {
	at := n.Location()
	switch n.Operator {
	case "&&", "and":
		return b.logical(n, "%andLeft", "%andRight")
	case "||", "or":
		return b.logical(n, "%orLeft", "%orRight")
	case "??":
		n.Left, n.Right = call(n.Left.Location(), "%present", b.node(n.Left)), b.node(n.Right)
		return n
	case "matches":
		if s, ok := n.Right.(*ast.StringNode); ok {
			return call(at, "matches", b.node(n.Left), constant(s.Location(), regexp.MustCompile(s.Value)))
		}
	case "in":
		if within, ok := n.Right.(*ast.BinaryNode); ok && within.Operator == ".." {
			return call(at, "%inRange", b.node(n.Left), b.node(within.Left), b.node(within.Right))
		}
	}
	return call(at, n.Operator, b.node(n.Left), b.node(n.Right))
}

// logical keeps the operator, which jumps over the right side where the left decides.
func (b *builder) logical(n *ast.BinaryNode, left, right string) ast.Node {
	at := n.Location()
	id := constant(at, b.x.terms)
	b.x.terms++
	n.Left, n.Right = call(at, left, id, b.node(n.Left)), call(at, right, id, b.node(n.Right))
	return n
}

// array is made once if it holds only constants.
func (b *builder) array(n *ast.ArrayNode) ast.Node {
	args := make([]ast.Node, len(n.Nodes))
	values := make([]any, 0, len(n.Nodes))
	for i, e := range n.Nodes {
		args[i] = b.node(e)
		switch c := args[i].(type) {
		case *ast.ConstantNode:
			values = append(values, c.Value)
		case *ast.StringNode:
			values = append(values, c.Value)
		case *ast.BoolNode:
			values = append(values, c.Value)
		}
	}
	if len(values) == len(args) {
		return constant(n.Location(), values)
	}
	return call(n.Location(), "%array", args...)
}

// path is the path of a field whose every part is known, and the document that it is in.
func (b *builder) path(n ast.Node) (root, []step, bool) {
	switch t := n.(type) {
	case *ast.IdentifierNode:
		if b.isVariable(t.Value) {
			return 0, nil, false
		}
		which, ok := rootOf(t.Value, b.scope)
		return which, nil, ok
	case *ast.MemberNode:
		which, path, ok := b.path(t.Node)
		if !ok || len(path) >= maxSteps {
			return 0, nil, false
		}
		switch key := t.Property.(type) {
		case *ast.StringNode:
			return which, append(path, step{name: key.Value}), true
		case *ast.IntegerNode:
			return which, append(path, step{index: key.Value, item: true}), key.Value >= 0
		}
	}
	return 0, nil, false
}

func (b *builder) member(n *ast.MemberNode) ast.Node {
	at, name := n.Location(), b.nameOf(n)
	if which, path, ok := b.path(n); ok {
		return b.slot(at, which, path, name)
	}
	key := b.node(n.Property)
	if base, ok := n.Node.(*ast.IdentifierNode); ok && !b.isVariable(base.Value) {
		if from, ok := collectionOf(base.Value, b.scope); ok {
			b.x.attributes = true
			return call(at, "%named", constant(at, from), key, constant(at, name))
		}
	}
	return call(at, "%fetch", b.node(n.Node), key, constant(at, name))
}

func (b *builder) slot(at file.Location, which root, path []step, name string) ast.Node {
	s := slot{root: which, index: b.x.trees[which].add(path), absent: missing{name: name}, null: missing{name: name, null: true}}
	if len(path) == 1 && !path[0].item {
		s.member = path[0].name
	} else {
		b.x.trees[which].deep = true
	}
	for i, known := range b.x.slots {
		if known.root == s.root && known.index == s.index {
			return call(at, "%slot", constant(at, i))
		}
	}
	b.x.slots = append(b.x.slots, s)
	return call(at, "%slot", constant(at, len(b.x.slots)-1))
}

// nameOf is how messages call a field: as the expression does, with [] for the elements that a predicate goes through.
func (b *builder) nameOf(n ast.Node) string {
	switch t := n.(type) {
	case *ast.IdentifierNode:
		return t.Value
	case *ast.ChainNode:
		return b.nameOf(t.Node)
	case *ast.PointerNode:
		if len(b.collections) > 0 && t.Name == "" {
			return b.collections[len(b.collections)-1] + "[]"
		}
	case *ast.MemberNode:
		base := b.nameOf(t.Node)
		switch key := t.Property.(type) {
		case *ast.StringNode:
			if plainName(key.Value) {
				return base + "." + key.Value
			}
			return base + "[" + strconv.Quote(key.Value) + "]"
		case *ast.IntegerNode:
			return base + "[" + strconv.Itoa(key.Value) + "]"
		}
		return base + "[…]"
	}
	return ""
}

func plainName(s string) bool {
	for i, c := range s {
		letter := c == '_' || c == '$' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

func (b *builder) call(n *ast.CallNode) ast.Node {
	at := n.Location()
	switch callee := n.Callee.(type) {
	case *ast.MemberNode:
		args := []ast.Node{constant(at, callee.Property.(*ast.StringNode).Value), b.node(callee.Node)}
		return call(at, "%method", append(args, b.list(n.Arguments)...)...)
	case *ast.IdentifierNode:
		args := b.list(n.Arguments)
		if callee.Value == "topic" {
			if s, ok := n.Arguments[1].(*ast.StringNode); ok {
				args[1] = constant(s.Location(), words(s.Value))
			}
		}
		b.x.attributes = b.x.attributes || callee.Value == "cesql"
		return call(at, "%fn "+callee.Value, args...)
	}
	return n
}

func (b *builder) list(nodes []ast.Node) []ast.Node {
	out := make([]ast.Node, len(nodes))
	for i, n := range nodes {
		out[i] = b.node(n)
	}
	return out
}

// builtin rewrites the functions that expr has by itself.
func (b *builder) builtin(n *ast.BuiltinNode) ast.Node {
	at := n.Location()
	switch {
	case n.Name == "get":
		name := strings.TrimPrefix(b.nameOf(&ast.MemberNode{Node: n.Arguments[0], Property: n.Arguments[1]}), ".")
		return call(at, "%fetch", b.node(n.Arguments[0]), b.node(n.Arguments[1]), constant(at, name))
	case n.Name == "sum" && len(n.Arguments) == 1:
		return call(at, "%sum", b.node(n.Arguments[0]))
	case slices.Contains(predicates, n.Name):
		return b.predicate(n)
	}
	return call(at, "%fn "+n.Name, b.list(n.Arguments)...)
}

// predicate keeps the machine's loop and puts operations around its array, its body and its result. sum, groupBy and sortBy
// become a map, whose results an operation takes.
func (b *builder) predicate(n *ast.BuiltinNode) ast.Node {
	at := n.Location()
	id := constant(at, b.x.loops)
	b.x.loops++
	name := n.Name
	if name == "reduce" && len(n.Arguments) == 3 {
		name = "reduce with a start"
	}
	list := call(at, "%list", id, b.node(n.Arguments[0]), constant(at, name))

	b.collections = append(b.collections, b.nameOf(n.Arguments[0]))
	body := b.body(n, id)
	b.collections = b.collections[:len(b.collections)-1]

	switch n.Name {
	case "sum":
		return call(at, "%sum", call(at, "%done", id, constant(at, "map"), loopNode(at, "map", list, body)))
	case "groupBy":
		return call(at, "%groupBy", id, loopNode(at, "map", list, body))
	case "sortBy":
		args := append([]ast.Node{id, loopNode(at, "map", list, body)}, b.list(n.Arguments[2:])...)
		return call(at, "%sortBy", args...)
	case "reduce":
		return call(at, "%done", id, constant(at, name), loopNode(at, "reduce", list, body, b.list(n.Arguments[2:])...))
	}
	loop := n.Name
	if fromEnd(loop) {
		loop = strings.Replace(loop, "Last", "", 1)
	}
	return call(at, "%done", id, constant(at, name), loopNode(at, loop, list, body))
}

// body is the predicate for one element. count without one counts the elements that are true.
func (b *builder) body(n *ast.BuiltinNode, id ast.Node) ast.Node {
	at := n.Location()
	inner := ast.Node(&ast.PointerNode{})
	if len(n.Arguments) > 1 {
		at = n.Arguments[1].Location()
		inner = n.Arguments[1].(*ast.PredicateNode).Node
	}
	inner = b.node(inner)
	switch n.Name {
	case "map", "sum", "groupBy", "sortBy", "reduce":
		inner = call(at, "%step", inner)
	default:
		inner = call(at, "%truth", id, constant(at, n.Name), inner)
	}
	p := &ast.PredicateNode{Node: inner}
	p.SetLocation(at)
	return p
}

func loopNode(at file.Location, name string, list, body ast.Node, more ...ast.Node) ast.Node {
	n := &ast.BuiltinNode{Name: name, Arguments: append([]ast.Node{list, body}, more...)}
	n.SetLocation(at)
	return n
}
