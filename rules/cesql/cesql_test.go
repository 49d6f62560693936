package cesql

import (
	"errors"
	"strings"
	"testing"

	"github.com/millrace-run/millrace/event"
)

// sample is an event with each kind of attribute.
func sample() *event.Event {
	ev := &event.Event{ID: "e-1", Source: "https://example.com/shop", Type: "shop.order.created", Subject: "o-7",
		Time: "2018-04-26T14:48:09+02:00"}
	for _, x := range []event.Extension{
		{Name: "region", Text: "eu"}, {Name: "hop", Text: "5"}, {Name: "ttl", Text: "10"},
		{Name: "flag", Text: "true", Kind: event.Boolean},
		{Name: "count", Text: "10", Kind: event.Integer}, {Name: "odd", Text: `abc123123%456_dzf`}, {Name: "word", Text: "größer"},
	} {
		ev.SetExtension(x)
	}
	return ev
}

// TestConformance holds what the standard says, by its tables and examples and by the cases of its conformance suite in our words.
func TestConformance(t *testing.T) {
	const missing, cast, math, function = "missing", "cast", "math", "function"
	for _, c := range []struct {
		src  string
		want any // bool, int, string; nil where the error is all that counts
		err  string
	}{
		// Literals and case.
		{"TRUE", true, ""}, {"fAlSe", false, ""}, {"0", 0, ""}, {"-1", -1, ""}, {"+3", 3, ""}, {"'abc'", "abc", ""},
		{`"AbC"`, "AbC", ""},
		{`'a"b\'c'`, `a"b'c`, ""}, {`"a'b\"c"`, `a'b"c`, ""}, {`'a\b'`, `a\b`, ""}, {"''", "", ""}, {"-2147483648", -2147483648, ""},
		// Attributes.
		{"id", "e-1", ""}, {"SUBJECT", "o-7", ""}, {"source", "https://example.com/shop", ""},
		{"time", "2018-04-26T14:48:09+02:00", ""},
		{"specversion", "1.0", ""}, {"flag", true, ""}, {"count", 10, ""}, {"region", "eu", ""}, {"dataschema", nil, missing},
		{"nothere", nil, missing},
		// NOT, - and brackets.
		{"NOT TRUE", false, ""}, {"NOT 'FALSE'", true, ""}, {"NOT 10", false, ""}, {"NOT 0", true, ""}, {"NOT nothere", nil, missing},
		{"NOT 'x'", nil, cast}, {"--10", 10, ""}, {"-'10'", -10, ""}, {"--'10'", 10, ""}, {"-TRUE", -1, ""},
		{"-nothere", nil, missing},
		{"4 * (2 + 3)", 20, ""}, {"(2 + 3) * 4", 20, ""}, {"((TRUE))", true, ""},
		// Arithmetic.
		{"4 * 2 + 4 / 2", 10, ""}, {"4 * (2 + 4) / 2", 12, ""}, {"5 / 3", 1, ""}, {"-5 / 3", -1, ""}, {"-5 % 3", -2, ""},
		{"5 % -3", 2, ""},
		{"5 / 0", nil, math}, {"5 % 0", nil, math}, {"nothere / 0", nil, missing}, {"4 - 1", 3, ""}, {"4-1", 3, ""},
		{"4 + -1", 3, ""},
		{"'5' + '3'", 8, ""}, {"5 + TRUE", 6, ""}, {"'x' + 1", nil, cast}, {"10 - 3 - 2", 5, ""}, {"hop+1", 6, ""},
		{"2147483647 + 1", nil, math}, {"-2147483648 / -1", nil, math}, {"-(-2147483648)", nil, math}, {"65536 * 65536", nil, math},
		// Comparison: the left side becomes what the right one is.
		{"TRUE = FALSE", false, ""}, {"2 = 2", true, ""}, {"'abc' = '123'", false, ""}, {"'abc' <> '123'", true, ""},
		{"1 != 2", true, ""},
		{"TRUE != TRUE", false, ""}, {"'TRUE' = true", true, ""}, {"true = 'TRUE'", false, ""}, {"hop = 5", true, ""},
		{"region = 5", nil, cast},
		{"count = '10'", true, ""}, {"nothere = 2", nil, missing}, {"nothere != 2", nil, missing}, {"nothere <= 2", nil, missing},
		{"hop < ttl", true, ""}, {"int(hop) < int(ttl) and INT(hop) < 1000", true, ""}, {"2 <= 2", true, ""}, {"3 <= 2", false, ""},
		{"2 < 2", false, ""}, {"2 >= 3", false, ""}, {"2 > 1", true, ""}, {"2 > 2", false, ""}, {"1 < 2 = TRUE", true, ""},
		{"region > 1", nil, cast},
		// AND, OR and XOR.
		{"FALSE AND TRUE", false, ""}, {"TRUE AND TRUE", true, ""}, {"FALSE OR TRUE", true, ""}, {"FALSE OR FALSE", false, ""},
		{"TRUE XOR TRUE", false, ""}, {"FALSE XOR TRUE", true, ""}, {"false and (1 != 1 / 0)", false, ""},
		{"true and (1 != 1 / 0)", nil, math},
		{"true or (1 != 1 / 0)", true, ""}, {"false or (1 != 1 / 0)", nil, math}, {"true AND (nothere = '')", nil, missing},
		{"TRUE OR FALSE AND FALSE", true, ""}, {"FALSE AND TRUE OR TRUE", false, ""}, {"TRUE XOR TRUE AND FALSE", true, ""},
		{"nothere = 'x' OR subject = 'o-7'", nil, missing}, {"'yes' AND TRUE", nil, cast},
		{"firstname = 'Ada' OR subject = 'o-7'", nil, missing}, {"subject = 'o-7' OR firstname = 'Ada'", true, ""},
		// LIKE.
		{"'abc' LIKE 'abc'", true, ""}, {`'ab\c' LIKE 'ab\c'`, true, ""}, {"'abc' NOT LIKE 'abc'", false, ""},
		{"'azzzbzzzc' LIKE 'a%b%c'", true, ""},
		{"'a%b%c' LIKE 'a%b%c'", true, ""}, {"'ac' LIKE 'abc'", false, ""}, {"'' LIKE 'abc'", false, ""}, {"'' LIKE ''", true, ""},
		{"'' LIKE '%'", true, ""}, {"'.ab.cde.' LIKE '.%.%.'", true, ""}, {"'ab.cde' LIKE '.%.%.'", false, ""},
		{"'azbzc' LIKE 'a_b_c'", true, ""},
		{"'abzc' LIKE 'a_b_c'", false, ""}, {"'abcd.' LIKE '._._.'", false, ""}, {`'a_b_c' LIKE 'a\_b\_c'`, true, ""},
		{`'azbzc' LIKE 'a\_b\_c'`, false, ""}, {`'a%b%c' LIKE 'a\%b\%c'`, true, ""}, {`'abc' LIKE 'a\%b\%c'`, false, ""},
		{`odd LIKE 'abc%123\%456\_d_f'`, true, ""}, {`odd NOT LIKE 'abc%123\%456\_d_f'`, false, ""}, {"234 LIKE '23_'", true, ""},
		{"2344 LIKE '23_'", false, ""}, {"TRUE LIKE 'tr%'", true, ""}, {"FALSE LIKE 'tr%'", false, ""},
		{"nothere LIKE 'x'", nil, missing},
		{"word LIKE 'gr__er'", true, ""}, {"source LIKE 'https://%'", true, ""},
		{"type LIKE '%.created' AND source LIKE '%.com'", false, ""},
		// EXISTS.
		{"EXISTS specversion AND EXISTS id AND EXISTS type AND EXISTS SOURCE", true, ""}, {"EXISTS time", true, ""},
		{"EXISTS nothere", false, ""},
		{"NOT EXISTS nothere", true, ""}, {"EXISTS region", true, ""}, {"EXISTS nothere AND nothere = 'x'", false, ""},
		// IN: the set becomes what the left side is.
		{"123 IN (1, 2, 123)", true, ""}, {"123 NOT IN (1, 2, 123)", false, ""}, {`'aaa' IN ('abc', "bcd")`, false, ""},
		{"TRUE IN (FALSE)", false, ""},
		{"source IN (region, 'https://example.com/shop')", true, ""}, {"source IN (source)", true, ""},
		{"'true' IN (TRUE, 'false')", true, ""},
		{"'true' IN ('TRUE', 'false')", false, ""}, {"TRUE IN ('true', 'false')", true, ""}, {"'TRUE' IN (TRUE, 'false')", false, ""},
		{"1 IN ('1', '2')", true, ""}, {"'1' IN (1, 2)", true, ""}, {"1 IN ('x')", nil, cast}, {"nothere IN (1)", nil, missing},
		{"1 IN (2, nothere)", nil, missing},
		// Casts.
		{"INT('1')", 1, ""}, {"INT('-1')", -1, ""}, {"INT(TRUE)", 1, ""}, {"INT(FALSE)", 0, ""}, {"INT('ABC')", nil, cast},
		{"BOOL('TRUE')", true, ""},
		{`BOOL("false")`, false, ""}, {"BOOL('ABC')", nil, cast}, {"BOOL(0)", false, ""}, {"BOOL(-50)", true, ""},
		{"STRING(TRUE)", "true", ""},
		{"STRING(-1)", "-1", ""}, {"IS_INT('7')", true, ""}, {"IS_INT('x')", false, ""}, {"IS_BOOL('TRUE')", true, ""},
		{"IS_BOOL('x')", false, ""},
		{"IS_INT(nothere)", nil, missing}, {"INT('2147483648')", nil, cast},
		// Texts.
		{"LENGTH('abc')", 3, ""}, {"LENGTH('')", 0, ""}, {"LENGTH(TRUE)", 4, ""}, {"LENGTH(word)", 6, ""},
		{"CONCAT('a', 'b', 3)", "ab3", ""},
		{"CONCAT()", "", ""}, {"CONCAT_WS(',', 'a', 'b', 'c')", "a,b,c", ""}, {"CONCAT_WS(',')", "", ""}, {"LOWER('AbC')", "abc", ""},
		{"UPPER('AbC')", "ABC", ""}, {"TRIM('  a b  ')", "a b", ""}, {"LEFT('abc', 2)", "ab", ""}, {"LEFT('abc', 10)", "abc", ""},
		{"LEFT('', 0)", "", ""}, {"LEFT('abc', -2)", nil, function}, {"LEFT(word, 3)", "grö", ""}, {"RIGHT('abc', 2)", "bc", ""},
		{"RIGHT('abc', 10)", "abc", ""}, {"RIGHT('abc', -2)", nil, function}, {"SUBSTRING('abcdef', 1)", "abcdef", ""},
		{"SUBSTRING('abcdef', 2)", "bcdef", ""}, {"SUBSTRING('Sakila', -3)", "ila", ""}, {"SUBSTRING('abcdef', 2, 4)", "bcde", ""},
		{"SUBSTRING('abcdef', 2, 40)", "bcdef", ""}, {"SUBSTRING('Sakila', -5, 3)", "aki", ""}, {"SUBSTRING('abc', 0)", "", ""},
		{"SUBSTRING('abc', 0, 1)", "", ""}, {"SUBSTRING('abc', 10)", nil, function}, {"SUBSTRING('abc', -10, 10)", nil, function},
		{"SUBSTRING('abc', 1, -5)", nil, function}, {"SUBSTRING(word, 3, 2)", "öß", ""}, {"CONCAT('a', nothere)", nil, missing},
		{"ABS(10)", 10, ""}, {"ABS('-10')", 10, ""}, {"ABS(-2147483648)", nil, math},
	} {
		p, err := Compile(c.src)
		if err != nil {
			t.Errorf("%s: %v", c.src, err)
			continue
		}
		v, err := p.run(sample())
		if got := nameOf(err); got != c.err {
			t.Errorf("%s: %v, want %q", c.src, err, c.err)
		}
		if c.want != nil && plain(v) != c.want {
			t.Errorf("%s is %v, want %v", c.src, plain(v), c.want)
		}
	}
}

