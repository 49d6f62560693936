package sql

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/millrace-run/millrace/databases/databasetest"
	"github.com/millrace-run/millrace/event"
)

// engines run a test against an empty database of each kind.
func engines(t *testing.T, run func(t *testing.T, url string)) {
	t.Run("postgres", func(t *testing.T) { run(t, databasetest.Postgres(t)) })
	t.Run("sqlite", func(t *testing.T) { run(t, "sqlite:"+filepath.Join(t.TempDir(), "data", "shop.db")) })
}

// order is the delivery of an event with data.
func order(id, data string) event.Delivery {
	return event.Delivery{Attempt: 1, Event: &event.Event{
		ID: id, Source: "/orders", Type: "order", Subject: "s", DataContentType: "application/json",
		Time: "2026-11-20T15:00:00.5+01:00", Data: []byte(data), Received: time.Date(2026, 11, 20, 14, 0, 1, 0, time.UTC),
	}}
}

func orders(from, to int) []event.Delivery {
	var all []event.Delivery
	for i := from; i < to; i++ {
		all = append(all, order(fmt.Sprint("o-", i), fmt.Sprintf(`{"total":%d}`, i)))
	}
	return all
}

// deliver returns the verdicts as words: ok, permanent, unavailable, counted.
func deliver(t *testing.T, s *Sink, batch ...event.Delivery) []string {
	t.Helper()
	var words []string
	for _, err := range s.Deliver(t.Context(), batch).Verdicts {
		words = append(words, word(err))
	}
	return words
}

func word(err error) string {
	if err == nil {
		return "ok"
	}
	words := map[event.Class]string{event.PermanentClass: "permanent", event.UnavailableClass: "unavailable", event.Counted: "counted"}
	return words[event.VerdictOf(err).Class]
}

func accept(t *testing.T, s *Sink, batch ...event.Delivery) {
	t.Helper()
	for i, err := range s.Deliver(t.Context(), batch).Verdicts {
		if err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
	}
}

func orderConfig(t testing.TB, url string) Config {
	c := Defaults()
	c.URL, c.Table, c.Create = url, "orders", true
	c.Columns = columns(t, "source", "source", "id", "id", "total:numeric", "data.total")
	return c
}

func TestCreatesAndWrites(t *testing.T) {
	engines(t, func(t *testing.T, url string) {
		c := orderConfig(t, url)
		c.Table = "Orders \"x\"; drop table y"
		c.Columns = append(c.Columns, columns(t, `select"; drop table z`, "data.note", "at", "time", "got", "received", "doc", "data",
			"paid:boolean", "data.paid", "items:jsonb", "data.items", "raw:bytea", "data.note")...)
		if strings.HasPrefix(url, "sqlite") {
			c.Columns[len(c.Columns)-1].Type = "blob"
		}
		s := newSink(t, c)
		data := `{"total":19.990000000000000000001,"note":"tab\tnew\nline\rback\\slash \\N 'quote' \"q\" é","paid":true,"items":[{"b":1,"a":2.50}],"none":null}`
		accept(t, s, order("o-1", data))
		accept(t, s, order("o-2", data)) // by COPY into the table itself
		accept(t, s, order("o-3", `{"total":7}`))
		look := databasetest.Open(t, url)
		got := look.Rows(`SELECT id, total, "select""; drop table z", at, got, doc, paid, items, raw FROM "Orders ""x""; drop table y" ORDER BY id`)
		text := `"tab\tnew\nline\rback\\slash \\N 'quote' \"q\" é"`
		b64 := "dGFiCW5ldwpsaW5lDWJhY2tcc2xhc2ggXE4gJ3F1b3RlJyAicSIgw6k="
		want := []string{`19.990000000000000000001`, text, `"2026-11-20T14:00:00.5Z"`, `"2026-11-20T14:00:01Z"`, ``, `true`, `[{"a": 2.50, "b": 1}]`, `"` + b64 + `"`}
		if strings.HasPrefix(url, "sqlite") {
			want[0], want[5], want[6], want[7] = `"19.990000000000000000001"`, `true`, `"[{\"b\":1,\"a\":2.50}]"`, `x"`+b64+`"`
			want[0] = `19.99` // NUMERIC affinity makes a number of it
			want[2] = `"2026-11-20T14:00:00.5Z"`
		}
		for i := range 2 {
			row := slices.Clone(got[i][1:])
			row[4] = ""
			if d := cmp.Diff(want, row); d != "" {
				t.Errorf("row %d (-want +got):\n%s", i, d)
			}
		}
		if d := cmp.Diff([]string{"7", "null", "null"}, []string{got[2][1], got[2][2], got[2][8]}); d != "" {
			t.Error(d)
		}
	})
}

