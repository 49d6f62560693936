package app

import (
	"log/slog"
	"reflect"
	"testing"

	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/router"
)

// types are the tables without a detour.
func types(logger *slog.Logger) pipelines.Types { return (*Detour)(nil).types(logger) }

func TestTables(t *testing.T) {
	all := types(quiet)
	for _, table := range [][]pipelines.Type{all.Sources, all.Sinks} {
		seen := map[string]bool{}
		for _, row := range table {
			if seen[row.Name] || row.Name == "" || row.Doc == "" {
				t.Errorf("%+v: a name of its own and a line of help are needed", row)
			}
			seen[row.Name] = true
			checkConfig(t, row)
		}
	}
	for _, row := range all.Sinks {
		if row.Concurrency < 1 || row.Batch.Count < 1 || row.Batch.Bytes < 1 || row.Serial && row.Concurrency != 1 {
			t.Errorf("%s: %+v", row.Name, row)
		}
	}
}

// checkConfig finds keys without a name or a doc, and settings that would be shared by all components of a type.
func checkConfig(t *testing.T, row pipelines.Type) {
	t.Helper()
	c := reflect.TypeOf(row.Config)
	if c.Kind() != reflect.Pointer || c.Elem().Kind() != reflect.Struct {
		t.Fatalf("%s: its settings are a %v, not a pointer to a struct", row.Name, c)
	}
	for _, f := range reflect.VisibleFields(c.Elem()) {
		if f.IsExported() && (f.Tag.Get("yaml") == "" || f.Tag.Get("doc") == "") {
			t.Errorf("%s: the field %s has no key or no doc", row.Name, f.Name)
		}
	}
	values := func() []reflect.Value {
		var v reflect.Value
		// Build stops at this decoder, which only looks at the defaults.
		_, err := row.Build(func(into any) error { v = reflect.ValueOf(into).Elem(); return errLooked })
		if err == nil {
			t.Errorf("%s: it goes on after its settings could not be read", row.Name)
		}
		fields := make([]reflect.Value, v.NumField())
		for i := range fields {
			fields[i] = v.Field(i)
		}
		return fields
	}
	a, b := values(), values()
	for i := range a {
		switch a[i].Kind() {
		case reflect.Map, reflect.Slice, reflect.Pointer:
			if !a[i].IsNil() && a[i].Pointer() == b[i].Pointer() {
				t.Errorf("%s: two components share the default of %s", row.Name, c.Elem().Field(i).Name)
			}
		}
	}
}

type looked struct{}

func (looked) Error() string { return "looked" }

var errLooked = looked{}

// The router takes what the tables build.
func TestTablesBuildSinks(t *testing.T) {
	t.Chdir(t.TempDir())
	plan, report := load(t, `
pipelines:
  all:
    source: { webhook: { path: /all } }
    sinks:
      http: { http: { url: "http://127.0.0.1:1/" } }
      email: { email: { server: "smtp://127.0.0.1:1", from: a@example.com, to: b@example.com, subject: s, text: t } }
      storage: { storage: { path: data/all.ndjson } }
      queue: { queue: {} }
      s3: { s3: { bucket: orders } }
      sql: { sql: { url: "sqlite:data/x.db", table: t, columns: { source: source, id: id } } }
      console: { console: {} }
`)
	if plan == nil {
		t.Fatal(report.Text())
	}
	built := map[string]bool{}
	for _, s := range plan.Pipelines[0].Sinks {
		if _, ok := s.Value.(router.Sink); ok == s.Pull {
			t.Errorf("%s is a %T", s.Type, s.Value)
		}
		built[s.Type] = true
	}
	for _, row := range types(quiet).Sinks {
		if !built[row.Name] {
			t.Errorf("%s: this test builds none", row.Name)
		}
	}
}

// Every type says whether it keeps exactly_once, and if not, why: a file that asks for it is refused with that reason.
func TestOnce(t *testing.T) {
	all := types(quiet)
	for _, row := range append(all.Sources, all.Sinks...) {
		if (row.Twice == "") != (row.Once == pipelines.AlwaysOnce) {
			t.Errorf("%s: %v, because it %q", row.Name, row.Once, row.Twice)
		}
	}
}