func nameOf(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.As(err, new(*MissingError)):
		return "missing"
	case errors.As(err, new(*CastError)):
		return "cast"
	case errors.As(err, new(*MathError)):
		return "math"
	case errors.As(err, new(*FunctionError)):
		return "function"
	}
	return "another"
}

func plain(v value) any {
	switch v.is {
	case booleanType:
		return v.yes
	case integerType:
		return int(v.n)
	}
	return v.text
}

// A decision is the value as a boolean, and an error where it is none.
func TestBool(t *testing.T) {
	for src, want := range map[string]string{"TRUE": "", "5": "", "'true'": "", "0": "no", "'false'": "no", "'x'": `"x" is no Boolean`,
		"nothere": "the attribute nothere is missing"} {
		p, err := Compile(src)
		if err != nil {
			t.Fatal(err)
		}
		ok, err := p.Bool(sample())
		if got := map[bool]string{true: "", false: "no"}[ok]; err == nil && got != want || err != nil && err.Error() != want {
			t.Errorf("%s: %v, %v", src, ok, err)
		}
		if p.String() != src {
			t.Error(p.String())
		}
	}
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		src       string
		at, width int
		problem   string
		hint      string
	}{
		{"", 0, 1, "an expression is missing here", ""},
		{"ABC(", 4, 1, "an expression is missing here", ""},
		{"id = ", 5, 1, "an expression is missing here", ""},
		{"id == 'x'", 4, 1, "an expression is missing before =", ""},
		{"id = 'x' && TRUE", 9, 1, `'&' has no meaning in CESQL`, "write AND or OR"},
		{"id = 'ä' $", 9, 1, `'$' has no meaning in CESQL`, ""},
		{"!EXISTS id", 0, 1, `'!' has no meaning`, "NOT"},
		{"data.total > 5", 4, 1, `'.' has no meaning`, "expression without cesql"},
		{"data = 5", 0, 4, "not its data", ""},
		{"id = 'x", 5, 1, "never closed", ""},
		{"id = 'a''b'", 7, 2, "not written twice", `\'`},
		{"id LIKE 123", 8, 3, "a pattern in quotes, not by 123", ""},
		{"id LIKE", 7, 1, "a pattern in quotes, not by the end", ""},
		{"id NOT 'x'", 7, 3, "NOT is followed by LIKE or IN", ""},
		{"id IN ()", 7, 1, "an expression is missing before )", ""},
		{"id IN 'x'", 6, 3, "expected (, found 'x'", ""},
		{"(id", 3, 1, "expected ), found the end", ""},
		{"id 'x'", 3, 3, "'x' does not belong here", ""},
		{"2147483648", 0, 10, "no 32-bit integer", ""},
		{"-2147483649", 0, 11, "-2147483649 is no 32-bit integer", ""},
		{"NOPE(1)", 0, 4, "unknown function NOPE", ""},
		{"lenght(id)", 0, 6, "unknown function lenght", ""},
		{"CONCAT_WS()", 0, 9, "takes at least 1 arguments, not 0", ""},
		{"LENGTH(id, id)", 0, 6, "LENGTH takes 1 argument, not 2", ""},
		{"SUBSTRING(id)", 0, 9, "SUBSTRING takes 2 arguments or 3 arguments, not 1", ""},
		{"EXISTS 'x'", 7, 3, "expected the name of an attribute", ""},
		{"my_ext = 1", 0, 6, "no attribute can be called my_ext", "letters and digits"},
		{"AND TRUE", 0, 3, "an expression is missing before AND", ""},
		{strings.Repeat("(", 200) + "1", 100, 1, "nested more than 100 deep", ""},
	} {
		_, err := Compile(c.src)
		var e *Error
		if !errors.As(err, &e) || e.At != c.at || e.Width != c.width || !strings.Contains(e.Problem, c.problem) || !strings.Contains(e.Hint, c.hint) {
			t.Errorf("%s: %#v", c.src, err)
		}
	}
}