// What breaks the transaction takes no other row with it, on either way into the table.
func TestBadRowsAlone(t *testing.T) {
	engines(t, func(t *testing.T, url string) {
		s := newSink(t, orderConfig(t, url))
		accept(t, s, orders(0, 10)...)
		look := databasetest.Open(t, url)
		look.Exec(map[bool]string{true: "DROP TABLE orders", false: "ALTER TABLE orders ADD CHECK (total < 1000)"}[strings.HasPrefix(url, "sqlite")])
		if strings.HasPrefix(url, "sqlite") {
			look.Exec("CREATE TABLE orders (source, id, total CHECK (total < 1000), PRIMARY KEY (source, id))")
			accept(t, s, orders(0, 10)...)
		}
		for round := range 3 {
			batch := orders(100*(round+1), 100*(round+1)+50)
			var want []string
			for i := range batch {
				want = append(want, "ok")
				if i%17 == 3 {
					batch[i].Event.Data, want[i] = []byte(`{"total":5000}`), "permanent"
				}
				if i == 21 {
					batch[i].Event.Data, want[i] = []byte(`{"total":{"a":`), "permanent"
				}
			}
			if d := cmp.Diff(want, deliver(t, s, batch...)); d != "" {
				t.Fatalf("round %d: %s", round, d)
			}
		}
		if n := look.Value("SELECT count(*) FROM orders"); n != fmt.Sprint(10+3*46) {
			t.Errorf("%s rows", n)
		}
	})
}

func TestOnConflict(t *testing.T) {
	engines(t, func(t *testing.T, url string) {
		for _, c := range []struct {
			how, want string
			verdicts  []string
		}{
			{onUpdate, "2", []string{"ok", "ok"}}, {onIgnore, "1", []string{"ok", "ok"}}, {onError, "1", []string{"permanent", "ok"}},
		} {
			config := orderConfig(t, url)
			config.Table, config.OnConflict = "orders_"+c.how, c.how
			s := newSink(t, config)
			accept(t, s, order("o-1", `{"total":1}`))
			for range 3 {
				got := deliver(t, s, order("o-1", `{"total":2}`), order("o-2", `{"total":2}`))
				if d := cmp.Diff(c.verdicts, got); d != "" {
					t.Errorf("%s: %s", c.how, d)
				}
				if c.how == onError {
					c.verdicts[1] = "permanent"
				}
			}
			look := databasetest.Open(t, url)
			if got := look.Value("SELECT total FROM orders_" + c.how + " WHERE id = 'o-1'"); got != c.want {
				t.Errorf("%s: total %s, want %s", c.how, got, c.want)
			}
		}
	})
}

// Of several events with one key in a batch the last one wins, or the first where nothing is written over.
func TestOneKeyInABatch(t *testing.T) {
	engines(t, func(t *testing.T, url string) {
		for how, want := range map[string]string{onUpdate: "3", onIgnore: "1"} {
			c := orderConfig(t, url)
			c.Table, c.OnConflict, c.Key = "orders_"+how, how, []string{"customer"}
			c.Columns = append(c.Columns, columns(t, "customer:integer", "data.customer")...)
			s := newSink(t, c)
			// 1 and "01" are one key to a column of integers, which only the database knows.
			accept(t, s, order("a", `{"total":1,"customer":1}`), order("b", `{"total":2,"customer":1}`), order("c", `{"total":3,"customer":"01"}`))
			if got := databasetest.Open(t, url).Value("SELECT total FROM orders_" + how); got != want {
				t.Errorf("%s: total %s, want %s", how, got, want)
			}
			if got := deliver(t, s, order("d", `{"total":4}`)); got[0] != "permanent" {
				t.Errorf("a key that is null: %v", got)
			}
		}
	})
}

