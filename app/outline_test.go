package app

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOutline(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pipelines.yaml")
	if err := os.WriteFile(file, []byte(`
pipelines:
  orders:
    source: { webhook: { path: "/shops/{shop}" } }
    stages: [{ filter: data.total > 0 }, { filter: data.paid }, { name: cents, set: { data.cents: 1 } }]
    sinks:
      archive: { storage: { path: a.ndjson } }
      warehouse: { http: { url: "http://127.0.0.1:1/" } }
  all:
    source: { webhook: { path: /all } }
    sinks: { keep: { storage: { path: b.ndjson } } }
`), 0o600); err != nil {
		t.Fatal(err)
	}
	plan, report := Load(Source{Path: file})
	if plan == nil {
		t.Fatal(report.Text())
	}
	if d := cmp.Diff([]string{
		"orders: webhook /shops/{shop} → filter, filter-2, cents → archive (storage), warehouse (http)",
		"all: webhook /all → keep (storage)",
	}, Outline(plan)); d != "" {
		t.Error(d)
	}
}
