package storage

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct{ path, want string }{
		{"", "required"},
		{"s3://bucket/key.ndjson", "type s3"},
		{"file:///tmp/x.ndjson", "URL"},
		{"data/", "folder"},
		{"data/{{ id }}/", "folder"},
		{"..", "file"},
		{"data/..", "file"},
		{" data/x.ndjson", "white space"},
		{"data/a\x00b.ndjson", "control"},
		{"data/x.JSON", "nothing closes"},
		{"data/x.ndjson.gz", "nothing closes"},
		{"data/x.zst", "nothing closes"},
		{"data/" + strings.Repeat("x", 300), "longer"},
	} {
		config := Defaults()
		config.Path = template(t, c.path)
		_, err := New(config)
		var k *event.KeyError
		if !errors.As(err, &k) || k.Key != "path" || !strings.Contains(k.Err.Error(), c.want) {
			t.Errorf("%q: %v, want path and %q", c.path, err, c.want)
		}
	}
	_, err := New(Config{Path: rules.Template{}, Content: "csv"})
	if err == nil || !strings.Contains(err.Error(), "path: required") || !strings.Contains(err.Error(), "content: ") {
		t.Errorf("%v does not name both keys", err)
	}
}

func TestNewAccepts(t *testing.T) {
	work := t.TempDir()
	t.Chdir(work)
	work, err := filepath.EvalSymlinks(work)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, root, claim string }{
		{"x.ndjson", work, work + "/x.ndjson"},
		{"./data/../data/x.jsonl", work + "/data", work + "/data/x.jsonl"},
		{"/var/lib//x.log", "/var/lib", "/var/lib/x.log"},
		{"/x.txt", "/", "/x.txt"},
		{"/{{ id }}", "/", "/{{id}}"},
		{"data/orders/{{id}}/{{  type }}.ndjson", work + "/data/orders", work + "/data/orders/{{id}}/{{type}}.ndjson"},
		{"data/orders-{{ id }}.ndjson", work + "/data", work + "/data/orders-{{id}}.ndjson"},
		{"{{ id }}", work, work + "/{{id}}"},
		{"data.csv/x", work + "/data.csv", work + "/data.csv/x"},
	} {
		config := Defaults()
		config.Path = template(t, c.path)
		s, err := New(config)
		if err != nil {
			t.Errorf("%q: %v", c.path, err)
			continue
		}
		if got := s.Exclusive(); s.place.root != c.root || len(got) != 1 || got[0] != c.claim {
			t.Errorf("%q: root %q claim %q, want %q %q", c.path, s.place.root, got, c.root, c.claim)
		}
	}
}
