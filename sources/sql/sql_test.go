package sql

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/millrace-run/millrace/databases/databasetest"
	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

func TestMain(m *testing.M) { os.Exit(databasetest.Main(m)) }

func engines(t *testing.T, run func(t *testing.T, url string)) {
	t.Run("postgres", func(t *testing.T) { run(t, databasetest.Postgres(t)) })
	t.Run("sqlite", func(t *testing.T) { run(t, "sqlite:"+filepath.Join(t.TempDir(), "shop.db")) })
}

// journal is a log: events and state are committed together.
type journal struct {
	*testing.T
	mu     sync.Mutex // guards what follows
	events []event.Event
	state  map[string][]byte
	refuse func(b event.Batch) (err error, keep bool) // what becomes of a commit; nil: it is kept
}

func (j *journal) emit(_ context.Context, b event.Batch) ([]string, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.refuse != nil {
		if err, keep := j.refuse(b); err != nil {
			if keep {
				j.keep(b)
			}
			return nil, err
		}
	}
	j.keep(b)
	return nil, nil
}

func (j *journal) keep(b event.Batch) {
	j.events = append(j.events, b.All()...)
	for k, v := range b.State {
		j.state[k] = v
	}
}

func (j *journal) ids() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var ids []string
	for _, e := range j.events {
		ids = append(ids, e.ID)
	}
	return ids
}

func newJournal(t *testing.T) *journal { return &journal{T: t, state: map[string][]byte{}} }

// run starts a source as the program does: opened with what is committed, again after each failure. stop ends it.
func (j *journal) run(c Config, options ...Option) (stop func()) {
	j.Helper()
	s, err := New(c, options...)
	if err != nil {
		j.Fatal(err)
	}
	ctx, cancel := context.WithCancel(j.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			j.mu.Lock()
			state := maps.Clone(j.state)
			j.mu.Unlock()
			if err := s.Open(ctx, state, nil); err != nil {
				j.Error(err)
				return
			}
			_ = s.Run(ctx, j.emit)
		}
	}()
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); <-done }) }
	j.Cleanup(stop)
	return stop
}

// until waits until the ids of the events are these.
func (j *journal) until(want ...string) {
	j.Helper()
	j.eventually(func() string { return cmp.Diff(want, j.ids()) })
}

