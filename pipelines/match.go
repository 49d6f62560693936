package pipelines

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace-run/millrace/rules"
)

// The keys of a match, the tests of a member, and the dialects of a filter.
var (
	matchKeys = []string{"id", "source", "type", "subject", "datacontenttype", "dataschema", "ext.<name>", "data.<path>",
		"all", "any", "not"}
	matchTests = []string{"exact", "prefix", "suffix", "topic", "exists"}
	dialects   = []string{"exact", "prefix", "suffix", "all", "any", "not", "sql"}
)

// match reads a match: a map of members and what they must be, or a list of filters as the Subscriptions API of CloudEvents has
// them. nil: a fault was reported.
func (l *loader) match(n *node) *rules.Expr {
	if n.kind == skippedNode {
		return nil
	}
	before := l.faults
	var m rules.Match
	if n.kind == listNode {
		m = l.filters(n, "match", rules.All)
	} else {
		m = l.members(n, "match", rules.All)
	}
	if l.faults > before {
		return nil
	}
	x, err := m.Compile()
	if err != nil { // it is too long, or what is in it is
		l.fault(n, codeExpression, l.secrets.hide(fmt.Sprintf("match: %v", err)), "split it, or write when instead")
		return nil
	}
	return x
}

// members reads a map in which every key is a member or a word, and joins what they say.
func (l *loader) members(n *node, title string, join func(...rules.Match) rules.Match) (m rules.Match) {
	if n.kind != mapNode || len(n.entries) == 0 {
		l.fault(n, codeType, title+": expected a map of members and what they must be, found "+emptyOr(n),
			`such as  { type: "orders.*.created", ext.region: [eu, us] }`)
		return m
	}
	var all []rules.Match
	for _, e := range n.entries {
		if !l.repeated(n, e, title) {
			all = append(all, l.member(e))
		}
	}
	return join(all...)
}

func (l *loader) member(e entry) rules.Match {
	switch e.key.text {
	case "all":
		return l.terms(e, rules.All)
	case "any":
		return l.terms(e, rules.Any)
	case "not":
		return rules.Not(l.members(e.value, "not", rules.All))
	}
	m, err := rules.MemberOf(e.key.text)
	if err != nil {
		l.memberFault(e.key, err)
		return rules.Match{}
	}
	return l.test(m, e.key.text, e.value)
}

// memberFault reports a name that is no member.
func (l *loader) memberFault(n *node, err error) {
	if !slices.ContainsFunc([]string{"ext.", "data", "time"}, func(p string) bool { return strings.HasPrefix(n.text, p) }) {
		hint := suggest(n.text, matchKeys)
		if _, err := rules.MemberOf("ext." + n.text); err == nil {
			hint = fmt.Sprintf("an extension is written ext.%s, a member of the data data.%s; %s", n.text, n.text, hint)
		}
		l.fault(n, codeUnknownKey, fmt.Sprintf("unknown key %s in a match", quote(n.text)), hint)
		return
	}
	l.pathFault(n, err)
}

// terms reads all and any: a list of matches, or a map in which each key is one.
func (l *loader) terms(e entry, join func(...rules.Match) rules.Match) (m rules.Match) {
	if e.value.kind == mapNode {
		return l.members(e.value, e.key.text, join)
	}
	if e.value.kind != listNode || len(e.value.items) == 0 {
		l.fault(e.value, codeType, e.key.text+": expected a list of matches or a map of members, found "+emptyList(e.value), "")
		return m
	}
	all := make([]rules.Match, len(e.value.items))
	for i, it := range e.value.items {
		all[i] = l.members(it, e.key.text, rules.All)
	}
	return join(all...)
}

