package millrace_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace-run/millrace/app"
)

// TestSnippets loads every whole file that stands in a page, and runs its tests.
func TestSnippets(t *testing.T) {
	for _, page := range []string{"README.md", "docs/how-to.md"} {
		for i, snippet := range snippets(read(t, page)) {
			t.Run(filepath.Base(page), func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "pipelines.yaml")
				if err := os.WriteFile(file, []byte(snippet), 0o600); err != nil {
					t.Fatal(err)
				}
				if plan, report := app.Load(app.Source{Path: file}); plan == nil || report.Text() != "" {
					t.Fatalf("snippet %d: %s", i+1, report.Text())
				}
				runTests(t, file)
			})
		}
	}
}

// snippets are the blocks of YAML on a page that are whole files.
func snippets(page string) (found []string) {
	for _, block := range strings.Split(page, "```yaml\n")[1:] {
		text, _, _ := strings.Cut(block, "```")
		if strings.HasPrefix(text, "pipelines:") {
			found = append(found, text)
		}
	}
	return found
}
