package cesql

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace-run/millrace/event"
)

// Program is a compiled expression. It is safe for concurrent use.
type Program struct {
	src string
	run eval
}

// Compile checks and compiles an expression. Its error is an *Error.
func Compile(src string) (*Program, error) {
	tokens, err := lex(src)
	if err != nil {
		return nil, err
	}
	p := &parser{src: src, tokens: tokens}
	run, err := p.expression(0)
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != end {
		return nil, p.fault(t, fmt.Sprintf("%s does not belong here", p.shown(t)), "the expression is complete before it")
	}
	return &Program{src, run}, nil
}

// String returns the source text.
func (p *Program) String() string { return p.src }

// Bool evaluates to a decision: the value as a boolean. The error is one of those of this package.
func (p *Program) Bool(ev *event.Event) (bool, error) {
	v, err := p.run(ev)
	if err == nil {
		v, err = v.cast(booleanType)
	}
	return err == nil && v.yes, err
}

type parser struct {
	src    string
	tokens []token
	at     int
	depth  int
}

func (p *parser) peek() token { return p.tokens[p.at] }

// take returns the next token and goes on; at the end it stays.
func (p *parser) take() token {
	t := p.tokens[p.at]
	if t.kind != end {
		p.at++
	}
	return t
}

// is says whether the next token is this word or sign, and passes it if so.
func (p *parser) is(text string) bool {
	t := p.peek()
	if (t.kind != word && t.kind != sign) || t.text != text {
		return false
	}
	p.at++
	return true
}

func (p *parser) expect(text string) error {
	if t := p.peek(); !p.is(text) {
		return p.fault(t, fmt.Sprintf("expected %s, found %s", text, p.shown(t)), "")
	}
	return nil
}

func (p *parser) shown(t token) string {
	if t.kind == end {
		return t.text
	}
	return p.src[t.from:t.to]
}

func (p *parser) fault(t token, problem, hint string) *Error {
	return faultAt(p.src, t.from, t.to, problem, hint)
}

// The precedences, from loose to tight.
const (
	logic = iota + 1
	comparison
	sum
	product
	test // LIKE and IN
	unary
)

var precedence = map[string]int{
	"AND": logic, "OR": logic, "XOR": logic, "=": comparison, "!=": comparison, "<>": comparison, "<": comparison, "<=": comparison,
	">": comparison, ">=": comparison, "+": sum, "-": sum, "*": product, "/": product, "%": product,
	"LIKE": test, "IN": test, "NOT": test,
}

// expression reads operands and the operators between them that bind at least as tightly as least.
func (p *parser) expression(least int) (eval, error) {
	if p.depth++; p.depth > maxNesting {
		return nil, p.fault(p.peek(), fmt.Sprintf("the expression is nested more than %d deep", maxNesting), "")
	}
	defer func() { p.depth-- }()
	left, err := p.operand()
	for err == nil {
		t := p.peek()
		binds := precedence[t.text]
		if (t.kind != word && t.kind != sign) || binds == 0 || binds < least {
			return left, nil
		}
		p.take()
		left, err = p.operator(left, t, binds)
	}
	return nil, err
}

func (p *parser) operator(left eval, t token, binds int) (eval, error) {
	if binds == test {
		return p.test(left, t)
	}
	next := binds + 1
	if binds == logic { // groups from the right
		next = binds
	}
	right, err := p.expression(next)
	if err != nil {
		return nil, err
	}
	switch binds {
	case logic:
		return logical(t.text, left, right), nil
	case comparison:
		return compared(t.text, left, right), nil
	}
	return arithmetic(t.text, left, right), nil
}

// test reads what follows LIKE, IN, NOT LIKE and NOT IN.
func (p *parser) test(left eval, t token) (run eval, err error) {
	negated := t.text == "NOT"
	if negated {
		t = p.take()
	}
	switch {
	case t.kind == word && t.text == "LIKE":
		pattern := p.take()
		if pattern.kind != quoted {
			return nil, p.fault(pattern, "LIKE is followed by a pattern in quotes, not by "+p.shown(pattern), "")
		}
		run = like(left, patternOf(pattern.text))
	case t.kind == word && t.text == "IN":
		if err := p.expect("("); err != nil {
			return nil, err
		}
		set, err := p.list()
		if err != nil {
			return nil, err
		}
		run = within(left, set)
	default:
		return nil, p.fault(t, "NOT is followed by LIKE or IN here, not by "+p.shown(t), "")
	}
	if negated {
		run = not(run)
	}
	return run, nil
}

