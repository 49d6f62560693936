package pipelines

import (
	"strings"
	"testing"
)

// TestScoutPasses holds that proper YAML which means what it says passes the scout untouched.
func TestScoutPasses(t *testing.T) {
	for name, text := range map[string]string{
		"anchors": "pipelines:\n  a:\n    stages:\n      - filter: &paid data.paid\n      - drop: *paid\n" +
			"    sinks: &all { x: { retry: &r { max: 1s } } }\n",
		"anchor of a map": "a: &x\n  b: c\nd: *x\ne: [*x, *x]\nf: { g: *x , h: *x }\n",
		"lists": "pipelines:\n  a:\n    stages:\n      - remove: [data.a, data.b]\n      - remove:\n" +
			"        - data.a\n        - data.b\n",
		"pairs in lists": "a: [b: c, \"d\": e, {f: g}]\n" +
			"pipelines: { p: { stages: [filter: true, drop: \"!x\", set: {a: b}] } }\n",
		"empty collections": "a: {}\nb: []\nc: { }\nd: [ ]\n",
		"several lines":     "a: {\n  b: 1, # one\n  c: [x,\n    y ] ,\n}\nd: e\n",
		"quotes": "a: 'it''s' # and \"more\"\nb: \"say \\\"hi\\\"\"   \nc: 'two\n  lines'\nd: \"two\n\n" +
			"  lines: here\" # x\n'e f': g\n\"h: i\": j\n",
		"comments": "# a: b: c\na: b # c: d\nc: d #e\npipelines:\n  a:\n    stages:\n" +
			"      - filter: data.total > 0 # only 'what is paid\n      # - filter: {{ x }}\n",
		"blocks": "a: |\n  {{ x }}: y: z\n\n  'a' == b # c\n  !x\nb: >-\n    [a] == b\n  \nc: |2\n    x: y: z\n- |\n" +
			"  a: b: c\n",
		"blocks in lists": "a:\n  - |\n    x: y: z\n  - key: |\n      {{ a }}\n    other: |+\n      [ b\n  - >\n    {{ c }}\n",
		"urls": "a: http://127.0.0.1:80/x?y=z#f\nb: [http://127.0.0.1:80, https://example.com/a]\n" +
			"c: { d: http://127.0.0.1:80/x, e: smtp://h:25 }\n",
		"times": "a: 10:30\nb: { c: 10:30 }\n",
		"templates": "a: x {{ data.id }} y\nb: http://h/{{ data.id }}/{{ data.x }}\nc: '{{ data.id }}'\n" +
			"d: { e: \"{{ data.id }}\" }\nf: ${NAME}\ng: \"${NAME}\"\n",
		"text with brackets": "a: hello [world] {x}\nb: f(1, 2)\nc: 50% off!\nd: a & b * c\ne: -x\nf: - \ng: ?x\n",
		"text with quotes":   "a: it's\nb: say \"hi\" 'there'\nc: { d: it's, e: o'clock }\n",
		"expressions": "pipelines:\n  a:\n    stages:\n      - filter: data.items[0].x == 'a' && any(data.items, {.x > 1})\n" +
			"      - map: '{\"a\": data.b}'\n      - set: { data.x: data.y, subject: '\"a, b\"', data.z: int(data.q * 100) }\n" +
			"      - set:\n          data.x: max(1, 2)\n          data.y: data.a ?? \"b\"\n      - drop: \"!data.x\"\n" +
			"      - filter: 'data.a ? data.b : data.c'\n",
		"expression on lines": "pipelines:\n  a:\n    stages:\n      - filter: data.x > 0 &&\n          data.y[1] > 0\n" +
			"        name: x\n",
		"documents":        "%YAML 1.2\n---\na: b\n...\n",
		"same indentation": "a:\n- b: c\n  d: e\n- f\ng:\n- h: |\n    {{ x }}\n- i\n",
		"deep lists":       "a:\n  - - b: c\n      d: e\n    - f\n  -\n    g: h\n",
		"keys like types":  "pipelines:\n  filter:\n    sinks:\n      when: { http: { headers: { filter: x, map: [1] } } }\n",
		"tabs after text":  "a: b\t# c\nd:\te\n\t\nf: |\n  x\n  \ty\n",
		"no end of line":   "a: b",
		"null":             "a:\nb: ~\nc: null\n? d\n: e\n",
		"tags":             "a: !!str 1\n",
	} {
		t.Run(name, func(t *testing.T) {
			src, fault := newSource("x.yaml", []byte(text))
			if fault != nil {
				t.Fatal(fault)
			}
			found := scoutFile(src, schemaOf(testTypes()))
			for _, d := range found.faults {
				d.Source = src.line(d.Place.Line)
				t.Error(d.String())
			}
			if found.text != text {
				t.Errorf("the text was changed to\n%s", found.text)
			}
		})
	}
}

// TestScoutBlanks holds that what is blanked keeps every other place, so that all other faults are found where they are.
func TestScoutBlanks(t *testing.T) {
	text := "a: {{ é }} x\nb: [\"x\" y,\n  z] # c\nc: 'é' == x\n  more\nd: e\n"
	src, _ := newSource("x.yaml", []byte(text))
	found := scoutFile(src, schemaOf(Types{}))
	if len(found.faults) != 3 {
		t.Errorf("%d faults, want 3: %v", len(found.faults), found.faults)
	}
	want := "a: xxxxxxxxx\nb: xxxxxxx\n        \nc: xxxxxxxx\n      \nd: e\n"
	if found.text != want {
		t.Errorf("blanked to\n%q, want\n%q", found.text, want)
	}
	if strings.Count(found.text, "\n") != strings.Count(text, "\n") {
		t.Error("lines were lost")
	}
}

func TestUnfinished(t *testing.T) {
	for text, want := range map[string]bool{
		"data.x > 0": false, "data.x == 'a'": false, "f(1": true, "f(1, 2)": false, "data.x == \"a": true, "data.x ==": true,
		"a &&": true,
		"a[0":  true, "{a": true, "'it\\'s'": false, "`a\\`": false, "": false, "f(')')": false, "a ? b": false, "a ?": true,
		"2)": false,
	} {
		if got := unfinished(text); got != want {
			t.Errorf("unfinished(%q) = %v", text, got)
		}
	}
}
