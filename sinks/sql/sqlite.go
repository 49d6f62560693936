package sql

import (
	"context"
	"fmt"
	"strings"

	"github.com/millrace-run/millrace/databases"
)

// sqlite writes to a file of the user's.
type sqlite struct {
	*settings
	conn   databases.Conn
	insert string
}

func newSQLite(s *settings) *sqlite {
	places := strings.TrimSuffix(strings.Repeat("?, ", len(s.names)), ", ")
	insert := fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)%s", s.table, databases.QuoteAll(s.names), places, s.onConflict())
	return &sqlite{settings: s, insert: insert}
}

func (l *sqlite) begin() {}

func (l *sqlite) direct(context.Context, *rows) (bool, error) { return false, nil }

func (l *sqlite) close() {
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}

func (l *sqlite) connect(ctx context.Context) (err error) {
	if l.conn != nil {
		return nil
	}
	if l.create {
		if err := l.address.MakeFile(); err != nil {
			return err
		}
	}
	if l.conn, err = l.address.Connect(ctx); err != nil {
		l.conn = nil
		return err
	}
	if l.create {
		_, err = l.conn.Exec(ctx, l.createStatement())
	}
	return err
}

// write takes the lock of the file first, so that it never waits for it in the middle.
func (l *sqlite) write(ctx context.Context, rows []row) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := l.connect(ctx); err != nil {
		return databases.Setup(err)
	}
	_, err := l.conn.Exec(ctx, "BEGIN IMMEDIATE")
	if err != nil {
		return err
	}
	for _, r := range rows {
		if _, err = l.conn.Exec(ctx, l.insert, r.values...); err != nil {
			break
		}
	}
	if err == nil {
		_, err = l.conn.Exec(ctx, "COMMIT")
	}
	if err == nil {
		return nil
	}
	if _, back := l.conn.Exec(context.WithoutCancel(ctx), "ROLLBACK"); back != nil {
		l.close() // which rolls back, or SQLite has done so itself
	}
	return err
}
