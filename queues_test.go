package millrace_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/millrace-run/millrace/app"
)

// What docs/from-queues.md says is shown by a test that exists, or is said not to be here, with the reason; and its lines of YAML
// are good in a file, below a sink, a pipeline, or at the top.
func TestFromQueues(t *testing.T) {
	rows := 0
	for line := range strings.Lines(read(t, "docs/from-queues.md")) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if !strings.HasPrefix(line, "| ") || cells[0] == " there" {
			continue
		}
		rows++
		if len(cells) != 3 {
			t.Errorf("this has %d cells: %s", len(cells), line)
			continue
		}
		proofs := regexp.MustCompile(`\[(\w+)\]\(([^)#]+)#(\w+)\)`).FindAllStringSubmatch(cells[2], -1)
		if notHere := strings.HasPrefix(cells[1], "not here, because "); len(proofs) == 0 && !notHere {
			t.Errorf("nothing shows this, and it does not say that it is not here: %s", line)
		}
		for _, m := range proofs {
			if !strings.Contains(read(t, filepath.Join("docs", m[2])), "\nfunc "+m[3]+"(") || m[1] != m[3] {
				t.Errorf("%s has no test %s", m[2], m[3])
			}
		}
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
			if strings.Contains(m[1], ": ") && !good(t, m[1]) {
				t.Errorf("this is good nowhere: %s", m[1])
			}
		}
	}
	if rows < 60 {
		t.Errorf("%d rows", rows)
	}
}

// good says whether keys of a flow map have no fault and no warning at one of the places where they may stand.
func good(t *testing.T, keys string) bool {
	t.Helper()
	if several, ok := strings.CutPrefix(keys, "{ "); ok {
		keys = strings.TrimSuffix(several, " }")
	}
	source, sink := "source: { webhook: { path: /p } }, ", `http: { url: "http://127.0.0.1:9001/a" }`
	if strings.HasPrefix(keys, "source: ") || strings.Contains(keys, ", source: ") {
		source = ""
	}
	sinks := "sinks: { a: { when: data.n > 0, " + sink + " } }, "
	if strings.Contains(keys, "sinks: ") {
		sinks = ""
	}
	if strings.HasPrefix(keys, "http: ") || strings.HasPrefix(keys, "queue: ") {
		sink = ""
	} else {
		sink += ", "
	}
	const pipeline = "{ pipelines: { p: { %s } } }"
	return slices.ContainsFunc([]string{
		fmt.Sprintf(pipeline, source+"sinks: { a: { "+sink+keys+" } }"),
		fmt.Sprintf(pipeline, source+sinks+keys),
		fmt.Sprintf(`{ pipelines: { p: { source: { webhook: { path: /p } }, sinks: { a: { console: {} } } } }, %s }`, keys),
	}, func(text string) bool {
		file := filepath.Join(t.TempDir(), "pipelines.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		plan, report := app.Load(app.Source{Path: file})
		return plan != nil && report.Text() == ""
	})
}
