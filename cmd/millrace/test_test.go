package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// Every configuration that people are told to use has tests, and they pass.
func TestTestsOfExamples(t *testing.T) {
	files, err := filepath.Glob("../../examples/*/pipelines.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, f := range append(files, "../../pipelines.yaml") {
		t.Run(filepath.ToSlash(f), func(t *testing.T) {
			var out, faults strings.Builder
			s := streams{in: strings.NewReader(""), out: &out, err: &faults, env: func(string) (string, bool) { return "", false }}
			if code := execute(t.Context(), s, []string{"test", f}); code != 0 || faults.Len() > 0 {
				t.Errorf("exit code %d\n%s%s", code, out.String(), faults.String())
			}
			if !strings.Contains(out.String(), " all passed ") {
				t.Errorf("it has no tests:\n%s", out.String())
			}
		})
	}
}