// list reads expressions with commas between them, to behind the closing bracket.
func (p *parser) list() ([]eval, error) {
	var all []eval
	for {
		x, err := p.expression(0)
		if err != nil {
			return nil, err
		}
		all = append(all, x)
		if p.is(",") {
			continue
		}
		return all, p.expect(")")
	}
}

func (p *parser) operand() (eval, error) {
	t := p.take()
	switch t.kind {
	case quoted:
		return literal(textValue(t.text)), nil
	case number:
		return p.integer(t, t.text)
	case sign:
		return p.signed(t)
	case word:
		return p.word(t)
	}
	return nil, p.fault(t, "an expression is missing here", "")
}

func (p *parser) integer(t token, text string) (eval, error) {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return nil, p.fault(t, text+" is no 32-bit integer", "integers of CESQL go from -2147483648 to 2147483647")
	}
	return literal(intValue(int32(n))), nil
}

// signed reads what begins with a bracket or a sign. A sign right before digits is a part of the number.
func (p *parser) signed(t token) (eval, error) {
	digits := p.peek()
	joined := digits.kind == number && digits.from == t.to
	switch {
	case t.text == "(":
		x, err := p.expression(0)
		if err != nil {
			return nil, err
		}
		return x, p.expect(")")
	case (t.text == "-" || t.text == "+") && joined:
		return p.integer(token{number, "", t.from, digits.to}, t.text+p.take().text)
	case t.text == "-":
		x, err := p.expression(unary)
		if err != nil {
			return nil, err
		}
		return negated(x), nil
	}
	return nil, p.fault(t, "an expression is missing before "+t.text, "")
}

func (p *parser) word(t token) (eval, error) {
	switch t.text {
	case "TRUE", "FALSE":
		return literal(boolValue(t.text == "TRUE")), nil
	case "NOT":
		x, err := p.expression(unary)
		if err != nil {
			return nil, err
		}
		return not(x), nil
	case "EXISTS":
		name := p.take()
		a, err := p.attribute(name)
		return exists(a), err
	case "AND", "OR", "XOR", "LIKE", "IN":
		return nil, p.fault(t, "an expression is missing before "+p.shown(t), "")
	}
	if p.is("(") {
		return p.call(t)
	}
	a, err := p.attribute(t)
	return valueOf(a), err
}

// attribute is a name of the event. Every name of an extension is valid, since nobody knows what events will have.
func (p *parser) attribute(t token) (attribute, error) {
	name := strings.ToLower(t.text)
	switch {
	case t.kind != word && t.kind != number:
		return attribute{}, p.fault(t, "expected the name of an attribute, found "+p.shown(t), "")
	case strings.Contains(name, "_"):
		return attribute{}, p.fault(t, fmt.Sprintf("no attribute can be called %s", p.shown(t)), "names have only letters and digits")
	case name == "data":
		return attribute{}, p.fault(t, "CESQL sees the attributes of an event, not its data", "an expression without cesql sees both")
	}
	return attributeOf(name), nil
}

func (p *parser) call(t token) (eval, error) {
	var args []eval
	if !p.is(")") {
		var err error
		if args, err = p.list(); err != nil {
			return nil, err
		}
	}
	var known []string
	for _, f := range functions[t.text] {
		if len(args) == len(f.takes) || f.more && len(args) >= len(f.takes) {
			return called(f, args), nil
		}
		known = append(known, f.arity())
	}
	if known != nil {
		return nil, p.fault(t, fmt.Sprintf("%s takes %s, not %d", t.text, strings.Join(known, " or "), len(args)), "")
	}
	err := p.fault(t, "unknown function "+p.shown(t), "")
	err.Name, err.Functions = t.text, slices.Sorted(maps.Keys(functions))
	return nil, err
}