func (j *journal) eventually(differs func() string) {
	j.Helper()
	end := time.Now().Add(30 * time.Second)
	for d := differs(); d != ""; d = differs() {
		if time.Now().After(end) {
			j.Fatal(d)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func config(url string) Config {
	c := Defaults()
	c.URL, c.Table, c.Every = url, "orders", 10*time.Millisecond
	return c
}

func template(t *testing.T, text string) rules.Template {
	t.Helper()
	x, err := rules.CompileTemplate(text, rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func expression(t *testing.T, text string) *rules.Expr {
	t.Helper()
	x, err := rules.Compile(text, rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestNewRows(t *testing.T) {
	engines(t, func(t *testing.T, url string) {
		defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
		look := databasetest.Open(t, url)
		look.Exec("CREATE TABLE orders (id integer PRIMARY KEY, n integer)", "INSERT INTO orders VALUES (2, 0), (1, 0)")
		j := newJournal(t)
		stop := j.run(config(url))
		j.until("1", "2")
		look.Exec("INSERT INTO orders VALUES (5, 0)", "BEGIN", "INSERT INTO orders VALUES (6, 0)", "ROLLBACK", "UPDATE orders SET n = 1")
		j.until("1", "2", "5")
		stop()
		look.Exec("INSERT INTO orders VALUES (7, 3)")
		stop = j.run(config(url))
		j.until("1", "2", "5", "7")
		stop()
		e := j.events[3]
		if want := strings.TrimSuffix(e.Source, "/orders"); e.Type != rowType || string(e.Data) != `{"id":7,"n":3}` || want == e.Source || strings.Contains(e.Source, "postgres@") {
			t.Errorf("%+v", e)
		}
	})
}

// A log that is full, busy or fails in the middle neither loses nor repeats a row, however the commit ended.
func TestFailingLog(t *testing.T) {
	for _, c := range []struct {
		outbox Outbox
		left   string
	}{{Outbox{}, "300"}, {Outbox{Word: "delete"}, "0"}, {Outbox{Mark: "sent"}, "0"}} {
		engines(t, func(t *testing.T, url string) {
			look := databasetest.Open(t, url)
			look.Exec("CREATE TABLE orders (id integer UNIQUE, sent timestamp)")
			var want []string
			values := make([]string, 300)
			for i := range 300 {
				values[i] = fmt.Sprintf("(%d)", i)
				want = append(want, fmt.Sprint(i))
			}
			look.Exec("INSERT INTO orders (id) VALUES " + strings.Join(values, ", "))
			j := newJournal(t)
			n := 0
			j.refuse = func(event.Batch) (error, bool) {
				n++
				return []error{nil, event.ErrFull, nil, errors.New("broken"), event.ErrUnknown, event.ErrBusy}[n%6], n%6 == 4
			}
			settings := config(url)
			settings.Outbox = c.outbox
			stop := j.run(settings)
			j.until(want...)
			where := map[bool]string{true: " WHERE sent IS NULL"}[c.outbox.Mark != ""]
			j.eventually(func() string { return cmp.Diff(c.left, look.Value("SELECT count(*) FROM orders"+where)) })
			stop()
		})
	}
}

// A number that was drawn early and is committed late is not passed over.
func TestLateCommit(t *testing.T) {
	url := databasetest.Postgres(t)
	early, late := databasetest.Open(t, url), databasetest.Open(t, url)
	early.Exec("CREATE TABLE orders (id bigserial PRIMARY KEY, n integer) PARTITION BY RANGE (id)",
		"CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (0) TO (1000000)",
		"INSERT INTO orders (n) VALUES (0)", "BEGIN", "INSERT INTO orders (n) VALUES (1)")
	late.Exec("INSERT INTO orders (n) VALUES (2)")
	j := newJournal(t)
	var turns int
	c := config(url)
	j.run(c, Clock(counting{&turns, &j.mu}))
	j.eventually(func() string { // it has looked and seen what it must not take
		j.mu.Lock()
		defer j.mu.Unlock()
		return map[bool]string{false: "it did not look"}[turns > 5]
	})
	if got := j.ids(); len(got) > 0 {
		t.Fatalf("%v was read while a lower number was open", got)
	}
	early.Exec("COMMIT")
	j.until("1", "2", "3")
}

// counting is a clock that counts how often somebody waits.
type counting struct {
	turns *int
	mu    *sync.Mutex
}

func (counting) Now() time.Time { return time.Now() }

func (c counting) After(d time.Duration) (<-chan time.Time, func()) {
	c.mu.Lock()
	*c.turns++
	c.mu.Unlock()
	return event.SystemClock{}.After(d)
}

// Many writers commit in any order, and some roll back; each committed row is taken once.
func TestWriters(t *testing.T) {
	for _, outbox := range []Outbox{{}, {Word: "delete"}} {
		url := databasetest.Postgres(t)
		look := databasetest.Open(t, url)
		look.Exec("CREATE TABLE orders (id bigserial PRIMARY KEY, n integer)", "CREATE TABLE done (n integer)")
		j := newJournal(t)
		c := config(url)
		c.Outbox = outbox
		j.run(c)
		var all sync.WaitGroup
		for w := range 6 {
			conn := databasetest.Open(t, url)
			all.Go(func() {
				for i := range 40 {
					n := w*1000 + i
					conn.Exec("BEGIN", fmt.Sprintf("INSERT INTO orders (n) VALUES (%d)", n))
					if i%3 == w%3 {
						conn.Rows("SELECT pg_sleep(0.003)::text")
					}
					conn.Exec(fmt.Sprintf("INSERT INTO done VALUES (%d)", n))
					if i%5 == 4 {
						conn.Exec("ROLLBACK")
					} else {
						conn.Exec("COMMIT")
					}
				}
			})
		}
		all.Wait()
		want := fmt.Sprint(look.Value("SELECT count(*) FROM done"))
		j.eventually(func() string { return cmp.Diff(want, fmt.Sprint(len(j.ids()))) })
		ids := j.ids()
		slices.Sort(ids)
		if n := len(slices.Compact(ids)); fmt.Sprint(n) != want {
			t.Errorf("%d rows, each once, want %s", n, want)
		}
	}
}

// Two processes share an outbox table, each row goes to one of them.
func TestShared(t *testing.T) {
	url := databasetest.Postgres(t)
	look := databasetest.Open(t, url)
	look.Exec("CREATE TABLE orders (id bigserial PRIMARY KEY)")
	a, b := newJournal(t), newJournal(t)
	c := config(url)
	c.Outbox.Word = "delete"
	a.run(c)
	b.run(c)
	for range 20 {
		look.Exec("INSERT INTO orders SELECT FROM generate_series(1, 50)")
	}
	a.eventually(func() string { return cmp.Diff(1000, len(a.ids())+len(b.ids())) })
	all := append(a.ids(), b.ids()...)
	slices.Sort(all)
	if n := len(slices.Compact(all)); n != 1000 {
		t.Errorf("%d of 1000 rows", n)
	}
}

// The connection breaks between append and DELETE, and while the server commits it.
func TestOutboxConnectionBreaks(t *testing.T) {
	direct := databasetest.Postgres(t)
	proxy, url := databasetest.NewProxy(t, databasetest.Shared(t), direct)
	defer proxy.Close()
	look := databasetest.Open(t, direct)
	look.Exec("CREATE TABLE orders (id bigserial PRIMARY KEY)")
	j := newJournal(t)
	c := config(url)
	c.Outbox.Word = "delete"
	stop := j.run(c)
	defer stop()
	var want []string
	for i, statement := range []string{"FOR UPDATE", "DELETE", "COMMIT", "ROLLBACK", "DELETE"} {
		proxy.Cut(statement)
		look.Exec("INSERT INTO orders DEFAULT VALUES")
		want = append(want, fmt.Sprint(i+1))
		j.until(want...)
		j.eventually(func() string { return cmp.Diff("0", look.Value("SELECT count(*) FROM orders")) })
	}
	proxy.Down()
	look.Exec("INSERT INTO orders DEFAULT VALUES")
	proxy.Up()
	j.until(append(want, "6")...)
}

func TestTypes(t *testing.T) {
	url := databasetest.Postgres(t)
	look := databasetest.Open(t, url)
	look.Exec("CREATE TYPE mood AS ENUM ('sad', 'ok')", `CREATE TABLE orders (id bigint, a numeric, b jsonb, c bytea, d timestamptz, e timestamp,
		f date, g text, h boolean, i float8, j text[], k mood, l uuid, m json, n interval, o numeric(40,3)[], "select""; drop table p" text, q float8)`,
		`INSERT INTO orders VALUES (9007199254740993, 0.10000000000000000000000000000000000000001, '{"x": [1, 2.50]}', '\x00ff', '2026-11-20 15:00:00.123456+01',
		'2026-11-20 15:00:00', '2026-11-20', E'a "b"\n<c>', true, 'NaN', '{a,NULL,"b c"}', 'ok', '6f9619ff-8b86-d011-b42d-00cf4fc964ff',
		'{"z":1}', '1 day 2 hours', '{1.5}', 'x', 1e300)`)
	j := newJournal(t)
	stop := j.run(config(url))
	j.until("9007199254740993")
	stop()
	want := `{"id":9007199254740993,"a":0.10000000000000000000000000000000000000001,"b":{"x": [1, 2.50]},"c":"AP8=","d":"2026-11-20T14:00:00.123456Z",` +
		`"e":"2026-11-20T15:00:00Z","f":"2026-11-20","g":"a \"b\"\n<c>","h":true,"i":"NaN","j":["a",null,"b c"],"k":"ok",` +
		`"l":"6f9619ff-8b86-d011-b42d-00cf4fc964ff","m":{"z":1},"n":"1 day 02:00:00","o":[1.500],"select\"; drop table p":"x","q":1e+300}`
	if d := cmp.Diff(want, string(j.events[0].Data)); d != "" {
		t.Error(d)
	}
}

func TestSQLiteTypes(t *testing.T) {
	url := "sqlite:" + filepath.Join(t.TempDir(), "shop.db")
	look := databasetest.Open(t, url)
	look.Exec("CREATE TABLE orders (id text, a, b json, c blob, d timestamp, e datetime, f boolean, g, h json)",
		`INSERT INTO orders VALUES ('k', 1.5, '{"x":1}', x'00ff', '2026-11-20 15:00:00', 'soon', 1, 9007199254740993, 'no json')`)
	j := newJournal(t)
	stop := j.run(config(url))
	j.until("k")
	stop()
	want := `{"id":"k","a":1.5,"b":{"x":1},"c":"AP8=","d":"2026-11-20T15:00:00Z","e":"soon","f":true,"g":9007199254740993,"h":"no json"}`
	if d := cmp.Diff(want, string(j.events[0].Data)); d != "" {
		t.Error(d)
	}
}

func TestAttributes(t *testing.T) {
	engines(t, func(t *testing.T, url string) {
		look := databasetest.Open(t, url)
		look.Exec("CREATE TABLE orders (id integer, event text, kind text, customer text, payload text)",
			`INSERT INTO orders VALUES (1, 'e-1', 'order.paid', 'ada', '{"total": 5}'), (2, 'e-2', NULL, NULL, 'no json'), (3, 'e-3', 'order.sent', 'bob', NULL)`)
		c := config(url)
		c.ID, c.Type, c.Subject, c.Data = template(t, "{{ data.event }}"), template(t, "{{ data.kind }}"), template(t, "{{ data.customer }}"), "payload"
		c.Source, c.Attributes = template(t, "/shop"), map[string]*rules.Expr{"nr": expression(t, "data.id")}
		j := newJournal(t)
		stop := j.run(c)
		j.until("e-1", "e-2", "e-3")
		stop()
		got := make([]string, 3)
		for i, e := range j.events {
			nr, _ := e.Extension("nr")
			got[i] = fmt.Sprint(e.Source, " ", e.Type, " ", e.Subject, " ", nr.Text, " ", e.DataContentType, " ", string(e.Data))
		}
		want := []string{`/shop order.paid ada 1 application/json {"total": 5}`, `/shop millrace.row  2 text/plain no json`, `/shop order.sent bob 3  `}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		s, _ := New(c)
		e := event.Event{Data: []byte(`{"id":7,"event":"e-7","kind":"order.paid","customer":"eve","payload":"{\"total\":1}"}`)}
		s.Shape(&e)
		if e.ID != "e-7" || e.Type != "order.paid" || e.Subject != "eve" || string(e.Data) != `{"total":1}` || e.DataContentType != "application/json" {
			t.Errorf("a row of a test is %+v", e)
		}
	})
}

func TestStartAndQuery(t *testing.T) {
	engines(t, func(t *testing.T, url string) {
		look := databasetest.Open(t, url)
		look.Exec("CREATE TABLE orders (id integer, at text, n integer)", "INSERT INTO orders VALUES (1, 'a', 1), (2, 'a', 1)")
		c := config(url)
		c.Table, c.Query, c.After, c.Start = "", "SELECT id, at, n * 2 AS double FROM orders WHERE n > 0 ;", []string{"at", "id"}, "end"
		j := newJournal(t)
		stop := j.run(c)
		j.eventually(func() string {
			j.mu.Lock()
			defer j.mu.Unlock()
			return map[bool]string{false: "it did not begin"}[len(j.state) > 0]
		})
		look.Exec("INSERT INTO orders VALUES (3, 'a', 1), (1, 'b', 7), (9, 'b', 0)")
		j.until("a/3", "b/1")
		stop()
		if got := string(j.events[1].Data); got != `{"id":1,"at":"b","double":14}` {
			t.Error(got)
		}
	})
}

// The database is down at the start, changes its schema, and has rows that fill the memory.
func TestTrouble(t *testing.T) {
	direct := databasetest.Postgres(t)
	proxy, url := databasetest.NewProxy(t, databasetest.Shared(t), direct)
	defer proxy.Close()
	proxy.Down()
	j := newJournal(t)
	stop := j.run(config(url))
	defer stop()
	look := databasetest.Open(t, direct)
	proxy.Up()
	look.Exec("CREATE TABLE orders (id integer, n integer)", "INSERT INTO orders VALUES (1, 1)")
	j.until("1")
	look.Exec("ALTER TABLE orders ADD note text", "INSERT INTO orders VALUES (2, 1, 'x')")
	j.until("1", "2")
	look.Exec("ALTER TABLE orders DROP n", "INSERT INTO orders VALUES (3, 'y')")
	j.until("1", "2", "3")
	look.Exec("INSERT INTO orders SELECT i, repeat('x', 5000000) FROM generate_series(4, 9) i")
	j.until("1", "2", "3", "4", "5", "6", "7", "8", "9")
	stop()
	if got := string(j.events[2].Data); got != `{"id":3,"note":"y"}` {
		t.Error(got)
	}
}

// To try a configuration rows are read and stay.
func TestKeepAll(t *testing.T) {
	engines(t, func(t *testing.T, url string) {
		look := databasetest.Open(t, url)
		look.Exec("CREATE TABLE orders (id integer, sent timestamp)", "INSERT INTO orders (id) VALUES (1)", "INSERT INTO orders VALUES (2, '2026-01-01 00:00:00')")
		c := config(url)
		c.Outbox.Mark = "sent"
		j := newJournal(t)
		j.run(c, KeepAll())
		j.until("1")
		look.Exec("INSERT INTO orders (id) VALUES (3)")
		j.until("1", "3")
		if n := look.Value("SELECT count(*) FROM orders WHERE sent IS NULL"); n != "2" {
			t.Errorf("%s rows are not marked", n)
		}
	})
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		change func(c *Config)
		want   string
	}{
		{func(c *Config) { c.URL = "oracle://x" }, "url: "},
		{func(c *Config) { c.Table = "" }, "table: required"},
		{func(c *Config) { c.Query = "SELECT 1" }, "query: table is set too"},
		{func(c *Config) { c.After = nil }, "after: "},
		{func(c *Config) { c.After = []string{"id", "id"} }, "after: "},
		{func(c *Config) { c.Every = 0 }, "every: "},
		{func(c *Config) { c.Start = "middle" }, "start: "},
		{func(c *Config) { c.Outbox.Word = "drop" }, "outbox: "},
		{func(c *Config) { c.Outbox.Word, c.Start = "delete", "end" }, "start: "},
		{func(c *Config) { c.Outbox.Word, c.Table, c.Query = "delete", "", "SELECT 1" }, "outbox: "},
		{func(c *Config) { c.Attributes = map[string]*rules.Expr{"Bad": expression(t, "id")} }, "attributes.Bad"},
	} {
		one := config("postgres://u:secret-word@host/shop")
		c.change(&one)
		if _, err := New(one); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret-word") {
			t.Errorf("%s: %v", c.want, err)
		}
	}
	one := config("postgres://u@host/shop")
	s, err := New(one)
	if err != nil || s.Forgets() == nil || s.Exclusive() != nil {
		t.Errorf("%v", err)
	}
	one.Outbox.Word = "delete"
	if s, err = New(one); err != nil || s.Forgets() == nil || len(s.Exclusive()) != 1 {
		t.Errorf("%v", err)
	}
}

// A row without a key has no identity. It stays where it is and keeps no other waiting.
func TestKeyIsNull(t *testing.T) {
	engines(t, func(t *testing.T, url string) {
		look := databasetest.Open(t, url)
		look.Exec("CREATE TABLE orders (id integer UNIQUE, n integer)", "INSERT INTO orders VALUES (NULL, 1), (1, 1), (NULL, 2), (2, 2)")
		j := newJournal(t)
		c := config(url)
		c.Outbox.Word = "delete"
		j.run(c)
		j.until("1", "2")
		j.eventually(func() string { return cmp.Diff("2", look.Value("SELECT count(*) FROM orders")) })
	})
}

// SQLite gives the number of the last row again once it is deleted: such a row would be taken for the one before.
func TestReusedKeys(t *testing.T) {
	for schema, refused := range map[string]bool{
		"id integer PRIMARY KEY": true, "id INTEGER PRIMARY KEY AUTOINCREMENT": false, "id text PRIMARY KEY": false,
		"id integer, n integer, PRIMARY KEY (id, n)": false,
	} {
		url := "sqlite:" + filepath.Join(t.TempDir(), "shop.db")
		look := databasetest.Open(t, url)
		look.Exec("CREATE TABLE orders ("+schema+")", "INSERT INTO orders (id) VALUES (1)")
		j := newJournal(t)
		log := &logged{}
		c := config(url)
		c.Outbox.Word = "delete"
		stop := j.run(c, Logger(slog.New(log)))
		j.eventually(func() string {
			return map[bool]string{false: schema}[len(j.ids()) == 1 != refused && log.says("AUTOINCREMENT") == refused]
		})
		stop()
	}
}

// logged are the lines of a log.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) Enabled(context.Context, slog.Level) bool { return true }
func (l *logged) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logged) WithGroup(string) slog.Handler            { return l }

func (l *logged) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	return nil
}

func (l *logged) says(words ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.lines, func(line string) bool {
		return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) })
	})
}

