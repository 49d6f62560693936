package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/millrace-run/millrace/app"
	"github.com/millrace-run/millrace/pipelines"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shop is a pipeline with what there is to test; the tests of a test case follow it.
const shop = `
pipelines:
  orders:
    source:
      webhook: { path: /orders, type: shop.order, subject: '{{ headers["x-shop"] ?? "none" }}', attributes: { page: query.page } }
    stages:
      - filter: data.total > 0
      - set: { data.cents: int(data.total * 100) }
    sinks:
      payments:
        when: data.total >= 100
        http: { url: "http://127.0.0.1:9/payments" }
        retry: { max_attempts: 3, initial: 1s, max: 5m, max_age: 72h }
        breaker: { probe_max: 5m }
      archive:
        storage: { path: archive.ndjson }
        breaker: { probe_max: 15m }
    tests:
`

// plan loads the pipeline of the shop with tests, which are indented as a list at the margin.
func plan(t *testing.T, tests string) *pipelines.Plan {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pipelines.yaml")
	text := shop + "      " + strings.ReplaceAll(strings.TrimSpace(tests), "\n", "\n      ") + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	secret := func(name string) (string, bool) { return "s3cr3t-t0ken", name == "TOKEN" }
	p, report := app.Load(app.Source{Path: path, Env: secret})
	if p == nil {
		t.Fatal(report.Text())
	}
	return p
}

// run runs tests and returns what a person would see of the faults: path, what is expected and what came.
func run(t *testing.T, tests string) []Result {
	t.Helper()
	results, err := Run(t.Context(), plan(t, tests), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func faults(r Result) string {
	var all []string
	for _, f := range r.Faults {
		all = append(all, f.Path+": "+f.Want+" | "+f.Got)
	}
	return strings.Join(all, "\n")
}
