package rules

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/expr-lang/expr/ast"
)

// predicates are the functions that go through an array with an expression for each element.
var predicates = []string{
	"all", "any", "none", "one", "filter", "map", "count", "sum", "find", "findIndex", "findLast", "findLastIndex",
	"groupBy", "sortBy", "reduce",
}

// gone are functions of the expression language that are not here, with what to do instead.
var gone = map[string]string{
	"now":    "a rule gives the same answer at every retry, so it has no clock; received is when the event was accepted",
	"repeat": "it could make a text of any size",
	"type":   "type is the event's type",
}

// inspector looks at an expression before its types are checked: names, functions and bounds. It puts the constants in whose
// values are known now: env("NAME") and time zones.
type inspector struct {
	options Options
	names   []string // that it met, variables left out
}

func (in *inspector) node(n *ast.Node, depth int, variables []string) error {
	switch t := (*n).(type) {
	case *ast.IdentifierNode:
		return in.name(t, variables)
	case *ast.MemberNode:
		if err := in.extension(t); err != nil {
			return err
		}
	case *ast.VariableDeclaratorNode:
		if err := in.node(&t.Value, depth, variables); err != nil {
			return err
		}
		return in.node(&t.Expr, depth, append(slices.Clip(variables), t.Name))
	case *ast.PredicateNode:
		if depth++; depth > maxNesting {
			return &located{t.Location(), fmt.Sprintf("predicates are nested more than %d deep", maxNesting),
				"each level multiplies the cost by the length of its array"}
		}
	case *ast.BuiltinNode:
		if err := in.builtin(n, t); err != nil {
			return err
		}
	case *ast.CallNode:
		done, err := in.call(n, t)
		if done || err != nil {
			return err
		}
		if member, ok := t.Callee.(*ast.MemberNode); ok { // the name of the method is not looked at, what it is called on is
			if err := in.node(&member.Node, depth, variables); err != nil {
				return err
			}
		}
		return in.nodes(pointers(t.Arguments), depth, variables)
	}
	return in.nodes(children(*n), depth, variables)
}

func (in *inspector) nodes(list []*ast.Node, depth int, variables []string) error {
	for _, n := range list {
		if err := in.node(n, depth, variables); err != nil {
			return err
		}
	}
	return nil
}

// name refuses what is neither a name of the scope nor a variable.
func (in *inspector) name(n *ast.IdentifierNode, variables []string) error {
	if slices.Contains(variables, n.Value) {
		return nil
	}
	known := namesIn(in.options.Scope)
	if slices.Contains(known, n.Value) {
		if !slices.Contains(in.names, n.Value) {
			in.names = append(in.names, n.Value)
		}
		return nil
	}
	hint := fmt.Sprintf("the names here are %s", strings.Join(known, ", "))
	near := nearest(n.Value, append(slices.Clip(known), variables...))
	switch {
	case near != "":
		hint = fmt.Sprintf("did you mean %q? %s", near, hint)
	case n.Value != "$env":
		hint = fmt.Sprintf("a field of the data is written data.%s; %s", n.Value, hint)
	}
	return &located{n.Location(), fmt.Sprintf("unknown name %q", n.Value), hint}
}

// extension refuses a name that no extension attribute can have.
func (in *inspector) extension(n *ast.MemberNode) error {
	base, ok := n.Node.(*ast.IdentifierNode)
	name, text := n.Property.(*ast.StringNode)
	if !ok || !text || base.Value != collExt.String() || validExtensionName(name.Value) {
		return nil
	}
	return &located{name.Location(), fmt.Sprintf("no extension attribute can be called %q", name.Value),
		"the names of extensions have only lower-case letters and digits"}
}

func (in *inspector) builtin(n *ast.Node, b *ast.BuiltinNode) error {
	if b.Name == "timezone" {
		if len(b.Arguments) != 1 {
			return &located{b.Location(), "timezone takes one argument", ""}
		}
		zone, err := zoneOf(b.Arguments[0])
		if err == nil {
			ast.Patch(n, zone)
		}
		return err
	}
	if slices.Contains(predicates, b.Name) || b.Name == "get" {
		return nil
	}
	f, ok := functions[b.Name]
	if !ok {
		return unknownFunction(b, b.Name)
	}
	return arity(b, b.Name, f, len(b.Arguments))
}

// call looks at a call that is no builtin of expr: our own functions, and methods of times. Done means that it was replaced.
func (in *inspector) call(n *ast.Node, c *ast.CallNode) (done bool, err error) {
	switch callee := c.Callee.(type) {
	case *ast.IdentifierNode:
		if callee.Value == "env" {
			return true, in.env(n, c)
		}
		f, ok := functions[callee.Value]
		if !ok {
			return false, unknownFunction(c, callee.Value)
		}
		if err := arity(c, callee.Value, f, len(c.Arguments)); err != nil {
			return false, err
		}
		if callee.Value == "cesql" {
			return false, in.cesql(c)
		}
		if callee.Value == "date" && len(c.Arguments) == 3 {
			zone, err := zoneOf(c.Arguments[2])
			if err != nil {
				return false, err
			}
			c.Arguments[2] = zone
		}
		return false, nil
	case *ast.MemberNode:
		if name, ok := callee.Property.(*ast.StringNode); ok {
			return false, knownMethod(c, name.Value)
		}
	}
	return false, &located{c.Location(), "this cannot be called", ""}
}

