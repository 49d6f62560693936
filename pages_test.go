package millrace_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Every folder that the map of ARCHITECTURE.md names exists, and every folder with Go code is in it.
func TestArchitectureNamesTheFolders(t *testing.T) {
	page := read(t, "ARCHITECTURE.md")
	if n := strings.Count(page, "\n"); n > 150 {
		t.Errorf("it has %d lines; one that is read has at most 150", n)
	}
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("`((?:[a-z0-9_]+/)+)`").FindAllStringSubmatch(page, -1) {
		folder := strings.TrimSuffix(m[1], "/")
		named[folder] = true
		if info, err := os.Stat(folder); err != nil || !info.IsDir() {
			t.Errorf("it names %s, which is no folder", m[1])
		}
	}
	for _, p := range listPackages(t) {
		folder := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		if folder != "" && !named[folder] && !strings.Contains(folder, "internal/") {
			t.Errorf("it does not name %s/", folder)
		}
	}
}

// What the pages say to type exists: make targets, and commands and flags of millrace.
func TestPagesNameCommandsThatExist(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "millrace")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./cmd/millrace").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	makefile := read(t, "Makefile")
	command := regexp.MustCompile("(?:^|[`/ ])millrace ((?:[a-z]+(?:-[a-z]+)*)(?: (?:list|show|redrive|drop))?)")
	target := regexp.MustCompile("(?:^|`)make ([a-z]+)")
	for _, page := range pages(t) {
		for line := range strings.Lines(read(t, page)) {
			for _, m := range command.FindAllStringSubmatch(line, -1) {
				args := append(strings.Fields(m[1]), "--help")
				if !isCommand(line, m[0]) {
					continue
				}
				if out, err := exec.CommandContext(t.Context(), bin, args...).CombinedOutput(); err != nil {
					t.Errorf("%s says millrace %s: %v\n%s", page, m[1], err, out)
				}
			}
			for _, m := range target.FindAllStringSubmatch(line, -1) {
				if !strings.Contains(makefile, "\n"+m[1]+":") {
					t.Errorf("%s says make %s, which is no target", page, m[1])
				}
			}
		}
	}
}

// isCommand says whether a match stands in code: behind a backquote, or at the start of a line of a block.
func isCommand(line, match string) bool {
	return strings.HasPrefix(match, "`") || strings.HasPrefix(line, match) || strings.HasPrefix(match, "/")
}

// Every relative link of a page leads somewhere.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	for _, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, page), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			}
		}
	}
}

// pages are all Markdown files of the tree.
func pages(t *testing.T) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".md") {
			found = append(found, path)
		}
		return err
	})
	if err != nil || len(found) == 0 {
		t.Fatalf("found %v: %v", found, err)
	}
	return found
}
