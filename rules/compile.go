package rules

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/checker"
	"github.com/expr-lang/expr/compiler"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
)

// Bounds of an expression.
const (
	maxSource = 4 << 10
	maxNodes  = 1000
	// maxNesting is how deep predicates may stand in one another: all(a, any(b, …)) is 2. Their cost multiplies with each level.
	maxNesting = 2
)

// located is a problem at a place of the expression.
type located struct {
	at      file.Location
	problem string
	hint    string
}

func (l *located) Error() string { return l.problem }

// compile goes the way of expr.Compile, with steps of our own between its steps: parse, look at names and bounds, check types,
// replace operators and fields by operations of this package, compile for the machine.
func compile(t text, o Options) (x *Expr, err error) {
	defer func() {
		if p := recover(); p != nil { // the parser is not ours: whatever it does, a bad expression is an error
			x, err = nil, t.fault(file.Location{}, fmt.Sprintf("cannot be compiled: %v", p), "")
		}
	}()
	if len(t.src) > maxSource {
		return nil, t.fault(file.Location{}, fmt.Sprintf("the expression is longer than %d bytes", maxSource), "")
	}
	if strings.TrimSpace(t.src) == "" {
		return nil, t.fault(file.Location{}, "the expression is empty", "")
	}
	x = &Expr{text: t}
	if err := x.build(o); err != nil {
		return nil, t.place(err)
	}
	return x, nil
}

func (x *Expr) build(o Options) error {
	config := userConfig(o.Scope)
	tree, err := parser.ParseWithConfig(x.text.src, config)
	if err != nil {
		return err
	}
	in := &inspector{options: o}
	if err := in.node(&tree.Node, 0, nil); err != nil {
		return err
	}
	x.names = in.names
	if _, err := checker.Check(tree, config); err != nil {
		return err
	}
	if err := decides(tree.Node); o.Decision && err != nil {
		return err
	}
	b := builder{x: x, scope: o.Scope}
	tree.Node = b.node(tree.Node)
	machine := conf.CreateNew()
	machine.Optimize, machine.Strict = false, false
	machine.Functions = operations
	if _, err := checker.Check(tree, machine); err != nil {
		return err
	}
	x.direct = x.straightly(tree.Node)
	x.program, err = compiler.Compile(tree, machine)
	return err
}

// decides refuses what the types already tell never to be true or false.
func decides(n ast.Node) error {
	nature := n.Nature()
	if nature.Nil || nature.Kind == reflect.Bool || n.Type().Kind() == reflect.Interface {
		return nil
	}
	return &located{n.Location(), "this is never true or false", "compare it with something"}
}