// A decision makes nothing, so it costs no memory for each event.
func TestAllocations(t *testing.T) {
	ev := sample()
	for _, src := range []string{
		"type = 'shop.order.created' AND region IN ('us', 'eu')", "source LIKE 'https://%' AND NOT EXISTS nothere", "hop < ttl", "nothere = 'x'",
	} {
		p, err := Compile(src)
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = p.Bool(ev) }); n != 0 {
			t.Errorf("%s: %v allocations", src, n)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, src := range []string{"id = 'x' AND NOT EXISTS a", `SUBSTRING("äb", -1, 1) LIKE '%\_' OR hop + 1 <= -3`, "1 IN (2, '3', TRUE)", "((", "'"} {
		f.Add(src, "a%b")
	}
	f.Fuzz(func(t *testing.T, src, text string) {
		p, err := Compile(src)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Problem == "" || e.Width < 1 || e.At < 0 || e.At > len(src) {
				t.Fatalf("%q: %#v", src, err)
			}
			return
		}
		ev := sample()
		ev.Subject = text
		if ok, err := p.Bool(ev); ok && err != nil {
			t.Fatalf("%q: true and %v", src, err)
		}
	})
}

func BenchmarkBool(b *testing.B) {
	ev := sample()
	for _, src := range []string{"type = 'shop.order.created'", "type LIKE 'shop.%' AND region IN ('us', 'eu')", "LOWER(region) = 'eu'"} {
		b.Run(src, func(b *testing.B) {
			p, err := Compile(src)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if ok, err := p.Bool(ev); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}