// test reads what a member must be: a value, a list of which one is enough, or a map of tests that must all hold.
func (l *loader) test(m rules.Member, name string, n *node) (out rules.Match) {
	switch n.kind {
	case listNode:
		return l.oneOf(m, name, n)
	case mapNode:
		return l.tests(m, name, n)
	case skippedNode:
		return out
	}
	v, ok := l.matchValue(m, name, n)
	if !ok {
		return out
	}
	if v.text != "" && isTopic(v.text) {
		return m.Topic(v.text)
	}
	if word, star := starIn(v.text); star && m.IsText() {
		problem := fmt.Sprintf("%s: * stands for a whole word between dots, and is a part of %s here", name, quote(word))
		l.fault(n, codeValue, l.secrets.hide(problem),
			"use prefix or suffix for the beginning or the end of a text, or exact if the * is meant")
	}
	return v.is(m)
}

// isTopic says whether a text is a pattern: one of the words between its dots is * or #.
func isTopic(text string) bool {
	return slices.ContainsFunc(strings.Split(text, "."), func(w string) bool { return w == "*" || w == "#" })
}

// starIn finds a word in which a * is not alone.
func starIn(text string) (string, bool) {
	for w := range strings.SplitSeq(text, ".") {
		if w != "*" && strings.Contains(w, "*") {
			return w, true
		}
	}
	return "", false
}

// oneOf reads a list: values that are compared in one go, and tests.
func (l *loader) oneOf(m rules.Member, name string, n *node) (out rules.Match) {
	if len(n.items) == 0 {
		l.fault(n, codeType, name+": expected at least one value, found an empty list", "")
		return out
	}
	var any []rules.Match
	var exact []matchValue
	seen := map[string]bool{}
	for _, it := range n.items {
		if it.kind != scalarNode || it.isNull() || isTopic(it.text) || strings.Contains(it.text, "*") {
			any = append(any, l.test(m, name, it))
			continue
		}
		v, ok := l.matchValue(m, name, it)
		if ok && seen[v.literal(m)] && !l.standIns[it] {
			l.fault(it, codeTwice, fmt.Sprintf("%s: %s is in the list twice", name, it.describe()), "remove one of them")
		}
		seen[v.literal(m)] = true
		exact = append(exact, v)
	}
	if exact != nil {
		any = append([]rules.Match{isOneOf(m, exact)}, any...)
	}
	return rules.Any(any...)
}

// tests reads a map of tests.
func (l *loader) tests(m rules.Member, name string, n *node) (out rules.Match) {
	if len(n.entries) == 0 {
		l.fault(n, codeType, name+": expected a value or tests, found an empty map", suggest("", matchTests))
		return out
	}
	var all []rules.Match
	for _, e := range n.entries {
		if l.repeated(n, e, name) {
			continue
		}
		if !slices.Contains(matchTests, e.key.text) {
			l.fault(e.key, codeUnknownKey, fmt.Sprintf("unknown key %s in the tests of %s", quote(e.key.text), name),
				suggest(e.key.text, matchTests))
			continue
		}
		all = append(all, l.namedTest(m, name, e))
	}
	if e, ok := n.find("exists"); ok && len(n.entries) > 1 {
		l.fault(e.key, codeNotHere, name+": exists has no effect beside another test, which holds only where the member is there",
			"remove it")
	}
	if len(all) == 0 {
		return out
	}
	return rules.All(all...)
}

// namedTest is one test of a map: of exists true or false, of the others a value or a list of which one is enough.
func (l *loader) namedTest(m rules.Member, name string, e entry) (out rules.Match) {
	if e.key.text == "exists" {
		if e.value.kind != scalarNode || resolve(e.value.text) != boolTag {
			l.fault(e.value, codeType, fmt.Sprintf("exists of %s: expected true or false, found %s", name, e.value.describe()), "")
			return out
		}
		return m.Exists(strings.EqualFold(e.value.text, "true"))
	}
	items := e.value.items
	if e.value.kind != listNode {
		items = []*node{e.value}
	}
	if len(items) == 0 {
		l.fault(e.value, codeType, e.key.text+": expected at least one value, found an empty list", "")
		return out
	}
	var values []matchValue
	var texts []string
	for _, it := range items {
		v, ok := l.matchValue(m, e.key.text+" of "+name, it)
		if ok && v.text == "" && e.key.text != "exact" {
			l.fault(it, codeValue, fmt.Sprintf("%s of %s: an empty text is in every text", e.key.text, name),
				"remove it, or write  exists: true")
		}
		values, texts = append(values, v), append(texts, v.text)
	}
	switch e.key.text {
	case "prefix":
		return m.Prefix(texts...)
	case "suffix":
		return m.Suffix(texts...)
	case "topic":
		return m.Topic(texts...)
	}
	return isOneOf(m, values)
}