func knownMethod(c *ast.CallNode, name string) error {
	m, ok := methods[name]
	if !ok {
		return &located{c.Location(), fmt.Sprintf("unknown method %q", name),
			hintFrom(name, sortedNames(methods), "methods of times and durations")}
	}
	if len(c.Arguments) != m.args {
		return &located{c.Location(), fmt.Sprintf("%s takes %s, not %d", name, plural(m.args), len(c.Arguments)), ""}
	}
	return nil
}

// env puts the value of an environment variable in, as a constant.
func (in *inspector) env(n *ast.Node, c *ast.CallNode) error {
	if len(c.Arguments) != 1 {
		return &located{c.Location(), "env takes one argument", ""}
	}
	name, ok := c.Arguments[0].(*ast.StringNode)
	if !ok {
		return &located{c.Location(), "env takes the name of a variable in quotes", "it is looked up once, when the file is loaded"}
	}
	value, set := "", false
	if in.options.Env != nil {
		value, set = in.options.Env(name.Value)
	}
	if !set {
		return &located{name.Location(), fmt.Sprintf("the environment variable %s is not set", name.Value), ""}
	}
	ast.Patch(n, &ast.StringNode{Value: value})
	return nil
}

// zoneOf is a time zone as a constant: it is looked up once, so that an evaluation reads no file.
func zoneOf(n ast.Node) (ast.Node, error) {
	if c, ok := n.(*ast.ConstantNode); ok {
		return c, nil
	}
	name, ok := n.(*ast.StringNode)
	if !ok {
		return nil, &located{n.Location(), "a time zone is a name in quotes", ""}
	}
	zone, err := time.LoadLocation(name.Value)
	if err != nil || zone == time.Local || name.Value == "" {
		return nil, &located{name.Location(), fmt.Sprintf("unknown time zone %q", name.Value), "such as Europe/Berlin or UTC"}
	}
	constant := &ast.ConstantNode{Value: zone}
	constant.SetLocation(n.Location())
	return constant, nil
}

func unknownFunction(n ast.Node, name string) error {
	if why, ok := gone[name]; ok {
		return &located{n.Location(), fmt.Sprintf("%s is not a function here", name), why}
	}
	if _, ok := attributeOf(name); ok || slices.Contains(namesIn(IntakeScope), name) {
		return &located{n.Location(), fmt.Sprintf("%s is not a function", name), ""}
	}
	known := append(sortedNames(functions), predicates...)
	known = append(known, "env", "get", "timezone")
	slices.Sort(known)
	return &located{n.Location(), fmt.Sprintf("unknown function %q", name), hintFrom(name, known, "functions")}
}

func arity(n ast.Node, name string, f function, given int) error {
	if given >= f.min && (given <= f.max || f.max < 0) {
		return nil
	}
	takes := plural(f.min)
	if f.max < 0 {
		takes += " or more"
	} else if f.max > f.min {
		takes = fmt.Sprintf("%d to %d arguments", f.min, f.max)
	}
	return &located{n.Location(), fmt.Sprintf("%s takes %s, not %d", name, takes, given), ""}
}

func plural(n int) string {
	if n == 1 {
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", n)
}

func pointers(list []ast.Node) []*ast.Node {
	out := make([]*ast.Node, len(list))
	for i := range list {
		out[i] = &list[i]
	}
	return out
}

// children are the parts of a node, in the order of the source.
func children(n ast.Node) []*ast.Node {
	switch t := n.(type) {
	case *ast.UnaryNode:
		return []*ast.Node{&t.Node}
	case *ast.BinaryNode:
		return []*ast.Node{&t.Left, &t.Right}
	case *ast.ChainNode:
		return []*ast.Node{&t.Node}
	case *ast.MemberNode:
		return []*ast.Node{&t.Node, &t.Property}
	case *ast.SliceNode:
		list := []*ast.Node{&t.Node}
		for _, bound := range []*ast.Node{&t.From, &t.To} {
			if *bound != nil {
				list = append(list, bound)
			}
		}
		return list
	case *ast.BuiltinNode:
		return pointers(t.Arguments)
	case *ast.PredicateNode:
		return []*ast.Node{&t.Node}
	case *ast.ConditionalNode:
		return []*ast.Node{&t.Cond, &t.Exp1, &t.Exp2}
	case *ast.SequenceNode:
		return pointers(t.Nodes)
	case *ast.ArrayNode:
		return pointers(t.Nodes)
	case *ast.MapNode:
		return pointers(t.Pairs)
	case *ast.PairNode:
		return []*ast.Node{&t.Key, &t.Value}
	}
	return nil
}
