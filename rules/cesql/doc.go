// Package cesql evaluates CloudEvents SQL expressions, version 1.0: decisions on the context attributes of an event.
//
// A value is a string, a 32-bit integer or a boolean. Attributes are strings as they were received; extensions are integers and
// booleans where the event says so. Names and keywords may be in any case. Operators bind as in the grammar of the standard: unary
// ones first, then LIKE, EXISTS and IN, products, sums, comparisons, and at last AND, OR and XOR, which have one precedence and
// group from the right. The data of an event cannot be seen.
//
// Evaluation is total and fails fast, as the standard allows: the first error ends it. An attribute that the event lacks is an
// error wherever its value is needed, but for EXISTS; AND and OR look at their right side only where the left does not decide. Texts
// are counted in characters. A sum, a product or a negation that leaves 32 bits is an error, not a wrong number.
package cesql

import "fmt"

// maxNesting bounds how deep an expression may be, for parser and evaluation recurse.
const maxNesting = 100

// Error is a fault of the text of an expression. At and Width are in characters, from 0.
type Error struct {
	At, Width int
	Problem   string
	Hint      string
	Name      string   // what is no function
	Functions []string // those that there are, where Name is none
}

// Error returns the problem.
func (e *Error) Error() string { return e.Problem }

// MissingError is an evaluation that needed an attribute which the event lacks.
type MissingError struct{ Attribute string }

// Error names the attribute.
func (e *MissingError) Error() string { return "the attribute " + e.Attribute + " is missing" }

// CastError is a value that has no counterpart of the type that an operator or function takes.
type CastError struct{ Problem string }

// Error returns the problem.
func (e *CastError) Error() string { return e.Problem }

// MathError is a division by zero, or a result that is no 32-bit integer.
type MathError struct{ Problem string }

// Error returns the problem.
func (e *MathError) Error() string { return e.Problem }

// FunctionError is an argument that a function does not take.
type FunctionError struct{ Problem string }

// Error returns the problem.
func (e *FunctionError) Error() string { return e.Problem }

func beyond(what string) error { return &MathError{fmt.Sprintf("%s leaves 32 bits", what)} }
