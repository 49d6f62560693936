package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// world is files that somebody drops, renames and takes away, and a process that crashes at any commit, before it or behind it.
type world struct {
	*rig
	rt    *rapid.T
	then  Then
	files []*dropped
	drops int
	moved int // how often a file was renamed
}

// dropped is a file of the model.
type dropped struct {
	name    string
	records []string
	bad     bool // behind its records is something that cannot be read
}

// Every record of every file comes once and in order, whatever happens between two commits, and afterwards the files are where
// the settings want them.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp("", "millrace-file-")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		then := rapid.SampledFrom([]Then{{Word: "keep"}, {Word: "delete"}, {Move: filepath.Join(dir, "in/done")}}).Draw(rt, "then")
		w := &world{rt: rt, then: then}
		w.rig = newRig(rt, dir, "in/**/*.*", func(c *Config) {
			c.Then, c.Failed = then, Failed{Move: filepath.Join(dir, "failed")}
		})
		w.limits = limits{events: rapid.IntRange(1, 5).Draw(rt, "batch"), bytes: 1 << 10}
		w.start()
		rt.Repeat(map[string]func(*rapid.T){
			"drop":   func(*rapid.T) { w.drop() },
			"rename": func(*rapid.T) { w.rename() },
			"turn":   func(*rapid.T) { w.crashing() },
			"wait":   func(*rapid.T) { w.clock.now = w.clock.now.Add(w.config.Stable) },
			"stop":   func(*rapid.T) { w.start() },
		})
		w.end()
	})
}

// drop puts a file into the folder at once, as one does by renaming it.
func (w *world) drop() {
	d := &dropped{name: fmt.Sprintf("in/%s%d", rapid.SampledFrom([]string{"", "sub/"}).Draw(w.rt, "folder"), w.drops)}
	w.drops++
	for n := range rapid.IntRange(0, 12).Draw(w.rt, "records") {
		d.records = append(d.records, fmt.Sprintf("%d/%d", w.drops, n))
	}
	d.bad = rapid.IntRange(0, 4).Draw(w.rt, "bad") == 0
	var text strings.Builder
	format := rapid.SampledFrom([]string{".ndjson", ".csv"}).Draw(w.rt, "format")
	if d.name += format; format == ".csv" {
		text.WriteString("r\n")
	}
	for _, r := range d.records {
		fmt.Fprintf(&text, map[string]string{".csv": "%s\n", ".ndjson": "{\"r\":%q}\n"}[format], r)
	}
	if d.bad {
		text.WriteString("{,,\n")
	}
	w.write("away", text.String())
	path := filepath.Join(w.dir, d.name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.Rename(filepath.Join(w.dir, "away"), path)); err != nil {
		w.rt.Fatal(err)
	}
	w.files = append(w.files, d)
}

// rename gives a file another name, if it is still there.
func (w *world) rename() {
	if len(w.files) == 0 {
		return
	}
	d := rapid.SampledFrom(w.files).Draw(w.rt, "file")
	to := fmt.Sprintf("in/r%d%s", w.moved, filepath.Ext(d.name))
	w.moved++
	err := os.Rename(filepath.Join(w.dir, d.name), filepath.Join(w.dir, to))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.rt.Fatal(err)
	}
	if err == nil {
		d.name = to
	}
}

// crashing is a look during which the process may crash, which then starts again.
func (w *world) crashing() {
	left := rapid.IntRange(0, 6).Draw(w.rt, "commits")
	crash := func() error {
		if left--; left < 0 {
			return errCrash
		}
		return nil
	}
	if rapid.Bool().Draw(w.rt, "before") {
		w.fail = crash
	} else {
		w.after = crash
	}
	if !w.turn() {
		w.fail, w.after = nil, nil
		w.start()
	}
	w.fail, w.after = nil, nil
}

// end lets everything come to its end, and compares.
func (w *world) end() {
	w.settle()
	w.settle()
	w.clock.now = w.clock.now.Add(forgetAfter)
	w.turn()
	got := map[string][]string{}
	for _, e := range w.events {
		r := strings.TrimSuffix(strings.TrimPrefix(string(e.Data), `{"r":"`), `"}`)
		file, _, _ := strings.Cut(r, "/")
		got[file] = append(got[file], r)
	}
	for i, d := range w.files {
		if have := got[fmt.Sprint(i+1)]; fmt.Sprint(have) != fmt.Sprint(d.records) {
			w.rt.Fatalf("of %s came %q, want %q\n%s", d.name, have, d.records, w.log.String())
		}
		if kept := exists(filepath.Join(w.dir, d.name)); kept != (w.then.Word == "keep" && !d.bad) {
			w.rt.Fatalf("%s: is it there? %v\n%s", d.name, kept, w.log.String())
		}
	}
	if n := len(w.state); n > len(w.files) || w.then.Word != "keep" && n > 0 {
		w.rt.Fatalf("%d files are remembered of %d", n, len(w.files))
	}
}
