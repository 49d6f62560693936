package sql

import (
	"context"
	"fmt"
	"strings"

	"github.com/millrace-run/millrace/databases"
)

// fence holds reading back until nobody can add a row below high any more.
type fence struct {
	high    []any
	writers map[string]bool // the transactions that were writing when high was the highest row
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
		r.fence = &fence{last, writers}
	} else if len(r.fence.writers) > 0 {
		now, err := r.writers(ctx)
		if err != nil {
			return nil, err
		}
		for w := range r.fence.writers {
			if !now[w] {
				delete(r.fence.writers, w)
			}
		}
	}
	if len(r.fence.writers) > 0 {
		return nil, nil
	}
	return r.fence.high, nil
}

// writers are the transactions that hold a lock for writing on the table, its partitions and children; of a view or a query, on any
// table of the database that is a user's.
func (r *reader) writers(ctx context.Context) (map[string]bool, error) {
	which := "relation >= 16384"
	if r.table != "" {
		name := "'" + strings.ReplaceAll(string(r.table), "'", "''") + "'::regclass"
		which = fmt.Sprintf(`(relation = %[1]s OR relation IN (SELECT relid FROM pg_partition_tree(%[1]s))
			OR relation IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = %[1]s)
			OR relation >= 16384 AND (SELECT relkind FROM pg_class WHERE oid = %[1]s) NOT IN ('r', 'p'))`, name)
	}
	writers := map[string]bool{}
	query := `SELECT DISTINCT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND ` + which
	err := r.conn.Select(ctx, query, nil, 1, func(keys []any, _ [][]byte) error {
		writers[fmt.Sprint(keys[0])] = true
		return nil
	})
	return writers, err
}
