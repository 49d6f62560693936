package rules

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"

	"github.com/millrace-run/millrace/event"
)

// Input is what an expression sees. At intake (webhook templates) the request's parts are there too; Event may be nil then.
type Input struct {
	Event   *event.Event
	Headers map[string]string // lower-case names
	Query   map[string]string
	Params  map[string]string
	Body    []byte

	found *record // what stands for the event's data; nil where the data stands for itself
	known *record // the members of the data, if they are known already
	look  *Look   // fetches from the data for several expressions at once; nil: each for itself
}

// members are what is known of the members of the data before anybody looks for them; nil is nothing.
func (in *Input) members() *record {
	switch {
	case in == nil:
		return nil
	case in.found != nil:
		return in.found
	}
	return in.known
}

// Scope says which names an expression may use.
type Scope uint8

// The scopes.
const (
	EventScope  Scope = iota // the event only
	IntakeScope              // the event and the request that brought it
	DigestScope              // the event, and all events of its delivery: events is a list, Input.Body as JSON
)

// Options are the settings of a compilation.
type Options struct {
	Scope Scope
	Env   func(name string) (string, bool) // env("NAME") in expressions, checked at compile time; nil: no variable is set
	// Decision refuses what can never be true or false, for filter, drop and when.
	Decision bool
}

// Error is a fault of an expression. Line and Col count from 1 within its source text, in characters; Width is how many columns
// it covers. The Problem of a failed evaluation names the place in words too, since nothing else will.
type Error struct {
	Line, Col, Width int
	Problem          string
	Hint             string
}

// Error returns the problem.
func (e *Error) Error() string { return e.Problem }

// Expr is a compiled expression. Safe for concurrent use.
type Expr struct {
	text    text
	program *vm.Program
	slots   []slot
	trees   [roots]tree
	terms   int // how many && and || there are
	loops   int // how many predicates there are

	direct    straight // nil where only the machine can evaluate it
	arguments int      // how many values direct needs room for

	attributes bool // it reads more than data and body
	names      []string
	quiet      bool // its failures neither quote it nor name a place in it
	pool       sync.Pool
}

// Compile checks and compiles an expression. Its error is an *Error.
func Compile(src string, o Options) (*Expr, error) { return compile(text{src: src, whole: src}, o) }

// DataOnly says that the expression reads nothing of an event but its data.
func (x *Expr) DataOnly() bool { return !x.attributes }

// Names are the names that the expression uses, such as data and type, each once.
func (x *Expr) Names() []string { return x.names }

// String returns the source text.
func (x *Expr) String() string { return x.text.src }

// Bool evaluates a decision. missing names the first field that it needed and did not find; the decision is then false. A field
// that is missing without changing a true decision is not named. An error is an *Error that names the place and the cause.
func (x *Expr) Bool(in *Input) (ok bool, missing string, err error) {
	r := x.begin(in)
	defer x.end(r)
	v, err := x.eval(r)
	if err != nil {
		return false, "", err
	}
	v, err = truthOf(v)
	switch v := v.(type) {
	case bool:
		if v {
			return true, "", nil
		}
		return false, r.note, nil
	case uncertain:
		r.met(v.name)
		return false, r.note, nil
	}
	return false, "", x.failure(file.Location{From: 0, To: 1}, err.Error())
}

// Value evaluates to a value: nil, bool, string, int64, float64, json.Number for an exact number, time.Time, []any, map[string]any.
// A duration is a string such as 1h30m0s. missing names the first field that was needed, or that is part of the value, and is not
// there; a field that is null is part of a value as nil and not missing.
func (x *Expr) Value(in *Input) (v any, missing string, err error) {
	r := x.begin(in)
	defer x.end(r)
	if v, err = x.eval(r); err != nil {
		return nil, "", err
	}
	v = r.export(v)
	if err := r.overspent(); err != nil {
		return nil, "", x.failure(file.Location{From: 0, To: 1}, err.Error())
	}
	return v, r.note, nil
}