// ahead is a clock that is past any patience at each look.
type ahead struct {
	event.SystemClock
	from  time.Time
	looks *atomic.Int64
}

func (a ahead) Now() time.Time { return a.from.Add(time.Duration(a.looks.Add(1)) * patience) }

// Whoever holds reading up is named: a transaction of a session, and a prepared one, which has none. An unrelated one holds up
// nothing.
func TestWhoHoldsUp(t *testing.T) {
	server := databasetest.Own(t, "max_prepared_transactions=2")
	url, err := server.Database()
	if err != nil {
		t.Fatal(err)
	}
	look, writer, other := databasetest.Open(t, url), databasetest.Open(t, url), databasetest.Open(t, url)
	look.Exec("CREATE TABLE orders (id bigserial PRIMARY KEY)", "CREATE TABLE other (id bigserial)",
		"CREATE TABLE middle () INHERITS (orders)", "CREATE TABLE leaf (UNIQUE (id)) INHERITS (middle)")
	other.Exec("BEGIN", "INSERT INTO other DEFAULT VALUES")
	j, log := newJournal(t), &logged{}
	j.run(config(url), Logger(slog.New(log)), Clock(ahead{from: time.Now(), looks: &atomic.Int64{}}))
	look.Exec("INSERT INTO orders DEFAULT VALUES")
	j.until("1")
	writer.Exec("BEGIN", "INSERT INTO leaf DEFAULT VALUES")
	look.Exec("INSERT INTO orders DEFAULT VALUES")
	j.eventually(func() string { return map[bool]string{false: "no word"}[log.says("do not end", "process")] })
	writer.Exec("COMMIT")
	j.until("1", "2", "3")
	writer.Exec("BEGIN", "INSERT INTO orders DEFAULT VALUES", "PREPARE TRANSACTION 'p'")
	look.Exec("INSERT INTO orders DEFAULT VALUES")
	j.eventually(func() string {
		return map[bool]string{false: "no word"}[log.says("do not end", "prepared transaction")]
	})
	if got := j.ids(); len(got) != 3 {
		t.Errorf("%v were read", got)
	}
	writer.Exec("COMMIT PREPARED 'p'")
	j.until("1", "2", "3", "4", "5")
}