// A connection that breaks while the server commits leaves open what happened; writing again does no harm.
func TestDiesAtCommit(t *testing.T) {
	direct := databasetest.Postgres(t)
	proxy, url := databasetest.NewProxy(t, databasetest.Shared(t), direct)
	defer proxy.Close()
	s := newSink(t, orderConfig(t, url))
	look := databasetest.Open(t, direct)
	for i, statement := range []string{"COMMIT", "COPY \"orders\"", "COMMIT", "INSERT"} {
		batch := orders(100*i, 100*i+100)
		if i != 1 { // a new connection begins with an upsert
			_ = s.Close()
		}
		proxy.Cut(statement)
		if got := deliver(t, s, batch...); got[0] != "unavailable" || got[99] != "unavailable" {
			t.Fatalf("%s: %v", statement, got[:1])
		}
		accept(t, s, batch...)
		for ctx := t.Context(); ctx.Err() == nil; { // the server may be at it still
			if look.Value(fmt.Sprintf("SELECT count(*) FROM orders WHERE total >= %d AND total < %d", 100*i, 100*i+100)) == "100" {
				break
			}
		}
	}
	if n := look.Value("SELECT count(*) FROM orders"); n != "400" {
		t.Errorf("%s rows, want 400", n)
	}
	for range 4 {
		accept(t, s, orders(0, 1)...) // until nothing is in doubt
	}
	accept(t, s, orders(400, 401)...)
	s.writer.(*postgres).careful = 0
	proxy.Cut("COPY \"orders\"")
	if got := deliver(t, s, order("bad", `{"total":`)); got[0] != "permanent" {
		t.Errorf("where no event can be a row: %v", got)
	}
}

