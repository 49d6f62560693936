package pipelines

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

// TestGood holds what the loader makes of good files: the whole plan with every default, in words.
func TestGood(t *testing.T) {
	goldens, err := filepath.Glob("testdata/good/*.txtar")
	if err != nil || len(goldens) == 0 {
		t.Fatal("no goldens", err)
	}
	for _, path := range goldens {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, complaints, plan := runGolden(t, path)
			if plan == nil {
				t.Fatalf("faults in a good file:\n%s", complaints)
			}
			got := dump(plan)
			if *update {
				writeGolden(t, path, archive, got)
			}
			if diff := cmp.Diff(goldenText(archive), got); diff != "" {
				t.Errorf("the plan differs (-want +got):\n%s", diff)
			}
		})
	}
}

// dump writes a plan down, in an order that does not change.
func dump(p *Plan) string {
	var b strings.Builder
	line := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	line("http %s, admin %s, shutdown %s, unset %v", p.HTTP.Listen, p.Admin.Listen, p.ShutdownTimeout, p.Unset)
	if p.Outbox.SQLite != nil {
		line("sqlite %+v", *p.Outbox.SQLite)
	}
	if p.Outbox.Memory != nil {
		line("memory")
	}
	for _, pl := range p.Pipelines {
		line("pipeline %s at %s: %q strict %v", pl.Name, pl.Place, pl.Description, pl.Strict)
		if d := pl.Dedupe; d != nil {
			line("  dedupe by %v, window %v, max_keys %d", d.Key, d.Window, d.MaxKeys)
		}
		line("  source %s at %s: %s", pl.Source.Type, pl.Source.Place, settings(pl.Source.Value))
		for _, st := range pl.Stages {
			line("  stage %s (%s) at %s: on_error %s, op %v", st.Name, st.Type, st.Place, st.OnError, st.Op != nil)
		}
		for _, s := range pl.Sinks {
			when := "always"
			if s.When != nil {
				when = s.When.String()
			}
			line("  sink %s %s at %s: %s", s.Name, s.Type, s.Place, settings(s.Value))
			line("    when %s, timeout %s, concurrency %d, serial %v, batch %+v", when, s.Timeout, s.Concurrency, s.Serial, s.Batch)
			line("    retry %+v", s.Retry)
			if s.Breaker != nil {
				line("    breaker %+v", *s.Breaker)
			}
		}
		for _, test := range pl.Tests {
			dumpTest(line, test)
		}
	}
	return b.String()
}

func dumpTest(line func(format string, a ...any), t *Test) {
	line("  test %q at %s", t.Name, t.Place)
	for _, g := range t.Given {
		e := g.Event
		line("    given at %s: id %q type %q subject %q of %q, ext %v, headers %v query %v params %v", g.Place, e.ID, e.Type, e.Subject,
			e.DataContentType, e.Extensions, g.Headers, g.Query, g.Params)
		line("      data %s (%v)", e.Data, e.Data != nil)
	}
	for _, name := range slices.Sorted(maps.Keys(t.Mocks)) {
		line("    mock of %s: %+v", name, t.Mocks[name])
	}
	for _, x := range t.Expect.Sinks {
		line("    expect at %s: %s", x.Place, x.Sink)
		for _, v := range x.Events {
			line("      at %s: %s", v.Place, v.AppendJSON(nil))
		}
	}
	for _, x := range t.Expect.Attempts {
		line("    attempts at %s: %s %d", x.Place, x.Sink, x.Count)
	}
	if d := t.Expect.DeadLetters; d != nil {
		line("    dead letters at %s", d.Place)
		for _, v := range d.Letters {
			line("      at %s: %s", v.Place, v.AppendJSON(nil))
		}
	}
}

func settings(v any) string {
	switch v := v.(type) {
	case *hook:
		return fmt.Sprintf("path %s, type %q, subject %q, max_body %d", v.c.Path, v.c.Type.String(), v.c.Subject.String(),
			v.c.MaxBody)
	case *httpSink:
		return fmt.Sprintf("%s %q", v.c.Method, v.c.URL.String())
	case *storageSink:
		return fmt.Sprintf("%q", v.c.Path.String())
	}
	return fmt.Sprintf("%T", v)
}

