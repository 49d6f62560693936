package millrace_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/millrace-run/millrace/app"
)

// Every configuration that people are told to use has no fault and no warning, and every example says what it shows.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("examples/*/pipelines.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, f := range append(files, "pipelines.yaml") {
		if _, report := app.Load(app.Source{Path: f}); report.Text() != "" {
			t.Errorf("%s:\n%s", f, report.Text())
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(f), "README.md")); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
}