// What is no fault of an event makes it wait.
func TestUnavailable(t *testing.T) {
	url := databasetest.Postgres(t)
	look := databasetest.Open(t, url)
	s := newSink(t, orderConfig(t, url))
	accept(t, s, orders(0, 3)...)
	for _, c := range []struct{ name, break_, mend, words string }{
		{"terminated", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'millrace' AND pid <> pg_backend_pid()", "", ""},
		{"read only", "ALTER DATABASE %s SET default_transaction_read_only = on", "ALTER DATABASE %s SET default_transaction_read_only = off", "25006"},
		{"no unique index", "ALTER TABLE orders DROP CONSTRAINT orders_pkey", "ALTER TABLE orders ADD PRIMARY KEY (source, id)", "unique index on the columns of key"},
		{"a column less", "ALTER TABLE orders RENAME total TO sum", "ALTER TABLE orders RENAME sum TO total", "has changed"},
		{"no server", "", "", "no such host"},
	} {
		t.Run(c.name, func(t *testing.T) {
			database := url[strings.LastIndex(url, "/")+1 : strings.Index(url, "?")]
			run := func(statement string) {
				if strings.HasPrefix(statement, "SELECT") {
					look.Rows(statement)
				} else if statement != "" {
					if strings.Contains(statement, "%s") {
						statement = fmt.Sprintf(statement, database)
					}
					look.Exec(statement)
				}
			}
			if c.name != "terminated" {
				_ = s.Close()
			}
			run(c.break_)
			for c.name == "terminated" && look.Value("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()") != "1" {
				if t.Context().Err() != nil {
					t.Fatal("the connection of the sink does not end")
				}
			}
			one := s
			if c.name == "no server" {
				config := orderConfig(t, "postgres://nobody:secret-word@db.invalid/shop")
				one = newSink(t, config)
			}
			err := one.Deliver(t.Context(), orders(10, 13)).Verdicts[1]
			if word(err) != "unavailable" || c.words != "no such host" && !strings.Contains(err.Error(), c.words) || strings.Contains(fmt.Sprint(err), "secret-word") {
				t.Errorf("%v", err)
			}
			run(c.mend)
			_ = s.Close()
			accept(t, s, orders(10, 13)...)
		})
	}
}

func TestDeadlockIsUnavailable(t *testing.T) {
	url := databasetest.Postgres(t)
	s := newSink(t, orderConfig(t, url))
	accept(t, s, orders(0, 2)...)
	other := databasetest.Open(t, url)
	other.Exec("SET deadlock_timeout = '60s'", "BEGIN", "UPDATE orders SET total = 9 WHERE id = 'o-1'")
	got := make(chan error, 1)
	go func() { got <- s.Deliver(context.WithoutCancel(t.Context()), orders(0, 2)).Verdicts[0] }()
	look := databasetest.Open(t, url)
	for look.Value("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()") == "0" {
		if t.Context().Err() != nil {
			t.Fatal("the sink does not wait for the lock")
		}
	}
	other.Exec("UPDATE orders SET total = 9 WHERE id = 'o-0'", "COMMIT") // which the sink has written and waits with
	if err := <-got; word(err) != "unavailable" || !strings.Contains(err.Error(), "40P01") {
		t.Errorf("%v", err)
	}
	accept(t, s, orders(0, 2)...)
}

// A column that takes more than before is not judged by what it was.
func TestWidenedColumn(t *testing.T) {
	url := databasetest.Postgres(t)
	c := orderConfig(t, url)
	c.Columns[2].Type = "smallint"
	s := newSink(t, c)
	accept(t, s, orders(0, 1)...)
	accept(t, s, orders(0, 1)...) // which met a key, so that the temporary table is used
	databasetest.Open(t, url).Exec("ALTER TABLE orders ALTER total TYPE bigint")
	accept(t, s, order("big", `{"total":3000000000}`), orders(0, 1)[0])
}

// Views with triggers and tables with policies take no COPY.
func TestNoCopy(t *testing.T) {
	url := databasetest.Postgres(t)
	look := databasetest.Open(t, url)
	look.Exec("CREATE TABLE base (source text, id text, total numeric, PRIMARY KEY (source, id))", "CREATE VIEW orders AS SELECT * FROM base")
	c := orderConfig(t, url)
	c.Create = false
	s := newSink(t, c)
	for i := range 5 {
		accept(t, s, orders(i, i+2)...)
	}
	if n := look.Value("SELECT count(*) FROM base"); n != "6" {
		t.Errorf("%s rows", n)
	}
}

func TestSQLiteBusy(t *testing.T) {
	url := "sqlite:" + filepath.Join(t.TempDir(), "shop.db")
	s := newSink(t, orderConfig(t, url))
	accept(t, s, orders(0, 1)...)
	other := databasetest.Open(t, url)
	other.Exec("BEGIN EXCLUSIVE")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := s.Deliver(ctx, orders(1, 2)).Verdicts[0]; word(err) != "unavailable" {
		t.Errorf("%v", err)
	}
	other.Exec("ROLLBACK")
	accept(t, s, orders(1, 2)...)
}

// The file of an outbox is not a user's.
func TestOutboxIsRefused(t *testing.T) {
	url := "sqlite:" + filepath.Join(t.TempDir(), "millrace.db")
	databasetest.Open(t, url).Exec("PRAGMA application_id = 0x4d696c6c")
	err := newSink(t, orderConfig(t, url)).Deliver(t.Context(), orders(0, 1)).Verdicts[0]
	if word(err) != "unavailable" || !strings.Contains(err.Error(), "outbox") {
		t.Errorf("%v", err)
	}
}

// Without create a file that is not there is not made.
func TestMissingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shop.db")
	c := orderConfig(t, "sqlite:"+path)
	c.Create = false
	if got := deliver(t, newSink(t, c), orders(0, 1)...); got[0] != "unavailable" {
		t.Error(got)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file was made: %v", err)
	}
}

