package app

import (
	"bytes"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// What gathers for an object does not keep a process from ending, and an object is larger than what a subscription may settle out of
// order, on each kind of outbox. Each line is in one object, once.
func TestObjectsOfAWholeInput(t *testing.T) {
	const lines = 10000
	for _, outbox := range []string{"", "outbox: { memory: {} }"} {
		t.Chdir(t.TempDir())
		backend := s3mem.New()
		if err := backend.CreateBucket("lines"); err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
		var text strings.Builder
		for i := range lines {
			fmt.Fprintf(&text, "line %d\n", i)
		}
		input(t, text.String())
		_, err := runToTheEnd(t, t.Context(), strings.NewReplacer("URL", server.URL, "OUTBOX", outbox).Replace(`
admin: { listen: "127.0.0.1:0" }
OUTBOX
pipelines:
  in:
    source: { stdin: {} }
    sinks:
      lake:
        s3:
          bucket: lines
          endpoint: URL
          path_style: true
          credentials: { access_key: "me", secret_key: "geheim" }
          content: raw
          age: 2s
`))
		server.Close()
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		objects := storedObjects(t, backend, &got)
		seen := map[string]bool{}
		for line := range strings.Lines(got.String()) {
			seen[line] = true
		}
		if len(seen) != lines || strings.Count(got.String(), "\n") != lines || objects > 2 {
			t.Errorf("%q: %d objects with %d lines, %d of them different", outbox, objects, strings.Count(got.String(), "\n"), len(seen))
		}
	}
}

func storedObjects(t *testing.T, backend *s3mem.Backend, into io.Writer) int {
	t.Helper()
	list, err := backend.ListBucket("lines", nil, gofakes3.ListBucketPage{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list.Contents {
		o, err := backend.GetObject("lines", c.Key, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(into, o.Contents); err != nil {
			t.Fatal(err)
		}
	}
	return len(list.Contents)
}
