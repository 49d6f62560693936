package pipelines

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

// TestMatchForms holds what every form of a match comes to.
func TestMatchForms(t *testing.T) {
	want := []string{
		`type == "shop.order.created"`,
		`type in ["shop.order.created", "shop.order.paid"]`,
		`topic(type, "shop.*.created")`,
		`type == "shop.order.created" || topic(type, "shop.invoice.#")`,
		`type == "a.*"`,
		`source startsWith "/shops/"`,
		`subject != nil && subject endsWith ".pdf"`,
		`source startsWith "/shops/" && source endsWith "/eu"`,
		`ext.region != nil && ext.region in ["eu", "us"]`,
		`ext.count != nil && string(ext.count) == "5"`,
		`ext.trace != nil`,
		`data.country != nil && data.country == "de"`,
		`data.total != nil && data.total in [5, "5"]`,
		`type == "a" && ext.region != nil && ext.region == "eu"`,
		`(ext.region != nil && ext.region == "eu") || (ext.vip != nil && string(ext.vip) == "true")`,
		`(type == "a" && subject != nil && subject == "x") || type == "b"`,
		`(type == "a" || (subject != nil && subject == "x")) && (type == "b" || (subject != nil && subject == "y"))`,
		`not (type == "a" && subject != nil && subject == "x")`,
		`type == "a" && ext.region != nil && ext.region == "eu"`,
		`type startsWith "a" && source endsWith "z"`,
		`type == "a" || not (type == "b")`,
		`cesql("type LIKE 'a.%'", false)`,
	}
	for i, f := range MatchForms() {
		if f.Expression != want[i] {
			t.Errorf("%s\n is %s\nnot %s", f.Write, f.Expression, want[i])
		}
	}
	for write, want := range map[string]string{
		`[ { prefix: { time: "2026-" } }, { exact: { specversion: "1.0" } } ]`: `cesql("time LIKE '2026-%'", false) && cesql("specversion LIKE '1.0'", false)`,
		`[ { exact: { time: "it's" } } ]`:                                      `false`,
		`[ { suffix: { count: "5" } } ]`:                                       `ext.count != nil && string(ext.count) endsWith "5"`,
		`'data.items[0].sku': "a.#"`:                                           `data.items[0].sku != nil && topic(string(data.items[0].sku), "a.#")`,
		`'data["a-b"]': { prefix: [x, y] }`:                                    `data["a-b"] != nil && (string(data["a-b"]) startsWith "x" || string(data["a-b"]) startsWith "y")`,
		`data.n: -1.50`:                                                        `data.n != nil && data.n == -1.5`,
		`data.n: 0x10`:                                                         `data.n != nil && data.n == 16`,
		`data.b: TRUE`:                                                         `data.b != nil && data.b == true`,
		`data.s: ""`:                                                           `data.s != nil && data.s == ""`,
		`subject: 42`:                                                          `subject != nil && subject == "42"`,
		`subject: issue#12`:                                                    `subject != nil && subject == "issue#12"`,
		`subject: ['"', 'é\n']`:                                                `subject != nil && subject in ["\"", "é\\n"]`,
		`ext.a: [{ exists: false }, x]`:                                        `(ext.a != nil && ext.a == "x") || ext.a == nil`,
	} {
		if got := matchSource(write); got != want {
			t.Errorf("%s\n is %s\nnot %s", write, got, want)
		}
	}
}

// oracle is a match as a person would evaluate it: without expressions, on an event whose members are texts, missing, or numbers in
// data.
type oracle func(ev *oracleEvent) bool

type oracleEvent struct {
	texts map[string]string // type, subject, ext.a, ext.n, data.s
	n     int               // data.n; -1 is missing
}

func (o *oracleEvent) event() *event.Event {
	ev := &event.Event{ID: "1", Source: "/s", Type: o.texts["type"], Subject: o.texts["subject"], DataContentType: "application/json"}
	if s, ok := o.texts["ext.a"]; ok {
		ev.SetExtension(event.Extension{Name: "a", Text: s})
	}
	if s, ok := o.texts["ext.n"]; ok {
		ev.SetExtension(event.Extension{Name: "n", Text: s, Kind: event.Integer})
	}
	var members []string
	if s, ok := o.texts["data.s"]; ok {
		members = append(members, `"s":`+strconv.Quote(s))
	}
	if o.n >= 0 {
		members = append(members, fmt.Sprintf(`"n":%d`, o.n))
	}
	ev.Data = []byte("{" + strings.Join(members, ",") + "}")
	return ev
}

var oracleTexts = []string{"a", "b", "a.b", "a.b.c", "b.c", "x.a", "aa"}

func drawOracleEvent(t *rapid.T) *oracleEvent {
	o := &oracleEvent{texts: map[string]string{"type": rapid.SampledFrom(oracleTexts).Draw(t, "type")}, n: rapid.IntRange(-1, 3).Draw(t, "n")}
	for _, name := range []string{"subject", "ext.a", "data.s"} {
		if rapid.Bool().Draw(t, name+" is there") {
			o.texts[name] = rapid.SampledFrom(oracleTexts).Draw(t, name)
		}
	}
	if rapid.Bool().Draw(t, "ext.n is there") {
		o.texts["ext.n"] = strconv.Itoa(rapid.IntRange(0, 12).Draw(t, "ext.n"))
	}
	return o
}