func TestConfig(t *testing.T) {
	many, value := make([]Column, 10000), columns(t, "id", "id")[0].Value
	for i := range many {
		many[i] = Column{Name: fmt.Sprint("c", i), Value: value}
	}
	for _, c := range []struct {
		name   string
		change func(c *Config)
		want   string
	}{
		{"no database", func(c *Config) { c.URL = "mysql://root:pw@host/x" }, "url: not the URL of a database"},
		{"a bad port", func(c *Config) { c.URL = "postgres://u:hidden@host:abc/x" }, "url: not the URL"},
		{"in memory", func(c *Config) { c.URL = "sqlite::memory:" }, "url: the path is missing"},
		{"no table", func(c *Config) { c.Table = "" }, "table: required"},
		{"three names", func(c *Config) { c.Table = "a.b.c" }, "table: "},
		{"no columns", func(c *Config) { c.Columns = nil }, "columns: there are 0"},
		{"10,000 columns", func(c *Config) { c.Columns = append(c.Columns, many...) }, "columns: there are 10003 columns"},
		{"a long name", func(c *Config) { c.Columns = append(c.Columns, columns(t, strings.Repeat("x", 64), "id")...) }, "at most 63 bytes"},
		{"a type that ends the statement", func(c *Config) { c.Columns[2].Type = "int); drop table x; --" }, "columns.total.type"},
		{"key", func(c *Config) { c.Key = []string{"nr"} }, `key: "nr" is not among columns`},
		{"key twice", func(c *Config) { c.Key = []string{"id", "id"} }, "stands there twice"},
		{"default key", func(c *Config) { c.Columns = c.Columns[2:] }, "add source: source and id: id"},
		{"on_conflict", func(c *Config) { c.OnConflict = "merge" }, "on_conflict"},
	} {
		config := orderConfig(t, "postgres://u@host/shop")
		c.change(&config)
		_, err := New(config)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for _, kind := range []string{"numeric(10, 2)", "timestamp with time zone", "text[]", "double precision", "timestamp(3) without time zone", "public.mood"} {
		if err := checkType(kind); err != nil {
			t.Error(err)
		}
	}
}

// Whatever a text holds comes out as it went in, by both ways.
func TestTexts(t *testing.T) {
	engines(t, func(t *testing.T, url string) {
		c := orderConfig(t, url)
		c.Columns = columns(t, "source", "source", "id", "id", "total:text", "subject")
		s := newSink(t, c)
		look := databasetest.Open(t, url)
		texts := rapid.StringN(1, 40, -1)
		for round := range 2 { // by an upsert, then by COPY alone
			var batch []event.Delivery
			for i := range 200 {
				d := order(fmt.Sprintf("t-%d-%d", round, i), "{}")
				d.Event.Subject = strings.ReplaceAll(texts.Example(1000*round+i), "\x00", "") + "\\N\t\\."
				batch = append(batch, d)
			}
			accept(t, s, batch...)
			for _, d := range batch {
				want := strings.ReplaceAll(d.Event.Subject, "'", "''")
				got := look.Value(fmt.Sprintf("SELECT total = '%s' FROM orders WHERE id = '%s'", want, d.Event.ID))
				if got != "true" && got != "1" {
					t.Errorf("%q came out otherwise", d.Event.Subject)
				}
			}
		}
	})
}

// untilSleep is a context whose time is over as soon as a statement of the database sleeps.
func untilSleep(t *testing.T, url string) (ctx context.Context, end func()) {
	look := databasetest.Open(t, url)
	sleeps := func() bool {
		return look.Value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()") != "0"
	}
	for sleeps() { // one of the time before
	}
	inner, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for inner.Err() == nil && !sleeps() {
		}
		cancel()
	}()
	return expiring{inner}, func() { cancel(); <-done }
}

