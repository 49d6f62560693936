package file

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

func then(a Then) func(*Config)       { return func(c *Config) { c.Then = a } }
func failedTo(f string) func(*Config) { return func(c *Config) { c.Failed = Failed{Move: f} } }

func packed(t *testing.T, suffix, text string) string {
	t.Helper()
	var b bytes.Buffer
	if suffix == gzipSuffix {
		w := gzip.NewWriter(&b)
		_, _ = w.Write([]byte(text))
		_ = w.Close()
		return b.String()
	}
	w, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return b.String()
}

func TestFormats(t *testing.T) {
	for _, c := range []struct {
		name, text string
		change     func(*Config)
		want       []string
	}{
		{"a.txt", "one\r\ntwo\n\nlast", nil, []string{"one", "two", "", "last"}},
		{"a.ndjson", "\xef\xbb\xbf{\"n\":1}\n\n [2] \n", nil, []string{`{"n":1}`, ` [2] `}},
		{"a.json", "{\n \"n\": [1]}\n", nil, []string{"{\n \"n\": [1]}\n"}},
		{"a.csv", "\xef\xbb\xbfid,text\n1,\"a\nb\"\n2,\n", func(c *Config) { c.Types = map[string]string{"id": "integer"} },
			[]string{`{"id":1,"text":"a\nb"}`, `{"id":2,"text":""}`}},
		{"a.csv", "007;1.50;true;\n+1;;0;x\n", func(c *Config) {
			c.Columns, c.Delimiter = []string{"i", "n", "b", "s"}, ";"
			c.Types = map[string]string{"i": "integer", "n": "number", "b": "boolean"}
		}, []string{`{"i":7,"n":1.50,"b":true,"s":""}`, `{"i":1,"n":null,"b":false,"s":"x"}`}},
		{"a.tsv", "a\tb\n1\t2\n", nil, []string{`{"a":"1","b":"2"}`}},
		{"a.csv", "", nil, nil},
		{"a.txt", "", nil, nil},
		{"a.bin", "x\x00y", func(c *Config) { c.Format = "whole" }, []string{"x\x00y"}},
		{"a.ndjson.gz", packed(t, gzipSuffix, "1\n2\n"), nil, []string{"1", "2"}},
		{"a.csv.zst", packed(t, zstdSuffix, "a\n1\n2\n"), nil, []string{`{"a":"1"}`, `{"a":"2"}`}},
	} {
		r := newRig(t, t.TempDir(), "*.*")
		if c.change != nil {
			c.change(&r.config)
			r.start()
		}
		r.write(c.name, c.text)
		r.settle()
		r.want(c.want...)
		if got := r.source.Counts(); got != (Counts{Files: 1}) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func TestFailedFiles(t *testing.T) {
	broken := packed(t, gzipSuffix, strings.Repeat("line\n", 50_000))
	for _, c := range []struct {
		name, text, says string
		records          int
	}{
		{"a.csv", "a,b\n1,2\n3\n4,5\n", "line 3: it has not as many columns", 1},
		{"a.csv", "a,a\n1,2\n", `two columns are named \"a\"`, 0},
		{"a.csv", "a\n\"x\n" + strings.Repeat("y\n", 200_000), "a quote is not closed", 0},
		{"a.csv", "a\n" + strings.Repeat("y", 1500) + "\n", "line 2: it is longer than max_record", 0},
		{"a.csv", "a\n\xff\n", "it is not UTF-8", 0},
		{"a.ndjson", "1\n2\n{\n4\n", "line 3: byte", 2},
		{"a.json", "", "byte 0", 0},
		{"a.json", strings.Repeat(" ", 2000), "longer than max_record", 0},
		{"a.txt", "x\n" + strings.Repeat("y", 1001) + "\nz\n", "line 2: it is longer than max_record", 1},
		{"a.txt.gz", broken[:len(broken)/2], "it cannot be unpacked: unexpected EOF", -1},
		{"a.txt.gz", "no gzip", "it cannot be unpacked", 0},
		{"a.txt.gz", "", "it cannot be unpacked", 0},
		{"a.txt.zst", packed(t, zstdSuffix, "line\n")[:8], "it cannot be unpacked", 0},
		{"a.bin", "x", `the suffix \".bin\" names no format`, 0},
	} {
		dir := t.TempDir()
		r := newRig(t, dir, "*.*", failedTo(filepath.Join(dir, "failed")), func(c *Config) { c.MaxRecord = 1000 })
		r.write(c.name, c.text)
		r.write("z.txt", "fine\n") // nothing else is harmed
		r.settle()
		got := r.data()
		if n := len(got) - 1; c.records >= 0 && n != c.records || got[len(got)-1] != "fine" {
			t.Errorf("%s: %d records, %q", c.says, n, got[len(got)-1])
		}
		r.logged(c.says)
		r.there(c.name, false)
		r.there("failed/"+c.name, true)
		if got := r.source.Counts(); got != (Counts{Files: 1, Failed: 1}) {
			t.Errorf("%s: %+v", c.says, got)
		}
		r.settle()
		r.want()
	}
}

func TestFailedFileIsTriedAgainWhenItChanged(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.ndjson")
	r.write("a.ndjson", "1\n{\n")
	r.settle()
	r.want("1")
	r.start()
	r.settle()
	r.want()
	r.write("a.ndjson", "1\n{}\n")
	r.settle()
	r.want("1", "{}")
}

func TestFileMustBeStable(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.txt")
	r.write("a.txt", "on")
	r.turn()
	r.clock.now = r.clock.now.Add(r.config.Stable - 1)
	r.write("a.txt", "one\n")
	r.turn()
	r.clock.now = r.clock.now.Add(r.config.Stable - 1)
	r.turn()
	r.want()
	r.clock.now = r.clock.now.Add(1)
	r.turn()
	r.want("one")
}

func TestThen(t *testing.T) {
	for _, c := range []struct {
		then Then
		at   string // where the file is afterwards, below the folder
	}{
		{Then{Word: "keep"}, "in/sub/a.txt"},
		{Then{Word: "delete"}, ""},
		{Then{Move: "done"}, "done/sub/a.txt"},
		{Then{Move: "in/done"}, "in/done/sub/a.txt"},
	} {
		dir := t.TempDir()
		if c.then.Move != "" {
			c.then.Move = filepath.Join(dir, c.then.Move)
		}
		r := newRig(t, dir, "in/**/*.txt", then(c.then))
		r.write("in/sub/a.txt", "one\n")
		r.settle()
		r.want("one")
		r.there("in/sub/a.txt", c.at == "in/sub/a.txt")
		if c.at != "" {
			r.there(c.at, true)
		}
		if kept := len(r.state); kept != 0 && c.at != "in/sub/a.txt" {
			t.Errorf("%+v: %d files are remembered", c.then, kept)
		}
		r.start()
		r.settle()
		r.want()
		r.write("in/sub/a.txt", "two\n") // another file of the same name
		r.settle()
		r.want("two")
		if c.then.Move != "" {
			r.there(strings.TrimSuffix(c.at, ".txt")+"-1.txt", true)
		}
	}
}

// A crash between the commit of a file's end and what becomes of the file: it is done at the next start, and nothing is read twice.
func TestCrashBeforeThen(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, dir, "*.txt", then(Then{Move: filepath.Join(dir, "done")}))
	r.write("done", "") // no folder can be made here
	r.write("a.txt", "one\ntwo\n")
	r.settle()
	r.want("one", "two")
	r.logged("a file that was read cannot be moved or deleted, it is tried again")
	r.there("a.txt", true)
	if err := os.Remove(filepath.Join(dir, "done")); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.turn()
	r.there("a.txt", false)
	r.there("done/a.txt", true)
	r.want()
	if len(r.state) != 0 {
		t.Errorf("it is remembered: %v", r.state)
	}
}

// Files that were read while they were to be kept stay when the settings say delete later.
func TestKeptFilesStay(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.txt")
	r.write("a.txt", "one\n")
	r.settle()
	r.config.Then = Then{Word: "delete"}
	r.start()
	r.write("b.txt", "two\n")
	r.settle()
	r.want("one", "two")
	r.there("a.txt", true)
	r.there("b.txt", false)
}

func TestRestartInTheMiddle(t *testing.T) {
	text := strings.Repeat("ab,\"c\nd\"\n", 100)
	for _, name := range []string{"a.txt", "a.csv", "a.csv.gz", "a.txt.zst"} {
		dir := t.TempDir()
		whole := newRig(t, dir, "a.*")
		_, packing := unpacked(name)
		body := text
		if packing != "" {
			body = packed(t, packing, text)
		}
		whole.write(name, body)
		whole.settle()
		want, ids := whole.data(), whole.ids

		r := newRig(t, dir, "a.*")
		r.limits.events = 7
		r.start()
		for crashes := 0; ; crashes++ {
			left := 2 // commits
			r.fail = func() error {
				if left--; left < 0 {
					return errCrash
				}
				return nil
			}
			r.turn()
			r.clock.now = r.clock.now.Add(r.config.Stable)
			if r.turn() {
				if crashes < 5 {
					t.Errorf("%s: only %d crashes", name, crashes)
				}
				break
			}
			r.start()
		}
		r.want(want...)
		for id := range r.ids {
			if !ids[id] {
				t.Fatalf("%s: the id %s is not that of an undisturbed run", name, id)
			}
		}
	}
}

func TestChangedWhileItWasRead(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.txt", then(Then{Word: "delete"}))
	r.limits.events = 2
	r.start()
	r.write("a.txt", "1\n2\n3")
	r.fail = func() error {
		r.fail = nil
		r.write("a.txt", "1\n2\n34\n")
		return nil
	}
	r.settle()
	r.want("1", "2") // and not the torn line
	r.there("a.txt", true)
	r.logged("was changed while it was read")
	r.settle()
	r.want("1", "2", "34")
	r.there("a.txt", false)
}

func TestKeptFileIsKnownAgain(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, dir, "*.txt")
	r.write("a.txt", "one\n")
	r.settle()
	r.want("one")
	old := time.Unix(1_600_000_000, 0)
	must(t, os.Rename(filepath.Join(dir, "a.txt"), filepath.Join(dir, "b.txt"))) // a new name
	must(t, os.Link(filepath.Join(dir, "b.txt"), filepath.Join(dir, "c.txt")))   // a second name
	r.start()
	r.settle()
	r.want()
	must(t, os.Chtimes(filepath.Join(dir, "b.txt"), old, old))
	r.settle()
	r.want("one") // what is written again is another file
	// The same size, time and inode, but not the same text.
	f, err := os.OpenFile(filepath.Join(dir, "b.txt"), os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString("two")
	must(t, err)
	must(t, f.Close())
	must(t, os.Chtimes(filepath.Join(dir, "b.txt"), old, old))
	r.settle()
	r.want("two")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestGoneFilesAreForgotten(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, dir, "in/*.txt")
	r.write("in/a.txt", "one\n")
	r.write("in/b.txt", "two\n")
	r.settle()
	must(t, os.Rename(filepath.Join(dir, "in"), filepath.Join(dir, "away")))
	r.turn()
	r.clock.now = r.clock.now.Add(2 * forgetAfter)
	r.turn()
	if len(r.state) != 2 {
		t.Errorf("the folder is away, and %d files are remembered", len(r.state))
	}
	must(t, os.Rename(filepath.Join(dir, "away"), filepath.Join(dir, "in")))
	must(t, os.Remove(filepath.Join(dir, "in/a.txt")))
	r.turn()
	r.clock.now = r.clock.now.Add(forgetAfter)
	r.turn()
	if len(r.state) != 1 {
		t.Errorf("%d files are remembered", len(r.state))
	}
	r.want("one", "two")
}

func TestGoneBeforeItsEnd(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, dir, "*.txt")
	r.limits.events = 1
	r.start()
	r.write("a.txt", "1\n2\n3\n")
	n := 0
	r.fail = func() error {
		if n++; n > 1 {
			return errCrash
		}
		return nil
	}
	r.settle()
	r.fail = nil
	must(t, os.Remove(filepath.Join(dir, "a.txt")))
	r.start()
	r.turn()
	r.logged("before it was read to its end")
	if got := r.source.Counts(); got != (Counts{Lost: 1}) {
		t.Errorf("%+v", got)
	}
}

func TestUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	dir := t.TempDir()
	r := newRig(t, dir, "**/*.txt")
	r.write("a.txt", "one\n")
	r.write("b.txt", "two\n")
	must(t, os.Chmod(filepath.Join(dir, "a.txt"), 0))
	r.settle()
	r.settle()
	r.want("two")
	if got := r.source.Counts(); got.Problems != 1 {
		t.Errorf("it was told %d times", got.Problems)
	}
	must(t, os.Chmod(filepath.Join(dir, "a.txt"), 0o600))
	r.settle()
	r.want("one")
}

func TestWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, dir, "*.txt")
	must(t, os.Mkdir(filepath.Join(dir, "a.txt"), 0o700))
	must(t, mkfifo(filepath.Join(dir, "b.txt")))
	r.write(".hidden.txt", "no\n")
	must(t, os.Symlink("nowhere", filepath.Join(dir, "c.txt")))
	must(t, os.Symlink("loop.txt", filepath.Join(dir, "loop.txt")))
	r.settle()
	r.settle()
	r.want()
	if got := r.source.Counts(); got != (Counts{Problems: 1}) {
		t.Errorf("%+v", got)
	}
	r.logged("no file yet that the path names") // of those that it could read there is none
}

func TestSettings(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Path = "in/" }, "path: it names a folder"},
		{func(c *Config) { c.Path = "in/[" }, "path: it is not a pattern"},
		{func(c *Config) { c.Path = "in/*.bin" }, "path: the suffix .bin names no format"},
		{func(c *Config) { c.Path = "in/*.bin.gz" }, "path: the suffix .bin names no format"},
		{func(c *Config) { c.Then = Then{Word: "burn"} }, `then: "burn" is neither`},
		{func(c *Config) { c.Then = Then{Move: "in"} }, "then.move: it is the folder that the files are read from"},
		{func(c *Config) { c.Delimiter = "ab" }, `delimiter: "ab" is not one character`},
		{func(c *Config) { c.Delimiter = `"` }, "cannot divide columns"},
		{func(c *Config) { c.Columns = []string{"a", "a"} }, "columns: two columns"},
		{func(c *Config) { c.Types = map[string]string{"a": "date"} }, `types.a: "date" is none of`},
		{func(c *Config) { c.Stable = 2 * time.Hour }, "stable: must be"},
	} {
		config := Defaults()
		config.Path = "in/*.csv"
		c.change(&config)
		if _, err := New(config); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}