// A standby does not show who is writing to the table.
func TestStandby(t *testing.T) {
	server := databasetest.Own(t)
	url, err := server.Database()
	if err != nil {
		t.Fatal(err)
	}
	look := databasetest.Open(t, url)
	look.Exec("CREATE TABLE orders (id integer)", "INSERT INTO orders VALUES (1)")
	if err := server.Standby(); err != nil {
		t.Fatal(err)
	}
	j, log := newJournal(t), &logged{}
	j.run(config(url), Logger(slog.New(log)))
	j.eventually(func() string { return map[bool]string{false: "it is read"}[log.says("standby", "primary")] })
	if got := j.ids(); len(got) > 0 {
		t.Errorf("%v were read", got)
	}
}

// Who holds the file for a moment is waited for, and nothing is said of it.
func TestSQLiteBusy(t *testing.T) {
	url := "sqlite:" + filepath.Join(t.TempDir(), "shop.db")
	look := databasetest.Open(t, url)
	look.Exec("CREATE TABLE orders (id integer)", "INSERT INTO orders VALUES (1)")
	j, log := newJournal(t), &logged{}
	j.run(config(url), Logger(slog.New(log)))
	j.until("1")
	look.Exec("BEGIN EXCLUSIVE", "INSERT INTO orders VALUES (2)")
	<-time.After(300 * time.Millisecond) // more than SQLite itself waits
	look.Exec("COMMIT")
	j.until("1", "2")
	if log.says("cannot be read") {
		t.Error("it was told")
	}
}