// topicOracle says by trying everything whether words match a pattern.
func topicOracle(words, pattern []string) bool {
	switch {
	case len(pattern) == 0:
		return len(words) == 0
	case pattern[0] == "#":
		return topicOracle(words, pattern[1:]) || len(words) > 0 && topicOracle(words[1:], pattern)
	}
	return len(words) > 0 && (pattern[0] == "*" || pattern[0] == words[0]) && topicOracle(words[1:], pattern[1:])
}

func oneText(name string, holds func(s string) bool) oracle {
	return func(ev *oracleEvent) bool {
		s, ok := ev.texts[name]
		return ok && holds(s)
	}
}

// drawTest is a test of a member as the file writes it.
func drawTest(t *rapid.T, name string) (string, oracle) {
	s := rapid.SampledFrom(oracleTexts).Draw(t, "value")
	if name == "ext.n" {
		s = strconv.Itoa(rapid.IntRange(0, 12).Draw(t, "value"))
	}
	p := rapid.SampledFrom([]string{"#", "*", "a.*", "*.b.#", "#.c", "a.#.c"}).Draw(t, "pattern")
	matches := oneText(name, func(v string) bool { return topicOracle(strings.Split(v, "."), strings.Split(p, ".")) })
	is := oneText(name, func(v string) bool { return v == s })
	switch rapid.IntRange(0, 7).Draw(t, "test") {
	case 0:
		return strconv.Quote(s), is
	case 1:
		return strconv.Quote(p), matches
	case 2:
		return fmt.Sprintf("[%q, %q]", s, p), func(ev *oracleEvent) bool { return is(ev) || matches(ev) }
	case 3:
		return fmt.Sprintf("{ prefix: %q }", s), oneText(name, func(v string) bool { return strings.HasPrefix(v, s) })
	case 4:
		return fmt.Sprintf("{ suffix: [%q, zz] }", s), oneText(name, func(v string) bool { return strings.HasSuffix(v, s) })
	case 5:
		return fmt.Sprintf("{ exact: [%q, zz], topic: %q }", s, p), func(ev *oracleEvent) bool { return is(ev) && matches(ev) }
	case 6:
		return "{ exists: false }", func(ev *oracleEvent) bool { _, ok := ev.texts[name]; return !ok }
	}
	return "{ exists: true }", func(ev *oracleEvent) bool { _, ok := ev.texts[name]; return ok }
}

