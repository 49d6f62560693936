package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/millrace-run/millrace/databases"
	"github.com/millrace-run/millrace/databases/databasetest"
)

// tableKind is what of an order of 1 KB becomes a row.
type tableKind struct {
	columns   string // of the statement of psql
	create    string
	sink      string // the columns of the sink
	perSecond int    // how many orders are loaded for each second that a run shall last
}

var wholeOrders = tableKind{
	columns: "source, id, number, amount, email, payload",
	create: "CREATE TABLE orders (source text, id text, number text, amount numeric, email text, payload jsonb, " +
		"PRIMARY KEY (source, id))",
	sink:      "source: source, id: id, number: data.order, amount: data.amount, email: data.customer.email, payload: data",
	perSecond: 20_000,
}

var narrowOrders = tableKind{
	columns:   "source, id, number, amount, email",
	create:    "CREATE TABLE orders (source text, id text, number text, amount numeric, email text, PRIMARY KEY (source, id))",
	sink:      "source: source, id: id, number: data.order, amount: data.amount, email: data.customer.email",
	perSecond: 50_000,
}

// tables is a server with the orders as a file of rows, which both sides load into a new table.
type tables struct {
	*bench
	tableKind
	server *databasetest.Server
	rows   string // the file that psql reads
	n      int
}

// openSQL compares the way from a backlog in the outbox into a table of PostgreSQL with \copy of psql into the same table.
func openSQL(ctx context.Context, b *bench, k tableKind) (p pair, err error) {
	t := &tables{bench: b, tableKind: k, rows: filepath.Join(b.dir, "orders.tsv"), n: int(float64(k.perSecond) * b.duration.Seconds())}
	if t.server, err = databasetest.Start(); err != nil {
		return p, err
	}
	p = pair{thing: t.load, floor: t.copy, close: func() error { return errors.Join(t.server.Stop(), os.Remove(t.rows)) }}
	url, err := t.loaded(ctx, nil)
	if err == nil {
		err = t.psql(ctx, url, fmt.Sprintf("\\copy (SELECT %s FROM orders) TO '%s'", t.columns, t.rows))
	}
	if err != nil {
		_ = os.WriteFile(t.rows, nil, 0o600) // close removes it
	}
	return p, err
}

func (t *tables) psql(ctx context.Context, url, command string) error {
	c := t.server.Psql(url, "-c", command)
	if out, err := c.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("psql: %w\n%s", err, out), ctx.Err())
	}
	return nil
}

// fresh is a database with an empty table.
func (t *tables) fresh(ctx context.Context) (url string, err error) {
	if url, err = t.server.Database(); err != nil {
		return "", err
	}
	return url, t.psql(ctx, url, t.create)
}

// copy is the floor.
func (t *tables) copy(ctx context.Context) (reading, error) {
	url, err := t.fresh(ctx)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := t.psql(ctx, url, fmt.Sprintf("\\copy orders (%s) FROM '%s'", t.columns, t.rows)); err != nil {
		return nil, err
	}
	return reading{rate: float64(t.n) / time.Since(begin).Seconds()}, t.count(ctx, url)
}

// load is the thing: from the start of the program until every row is there.
func (t *tables) load(ctx context.Context) (r reading, err error) {
	_, err = t.loaded(ctx, func(got reading) { r = got })
	return r, err
}

// loaded fills an outbox while the database is away, and then loads a new table from it.
func (t *tables) loaded(ctx context.Context, read func(reading)) (url string, err error) {
	if url, err = t.fresh(ctx); err != nil {
		return "", err
	}
	silent, err := freeAddress()
	if err != nil {
		return "", err
	}
	p, err := t.filled(ctx, t.pipeline("postgres://postgres@"+silent+"/orders"), t.n)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, p.remove()) }()
	if err := p.configure(ctx, "", t.pipeline(url)); err != nil {
		return "", err
	}
	begin := time.Now()
	server, err := p.start(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	if err := p.awaitDelivered(ctx, t.n); err != nil {
		return "", err
	}
	took := time.Since(begin)
	used, err := server.cpu()
	if err == nil && read != nil {
		read(reading{rate: float64(t.n) / took.Seconds(), cpu: micros(used) / float64(t.n)})
	}
	return url, errors.Join(err, t.count(ctx, url))
}

func (k tableKind) pipeline(url string) string {
	return fmt.Sprintf(`    sinks:
      table:
        sql:
          url: %q
          table: orders
          columns: { %s }
`, url, k.sink)
}

// awaitDelivered waits until the sink has settled n events.
func (p *place) awaitDelivered(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+"/api/v1/subscriptions", nil)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		var all []struct {
			Sink        string
			Lag, Cursor int
		}
		err = json.NewDecoder(answer.Body).Decode(&all)
		answer.Body.Close()
		if err != nil {
			return err
		}
		for _, s := range all {
			if s.Sink == "table" && s.Lag == 0 && s.Cursor >= n {
				http.DefaultClient.CloseIdleConnections()
				return nil
			}
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("the rows did not come: %w", err)
		}
	}
}

// count holds that a table has each order.
func (t *tables) count(ctx context.Context, url string) error {
	a, err := databases.ParseAddress(url)
	if err != nil {
		return err
	}
	c, err := a.Connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Select(ctx, "SELECT count(*)::text FROM orders", nil, 1, func(keys []any, _ [][]byte) error {
		if keys[0] != fmt.Sprint(t.n) {
			return fmt.Errorf("the table has %v rows of %d", keys[0], t.n)
		}
		return nil
	})
}
