package outbox

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
)

// testdata has a file of each schema as its own version of this program left it. A new schema gets one before the next changes it:
//
//	MILLRACE_FIXTURE=1 go test ./outbox -run TestMakeFixture

const fixtures = "testdata/schema-%d.db.gz"

// fixtureTime is when they are opened: within the hour for which the files of schemas 2 to 4 remember their keys. A file that is made
// later needs a time of its own.
var fixtureTime = time.Date(2026, 11, 20, 17, 25, 0, 0, time.UTC)

// makeFixture makes an outbox with something in every table that is small: six events of which three are purged, one rescued as a dead
// letter and one that waits, keys, receipts, a state, a subscription that has settled ahead of its cursor.
func makeFixture(t *testing.T, path string) {
	b, err := Open(t.Context(), Options{Path: path, Retention: Retention{Size: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Configure(t.Context(), crashLayout); err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		c := appending(event.Event{ID: fmt.Sprint(i + 1), Source: "/a", Type: "t", Data: fmt.Append(nil, "data ", i+1), Received: b.clock.Now()})
		c.Appends[0].Keys = []string{fmt.Sprint("key ", i+1)}
		c.States = []event.State{{Owner: "source:t", Changes: event.Changes{"at": fmt.Append(nil, i+1)}}}
		if err := commit(t.Context(), b, c); err != nil {
			t.Fatal(err)
		}
	}
	settle(t, b, "t/eager", dead(1, false), retrying(2, false), delivered(3, 1, 200, time.Millisecond), event.Outcome{Offset: 5})
	settle(t, b, "t/lazy", all(1, 3)...)
	until(t, "purge", func() bool { return b.topic("t").purgedTo() == 3 })
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestMakeFixture(t *testing.T) {
	if os.Getenv("MILLRACE_FIXTURE") == "" {
		t.Skip("makes testdata")
	}
	path := filepath.Join(t.TempDir(), "outbox.db")
	makeFixture(t, path)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(content); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	write(t, fmt.Sprintf(fixtures, schemaVersion), packed.String())
}

func fixture(t *testing.T, schema int) (path string) {
	t.Helper()
	f, err := os.Open(fmt.Sprintf(fixtures, schema))
	if err != nil {
		t.Fatalf("there is no file of schema %d: %v", schema, err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "outbox.db")
	write(t, path, string(content))
	return path
}

// TestFixtures: a file of every schema from 2 on is sound, is backed up and repaired without being migrated, and has all of its content
// after the start of this version.
func TestFixtures(t *testing.T) {
	for schema := 2; schema <= schemaVersion; schema++ {
		path := fixture(t, schema)
		c, err := Check(t.Context(), path)
		if err != nil || len(c.Damages) > 0 || c.Schema != int64(schema) || c.Events != 5 {
			t.Errorf("schema %d: %+v, %v", schema, c, err)
		}
		if c, err := BackupFile(t.Context(), path, path+".copy", nil); err != nil || c.Schema != int64(schema) {
			t.Errorf("schema %d: %+v, %v", schema, c, err)
		}
		if c, err := Repair(t.Context(), path, path+".repaired"); err != nil || c.Schema != int64(schema) {
			t.Errorf("schema %d: %+v, %v", schema, c, err)
		}
		restored := filepath.Join(t.TempDir(), "outbox.db")
		if c, err := Restore(t.Context(), RestoreOptions{From: path + ".copy", To: restored}); err != nil || c.Schema != schemaVersion {
			t.Errorf("schema %d: %+v, %v", schema, c, err)
		}
		for _, p := range []string{path, path + ".repaired", restored} {
			asInFixture(t, p)
		}
	}
}

func asInFixture(t *testing.T, path string) {
	t.Helper()
	clock := newHandClock()
	clock.now.Store(fixtureTime.UnixNano())
	b := opened(t, Options{Path: path, Clock: clock})
	put(t, b, "7")
	next(t, subscribed(t, b, "t/eager"), 4, 6, 7)
	next(t, subscribed(t, b, "t/lazy"), 4, 5, 6, 7)
	if got := due(t, b.subscription("t/eager")); got != "[2]" {
		t.Error("waiting:", got)
	}
	letters, err := b.DeadLetters(t.Context(), event.DeadQuery{})
	if err != nil || len(letters) != 1 || string(letters[0].Record.Event.Data) != "data 1" {
		t.Errorf("%+v, %v", letters, err)
	}
	if state, err := b.State(t.Context(), "source:t"); err != nil || string(state["at"]) != "6" {
		t.Error(state, err)
	}
	if r, err := b.Receipts(t.Context(), "t/eager", 3); err != nil || len(r) != 1 {
		t.Error(r, err)
	}
	if n, err := outside(t, path).integer("SELECT count(*) FROM keys"); err != nil || n == 0 {
		t.Error(n, err)
	}
	sameOnDisk(t, b)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if c, err := Check(t.Context(), path); err != nil || len(c.Damages) > 0 || c.Schema != schemaVersion {
		t.Errorf("%+v, %v", c, err)
	}
}