// drawMatch is a match and what it means.
func drawMatch(t *rapid.T, depth int) (string, oracle) {
	var parts []string
	var all []oracle
	add := func(part string, o oracle) { parts, all = append(parts, part), append(all, o) }
	for _, name := range []string{"type", "subject", "ext.a", "ext.n", "data.s"} {
		if rapid.IntRange(0, 3).Draw(t, "has "+name) == 0 {
			test, o := drawTest(t, name)
			add(name+": "+test, o)
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "has data.n") == 0 {
		n := rapid.IntRange(0, 3).Draw(t, "data.n")
		add(fmt.Sprintf("data.n: %d", n), func(ev *oracleEvent) bool { return ev.n == n })
	}
	if depth > 0 && rapid.Bool().Draw(t, "nested") || len(parts) == 0 {
		one, x := drawLeaf(t, depth)
		two, y := drawLeaf(t, depth)
		switch rapid.IntRange(0, 2).Draw(t, "word") {
		case 0:
			add("any: ["+one+", "+two+"]", func(ev *oracleEvent) bool { return x(ev) || y(ev) })
		case 1:
			add("all: ["+one+", "+two+"]", func(ev *oracleEvent) bool { return x(ev) && y(ev) })
		default:
			add("not: "+one, func(ev *oracleEvent) bool { return !x(ev) })
		}
	}
	return "{ " + strings.Join(parts, ", ") + " }", func(ev *oracleEvent) bool {
		return !slices.ContainsFunc(all, func(o oracle) bool { return !o(ev) })
	}
}

func drawLeaf(t *rapid.T, depth int) (string, oracle) {
	if depth > 0 {
		return drawMatch(t, depth-1)
	}
	test, o := drawTest(t, "ext.a")
	return "{ ext.a: " + test + " }", o
}

// drawFilter is a filter of the Subscriptions API and what the specification says of it.
func drawFilter(t *rapid.T, depth int) (string, oracle) {
	if depth > 0 && rapid.Bool().Draw(t, "nested") {
		one, x := drawFilter(t, depth-1)
		two, y := drawFilter(t, depth-1)
		switch rapid.IntRange(0, 2).Draw(t, "word") {
		case 0:
			return "{ any: [" + one + ", " + two + "] }", func(ev *oracleEvent) bool { return x(ev) || y(ev) }
		case 1:
			return "{ all: [" + one + ", " + two + "] }", func(ev *oracleEvent) bool { return x(ev) && y(ev) }
		}
		return "{ not: " + one + " }", func(ev *oracleEvent) bool { return !x(ev) }
	}
	name := rapid.SampledFrom([]string{"type", "subject", "a", "n"}).Draw(t, "attribute")
	member := map[string]string{"type": "type", "subject": "subject", "a": "ext.a", "n": "ext.n"}[name]
	s := rapid.SampledFrom(append(slices.Clone(oracleTexts), "1", "12")).Draw(t, "value")
	switch rapid.IntRange(0, 3).Draw(t, "dialect") {
	case 0:
		return fmt.Sprintf("{ exact: { %s: %q } }", name, s), oneText(member, func(v string) bool { return v == s })
	case 1:
		return fmt.Sprintf("{ prefix: { %s: %q } }", name, s), oneText(member, func(v string) bool { return strings.HasPrefix(v, s) })
	case 2:
		return fmt.Sprintf("{ suffix: { %s: %q } }", name, s), oneText(member, func(v string) bool { return strings.HasSuffix(v, s) })
	}
	return fmt.Sprintf(`{ sql: "%s = '%s'" }`, name, s), oneText(member, func(v string) bool { return v == s })
}

// TestMatchMeans holds that a match is its expression, that both are what the words say, on any event, and that an event which lacks
// what is looked for is an ordinary no: nothing is missing and nothing fails.
func TestMatchMeans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		write, means := drawMatch(t, rapid.IntRange(0, 2).Draw(t, "depth"))
		if rapid.IntRange(0, 3).Draw(t, "filters") == 0 {
			filter, o := drawFilter(t, 2)
			write, means = "[ "+filter+" ]", o
		}
		text := "pipelines: { p: { source: { tick: {} }, stages: [ { match: " + write + " } ], " +
			"sinks: { s: { match: " + write + ", storage: { path: a } } } } }\n"
		plan, faults := Parse([]File{{Name: "x.yaml", Data: []byte(text)}}, testOptions())
		if plan == nil {
			t.Fatalf("%s\n%s", write, Format(faults))
		}
		p := plan.Pipelines[0]
		same, err := rules.Compile(p.Sinks[0].When.String(), rules.Options{Decision: true})
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			o := drawOracleEvent(t)
			ev := o.event()
			want := means(o)
			for name, x := range map[string]*rules.Expr{"match": p.Sinks[0].When, "its expression": same} {
				if ok, missing, err := x.Bool(&rules.Input{Event: ev}); ok != want || missing != "" || err != nil {
					t.Fatalf("%s\n%s: %s of %+v is %v, %q, %v, not %v", write, name, x, o, ok, missing, err, want)
				}
			}
			if keep, _, err := p.Stages[0].Op.Apply(ev); keep != want || err != nil {
				t.Fatalf("the stage %s keeps %+v: %v, %v", write, o, keep, err)
			}
		}
	})
}

// What cannot be known when the file is checked is not judged, and values from the environment are texts.
func TestMatchSubstitution(t *testing.T) {
	text := "pipelines: { p: { source: { tick: {} }, sinks: { s: { match: { type: 'a.${REST:-b}', data.zip: '${ZIP:-01234}' }, storage: { path: a } } } } }\n"
	plan, faults := Parse([]File{{Name: "x.yaml", Data: []byte(text)}}, testOptions())
	if plan == nil {
		t.Fatal(Format(faults))
	}
	if got := plan.Pipelines[0].Sinks[0].When.String(); got != `type == "a.b" && data.zip != nil && data.zip == "01234"` {
		t.Error(got)
	}
	o := testOptions()
	o.AllowUnset = true
	text = "pipelines: { p: { source: { tick: {} }, sinks: { s: { match: { type: '${NOPE}', subject: ['${NOPE}', '${NOPE2}'] }, storage: { path: a } } } } }\n"
	if plan, faults = Parse([]File{{Name: "x.yaml", Data: []byte(text)}}, o); plan == nil {
		t.Error(Format(faults))
	}
}

// FuzzMatch writes anything as a match: it is an expression, or a fault is told.
func FuzzMatch(f *testing.F) {
	for _, form := range matchForms {
		f.Add(form.Write)
	}
	f.Add(`{ data["x: { any: {`)
	f.Fuzz(func(t *testing.T, write string) {
		text := "pipelines:\n  p:\n    source: { tick: {} }\n    sinks:\n      s:\n        storage: { path: a }\n        match: " + write + "\n"
		plan, faults := Parse([]File{{Name: "x.yaml", Data: []byte(text)}}, testOptions())
		if (plan == nil) != Faults(faults) {
			t.Fatalf("%s\n%s", text, Format(faults))
		}
		if plan == nil || len(plan.Pipelines) != 1 || len(plan.Pipelines[0].Sinks) != 1 || plan.Pipelines[0].Sinks[0].When == nil {
			return
		}
		o := oracleEvent{texts: map[string]string{"type": "a"}, n: 1}
		if _, missing, err := plan.Pipelines[0].Sinks[0].When.Bool(&rules.Input{Event: o.event()}); plan.Pipelines[0].Sinks[0].Match && (missing != "" || err != nil) {
			t.Fatalf("%s: %q, %v", write, missing, err)
		}
	})
}
