package sql

import (
	"context"
	"fmt"
	"strings"

	"github.com/millrace-run/millrace/databases"
	"github.com/millrace-run/millrace/event"
)

// takeTurn takes rows of an outbox table. While the log is full nothing stays locked: each try is a transaction of its own.
func (r *reader) takeTurn(ctx context.Context) (more bool, err error) {
	err = event.Insist(ctx, r.clock, func() error {
		if err := r.settle(ctx); err != nil {
			return err
		}
		more, err = r.take(ctx)
		return err
	}, r.full)
	return more, err
}

// settle deletes the rows that were taken and maybe not deleted, before any other is read.
func (r *reader) settle(ctx context.Context) error {
	if err := r.connect(ctx); err != nil || !r.owed {
		return err
	}
	err := r.transaction(ctx, func() error { return r.remove(ctx, r.state.Taken) })
	r.owed = err != nil
	return err
}

// take reads rows, emits them and deletes them.
func (r *reader) take(ctx context.Context) (full bool, err error) {
	if r.address.Engine() == databases.SQLite { // a transaction would keep the application from writing
		got, err := r.emitted(ctx, "")
		if err != nil || len(got.keys) == 0 {
			return false, err
		}
		err = r.transaction(ctx, func() error { return r.remove(ctx, got.keys) })
		return r.taken(got, err)
	}
	var got rows
	err = r.transaction(ctx, func() error {
		if got, err = r.emitted(ctx, " FOR UPDATE SKIP LOCKED"); err != nil || len(got.keys) == 0 {
			return err
		}
		return r.remove(ctx, got.keys)
	})
	return r.taken(got, err)
}

// taken notes what became of rows.
func (r *reader) taken(got rows, err error) (full bool, _ error) {
	if err != nil || len(got.keys) == 0 {
		return false, err
	}
	r.owed = false
	return r.adapt(got), nil
}

// emitted reads rows and commits them here, with their keys.
func (r *reader) emitted(ctx context.Context, locking string) (rows, error) {
	got, err := r.read(ctx, r.conn, " WHERE "+r.notNull()+r.unmarked(), nil, locking)
	if err != nil || len(got.events) == 0 {
		return got, err
	}
	next := state{Taken: got.keys}
	if _, err := r.emit(ctx, event.Batch{Events: got.events, State: next.changes()}); err != nil {
		return rows{}, &emitError{err}
	}
	r.state, r.owed = next, true
	return got, nil
}

// transaction does something in a transaction of the database. When it fails nothing is open.
func (r *reader) transaction(ctx context.Context, do func() error) error {
	begin := "BEGIN"
	if r.address.Engine() == databases.SQLite {
		begin = "BEGIN IMMEDIATE"
	}
	if _, err := r.conn.Exec(ctx, begin); err != nil {
		return err
	}
	err := do()
	if err == nil {
		_, err = r.conn.Exec(ctx, "COMMIT")
	}
	if err == nil {
		return nil
	}
	if ctx.Err() == nil {
		_, back := r.conn.Exec(ctx, "ROLLBACK")
		if back == nil {
			return err
		}
	}
	r.close() // which rolls back too, and waits for nobody
	return err
}

// removeMost is how many rows one statement deletes.
const removeMost = 500

// remove deletes or marks rows. What is not there any more is no error.
func (r *reader) remove(ctx context.Context, keys [][]any) error {
	step := removeMost
	if r.address.Engine() == databases.SQLite {
		step = 1 // it knows no list of rows, and has no network in between
	}
	for from := 0; from < len(keys); from += step {
		some := keys[from:min(from+step, len(keys))]
		values := make([]any, 0, len(some)*len(r.After))
		places := make([]string, len(some))
		for i, key := range some {
			places[i] = "(" + parameters(len(values)+1, len(key)) + ")"
			values = append(values, key...)
		}
		if _, err := r.conn.Exec(ctx, r.removal(places), values...); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) removal(places []string) string {
	which := fmt.Sprintf("(%s) IN (%s)", r.after, strings.Join(places, ", "))
	if r.address.Engine() == databases.SQLite {
		which = fmt.Sprintf("(%s) = %s", r.after, places[0])
	}
	if r.mark == "" {
		return fmt.Sprintf("DELETE FROM %s WHERE %s", r.table, which)
	}
	return fmt.Sprintf("UPDATE %s SET %s = CURRENT_TIMESTAMP WHERE %s%s", r.table, r.mark, which, r.unmarked())
}