// place makes an *Error of what a step of the compilation says.
func (t text) place(err error) *Error {
	var at *file.Error
	var l *located
	switch {
	case errors.As(err, &l):
		return t.fault(l.at, l.problem, l.hint)
	case errors.As(err, &at):
		problem := strings.TrimPrefix(at.Message, "compilation failed: ")
		return t.fault(at.Location, strings.TrimSpace(problem), "")
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return t.fault(file.Location{}, first, "")
}

// environment declares the names of an expression for the checker. It is never filled: nothing but types is read from it. Times
// are any, for their methods are ours (see methods).
type environment struct {
	ID              string         `expr:"id"`
	Source          string         `expr:"source"`
	Type            string         `expr:"type"`
	Subject         any            `expr:"subject"`
	Time            any            `expr:"time"`
	DataContentType any            `expr:"datacontenttype"`
	DataSchema      any            `expr:"dataschema"`
	Ext             map[string]any `expr:"ext"`
	Data            any            `expr:"data"`
	Received        any            `expr:"received"`
	Headers         map[string]any `expr:"headers"`
	Query           map[string]any `expr:"query"`
	Params          map[string]any `expr:"params"`
	Body            any            `expr:"body"`
	Events          any            `expr:"events"`
}

var (
	anyFunc  = reflect.TypeFor[func(...any) any]()
	boolFunc = reflect.TypeFor[func(...any) bool]()
	listFunc = reflect.TypeFor[func(...any) []any]()
)

// userConfig is how the parser and the checker see what a user wrote. Names that the scope lacks were refused before the check.
func userConfig(s Scope) *conf.Config {
	c := conf.New(environment{})
	c.MaxNodes = maxNodes
	for _, name := range [...]string{"now", "repeat", "type"} {
		c.Disabled[name] = true
		delete(c.Builtins, name)
	}
	for name, result := range map[string]reflect.Type{"date": anyFunc, "env": anyFunc, "topic": boolFunc, "cesql": boolFunc} {
		c.Functions[name] = &builtin.Function{Name: name, Types: []reflect.Type{result}}
	}
	return c
}

// operations are what a rewritten expression calls. No name of theirs can be written by a user.
var operations = makeOperations()

func makeOperations() conf.FunctionsTable {
	table := conf.FunctionsTable{}
	add := func(name string, result reflect.Type, do operation) {
		table[name] = &builtin.Function{
			Name: name,
			Func: func(a ...any) (any, error) {
				r := a[0].(*run)
				if err := r.charge(1); err != nil {
					return nil, err
				}
				return do(r, a[1:])
			},
			Types: []reflect.Type{result},
		}
	}
	for name, do := range operators {
		add(name, anyFunc, do)
	}
	for name, do := range map[string]operation{"%andLeft": opAndLeft, "%orLeft": opOrLeft, "%cond": opCond, "%truth": opTruth} {
		add(name, boolFunc, do)
	}
	add("%list", listFunc, opList)
	for name, f := range functions {
		add("%fn "+name, anyFunc, f.call)
	}
	return table
}

// operators are the operations with any result.
var operators = map[string]operation{
	"%attribute": opAttribute,
	"%slot":      opSlot,
	"%whole":     opWhole,
	"%named":     opNamed,
	"%allNamed":  opAllNamed,
	"%fetch":     opFetch,
	"%slice":     opSlice,
	"%method":    opMethod,
	"%array":     opArray,
	"%object":    opObject,
	"%not":       opNot,
	"%andRight":  opAndRight,
	"%orRight":   opOrRight,
	"%quiet":     opQuiet,
	"%present":   opPresent,
	"%negate":    opNegate,
	"%plus":      opPlus,
	"%step":      opStep,
	"%done":      opDone,
	"%sum":       opSum,
	"%groupBy":   opGroupBy,
	"%sortBy":    opSortBy,
	"%index":     opIndex,
	"%inRange":   opInRange,

	"==":         opEqual,
	"!=":         opNotEqual,
	"<":          ordering(func(c int) bool { return c < 0 }),
	"<=":         ordering(func(c int) bool { return c <= 0 }),
	">":          ordering(func(c int) bool { return c > 0 }),
	">=":         ordering(func(c int) bool { return c >= 0 }),
	"+":          opAdd,
	"-":          arithmetic("-", subNumbers, minusOther),
	"*":          arithmetic("*", mulNumbers, timesOther),
	"/":          arithmetic("/", divNumbers, nil),
	"%":          arithmetic("%", modNumbers, nil),
	"**":         arithmetic("**", powNumbers, nil),
	"^":          arithmetic("^", powNumbers, nil),
	"in":         opIn,
	"..":         opRange,
	"matches":    opMatches,
	"contains":   textTest("contains", strings.Contains),
	"startsWith": textTest("startsWith", strings.HasPrefix),
	"endsWith":   textTest("endsWith", strings.HasSuffix),
}

var opAdd = arithmetic("+", addNumbers, plusOther)

// opIndex makes a number of the machine's own integers.
func opIndex(_ *run, a []any) (any, error) {
	if n, ok := a[0].(int); ok {
		return int64(n), nil
	}
	return a[0], nil
}
