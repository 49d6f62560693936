package app

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/pipelines"
)

var update = flag.Bool("update", false, "write docs/reference.md anew")

// The reference holds every key that a file may have, from the tables by which the loader decides.
func TestReference(t *testing.T) {
	const page = "../docs/reference.md"
	want := referenceHead + referenceMatch(pipelines.MatchForms()) + referenceTypes(types(quiet)) + referenceKeys(pipelines.Describe(types(quiet)))
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil { //nolint:gosec // a page for everyone
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Errorf("write it anew with: go test ./app -run TestReference -update\n%s", d)
	}
}

const referenceHead = `# Reference

Every key of a configuration. This page is written by a test from the tables by which the file is read, so it cannot differ
from them. A key that is not here is refused.

A file is YAML 1.2; ` + "`-c`" + ` names one, or a folder of files, whose pipelines are put together. Durations are written 90s, 72h or 7d,
sizes 10MiB or 2GB.

A value is of one of three kinds, which the column *takes* names:

- **An expression**, such as ` + "`data.total >= 100`" + `. It sees ` + "`id source type subject time datacontenttype dataschema`" + `,
  ` + "`ext.<name>`" + `, ` + "`data`" + ` and ` + "`received`" + `. A field that is missing is nil: a comparison of order with it is false and arithmetic with it
  is nil; ` + "`??`" + ` gives a default. ` + "`topic(type, \"orders.*.created\")`" + ` matches words between dots: ` + "`*`" + ` is one, ` + "`#`" + ` any number.
  ` + "`cesql(\"type LIKE 'orders.%'\")`" + ` is a decision in CloudEvents SQL, which sees attributes only; ` + "`filter`, `drop` and `when`" + ` take it
  as ` + "`{ cesql: \"…\" }`" + ` too.
- **A template**, a text in which ` + "`{{ expression }}`" + ` may stand. One that meets nil is an error which names the field. The templates
  and expressions of a webhook also see ` + "`headers query params body`" + `.
- **Literal**: all the rest.

In every scalar but an expression, ` + "`${NAME}`" + `, ` + "`${NAME:-default}`" + ` and ` + "`${file:/path}`" + ` are replaced after the file is read; a literal
` + "`${`" + ` is written ` + "`$${`" + `. In an expression it is ` + "`env(\"NAME\")`" + `.
`

func referenceMatch(forms []pipelines.MatchForm) string {
	var b strings.Builder
	b.WriteString(matchHead)
	for _, f := range forms {
		fmt.Fprintf(&b, "| `%s` | %s | `%s` |\n", strings.ReplaceAll(f.Write, "|", "\\|"), f.Means, strings.ReplaceAll(f.Expression, "|", "\\|"))
	}
	return b.String()
}

const matchHead = `
## match

A ` + "`match`" + ` says what members of an event must be: beside a sink instead of ` + "`when`" + `, or as a stage. It is the expression in the last column,
which ` + "`millrace validate`" + ` prints for every match of a file. An event that lacks a member does not match; it is not counted as a missing field, and
` + "`strict`" + ` does not mind.

A member is ` + "`id source type subject datacontenttype dataschema`" + `, ` + "`ext.<name>`" + ` or ` + "`data.<path>`" + `. Attributes are compared as texts. A text in which a
word between dots is ` + "`*`" + ` (one word) or ` + "`#`" + ` (any number, none included) is a pattern; a ` + "`*`" + ` within a word is refused.

| match | the member or the event | as an expression |
|---|---|---|
`

func referenceTypes(all pipelines.Types) string {
	var b strings.Builder
	b.WriteString("\n## Types\n\nThe last column is whether a type may stand in a pipeline with `delivery: exactly_once`.\n\n")
	b.WriteString("| source | what it is | `exactly_once` |\n|---|---|---|\n")
	for _, s := range all.Sources {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", s.Name, s.Doc, referenceOnce(s))
	}
	b.WriteString("\n| sink | what it is | `concurrency` unless set | `exactly_once` |\n|---|---|---|---|\n")
	for _, s := range all.Sinks {
		concurrency := fmt.Sprint(s.Concurrency)
		if s.Serial {
			concurrency = "one writer, whatever is set"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", s.Name, s.Doc, concurrency, referenceOnce(s))
	}
	return b.String()
}

func referenceOnce(t pipelines.Type) string {
	switch t.Once {
	case pipelines.AlwaysOnce:
		return "yes"
	case pipelines.DedupeOnce:
		return "with `dedupe`: it " + t.Twice
	}
	return "no: it " + t.Twice
}

func referenceKeys(sections []pipelines.Section) string {
	var b strings.Builder
	for _, s := range sections {
		if len(s.Keys) == 0 {
			continue
		}
		title := "`" + s.Path + "`"
		if s.Path == "" {
			title = "The file"
		}
		fmt.Fprintf(&b, "\n## %s\n\n", title)
		if s.Doc != "" {
			fmt.Fprintf(&b, "%s\n\n", s.Doc)
		}
		b.WriteString("| key | takes | default | |\n|---|---|---|---|\n")
		for _, k := range s.Keys {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.Name, referenceTakes(k), referenceDefault(k), k.Doc)
		}
	}
	return b.String()
}

func referenceTakes(k pipelines.Key) string {
	takes := k.Type
	if len(k.Values) > 0 {
		takes = "`" + strings.Join(k.Values, "`, `") + "`"
		if k.Section != "" {
			takes += ", or " + k.Type
		}
	}
	switch {
	case k.Min != "" && k.Max != "":
		takes += fmt.Sprintf(", %s to %s", k.Min, k.Max)
	case k.Min != "":
		takes += ", at least " + k.Min
	case k.Max != "":
		takes += ", at most " + k.Max
	}
	if k.Secret {
		takes += "; kept out of messages"
	}
	return takes
}

func referenceDefault(k pipelines.Key) string {
	switch {
	case k.Required:
		return "*required*"
	case k.Default != "":
		return "`" + k.Default + "`"
	}
	return ""
}