// expiring ends as a context does whose time is over.
type expiring struct{ context.Context }

func (e expiring) Err() error {
	if e.Context.Err() != nil {
		return context.DeadlineExceeded
	}
	return nil
}

// A row that the server does not survive, or that takes too long, does not keep others waiting, and its attempts count. Nothing of
// that happens where the database fails at every row.
func TestRowThatBreaksTheConnection(t *testing.T) {
	for name, action := range map[string]string{
		"breaks": "PERFORM pg_terminate_backend(pg_backend_pid())", "hangs": "PERFORM pg_sleep(60)",
		"names no table": "EXECUTE 'SELECT * FROM orders_of_' || NEW.id::text",
	} {
		t.Run(name, func(t *testing.T) {
			url := databasetest.Postgres(t)
			s := newSink(t, orderConfig(t, url))
			accept(t, s, orders(0, 1)...)
			look := databasetest.Open(t, url)
			trigger := "CREATE OR REPLACE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF %s THEN " +
				strings.ReplaceAll(action, "'", "''") + "; END IF; RETURN NEW; END'"
			look.Exec(fmt.Sprintf(trigger, "NEW.total = 70"),
				"CREATE TRIGGER t BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION f()")
			pending, counted := orders(1, 101), 0
			try := func() {
				ctx, end := untilSleep(t, url)
				defer end()
				var kept []event.Delivery
				for i, err := range s.Deliver(ctx, pending).Verdicts {
					switch word(err) {
					case "unavailable":
						kept = append(kept, pending[i])
					case "counted":
						counted++
						kept = append(kept, pending[i])
					case "permanent":
						t.Fatal(err)
					}
				}
				pending = kept
			}
			for i := 0; counted == 0; i++ {
				if i > 30 {
					t.Fatalf("%d events still wait", len(pending))
				}
				try()
			}
			if n := look.Value("SELECT count(*) FROM orders"); n != "100" || len(pending) != 1 || pending[0].Event.ID != "o-70" {
				t.Errorf("%s rows, %d events are left", n, len(pending))
			}
			pending = append(orders(200, 300), pending...)
			try() // it is known by now
			if counted != 2 || len(pending) != 1 {
				t.Errorf("counted %d times, %d events are left", counted, len(pending))
			}
			look.Exec(fmt.Sprintf(trigger, "true"))
			pending, counted = orders(300, 310), 0
			for range 5 {
				try()
			}
			if counted > 0 || len(pending) != 10 {
				t.Errorf("where no row is taken %d were blamed, %d wait", counted, len(pending))
			}
			look.Exec("DROP TRIGGER t ON orders")
			accept(t, s, append(orders(300, 310), orders(70, 71)...)...)
			for i := range 4 {
				accept(t, s, orders(310+i, 311+i)...)
			}
			if s.doubt.any(orders(0, 400)) {
				t.Errorf("something is left of the doubt: %+v", s.doubt)
			}
		})
	}
}

// A table that cannot be made is no fault of an event.
func TestCreateFails(t *testing.T) {
	c := orderConfig(t, databasetest.Postgres(t))
	c.Columns[2].Type = "numeric(5000, 2)" // 22023, which of a row would be its fault
	if got := deliver(t, newSink(t, c), orders(0, 2)...); got[0] != "unavailable" || got[1] != "unavailable" {
		t.Error(got)
	}
}

// What making a row panics with reaches the caller, whoever reads the text of COPY.
func TestPanicWhileCopying(t *testing.T) {
	s := newSink(t, orderConfig(t, databasetest.Postgres(t)))
	accept(t, s, orders(0, 3)...)
	p := s.writer.(*postgres)
	defer func() {
		if recover() == nil {
			t.Error("it was lost")
		}
		accept(t, s, orders(3, 6)...)
	}()
	_ = p.copy(t.Context(), p.copyTable, func() []any { panic("a row") })
}
