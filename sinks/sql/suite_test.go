package sql

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace-run/millrace/databases/databasetest"
	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
	"github.com/millrace-run/millrace/sinks/sinktest"
)

func TestMain(m *testing.M) { os.Exit(databasetest.Main(m)) }

// columns makes columns of name, expression, name, expression, …
func columns(t testing.TB, pairs ...string) []Column {
	t.Helper()
	var all []Column
	for i := 0; i < len(pairs); i += 2 {
		name, kind, _ := strings.Cut(pairs[i], ":")
		x, err := rules.Compile(pairs[i+1], rules.Options{})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, Column{Name: name, Value: x, Type: kind})
	}
	return all
}

// newSink makes a sink that is closed at the end of the test.
func newSink(t testing.TB, c Config) *Sink {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// suiteColumns write what the suite sends; the table counts its rows in seq.
func suiteConfig(t testing.TB, url string) Config {
	c := Defaults()
	c.URL, c.Table = url, "events"
	c.Columns = columns(t, "source", "source", "id", "id", "n", "data.n", "text", "data.text")
	return c
}

const suiteTable = "CREATE TABLE events (seq %s, source text, id text, n integer NOT NULL CHECK (n < 100000), text text, UNIQUE (source, id))"

// received are the events in the table, with the bytes that the suite sent.
func received(c *databasetest.Client) []sinktest.Received {
	var all []sinktest.Received
	for _, row := range c.Rows("SELECT id, n, text FROM events ORDER BY seq") {
		var id, text string
		_, _ = json.Unmarshal([]byte(row[0]), &id), json.Unmarshal([]byte(row[2]), &text)
		data := fmt.Sprintf(`{"n":%s,"text":"%s"}`, row[1], text)
		if strings.HasPrefix(text, `a"b`) {
			data = fmt.Sprintf(`{"n":%s,"text":"a\"b\\c \u00e4 ü"}`, row[1])
		}
		all = append(all, sinktest.Received{ID: id, Data: []byte(data)})
	}
	return all
}

func spoil(data string) func(*event.Event) {
	return func(e *event.Event) { e.Data = []byte(data) }
}

func TestPostgresSuite(t *testing.T) {
	server := databasetest.Shared(t)
	sinktest.Run(t, sinktest.Harness{Serial: true, Upsert: true, New: func(t *testing.T) *sinktest.Subject {
		direct := databasetest.Postgres(t)
		look := databasetest.Open(t, direct)
		look.Exec(fmt.Sprintf(suiteTable, "bigserial"))
		proxy, url := databasetest.NewProxy(t, server, direct)
		sink := newSink(t, suiteConfig(t, url))
		return &sinktest.Subject{
			Sink:     sink,
			Received: func(*testing.T) []sinktest.Received { return received(look) },
			Down:     proxy.Down, Up: proxy.Up, Stall: proxy.Stall,
			Verdicts: []sinktest.Verdict{
				{Name: "no number", Spoil: spoil(`{"n":"abc"}`), Class: event.PermanentClass, Check: says(`column "n"`, "22P02")},
				{Name: "beyond the range", Spoil: spoil(`{"n":99999999999999999999}`), Class: event.PermanentClass, Check: says(`column "n"`, "22003")},
				{Name: "null where there must be a value", Spoil: spoil(`{}`), Class: event.PermanentClass, Check: says(`column "n"`, "23502")},
				{Name: "a check", Spoil: spoil(`{"n":100000}`), Class: event.PermanentClass, Check: says("events_n_check")},
				{Name: "a NUL character", Spoil: spoil(`{"n":1,"text":"a\u0000b"}`), Class: event.PermanentClass, Check: says(`column "text"`, "NUL")},
				{Name: "not UTF-8", Spoil: func(e *event.Event) { e.ID = "a\xffb" }, Class: event.PermanentClass, Check: says("UTF-8")},
				{Name: "no JSON", Spoil: spoil(`{`), Class: event.PermanentClass},
				{Name: "a column is gone", Prepare: func() { look.Exec("ALTER TABLE events RENAME text TO words") },
					Class: event.UnavailableClass, Check: says("42703", "the table has changed")},
				{Name: "the table is gone", Prepare: func() { look.Exec("DROP TABLE events") },
					Class: event.UnavailableClass, Check: says("42P01", "create: true")},
			},
			Close: func() {
				_ = sink.Close()
				proxy.Close()
			},
		}
	}})
}

func says(words ...string) func(event.Failure) error {
	return func(f event.Failure) error {
		for _, w := range words {
			if !strings.Contains(f.Error(), w) {
				return fmt.Errorf("%q does not say %q", f.Error(), w)
			}
		}
		return nil
	}
}

func TestSQLiteSuite(t *testing.T) {
	sinktest.Run(t, sinktest.Harness{Serial: true, Upsert: true, New: func(t *testing.T) *sinktest.Subject {
		url := "sqlite:" + filepath.Join(t.TempDir(), "shop.db")
		look := databasetest.Open(t, url)
		look.Exec(fmt.Sprintf(suiteTable, "integer PRIMARY KEY AUTOINCREMENT"))
		sink := newSink(t, suiteConfig(t, url))
		return &sinktest.Subject{
			Sink:     sink,
			Received: func(*testing.T) []sinktest.Received { return received(look) },
			Down:     func() { look.Exec("ALTER TABLE events RENAME TO away") },
			Up:       func() { look.Exec("ALTER TABLE away RENAME TO events") },
			Stall: func() (<-chan struct{}, func()) {
				look.Exec("BEGIN EXCLUSIVE")
				reached := make(chan struct{}, 1)
				reached <- struct{}{} // it gets no further than the lock
				return reached, func() { look.Exec("ROLLBACK") }
			},
			Verdicts: []sinktest.Verdict{
				{Name: "null where there must be a value", Spoil: spoil(`{}`), Class: event.PermanentClass, Check: says("events.n")},
				{Name: "a check", Spoil: spoil(`{"n":100000}`), Class: event.PermanentClass, Check: says("CHECK")},
				{Name: "the table is gone", Prepare: func() { look.Exec("DROP TABLE events") },
					Class: event.UnavailableClass, Check: says("no such table", "create: true")},
			},
			Close: func() { _ = sink.Close() },
		}
	}})
}
