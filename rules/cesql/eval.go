package cesql

import (
	"math"
	"strings"
	"unicode/utf8"

	"github.com/millrace-run/millrace/event"
)

// eval is a compiled part of an expression.
type eval func(ev *event.Event) (value, error)

func literal(v value) eval { return func(*event.Event) (value, error) { return v, nil } }

// valueOf is the value of an attribute; its error is made once, so that an event that lacks it costs no memory.
func valueOf(a attribute) eval {
	missing := &MissingError{a.name}
	return func(ev *event.Event) (value, error) {
		if v, ok := a.get(ev); ok {
			return v, nil
		}
		return boolValue(false), missing
	}
}

func exists(a attribute) eval {
	return func(ev *event.Event) (value, error) {
		_, ok := a.get(ev)
		return boolValue(ok), nil
	}
}

// as evaluates to a value of a type.
func (x eval) as(ev *event.Event, t valueType) (value, error) {
	v, err := x(ev)
	if err != nil {
		return v, err
	}
	return v.cast(t)
}

// pair evaluates two operands to values of a type.
func pair(ev *event.Event, left, right eval, t valueType) (x, y value, err error) {
	if x, err = left(ev); err != nil {
		return x, y, err
	}
	if y, err = right(ev); err != nil {
		return x, y, err
	}
	if x, err = x.cast(t); err != nil {
		return x, y, err
	}
	y, err = y.cast(t)
	return x, y, err
}

func not(x eval) eval {
	return func(ev *event.Event) (value, error) {
		v, err := x.as(ev, booleanType)
		return boolValue(err == nil && !v.yes), err
	}
}

func negated(x eval) eval {
	return func(ev *event.Event) (value, error) {
		v, err := x.as(ev, integerType)
		if err == nil && v.n == math.MinInt32 {
			err = beyond("the negation of " + v.String())
		}
		return intValue(-v.n), err
	}
}

// logical is AND, OR or XOR. AND and OR leave out the right side where the left decides.
func logical(op string, left, right eval) eval {
	return func(ev *event.Event) (value, error) {
		x, err := left.as(ev, booleanType)
		if err != nil || op == "AND" && !x.yes || op == "OR" && x.yes {
			return x, err
		}
		y, err := right.as(ev, booleanType)
		if op == "XOR" {
			y.yes = y.yes != x.yes
		}
		return y, err
	}
}

func compared(op string, left, right eval) eval {
	if op == "=" || op == "!=" || op == "<>" {
		return equal(op == "=", left, right)
	}
	return func(ev *event.Event) (value, error) {
		x, y, err := pair(ev, left, right, integerType)
		yes := false
		switch op {
		case "<":
			yes = x.n < y.n
		case "<=":
			yes = x.n <= y.n
		case ">":
			yes = x.n > y.n
		case ">=":
			yes = x.n >= y.n
		}
		return boolValue(yes && err == nil), err
	}
}

// equal compares values of the type that the right side has.
func equal(wanted bool, left, right eval) eval {
	return func(ev *event.Event) (value, error) {
		x, err := left(ev)
		if err != nil {
			return boolValue(false), err
		}
		y, err := right(ev)
		if err == nil {
			x, err = x.cast(y.is)
		}
		return boolValue(err == nil && (x == y) == wanted), err
	}
}

// within compares with values that are made of the type that the left side has.
func within(left eval, set []eval) eval {
	return func(ev *event.Event) (value, error) {
		x, err := left(ev)
		if err != nil {
			return boolValue(false), err
		}
		for _, member := range set {
			y, err := member.as(ev, x.is)
			if err != nil || x == y {
				return boolValue(err == nil), err
			}
		}
		return boolValue(false), nil
	}
}

func arithmetic(op string, left, right eval) eval {
	return func(ev *event.Event) (value, error) {
		x, y, err := pair(ev, left, right, integerType)
		if err != nil {
			return intValue(0), err
		}
		n, err := calculate(op, int64(x.n), int64(y.n))
		if err == nil && n != int64(int32(n)) {
			err = beyond(x.String() + " " + op + " " + y.String())
		}
		if err != nil {
			return intValue(0), err
		}
		return intValue(int32(n)), nil
	}
}

func calculate(op string, x, y int64) (int64, error) {
	if y == 0 && (op == "/" || op == "%") {
		return 0, &MathError{"division by zero"}
	}
	switch op {
	case "+":
		return x + y, nil
	case "-":
		return x - y, nil
	case "*":
		return x * y, nil
	case "/":
		return x / y, nil
	}
	return x % y, nil
}

// pattern is a pattern of LIKE: a character for each that is to be there, and the two below for those that may be anything.
type pattern []rune

const (
	anyOne  = -1 - iota // _
	anyMany             // %
)

// patternOf reads a pattern, in which \% and \_ are these characters themselves.
func patternOf(text string) pattern {
	var p pattern
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		i += n
		switch {
		case r == '\\' && i < len(text) && strings.IndexByte("%_", text[i]) >= 0:
			r = rune(text[i])
			i++
		case r == '%':
			r = anyMany
		case r == '_':
			r = anyOne
		}
		p = append(p, r)
	}
	return p
}

func like(x eval, p pattern) eval {
	return func(ev *event.Event) (value, error) {
		v, err := x.as(ev, stringType)
		return boolValue(err == nil && p.matches(v.text)), err
	}
}

// matches is the walk with one point of return: only the last % ever needs to take another character.
func (p pattern) matches(text string) bool {
	at, i := 0, 0
	many, resume := -1, 0
	for at < len(text) {
		r, n := utf8.DecodeRuneInString(text[at:])
		switch {
		case i < len(p) && p[i] == anyMany:
			many, resume = i, at
			i++
		case i < len(p) && (p[i] == anyOne || p[i] == r):
			i++
			at += n
		case many >= 0:
			_, n := utf8.DecodeRuneInString(text[resume:])
			resume += n
			at, i = resume, many+1
		default:
			return false
		}
	}
	for i < len(p) && p[i] == anyMany {
		i++
	}
	return i == len(p)
}