const absentHint = "{ exists: false } finds events that do not have it"

// matchValue is a value that a member is compared with.
type matchValue struct {
	text  string
	typed bool // a number or a boolean, as the expression language writes it
}

// matchValue reads a scalar. Numbers and booleans count as such for members of the data only: attributes are texts.
func (l *loader) matchValue(m rules.Member, name string, n *node) (out matchValue, ok bool) {
	if n.kind != scalarNode || n.isNull() {
		hint := ""
		if n.isNull() {
			hint = absentHint
		}
		l.fault(n, codeType, fmt.Sprintf("%s: expected a value, found %s", name, n.describe()), hint)
		return out, false
	}
	v, ok := l.substitute(n, asIs)
	if !ok {
		return out, false
	}
	if v.unset {
		l.standIns[n] = true
	}
	out.text = v.text
	if m.IsText() {
		if v.text == "" {
			l.fault(n, codeValue, name+": an attribute is never an empty text", absentHint)
		}
		return out, v.text != ""
	}
	if n.style == plainStyle && v.text == n.text {
		return l.typedValue(name, n)
	}
	return out, true
}

func (l *loader) typedValue(name string, n *node) (matchValue, bool) {
	switch resolve(n.text) {
	case boolTag:
		return matchValue{strings.ToLower(n.text), true}, true
	case intTag:
		if i, err := parseInt(n.text); err == nil {
			return matchValue{strconv.FormatInt(i, 10), true}, true
		}
	case floatTag:
		if f, err := strconv.ParseFloat(n.text, 64); err == nil && !strings.Contains(strings.ToLower(n.text), "inf") {
			return matchValue{strconv.FormatFloat(f, 'f', -1, 64), true}, true
		}
	default:
		return matchValue{text: n.text}, true
	}
	l.fault(n, codeValue, fmt.Sprintf("%s: %s is no number that can be compared", name, n.text),
		"write when instead, or the number in quotes if it is a text")
	return matchValue{}, false
}

// literal is the value as the expression language writes it.
func (v matchValue) literal(m rules.Member) string {
	if v.typed && !m.IsText() {
		return v.text
	}
	return strconv.Quote(v.text)
}

func (v matchValue) is(m rules.Member) rules.Match { return isOneOf(m, []matchValue{v}) }

func isOneOf(m rules.Member, values []matchValue) rules.Match {
	literals, texts := make([]string, len(values)), make([]string, len(values))
	for i, v := range values {
		literals[i], texts[i] = v.literal(m), v.text
	}
	if m.IsText() {
		return m.Is(texts...)
	}
	return m.IsValue(literals...)
}

// filters reads a list of filters of the Subscriptions API.
func (l *loader) filters(n *node, title string, join func(...rules.Match) rules.Match) (m rules.Match) {
	if n.kind != listNode || len(n.items) == 0 {
		l.fault(n, codeType, title+": expected a list with at least one filter, found "+emptyList(n),
			`such as  [ { prefix: { type: "orders." } } ]`)
		return m
	}
	all := make([]rules.Match, len(n.items))
	for i, it := range n.items {
		all[i] = l.filter(it, title)
	}
	return join(all...)
}

func emptyList(n *node) string {
	if n.kind == listNode {
		return "an empty one"
	}
	return n.describe()
}

