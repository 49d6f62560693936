package pipelines

// MatchForm is one way to write a match, with the expression that it is.
type MatchForm struct{ Write, Means, Expression string }

// matchForms are all ways to write a match, for people to read. What they come to is said by the loader.
var matchForms = []MatchForm{
	{Write: `type: shop.order.created`, Means: "is this text: a direct exchange"},
	{Write: `type: [shop.order.created, shop.order.paid]`, Means: "is one of them: several bindings"},
	{Write: `type: "shop.*.created"`, Means: "matches the pattern, as `*` or `#` is a word of it: a topic exchange"},
	{Write: `type: [shop.order.created, "shop.invoice.#"]`, Means: "is one of them or matches one"},
	{Write: `type: { exact: "a.*" }`, Means: "is this text, of which nothing is a pattern"},
	{Write: `source: { prefix: /shops/ }`, Means: "begins with it; `[a, b]`: with one of them"},
	{Write: `subject: { suffix: .pdf }`, Means: "ends with it; `[a, b]`: with one of them"},
	{Write: `source: { prefix: /shops/, suffix: /eu }`, Means: "passes all the tests"},
	{Write: `ext.region: [eu, us]`, Means: "an extension is one of them: a headers exchange"},
	{Write: `ext.count: 5`, Means: "has this text, be it a number for the event or not"},
	{Write: `ext.trace: { exists: true }`, Means: "is there; `false`: is not"},
	{Write: `data.country: de`, Means: "a member of the data is this"},
	{Write: `data.total: [5, "5"]`, Means: "in data, a number and a text are not the same"},
	{Write: `{ type: a, ext.region: eu }`, Means: "all members are so: `x-match: all`"},
	{Write: `any: { ext.region: eu, ext.vip: true }`, Means: "one member is so: `x-match: any`"},
	{Write: `any: [ { type: a, subject: x }, { type: b } ]`, Means: "one of the matches holds"},
	{Write: `all: [ { any: { type: a, subject: x } }, { any: { type: b, subject: y } } ]`, Means: "each of the matches holds"},
	{Write: `not: { type: a, subject: x }`, Means: "the match does not hold"},
	{Write: `[ { exact: { type: a, region: eu } } ]`, Means: "filters of CloudEvents: attributes by their names there; all must hold"},
	{Write: `[ { prefix: { type: a } }, { suffix: { source: z } } ]`, Means: "begin and end with it"},
	{Write: `[ { any: [ { exact: { type: a } }, { not: { exact: { type: b } } } ] } ]`, Means: "`any`, `all` and `not` of filters"},
	{Write: `[ { sql: "type LIKE 'a.%'" } ]`, Means: "CloudEvents SQL; what fails is no"},
}

// MatchForms returns every way to write a match. What begins with neither { nor [ is a member of a map.
func MatchForms() []MatchForm {
	forms := make([]MatchForm, len(matchForms))
	for i, f := range matchForms {
		f.Expression = matchSource(f.Write)
		forms[i] = f
	}
	return forms
}

// matchSource is the expression that a match is; empty where it is none.
func matchSource(write string) string {
	if write[0] != '{' && write[0] != '[' {
		write = "{ " + write + " }"
	}
	src, fault := newSource("match", []byte("match: "+write+"\n"))
	if fault != nil {
		return ""
	}
	root, faults := tree(src, src.text, nil)
	if len(faults) > 0 || root == nil || root.kind != mapNode {
		return ""
	}
	x := newLoader(Options{}).match(root.entries[0].value)
	if x == nil {
		return ""
	}
	return x.String()
}