// parse loads one file with a pipeline whose http sink has the given settings.
func parse(t *testing.T, o Options, settings string) (*httpConfig, []Diagnostic, *Plan) {
	t.Helper()
	text := "pipelines:\n  p:\n    source: { tick: {} }\n    sinks:\n      s:\n        http:\n          url: http://127.0.0.1/\n"
	for l := range strings.SplitSeq(settings, "\n") {
		text += "          " + l + "\n"
	}
	plan, diagnostics := Parse([]File{{Name: "x.yaml", Data: []byte(text)}}, o)
	if plan == nil || plan.Pipelines[0].Sinks[0].Value == nil {
		return nil, diagnostics, plan
	}
	return &plan.Pipelines[0].Sinks[0].Value.(*httpSink).c, diagnostics, plan
}

func TestValues(t *testing.T) {
	c, diagnostics, _ := parse(t, testOptions(), strings.Join([]string{
		"ratio: 1e3", "deny_private: TRUE", "statuses: [200, yes, 1.50, \"a: b\"]", "labels: { a: 010, b: true, c: '' }",
		"wait: 59m30s", "headers: { X-A: \"{{ id }}\", X-B: 5 }", "to: \"{{ id }}\"", "tls: { ca: a.pem }", "only: true",
	}, "\n"))
	if c == nil {
		t.Fatal(Format(diagnostics))
	}
	got := fmt.Sprintln(c.Ratio, c.Private, c.Statuses, c.Labels, c.Wait, c.Headers["X-A"].String(), c.Headers["X-B"].String(),
		len(c.To), c.To[0].String(), c.TLS.CA, c.Only.String(), c.Method)
	want := `1000 true [200 yes 1.50 a: b] map[a:010 b:true c:] 59m30s {{ id }} 5 1 {{ id }} a.pem true POST` + "\n"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestSubstitution(t *testing.T) {
	for _, test := range []struct{ settings, want string }{
		{"method: PUT\nlabels: { a: \"x-${WORD}-${WORD}\" }", "x-abc-abc"},
		{"labels: { a: \"${NOPE:-b c}\" }", "b c"},
		{"labels: { a: \"${EMPTY:-d}\" }", "d"},
		{"labels: { a: \"${EMPTY}\" }", ""},
		{"labels: { a: \"${NOPE:-}\" }", ""},
		{"labels: { a: \"${file:/run/secrets/key}\" }", "from-file"},
		{"labels: { a: \"$${WORD} $WORD $$ $\" }", "${WORD} $WORD $$ $"},
		{"labels: { a: \"$$${WORD}\" }", "$${WORD}"},
		{"labels: { a: \"${TRICK}\" }", "a: b # c\n- d"}, // never read as YAML
		{"labels: { a: '${BRACES}' }", "{{ data.id }}"},
		{"labels: { a: ${WORD }", "-"},
	} {
		c, diagnostics, _ := parse(t, testOptions(), test.settings)
		if c == nil {
			if test.want != "-" {
				t.Errorf("%s:\n%s", test.settings, Format(diagnostics))
			}
			continue
		}
		if got := c.Labels["a"]; got != test.want {
			t.Errorf("%s: got %q, want %q", test.settings, got, test.want)
		}
	}
}

// TestSubstitutionTypes holds that a value which is one ${…} takes the type of its key.
func TestSubstitutionTypes(t *testing.T) {
	c, diagnostics, _ := parse(t, testOptions(), "ratio: ${PORT}\ndeny_private: \"${FLAG}\"\nwait: ${WAIT}\nstatuses: \"${WORD}\"")
	if c == nil {
		t.Fatal(Format(diagnostics))
	}
	if c.Ratio != 8080 || !c.Private || c.Wait != 90*time.Second || c.Statuses[0] != "abc" {
		t.Errorf("got %+v", c)
	}
}

// TestSubstitutedTemplate holds that what a variable brings into a template is text, whatever it holds.
func TestSubstitutedTemplate(t *testing.T) {
	c, diagnostics, _ := parse(t, testOptions(),
		"headers: { A: \"${BRACES} and {{ id }}\", B: \"{${BRACES}\", C: \"${{ id }}\", D: \"${WORD}\" }")
	if c == nil {
		t.Fatal(Format(diagnostics))
	}
	in := &rules.Input{Event: &event.Event{ID: "e-1", Data: []byte(`{"id":"evil"}`)}}
	for key, want := range map[string]string{"A": "{{ data.id }} and e-1", "B": "{{{ data.id }}", "C": "$e-1", "D": "abc"} {
		tpl := c.Headers[key]
		got, err := tpl.Render(in)
		if err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", key, got, err, want)
		}
	}
	if text, ok := c.Headers["D"].Literal(); !ok || text != "abc" {
		t.Error("a substituted text without braces stays literal")
	}
}

