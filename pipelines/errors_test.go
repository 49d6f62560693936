package pipelines

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write what the loader says into the golden files")

// TestErrors holds one golden for each kind of fault: the files of the archive and what the loader says about them. The comment
// of an archive may set options: allow-unset, public, crlf, bom, utf-16.
func TestErrors(t *testing.T) {
	goldens, err := filepath.Glob("testdata/errors/*.txtar")
	if err != nil || len(goldens) == 0 {
		t.Fatal("no goldens", err)
	}
	for _, path := range goldens {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, got, plan := runGolden(t, path)
			if *update {
				writeGolden(t, path, archive, got)
			}
			if diff := cmp.Diff(goldenText(archive), got); diff != "" {
				t.Errorf("the loader says something else (-want +got):\n%s", diff)
			}
			if got == "" {
				t.Error("a golden of a fault must have one")
			}
			if faulty := strings.Contains(got, "  error  "); faulty != (plan == nil) {
				t.Errorf("faults: %v, but plan: %v", faulty, plan != nil)
			}
			for _, secret := range []string{"s3cr3t-t0ken", "p4ss", "hunter2", "from-file"} {
				if strings.Contains(got, secret) {
					t.Errorf("the output shows the secret %s", secret)
				}
			}
		})
	}
}

func runGolden(t *testing.T, path string) (*txtar.Archive, string, *Plan) {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	o := testOptions()
	comment := string(archive.Comment)
	o.AllowUnset = strings.Contains(comment, "options: allow-unset")
	var files []File
	for _, f := range archive.Files {
		if f.Name == "want" {
			continue
		}
		data := string(f.Data)
		if strings.Contains(comment, "options: crlf") {
			data = strings.ReplaceAll(data, "\n", "\r\n")
		}
		if strings.Contains(comment, "options: bom") {
			data = "\uFEFF" + data
		}
		if strings.Contains(comment, "options: utf-16") {
			data = "\xFF\xFE" + data
		}
		files = append(files, File{Name: f.Name, Data: []byte(data), Public: strings.Contains(comment, "options: public")})
	}
	plan, diagnostics := Parse(files, o)
	return archive, Format(diagnostics), plan
}

func goldenText(a *txtar.Archive) string {
	for _, f := range a.Files {
		if f.Name == "want" {
			return string(f.Data)
		}
	}
	return ""
}

func writeGolden(t *testing.T, path string, a *txtar.Archive, got string) {
	t.Helper()
	a.Files = slices.DeleteFunc(a.Files, func(f txtar.File) bool { return f.Name == "want" })
	a.Files = append(a.Files, txtar.File{Name: "want", Data: []byte(got)})
	if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestCodes holds that every code is explained and, but for the one that needs a disk, seen in a golden; and that no code is
// explained that nothing uses.
func TestCodes(t *testing.T) {
	source, err := os.ReadFile("codes.go")
	if err != nil {
		t.Fatal(err)
	}
	var seen strings.Builder
	goldens, _ := filepath.Glob("testdata/errors/*.txtar")
	for _, path := range goldens {
		a, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		seen.WriteString(goldenText(a))
	}
	declared := regexp.MustCompile(`= "(E\d{4})"`).FindAllStringSubmatch(string(source), -1)
	if len(declared) != len(Codes()) {
		t.Errorf("%d codes are declared, %d explained", len(declared), len(Codes()))
	}
	for _, m := range declared {
		code := m[1]
		if text, ok := Explain(code); !ok || len(text) < 80 || !strings.HasSuffix(text, ".") {
			t.Errorf("%s has no explanation of a sentence or more: %q", code, text)
		}
		if code != codeUnreadable && !strings.Contains(seen.String(), code) {
			t.Errorf("%s is in no golden", code)
		}
	}
	if _, ok := Explain("E9999"); ok {
		t.Error("a code that does not exist is explained")
	}
}
