package sql

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/millrace-run/millrace/databases"
)

// patience is how long reading waits for writers before it says so.
const patience = 30 * time.Second

// fence holds reading back until nobody can add a row below high any more.
type fence struct {
	high    []any
	writers map[string]string // the transactions that were writing when high was the highest row, and whose they are
	since   time.Time
	told    bool
}

// high is up to which row may be read; nil: none now.
func (r *reader) high(ctx context.Context) ([]any, error) {
	if r.address.Engine() == databases.SQLite {
		return r.last(ctx)
	}
	if r.fence == nil {
		last, err := r.last(ctx)
		if last == nil || err != nil {
			return nil, err
		}
		writers, err := r.writers(ctx)
		if err != nil {
			return nil, err
		}
		r.fence = &fence{high: last, writers: writers, since: r.clock.Now()}
	} else if len(r.fence.writers) > 0 {
		now, err := r.writers(ctx)
		if err != nil {
			return nil, err
		}
		maps.DeleteFunc(r.fence.writers, func(w, _ string) bool { return now[w] == "" })
	}
	if len(r.fence.writers) > 0 {
		r.fence.tell(r.Source)
		return nil, nil
	}
	return r.fence.high, nil
}

// tell says once who holds reading up. It waits on: a row that is passed over is lost, one that is late is not.
func (f *fence) tell(s *Source) {
	if f.told || s.clock.Now().Sub(f.since) < patience {
		return
	}
	f.told = true
	s.log.Warn("rows wait for transactions that write to the table and do not end", "source", s.name,
		"transactions", slices.Sorted(maps.Values(f.writers)), "since", f.since.UTC(),
		"hint", "end them, set idle_in_transaction_session_timeout, or use an outbox table, which waits for nobody")
}

// writers are the transactions that hold a lock for writing on the table, those above and below it in a hierarchy of partitions or
// inheritance; of a view or a query, on any table of the database that is a user's.
func (r *reader) writers(ctx context.Context) (map[string]string, error) {
	which := "relation >= 16384"
	if r.table != "" {
		which = fmt.Sprintf(familyForm, "'"+strings.ReplaceAll(string(r.table), "'", "''")+"'::regclass")
	}
	writers := map[string]string{}
	query := `SELECT DISTINCT virtualtransaction, coalesce('process ' || pid, 'prepared transaction') FROM pg_locks
		WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND ` + which
	err := r.conn.Select(ctx, query, nil, 2, func(keys []any, _ [][]byte) error {
		writers[fmt.Sprint(keys[0])] = fmt.Sprint(keys[1])
		return nil
	})
	return writers, err
}

const familyForm = `(relation IN (
	WITH RECURSIVE below AS (SELECT %[1]s::oid AS oid UNION SELECT inhrelid FROM pg_inherits JOIN below ON inhparent = below.oid),
		above AS (SELECT %[1]s::oid AS oid UNION SELECT inhparent FROM pg_inherits JOIN above ON inhrelid = above.oid)
	SELECT oid FROM below UNION SELECT oid FROM above)
	OR relation >= 16384 AND (SELECT relkind FROM pg_class WHERE oid = %[1]s) NOT IN ('r', 'p'))`

var errStandby = errors.New("the server is a standby, which does not show who is writing, so that rows could be passed over: " +
	"name the primary, or write target_session_attrs=read-write in the URL")

var errReused = errors.New("SQLite gives the number of a deleted row to a new one, which would be taken for the old one: " +
	"declare the key as INTEGER PRIMARY KEY AUTOINCREMENT, or write outbox: { mark: column }")

// suits says why rows of this database could be passed over or taken for others.
func (r *reader) suits(ctx context.Context) error {
	postgres := r.address.Engine() == databases.PostgreSQL
	switch {
	case postgres && !r.takes:
		return r.refuse(ctx, errStandby, "SELECT 1 WHERE pg_is_in_recovery()")
	case !postgres && r.takes && r.mark == "" && len(r.After) == 1:
		return r.refuse(ctx, errReused, `SELECT 1 FROM pragma_table_info($1) AS c, sqlite_master AS m
			WHERE c.name = $2 COLLATE NOCASE AND c.pk = 1 AND c.type = 'INTEGER' COLLATE NOCASE AND m.type = 'table'
			AND m.name = $1 COLLATE NOCASE AND m.sql NOT LIKE '%autoincrement%'
			AND (SELECT count(*) FROM pragma_table_info($1) WHERE pk > 0) = 1`, r.Table[strings.LastIndexByte(r.Table, '.')+1:], r.After[0])
	}
	return nil
}

// refuse fails where a query has a row.
func (r *reader) refuse(ctx context.Context, why error, query string, values ...any) error {
	found := false
	err := r.conn.Select(ctx, query, values, 1, func([]any, [][]byte) error {
		found = true
		return nil
	})
	if found {
		return why
	}
	return err
}
