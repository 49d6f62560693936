package pipelines

import "fmt"

// trap is one of the ways in which YAML reads something else than people mean.
type trap uint8

const (
	noTrap      trap = iota
	trapBraces       // {{ begins a map
	trapStart        // ! * & [ and others begin something of YAML's own
	trapQuote        // more follows a closing quote
	trapHash         // # begins a comment
	trapColon        // ': ' makes a key
	trapComma        // a comma ends a value within { }
	trapBracket      // so does a bracket
)

// starts says what YAML makes of a value's first character.
var starts = map[string]string{"!": "a tag", "*": "an alias", "&": "an anchor", "[": "a list", "{": "a map", "@": "a reserved sign",
	"`": "a reserved sign"}

// words says what happened to a value of this shape at the character c, and what to do.
func (t trap) words(sh *shape, c string) (code, problem, hint string) {
	what := "value"
	switch {
	case sh.isExpression():
		what = "expression"
	case t == trapBraces || sh.isTemplate():
		what = "template"
	}
	hint = fmt.Sprintf("put the %s in single quotes (a ' in it is written twice), or in a block after |", what)
	switch t {
	case trapBraces:
		return codeTrapBraces, "YAML takes an unquoted {{ for the beginning of a map", hint
	case trapStart:
		return codeTrapStart, fmt.Sprintf("the %s begins with %s, which YAML takes for %s", what, c, starts[c]), hint
	case trapQuote:
		return codeTrapQuote, fmt.Sprintf("the %s begins with a quote, and YAML ends it at the next one: more follows here", what), hint
	case trapHash:
		return codeTrapHash, fmt.Sprintf("YAML takes ' #' for the beginning of a comment and cuts the %s here", what), hint
	case trapColon:
		return codeTrapColon, fmt.Sprintf("the %s contains ': ', which YAML takes for the end of a key", what), hint
	case trapComma:
		return codeTrapFlow, fmt.Sprintf("within { }, YAML takes %s for the end of the %s and cuts it here", c, what),
			fmt.Sprintf("put the %s in single quotes, or write the map over several lines without { }", what)
	default:
		return codeTrapFlow, fmt.Sprintf("within { } or [ ], YAML takes %s for the beginning of another value", c),
			fmt.Sprintf("put the %s in quotes", what)
	}
}
