package rules

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules/cesql"
)

// CompileCESQL compiles a decision in CloudEvents SQL: it is the expression cesql("…"). Its error is an *Error about the text as
// it is given.
func CompileCESQL(src string) (*Expr, error) {
	if _, f := compileCESQL(src); f != nil {
		return nil, text{src: src, whole: src}.fault(file.Location{From: f.At, To: f.At + f.Width}, f.Problem, f.Hint)
	}
	return Compile(fmt.Sprintf("cesql(%s)", strconv.Quote(src)), Options{Decision: true})
}

// compileCESQL adds the nearest name to the fault of one that is no function.
func compileCESQL(src string) (*cesql.Program, *cesql.Error) {
	program, err := cesql.Compile(src)
	var f *cesql.Error
	if errors.As(err, &f) && f.Name != "" {
		f.Hint = hintFrom(f.Name, f.Functions, "functions")
	}
	return program, f
}

// cesql compiles the text of cesql("…") and puts the program in its place.
func (in *inspector) cesql(c *ast.CallNode) error {
	s, ok := c.Arguments[0].(*ast.StringNode)
	if !ok {
		return &located{c.Location(), "cesql takes a text in quotes", "it is compiled once, when the file is loaded"}
	}
	if len(c.Arguments) == 2 {
		if _, ok := c.Arguments[1].(*ast.BoolNode); !ok {
			return &located{c.Arguments[1].Location(), "the second argument of cesql is true or false",
				"it is what counts where the evaluation fails"}
		}
	}
	program, f := compileCESQL(s.Value)
	if f != nil {
		at := s.Location()
		if at.To-at.From == len([]rune(s.Value))+2 { // it stands there as it is
			at = file.Location{From: at.From + 1 + f.At, To: at.From + 1 + f.At + f.Width}
		}
		return &located{at, "cesql: " + f.Problem, f.Hint}
	}
	c.Arguments[0] = constant(s.Location(), program)
	return nil
}

// opCESQL is cesql(program), or cesql(program, what counts where the evaluation fails). An attribute that is missing is a missing
// field; everything else that fails is a failure.
func opCESQL(r *run, a []any) (any, error) {
	program, ev := a[0].(*cesql.Program), r.in.Event
	if ev == nil {
		ev = &event.Event{}
	}
	if err := r.chargeBytes(ev.Size() - len(ev.Data) + len(program.String())); err != nil {
		return nil, err
	}
	ok, err := program.Bool(ev)
	if err == nil {
		return ok, nil
	}
	if len(a) > 1 {
		return a[1], nil
	}
	var lacks *cesql.MissingError
	if errors.As(err, &lacks) {
		return uncertain{name: lacks.Attribute}, nil
	}
	return nil, fault("cesql: %v", err)
}