func TestAllowUnset(t *testing.T) {
	o := testOptions()
	o.AllowUnset = true
	text := `
http: { listen: "${HTTP}" }
pipelines:
  p:
    source: { webhook: { path: "${PATH_OF_HOOK}" } }
    stages:
      - filter: data.x == env("X") && data.n > int(env("N"))
    sinks:
      s:
        timeout: ${TIMEOUT}
        concurrency: ${CONCURRENCY}
        http: { url: "${BASE}/x", ratio: "${RATIO}", password: "${PASSWORD}" }
`
	plan, diagnostics := Parse([]File{{Name: "x.yaml", Data: []byte(text)}}, o)
	if plan == nil {
		t.Fatal(Format(diagnostics))
	}
	want := []string{"BASE", "CONCURRENCY", "HTTP", "N", "PASSWORD", "PATH_OF_HOOK", "RATIO", "TIMEOUT", "X"}
	if diff := cmp.Diff(want, plan.Unset); diff != "" {
		t.Errorf("unset variables (-want +got):\n%s", diff)
	}
	o.AllowUnset = false
	if plan, diagnostics := Parse([]File{{Name: "x.yaml", Data: []byte(text)}}, o); plan != nil || len(diagnostics) != 8 {
		t.Errorf("%d faults without AllowUnset:\n%s", len(diagnostics), Format(diagnostics))
	}
}

// TestWarnings holds that warnings leave the plan whole.
func TestWarnings(t *testing.T) {
	_, diagnostics, plan := parse(t, testOptions(), "method: PUT")
	if plan == nil || len(diagnostics) != 0 {
		t.Fatal(Format(diagnostics))
	}
	text := "pipelines: { p: { source: { tick: {} }, stages: [ filter: true ], " +
		"sinks: { s: { http: { url: \"http://127.0.0.1/\", password: pw } } } } }"
	plan, diagnostics = Parse([]File{{Name: "x.yaml", Data: []byte(text), Public: true}}, testOptions())
	if plan == nil || len(diagnostics) != 2 || len(plan.Warnings) != 2 || Faults(diagnostics) {
		t.Errorf("want a plan with two warnings, got\n%s", Format(diagnostics))
	}
}

// TestManyFaultsSorted holds that faults of several files come sorted by file, line and column.
func TestManyFaultsSorted(t *testing.T) {
	files := []File{
		{Name: "b.yaml", Data: []byte("x: 1\ny: { z: 2 }\npipelines: { p: { source: { tick: { q: 1 } }, sinks: {} } }\n")},
		{Name: "a.yaml", Data: []byte("u: 1\npipelines: { p: 1, q: { v: 1, w: 2 } }\n")},
		{Name: "c.yaml", Data: []byte("a: [\n")},
	}
	_, diagnostics := Parse(files, testOptions())
	var got []string
	for _, d := range diagnostics {
		got = append(got, d.Place.String()+" "+d.Code)
	}
	want := []string{"a.yaml:1:1 E0102", "a.yaml:2:14 E0117", "a.yaml:2:17 E0112", "a.yaml:2:20 E0111", "a.yaml:2:20 E0111",
		"a.yaml:2:25 E0102", "a.yaml:2:31 E0102", "b.yaml:1:1 E0102", "b.yaml:2:1 E0102", "b.yaml:3:37 E0102", "b.yaml:3:47 E0111",
		"c.yaml:1:4 E0104"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s\n%s", diff, Format(diagnostics))
	}
}
