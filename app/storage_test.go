package app

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/sinks/storage"
)

// The columns of a csv file stand in the order of the file, whatever their names.
func TestStorageColumnsKeepTheirOrder(t *testing.T) {
	t.Chdir(t.TempDir())
	plan, report := load(t, `
pipelines:
  orders:
    source: { webhook: { path: /orders } }
    sinks:
      sheet:
        storage:
          path: out.csv
          rotate: { size: 10MiB, age: 24h }
          keep: { files: 3, age: 7d, size: 1GiB }
          columns:
            zone: data.zone
            id: id
            amount: data.amount * 2
            b: data.none
`)
	if plan == nil {
		t.Fatal(report.Text())
	}
	s := plan.Pipelines[0].Sinks[0].Value.(*storage.Sink)
	if err := s.Open(t.Context(), nil, func(context.Context, event.Changes) error { return nil }); err != nil {
		t.Fatal(err)
	}
	ev := &event.Event{
		ID: "1", Source: "/s", Type: "t", DataContentType: "application/json", Data: []byte(`{"amount":1.5,"zone":"=x"}`),
	}
	if err := s.Deliver(t.Context(), []event.Delivery{{Event: ev}}).Verdicts[0]; err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile("out.csv"); err != nil || string(got) != "zone,id,amount,b\n'=x,1,3,\n" {
		t.Errorf("%q %v", got, err)
	}
}

func TestStorageFaultsHaveTheirPlace(t *testing.T) {
	_, report := load(t, `
pipelines:
  orders:
    source: { webhook: { path: /orders } }
    sinks:
      a: { storage: { path: a.json } }
      b: { storage: { path: b.ndjson, columns: { id: id } } }
      c: { storage: { path: c.csv, columns: { id: id, bad: "data.(" } } }
      d: { storage: { path: d.ndjson.xz } }
      e: { storage: { path: e.ndjson, rotate: { size: 3 } } }
      f: { storage: { path: g.ndjson.gz, rotate: { age: 1h } } }
      g: { storage: { path: g.ndjson } }
`)
	text := report.Text()
	for _, want := range []string{
		":6:29", "nothing closes", ":7:48", "about csv", ":8:", "bad", ":9:", ".xz", ":10:", "at least 1KiB", ":12:", "g.ndjson",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report does not say %q:\n%s", want, text)
		}
	}
}

func TestStorageMetrics(t *testing.T) {
	plan, report := load(t, `
pipelines:
  orders:
    source: { webhook: { path: /orders } }
    sinks:
      all: { storage: { path: out.ndjson } }
      screen: { console: {} }
`)
	if plan == nil {
		t.Fatal(report.Text())
	}
	all := families(storageStats(plan))
	for _, m := range all {
		if len(m.Samples) != 1 || m.Samples[0].Labels[0] != "orders" || m.Samples[0].Labels[1] != "all" || m.Samples[0].Value != 0 ||
			m.Counter != strings.HasSuffix(m.Name, "_total") {
			t.Errorf("%+v", m)
		}
	}
	if len(all) != 6 {
		t.Errorf("%d metrics", len(all))
	}
}