// JSON evaluates to the bytes of a JSON value: compact, members in their order, numbers with their text. missing is as in Value.
func (x *Expr) JSON(in *Input) (data []byte, missing string, err error) {
	r := x.begin(in)
	defer x.end(r)
	v, err := x.eval(r)
	if err != nil {
		return nil, "", err
	}
	data = r.appendJSON(nil, v)
	if err := r.overspent(); err != nil {
		return nil, "", x.failure(file.Location{From: 0, To: 1}, err.Error())
	}
	return data, r.note, nil
}

// Scalar is Value for whoever keeps single values: an array or object is the bytes of its JSON (json.RawMessage), members in their order.
func (x *Expr) Scalar(in *Input) (v any, missing string, err error) {
	r := x.begin(in)
	defer x.end(r)
	if v, err = x.eval(r); err != nil {
		return nil, "", err
	}
	switch v.(type) {
	case []any, object:
		v = json.RawMessage(r.appendJSON(nil, v))
	default:
		v = r.export(v)
	}
	if err := r.overspent(); err != nil {
		return nil, "", x.failure(file.Location{From: 0, To: 1}, err.Error())
	}
	return v, r.note, nil
}

// render evaluates to text. A nil value is an error that names the field.
func (x *Expr) render(in *Input) (string, error) {
	r := x.begin(in)
	defer x.end(r)
	v, err := x.eval(r)
	if err != nil {
		return "", err
	}
	v = r.settle(v)
	if isNil(v) {
		name := nameOf(v)
		if name == "" {
			name = x.text.src
		}
		return "", x.failure(file.Location{From: 0, To: 1}, name+" is missing")
	}
	s, err := r.text(v)
	if err != nil {
		return "", x.failure(file.Location{From: 0, To: 1}, err.Error())
	}
	return s, nil
}

func (x *Expr) begin(in *Input) *run {
	r, _ := x.pool.Get().(*run)
	if r == nil {
		r = newRun(x)
	}
	if in == nil {
		in = &Input{}
	}
	r.in = in
	return r
}

func (x *Expr) end(r *run) {
	r.clear()
	x.pool.Put(r)
}

// eval runs the program. Its error is an *Error.
func (x *Expr) eval(r *run) (any, error) {
	if v, ok := x.short(r); ok {
		return v, nil
	}
	v, err := r.machine.Run(x.program, r)
	if err == nil {
		return v, nil
	}
	var at *file.Error
	if errors.As(err, &at) {
		return nil, x.failure(at.Location, at.Message)
	}
	return nil, x.failure(file.Location{}, err.Error())
}

// failure is the error of an evaluation. It goes into logs, dead letters and answers, so it does not quote a template, whose literal
// text may hold a secret. In an expression by itself nothing is substituted.
func (x *Expr) failure(at file.Location, problem string) *Error {
	e := x.text.fault(at, problem, "")
	if x.quiet {
		return e
	}
	e.Problem = fmt.Sprintf("%s, at %d:%d", problem, e.Line, e.Col)
	if x.text.whole == x.text.src {
		e.Problem += " of " + shorten(x.text.src)
	}
	return e
}

// text is the source of an expression: by itself, or as a part of a template that begins at a character of the whole.
type text struct {
	src   string
	whole string
	begin int // in characters
}

// fault places a problem in the whole text.
func (t text) fault(at file.Location, problem, hint string) *Error {
	e := &Error{Line: 1, Col: 1, Width: max(1, at.To-at.From), Problem: problem, Hint: hint}
	from, n := t.begin+at.From, 0
	for _, c := range t.whole {
		switch {
		case n >= from+e.Width:
			return e
		case n >= from && c == '\n': // what is marked ends with the line
			e.Width = max(1, n-from)
			return e
		case n < from:
			e.Col++
			if c == '\n' {
				e.Line++
				e.Col = 1
			}
		}
		n++
	}
	return e
}
