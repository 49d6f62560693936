package torture

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/millrace-run/millrace/databases"
	"github.com/millrace-run/millrace/databases/databasetest"
)

// sqlKills is how often a test about databases kills.
func sqlKills() int {
	if os.Getenv("MILLRACE_TORTURE") != "" {
		return 50
	}
	return 4
}

// TestSQLSink kills the program, and every third time the server too, while it loads a table. The table has exactly what the
// archive has, which is known to have each event once; both have all that was acknowledged, with the values that were sent.
func TestSQLSink(t *testing.T) {
	server := databasetest.Own(t)
	url, err := server.Database()
	if err != nil {
		t.Fatal(err)
	}
	p := newPlace(t, "path: data/millrace.db", fmt.Sprintf(`
  orders:
    source: { webhook: { path: /orders } }
    sinks:
      archive: { storage: { path: data/archive.ndjson } }
      table:
        retry: { initial: 100ms, max: 500ms }
        breaker: { probe_max: 500ms }
        sql:
          url: %q
          table: orders
          create: true
          columns: { source: source, id: id, total: { value: data.total, type: integer } }
`, url))
	r, _ := p.start()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	acked := map[string]int{}
	var loading sync.WaitGroup
	loading.Go(func() {
		for ctx.Err() == nil {
			for id, total := range p.load(ctx, 8, 400, 2000, func(i int) int { return i % 1000 }) {
				acked[id] = total
			}
		}
	})
	for kill := range sqlKills() {
		<-time.After(time.Duration(100+rand.IntN(400)) * time.Millisecond)
		if kill%3 == 2 {
			server.Kill()
			if err := server.Run(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		r.kill()
		r, _ = p.start()
	}
	cancel()
	loading.Wait()
	look := databasetest.Open(t, url)
	var stored map[string]int
	p.eventually(60*time.Second, "the table has what the archive has", func() bool {
		stored = archiveLines(t, filepath.Join(p.dir, "data/archive.ndjson"), true)
		return len(stored) >= len(acked) && look.Value("SELECT count(*) FROM orders") == fmt.Sprint(len(stored))
	})
	r.signal(syscall.SIGTERM)
	if code := r.code(10 * time.Second); code != 0 {
		t.Errorf("exit code %d:\n%s", code, r.output)
	}
	rows := map[string]string{}
	for _, row := range look.Rows("SELECT id, total FROM orders") {
		var id string
		if err := json.Unmarshal([]byte(row[0]), &id); err != nil || rows[id] != "" || stored[id] != 1 {
			t.Errorf("%s is %d times in the archive: %v", row[0], stored[id], err)
		}
		rows[id] = row[1]
	}
	for id, total := range acked {
		if rows[id] != fmt.Sprint(total) {
			t.Errorf("%s has the total %q, want %d", id, rows[id], total)
		}
	}
	if letters := p.command("dead-letters", "list", "-o", "json"); letters != "[]\n" {
		t.Errorf("there are dead letters: %.500s", letters)
	}
	t.Logf("%d orders acknowledged, %d rows, %d kills", len(acked), len(rows), sqlKills())
}

// TestOutboxTable is an application that writes orders and their outbox in transactions, of which some are rolled back, while the
// server and the program are killed in turn. Each row that was committed arrives once, no other does, and the outbox is empty.
func TestOutboxTable(t *testing.T) {
	server := databasetest.Own(t)
	url, err := server.Database()
	if err != nil {
		t.Fatal(err)
	}
	databasetest.Open(t, url).Exec("CREATE TABLE orders (id bigint PRIMARY KEY)",
		"CREATE TABLE outbox (id bigserial PRIMARY KEY, nr bigint, kind text)")
	p := newPlace(t, "path: data/millrace.db", fmt.Sprintf(`
  orders:
    source: { sql: { url: %q, table: outbox, outbox: delete, every: 20ms, type: "{{ data.kind }}" } }
    sinks:
      all: { storage: { path: data/all.log, content: data } }
`, url))
	r, _ := p.start()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var writing sync.WaitGroup
	for w := range 3 {
		writing.Go(func() { application(ctx, url, w) })
	}
	for kill := range sqlKills() {
		<-time.After(time.Duration(100+rand.IntN(400)) * time.Millisecond)
		if kill%2 == 1 {
			server.Kill()
			if err := server.Run(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		r.kill()
		r, _ = p.start()
	}
	cancel()
	writing.Wait()
	look := databasetest.Open(t, url)
	want := look.Rows("SELECT id FROM orders")
	arrived := func() map[string]int {
		text, err := os.ReadFile(filepath.Join(p.dir, "data/all.log"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		got := map[string]int{}
		for line := range bytes.Lines(text[:bytes.LastIndexByte(text, '\n')+1]) {
			var row struct{ Nr json.Number }
			if err := json.Unmarshal(line, &row); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			got[row.Nr.String()]++
		}
		return got
	}
	p.eventually(60*time.Second, "every order has arrived", func() bool {
		return look.Value("SELECT count(*) FROM outbox") == "0" && len(arrived()) >= len(want)
	})
	r.signal(syscall.SIGTERM)
	if code := r.code(10 * time.Second); code != 0 {
		t.Errorf("exit code %d:\n%s", code, r.output)
	}
	got := arrived()
	for _, row := range want {
		if got[row[0]] != 1 {
			t.Errorf("order %s arrived %d times", row[0], got[row[0]])
		}
		delete(got, row[0])
	}
	for id := range got {
		t.Errorf("order %s arrived and was never committed", id)
	}
	if len(want) == 0 {
		t.Error("nothing was written")
	}
	t.Logf("%d orders, %d kills", len(want), sqlKills())
}

// application writes orders until ctx ends, by a new connection whenever the one before has broken.
func application(ctx context.Context, url string, writer int) {
	address, err := databases.ParseAddress(url)
	n := 0
	for ctx.Err() == nil && err == nil {
		conn, failed := address.Connect(ctx)
		if failed != nil {
			continue
		}
		for failed == nil && ctx.Err() == nil {
			n++
			failed = writeOrder(ctx, conn, int64(writer*1_000_000+n))
		}
		conn.Close()
	}
}

// writeOrder writes one order with its row of the outbox; every fifth is rolled back.
func writeOrder(ctx context.Context, conn databases.Conn, id int64) error {
	end := "COMMIT"
	if id%5 == 0 {
		end = "ROLLBACK"
	}
	for _, statement := range []string{
		"BEGIN", fmt.Sprintf("INSERT INTO orders VALUES (%d)", id),
		fmt.Sprintf("INSERT INTO outbox (nr, kind) VALUES (%d, 'order.placed')", id), end,
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}