// filter reads one filter: a map whose only key is the dialect.
func (l *loader) filter(n *node, title string) (m rules.Match) {
	if n.kind == skippedNode {
		return m
	}
	if n.kind != mapNode || len(n.entries) != 1 {
		found := n.describe()
		if n.kind == mapNode {
			found = fmt.Sprintf("a map with %d keys", len(n.entries))
		}
		l.fault(n, codeType, fmt.Sprintf("%s: expected a filter with one dialect, found %s", title, found), suggest("", dialects))
		return m
	}
	switch e := n.entries[0]; e.key.text {
	case "exact", "prefix", "suffix":
		return l.attributes(e)
	case "all":
		return l.filters(e.value, "all", rules.All)
	case "any":
		return l.filters(e.value, "any", rules.Any)
	case "not":
		return rules.Not(l.filter(e.value, "not"))
	case "sql":
		if l.cesql(e.value, "sql") != nil {
			return rules.SQL(e.value.text)
		}
	default:
		hint := suggest(e.key.text, dialects)
		if _, err := rules.MemberOf(e.key.text); err == nil {
			hint = "match is a list of filters or a map of members, not both; " + hint
		}
		l.fault(e.key, codeUnknownKey, fmt.Sprintf("unknown dialect %s of a filter", quote(e.key.text)), hint)
	}
	return m
}

// attributes reads exact, prefix and suffix: attributes by their names in CloudEvents with their texts, which must all hold.
func (l *loader) attributes(e entry) (m rules.Match) {
	if e.value.kind != mapNode || len(e.value.entries) == 0 {
		l.fault(e.value, codeType, fmt.Sprintf("%s: expected a map of attributes and texts, found %s", e.key.text, emptyOr(e.value)), "")
		return m
	}
	var all []rules.Match
	for _, a := range e.value.entries {
		if l.repeated(e.value, a, e.key.text) {
			continue
		}
		member, err := rules.MemberNamed(a.key.text)
		if err != nil {
			hint := "attributes go by their names in CloudEvents, without ext; a filter sees no data"
			l.fault(a.key, codeUnknownKey, fmt.Sprintf("%s: no attribute can be called %s", e.key.text, quote(a.key.text)), hint)
			continue
		}
		if a.value.kind == scalarNode && !a.value.isNull() && a.value.style == plainStyle && resolve(a.value.text) != stringTag {
			l.fault(a.value, codeType, fmt.Sprintf("%s of %s: expected text, found %s", e.key.text, a.key.text, a.value.text),
				"put it in quotes")
			continue
		}
		v, ok := l.matchValue(member, e.key.text+" of "+a.key.text, a.value)
		switch {
		case !ok:
		case e.key.text == "exact":
			all = append(all, member.Is(v.text))
		case e.key.text == "prefix":
			all = append(all, member.Prefix(v.text))
		default:
			all = append(all, member.Suffix(v.text))
		}
	}
	if len(all) == 0 {
		return m
	}
	return rules.All(all...)
}

// cesql reads a decision in CloudEvents SQL; nil: a fault was reported.
func (l *loader) cesql(n *node, name string) *rules.Expr {
	if n.kind == skippedNode {
		return nil
	}
	if n.kind != scalarNode || n.isNull() {
		l.fault(n, codeType, name+": expected an expression in CloudEvents SQL, found "+n.describe(), `such as  "type LIKE 'orders.%'"`)
		return nil
	}
	if off, length := inExpression(n.text, false); off >= 0 {
		l.faultAt(n, n.textPlace(off), length, codeInExpression, "a ${…} is not replaced inside an expression",
			`CloudEvents SQL has no variables: write an expression with env("NAME")`)
		return nil
	}
	x, err := rules.CompileCESQL(n.text)
	if err != nil {
		l.expressionFault(value{node: n, text: n.text, parts: []part{{0, 0, true}}}, &field{name: name}, err)
		return nil
	}
	return x
}

// dialect reads a decision in another language than expressions: { cesql: … }. nil: a fault was reported.
func (l *loader) dialect(n *node, f *field) *rules.Expr {
	e, ok := n.find("cesql")
	if !ok || len(n.entries) != 1 {
		l.fault(n, codeType, f.name+": expected an expression, or cesql and nothing else, found a map",
			"put the expression in single quotes, or in a block after |; CloudEvents SQL is written  { cesql: \"…\" }")
		return nil
	}
	return l.cesql(e.value, "cesql")
}
