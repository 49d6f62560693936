package pipelines

import (
	"slices"
	"strings"
	"testing"

	"github.com/millrace-run/millrace/rules"
)

type tableColumn struct {
	Name  string      `yaml:"-"`
	Value *rules.Expr `yaml:"value,required" doc:"What."`
	Type  string      `yaml:"type" doc:"As what."`
}

type tableKeys struct {
	URL     string        `yaml:"url,secret=password" doc:"Where."`
	Columns []tableColumn `yaml:"columns,required" doc:"Which."`
}

// loadTable loads a pipeline with one sink of a type that has a map of sections.
func loadTable(t *testing.T, settings string) (*tableKeys, []Diagnostic) {
	t.Helper()
	o := testOptions()
	o.Types.Sinks = append(slices.Clone(o.Types.Sinks), Type{Name: "table", Doc: "A table.", Config: &tableKeys{}, Build: func(decode Decode) (any, error) {
		keys := &tableKeys{}
		return keys, decode(keys)
	}})
	o.Path = write(t, t.TempDir(), "p.yaml", "pipelines:\n  p:\n    source: { webhook: { path: /p } }\n    sinks:\n      s:\n        table:\n"+settings)
	plan, found := Load(o)
	if plan == nil {
		return nil, found
	}
	return plan.Pipelines[0].Sinks[0].Value.(*tableKeys), found
}

// A map of sections keeps the order of the file, and an expression alone stands for its section.
func TestMapOfSections(t *testing.T) {
	keys, found := loadTable(t, `
          columns:
            zulu: data.z
            alpha: { value: data.a, type: 'numeric(10, 2)' }
            "select\"; drop table x": 5
            mike: { value: 'data.m ?? "x"' }
`)
	if keys == nil || len(found) > 0 {
		t.Fatal(Format(found))
	}
	var got []string
	for _, c := range keys.Columns {
		got = append(got, c.Name+" = "+c.Value.String()+" "+c.Type)
	}
	want := []string{"zulu = data.z ", "alpha = data.a numeric(10, 2)", `select"; drop table x = 5 `, `mike = data.m ?? "x" `}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestFaultsInAMapOfSections(t *testing.T) {
	_, found := loadTable(t, `
          columns:
            a: data.b +
            b: { valeu: id }
            c: [1]
            d: id
            d: id
`)
	text := Format(found)
	for _, want := range []string{"p.yaml:9:", "columns.a: ", `unknown key "valeu" in columns.b`, `missing key "value" in columns.b`, "columns.c of table",
		`the key "d" stands twice in columns`} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

// Of a URL the password is kept out of every message, and nothing but the password is a reason to hide it.
func TestPasswordInURL(t *testing.T) {
	for _, c := range []struct {
		url    string
		hidden bool
	}{
		{"postgres://u:hunter22@db.example.com/shop", true}, {"postgres://u@db.example.com/shop?password=hunter22", true},
		{"postgres://u@db.example.com/shop", false}, {"sqlite:data/shop.db", false},
	} {
		_, found := loadTable(t, "          { url: \""+c.url+"\", columns: { a: id }, colums: 5 }\n")
		text := Format(found)
		if strings.Contains(text, "hunter22") || strings.Contains(text, c.url) == c.hidden {
			t.Errorf("%s:\n%s", c.url, text)
		}
	}
	_, found := loadTable(t, "          { url: \"postgres://u:hunter22@db.example.com/shop }\n")
	if text := Format(found); strings.Contains(text, "hunter22") || !strings.Contains(text, "db.example.com") {
		t.Error(text)
	}
}
