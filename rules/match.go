package rules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Match is a decision that is put together from tests of members: what a file writes as match. It is an expression, and reads as
// one. A member that is not there passes no test but that for its absence, and is not counted as a missing field: that an event
// lacks what one sink looks for is how events are told apart.
type Match struct {
	src   string
	joins string // && or ||, of what is joined; empty for what stands by itself
}

// Compile returns the expression. Its error is an *Error about the expression, not about what it was made of. What fails later does
// not quote the expression: the file has another text for it, and values in it may have come from the environment.
func (m Match) Compile() (*Expr, error) {
	x, err := Compile(m.src, Options{Decision: true})
	if err == nil {
		x.quiet = true
	}
	return x, err
}

// String is the source of the expression.
func (m Match) String() string { return m.src }

// All holds where every one of the matches does. There is at least one.
func All(of ...Match) Match { return join("&&", of) }

// Any holds where one of the matches does. There is at least one.
func Any(of ...Match) Match { return join("||", of) }

// Not holds where the match does not.
func Not(of Match) Match { return Match{src: "not (" + of.src + ")"} }

// SQL holds where a decision in CloudEvents SQL is true; where its evaluation fails it is false. src is known to compile.
func SQL(src string) Match { return Match{src: fmt.Sprintf("cesql(%s, false)", strconv.Quote(src))} }

func join(by string, of []Match) Match {
	if len(of) == 1 {
		return of[0]
	}
	terms := make([]string, len(of))
	for i, m := range of {
		terms[i] = m.src
		if m.joins != "" && m.joins != by {
			terms[i] = "(" + m.src + ")"
		}
	}
	return Match{strings.Join(terms, " "+by+" "), by}
}

// Member is a member of events that a match looks at.
type Member struct {
	path string
	kind memberKind
}

type memberKind uint8

const (
	ownText   memberKind = iota // an attribute that every event has
	maybeText                   // one that may be missing
	typedText                   // an extension, which is text unless the event says otherwise
	anyValue                    // a member of the data
	textOnly                    // time and specversion, which only CloudEvents SQL has as text
)

// MemberOf is the member with a path as expressions write it: type, subject, ext.region, data.customer.id. Its error is an *Error
// about the path.
func MemberOf(path string) (Member, error) {
	t, err := parseTarget(path)
	switch {
	case err != nil:
		return Member{}, err
	case t.whole:
		return Member{}, pathFault(path, "a match looks at one member of the data", "such as data.country")
	case t.extension != "":
		return Member{path, typedText}, nil
	case t.attribute == nil:
		return Member{path, anyValue}, nil
	case *t.attribute == attrTime:
		return Member{}, pathFault(path, "a time is compared by when, not by match", `such as  when: time > date("2026-01-02")`)
	case t.attribute.required():
		return Member{path, ownText}, nil
	}
	return Member{path, maybeText}, nil
}

// MemberNamed is the attribute with the name that CloudEvents gives it, such as region for ext.region.
func MemberNamed(name string) (Member, error) {
	if name == attrTime.String() || name == "specversion" {
		return Member{name, textOnly}, nil
	}
	if _, ok := attributeOf(name); !ok || name == attrReceived.String() {
		if !validExtensionName(name) {
			return Member{}, pathFault(name, "no attribute can be called so", "names have only lower-case letters and digits")
		}
		name = "ext." + name
	}
	return MemberOf(name)
}

// IsText says whether the values of the member are texts, whatever they look like.
func (m Member) IsText() bool { return m.kind != anyValue }

// Is holds where the member is one of the texts.
func (m Member) Is(texts ...string) Match {
	values := make([]string, len(texts))
	for i, s := range texts {
		values[i] = strconv.Quote(s)
	}
	if m.kind == textOnly {
		return m.like(texts, "", "")
	}
	left := m.path
	if m.kind == typedText && slices.ContainsFunc(texts, looksTyped) {
		left = m.text()
	}
	return m.equal(left, values)
}

// IsValue holds where a member of the data is one of the values, which are literals of the expression language.
func (m Member) IsValue(literals ...string) Match { return m.equal(m.path, literals) }

func (m Member) equal(left string, values []string) Match {
	if len(values) == 1 {
		return m.guarded(left + " == " + values[0])
	}
	return m.guarded(left + " in [" + strings.Join(values, ", ") + "]")
}

// looksTyped says whether an extension with this text might be a number or a boolean for the event.
func looksTyped(text string) bool {
	_, whole := wholeOf(text)
	return whole || text == "true" || text == "false"
}

// Topic holds where the text of the member matches one of the patterns, whose words are separated by dots.
func (m Member) Topic(patterns ...string) Match {
	return m.any(patterns, func(p string) string { return fmt.Sprintf("topic(%s, %s)", m.text(), strconv.Quote(p)) })
}

// Prefix holds where the text of the member begins with one of the texts.
func (m Member) Prefix(texts ...string) Match {
	if m.kind == textOnly {
		return m.like(texts, "", "%")
	}
	return m.any(texts, func(s string) string { return m.text() + " startsWith " + strconv.Quote(s) })
}

// Suffix holds where the text of the member ends with one of the texts.
func (m Member) Suffix(texts ...string) Match {
	if m.kind == textOnly {
		return m.like(texts, "%", "")
	}
	return m.any(texts, func(s string) string { return m.text() + " endsWith " + strconv.Quote(s) })
}

// Exists holds where the member is there, or where it is not. null is not there.
func (m Member) Exists(there bool) Match {
	if there {
		return Match{src: m.path + " != nil"}
	}
	return Match{src: m.path + " == nil"}
}

// like is a test in CloudEvents SQL, in which times are texts. Neither of the members that need it ever has a quote or a backslash.
func (m Member) like(texts []string, before, after string) Match {
	var tests []Match
	for _, s := range texts {
		if !strings.ContainsAny(s, `'\`) {
			s = strings.NewReplacer("%", `\%`, "_", `\_`).Replace(s)
			tests = append(tests, SQL(m.path+" LIKE '"+before+s+after+"'"))
		}
	}
	if tests == nil {
		return Match{src: "false"}
	}
	return Any(tests...)
}

func (m Member) any(texts []string, test func(string) string) Match {
	tests := make([]Match, len(texts))
	for i, s := range texts {
		tests[i] = Match{src: test(s)}
	}
	if m.kind == ownText {
		return Any(tests...)
	}
	return All(m.Exists(true), Any(tests...))
}

// text is the member as a text.
func (m Member) text() string {
	if m.kind == typedText || m.kind == anyValue {
		return "string(" + m.path + ")"
	}
	return m.path
}

// guarded holds only where the member is there, so that its absence is a plain no.
func (m Member) guarded(test string) Match {
	if m.kind == ownText {
		return Match{src: test}
	}
	return All(m.Exists(true), Match{src: test})
}
