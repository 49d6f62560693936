package storage

import (
	"path/filepath"
	"testing"

	"github.com/millrace-run/millrace/event"
)

// Whatever the path, the file is below the folder, and the claim is what it would be without it.
func TestBelow(t *testing.T) {
	working := t.TempDir()
	t.Chdir(working)
	folder := filepath.Join(working, "aside")
	for path, want := range map[string]string{
		"a.ndjson":                     "aside/a.ndjson",
		"data/{{ type }}/b.ndjson":     "aside/data/t/b.ndjson",
		"./data/../c.ndjson":           "aside/c.ndjson",
		"../up.ndjson":                 "aside/outside" + filepath.Dir(working) + "/up.ndjson",
		"/var/log/d-{{ type }}.ndjson": "aside/outside/var/log/d-t.ndjson",
		working + "/e.ndjson":          "aside/e.ndjson",
		"/root.ndjson":                 "aside/outside/root.ndjson",
		working + "-other/f.ndjson":    "aside/outside" + working + "-other/f.ndjson",
		"{{ id }}.ndjson":              "aside/%2E.%2Fx.ndjson",
	} {
		c := Defaults()
		c.Path = template(t, path)
		here, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		s, err := New(c, Below(folder, working))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.File(&event.Event{ID: "../x", Source: "/s", Type: "t"}); err != nil || got != filepath.Join(working, want) {
			t.Errorf("%s: %s, %v, want %s", path, got, err, want)
		}
		if got, want := s.Exclusive()[0], here.Exclusive()[0]; got != want {
			t.Errorf("%s claims %s, want %s", path, got, want)
		}
	}
}

// A file whose path was taken has a number, and that is the one that is named.
func TestFileWithNumber(t *testing.T) {
	b := newBench(t, filepath.Join(t.TempDir(), "a.ndjson"))
	e := &event.Event{ID: "1", Source: "/s", Type: "t"}
	path, err := b.File(e)
	if err != nil {
		t.Fatal(err)
	}
	b.files["a.ndjson"] = newEntry("a.ndjson", mark{Root: filepath.Dir(path), Name: "a.1.ndjson"})
	if got, err := b.File(e); err != nil || got != filepath.Join(filepath.Dir(path), "a.1.ndjson") {
		t.Errorf("%s, %v", got, err)
	}
}
