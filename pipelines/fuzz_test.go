package pipelines

import (
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/txtar"
)

// FuzzParse holds for any bytes: the loader returns, does not panic, has a plan or a fault, and every place is in the file.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/errors/*.txtar", "testdata/good/*.txtar"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			a, err := txtar.ParseFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(a.Files[0].Data)
		}
	}
	for _, text := range styles {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		plan, diagnostics := Parse([]File{{Name: "x.yaml", Data: data}}, testOptions())
		if (plan == nil) != Faults(diagnostics) {
			t.Fatalf("plan: %v, diagnostics:\n%s", plan != nil, Format(diagnostics))
		}
		text := strings.ReplaceAll(strings.TrimPrefix(string(data), "\uFEFF"), "\r\n", "\n")
		lines := strings.Split(text, "\n")
		for _, d := range diagnostics {
			if d.Place.Line == 0 {
				continue
			}
			at := d.Place
			if at.Line > len(lines) || at.Col < 1 || at.Col > utf8.RuneCountInString(lines[at.Line-1])+1 {
				t.Fatalf("the place %s is outside of the file", d.Place)
			}
			if _, ok := Explain(d.Code); !ok || d.Problem == "" || d.Width < 1 {
				t.Fatalf("incomplete: %+v", d)
			}
			_ = d.String()
		}
	})
}
