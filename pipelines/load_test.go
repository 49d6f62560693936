package pipelines

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const goodFile = "pipelines:\n  NAME:\n    source: { webhook: { path: /NAME } }\n" +
	"    sinks: { s: { http: { url: \"http://127.0.0.1/\" } } }\n"

func named(name string) string { return strings.ReplaceAll(goodFile, "NAME", name) }

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, path string) (*Plan, []Diagnostic) {
	t.Helper()
	o := testOptions()
	o.Path = path
	return Load(o)
}

func TestLoadFile(t *testing.T) {
	dir := t.TempDir()
	plan, diagnostics := load(t, write(t, dir, "any-name", named("a")))
	if plan == nil || plan.Pipelines[0].Name != "a" {
		t.Fatal(Format(diagnostics))
	}
}

// TestLoadFolder holds which files of a folder are read, and in which order.
func TestLoadFolder(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "b.yml", named("b"))
	write(t, dir, "a.yaml", "http: { listen: \":8090\" }\n"+named("a"))
	write(t, dir, "c.yaml", named("c"))
	for _, passed := range []string{"a_test.yaml", "b_test.yml", ".hidden.yaml", "notes.txt", "x.yaml.bak"} {
		write(t, dir, passed, "not: [yaml")
	}
	if err := os.Mkdir(filepath.Join(dir, "d.yaml"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "c.yaml"), filepath.Join(dir, "0.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "0.yaml")); err != nil {
		t.Fatal(err)
	}
	plan, diagnostics := load(t, dir+"/")
	if plan == nil {
		t.Fatal(Format(diagnostics))
	}
	var names []string
	for _, p := range plan.Pipelines {
		names = append(names, p.Name)
	}
	if got := strings.Join(names, " "); got != "a b c" || plan.HTTP.Listen != ":8090" {
		t.Errorf("pipelines %s, listen %s", got, plan.HTTP.Listen)
	}
	if want := dir + "/b.yml:2:3"; plan.Pipelines[1].Place.String() != want {
		t.Errorf("place %s, want %s", plan.Pipelines[1].Place, want)
	}
}

// TestLoadPrintsPathAsGiven holds that a relative path stays as the user wrote it.
func TestLoadPrintsPathAsGiven(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.yaml", "x: 1\n")
	t.Chdir(dir)
	for path, want := range map[string]string{"./a.yaml": "./a.yaml:1:1", ".": "./a.yaml:1:1", "a.yaml": "a.yaml:1:1"} {
		_, diagnostics := load(t, path)
		if len(diagnostics) == 0 || diagnostics[0].Place.String() != want {
			t.Errorf("%s: %v, want %s first", path, diagnostics, want)
		}
	}
}

func TestLoadUnreadable(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(dir, "large.yaml")
	if err := os.WriteFile(large, make([]byte, maxFile+10), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "nothing.yaml"): "E0101  cannot read it: no such file or directory",
		empty:                              "E0101  the folder holds no *.yaml or *.yml file",
		large:                              "E0105  the file has 1048586 bytes, more than 1 MiB",
	} {
		plan, diagnostics := load(t, path)
		if text := Format(diagnostics); plan != nil || len(diagnostics) != 1 || !strings.HasPrefix(text, path+"  error  "+want) {
			t.Errorf("%s: %q", path, text)
		}
	}
	if plan, diagnostics := Parse(nil, testOptions()); plan != nil || len(diagnostics) != 1 {
		t.Error("no file at all must be a fault")
	}
}

// TestLoadPublic holds that a secret in a file that all can read is warned of, and one in a private file is not.
func TestLoadPublic(t *testing.T) {
	text := strings.Replace(named("a"), "url:", "headers: { Accept: \"*/*\" }, password: pw, url:", 1)
	path := write(t, t.TempDir(), "a.yaml", text)
	if _, diagnostics := load(t, path); len(diagnostics) != 0 {
		t.Error(Format(diagnostics))
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	plan, diagnostics := load(t, path)
	if plan == nil || len(diagnostics) != 1 || diagnostics[0].Code != codePublic {
		t.Fatal(Format(diagnostics))
	}
	if plan.Pipelines[0].Sinks[0].Value == nil {
		t.Error("a warning took the sink away")
	}
}

func TestSecretFileFromDisk(t *testing.T) {
	dir := t.TempDir()
	secret := write(t, dir, "secret", "pw\r\n\n")
	path := write(t, dir, "a.yaml", strings.Replace(named("a"), "url:", "password: '${file:"+secret+"}', url:", 1))
	o := testOptions()
	o.Path, o.ReadFile = path, nil
	plan, diagnostics := Load(o)
	if plan == nil {
		t.Fatal(Format(diagnostics))
	}
	if got := plan.Pipelines[0].Sinks[0].Value.(*httpSink).c.Password; got != "pw\r\n" {
		t.Errorf("password %q", got)
	}
}

// Files of tests are read only by those who ask for them: a mistake in one does not keep pipelines from running.
func TestLoadTests(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("orders.yaml", "pipelines: { orders: { source: { tick: }, sinks: { a: { storage: { path: a } } } } }\n")
	write("orders_test.yaml", "tests: [ { pipeline: orders, name: n, given: { data: 1 }, expect: { a: [] } } ]\n")
	write("wrong_test.yml", "tests: [ { pipeline: order } ]\n")
	write(".hidden_test.yaml", "nothing")
	o := testOptions()
	for _, path := range []string{dir, filepath.Join(dir, "orders.yaml")} {
		o.Path, o.Tests = path, false
		plan, diagnostics := Load(o)
		if plan == nil || len(plan.Pipelines[0].Tests) != 0 {
			t.Errorf("%s without tests:\n%s", path, Format(diagnostics))
		}
		o.Tests = true
		_, diagnostics = Load(o)
		if text := Format(diagnostics); len(diagnostics) != 4 || !strings.Contains(text, `there is no pipeline "order"`) {
			t.Errorf("%s with tests:\n%s", path, text)
		}
		want := []string{filepath.Join(dir, "orders_test.yaml"), filepath.Join(dir, "wrong_test.yml")}
		if got := TestFiles(path); !slices.Equal(got, want) {
			t.Errorf("the files of tests of %s are %v", path, got)
		}
		if got := ConfigFiles(path); !slices.Equal(got, []string{filepath.Join(dir, "orders.yaml")}) {
			t.Errorf("the files of %s are %v", path, got)
		}
	}
	write("wrong_test.yml", "tests: []\n")
	if plan, diagnostics := Load(o); plan == nil || len(plan.Pipelines[0].Tests) != 1 {
		t.Errorf("with good tests:\n%s", Format(diagnostics))
	}
	t.Chdir(dir)
	if got := TestFiles("orders.yaml"); !slices.Equal(got, []string{"orders_test.yaml", "wrong_test.yml"}) {
		t.Errorf("the paths are not printed as given: %v", got)
	}
}
