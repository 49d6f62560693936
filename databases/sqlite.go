package databases

import (
	"context"
	"database/sql/driver"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"
)

// sqlite is a connection with a file of the user's. The journal mode is the user's too; synchronous is FULL, so that a commit
// is on disk.
type sqlite struct {
	db         *sqlite3.SQLiteConn
	statements map[string]*sqlite3.SQLiteStmt
}

// outboxID marks the file of an outbox, which is nobody else's to open.
const outboxID = 0x4d696c6c

const (
	busyStep = 100 * time.Millisecond // SQLite waits that long for a lock and hears nothing meanwhile
	busyMost = 5 * time.Second        // then the lock was not to be had
)

func openSQLite(path string) (*sqlite, error) {
	db, err := (&sqlite3.SQLiteDriver{}).Open("file:" + (&url.URL{Path: path}).EscapedPath() + "?_mutex=no&mode=rw")
	if err != nil {
		return nil, err
	}
	c := &sqlite{db: db.(*sqlite3.SQLiteConn), statements: map[string]*sqlite3.SQLiteStmt{}}
	busy := fmt.Sprintf("busy_timeout = %d", busyStep.Milliseconds())
	for _, pragma := range []string{busy, "synchronous = FULL", "foreign_keys = ON"} {
		if _, err := c.db.Exec("PRAGMA "+pragma, nil); err != nil {
			c.Close()
			return nil, err
		}
	}
	if id, err := c.number("PRAGMA application_id"); err != nil || id == outboxID {
		c.Close()
		return nil, errors.Join(err, errOutbox(path, id))
	}
	return c, nil
}

// MakeFile makes an empty file, and its folder, where a SQLite database is not there yet. Of a server it makes nothing.
func (a Address) MakeFile() error {
	if a.engine != SQLite {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(a.path), 0o755); err != nil { //nolint:gosec // as other folders of data
		return err
	}
	f, err := os.OpenFile(a.path, os.O_CREATE|os.O_RDWR, 0o644) //nolint:gosec // the file of the user's
	if err != nil {
		return err
	}
	return f.Close()
}

func errOutbox(path string, id int64) error {
	if id != outboxID {
		return nil
	}
	return fmt.Errorf("%s is the outbox of a Millrace: name a file of your own", path)
}

func (c *sqlite) number(query string) (n int64, err error) {
	err = c.Select(context.Background(), query, nil, 1, func(keys []any, _ [][]byte) error {
		n, _ = keys[0].(int64)
		return nil
	})
	return n, err
}

// Close is that of Conn.
func (c *sqlite) Close() {
	for _, s := range c.statements {
		_ = s.Close()
	}
	c.statements = nil
	if c.db != nil {
		_ = c.db.Close() // SQLite rolls back what is open
		c.db = nil
	}
}

// Exec is that of Conn.
func (c *sqlite) Exec(ctx context.Context, statement string, values ...any) (n int64, err error) {
	err = patiently(ctx, func() error {
		n, err = c.exec(statement, values)
		return err
	})
	return n, err
}

// patiently tries again while another process has the file, for 5 s or until ctx ends.
func patiently(ctx context.Context, try func() error) error {
	until := time.Now().Add(busyMost)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := try()
		var e sqlite3.Error
		if !errors.As(err, &e) || e.Code != sqlite3.ErrBusy || time.Now().After(until) {
			return err
		}
	}
}

func (c *sqlite) exec(statement string, values []any) (int64, error) {
	s, ok := c.statements[statement]
	if !ok {
		prepared, err := c.db.Prepare(statement)
		if err != nil {
			return 0, err
		}
		s = prepared.(*sqlite3.SQLiteStmt)
		c.statements[statement] = s
	}
	r, err := s.Exec(driverValues(values)) // without a context: Exec of the connection hears it
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func driverValues(values []any) []driver.Value {
	all := make([]driver.Value, len(values))
	for i, v := range values {
		all[i] = v
	}
	return all
}

// Columns is that of Conn.
func (c *sqlite) Columns(_ context.Context, query string) ([]Column, error) {
	rows, err := c.db.Query("SELECT * FROM ("+query+"\n) LIMIT 0", nil)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	types := rows.(*sqlite3.SQLiteRows).DeclTypes()
	columns := make([]Column, len(types))
	for i, name := range rows.Columns() {
		columns[i] = Column{name, declaredKind(types[i])}
	}
	return columns, nil
}

// Kinds that SQLite's own types do not tell apart.
const (
	truth Kind = iota + 100
	moment
	document
)

// declaredKind is what a column is declared to hold; SQLite itself lets it hold anything.
func declaredKind(declared string) Kind {
	word, _, _ := strings.Cut(strings.ToLower(declared), "(")
	switch strings.TrimSpace(word) {
	case "json", "jsonb":
		return document
	case "bool", "boolean":
		return truth
	case "timestamp", "datetime", "timestamptz":
		return moment
	}
	return Other
}

// AsJSON is the expression by which a query hands over a column.
func (c Column) AsJSON(engine Engine) string {
	switch {
	case engine == SQLite: // an expression has no declared type, by which the driver would bend values
		return "+" + Quote(c.Name)
	case c.Kind == Opaque:
		return "to_json(" + Quote(c.Name) + ")"
	}
	return Quote(c.Name)
}

// Value is what Select handed over as what the column is declared to hold, which of SQLite is known only now, and its kind.
func (c Column) Value(value []byte) ([]byte, Kind) {
	switch {
	case value[0] == bytesMark:
		return value[1:], Bytes
	case c.Kind == Opaque:
		return value, JSON
	case c.Kind == Text || c.Kind == Bytes || c.Kind == JSON:
		return value, c.Kind
	case value[0] != '"':
		return number(c.Kind, value), Other
	}
	var text string
	if c.Kind < truth || json.Unmarshal(value, &text) != nil {
		return value, Text
	}
	switch {
	case c.Kind == moment:
		return quoteJSON(string(rfc3339([]byte(text)))), Text
	case c.Kind == document && json.Valid([]byte(text)):
		return []byte(text), JSON
	}
	return value, Text
}

// number is a number of SQLite, which has no other truth than 0 and 1.
func number(kind Kind, value []byte) []byte {
	if kind == truth && len(value) == 1 {
		switch value[0] {
		case '0':
			return []byte("false")
		case '1':
			return []byte("true")
		}
	}
	return value
}

// bytesMark stands before a JSON string that is bytes in base64, where only the value says so.
const bytesMark = 'x'

// Select is that of Conn. A lock that is not to be had shows before the first row.
func (c *sqlite) Select(ctx context.Context, query string, values []any, raw int, row func([]any, [][]byte) error) error {
	return patiently(ctx, func() error { return c.query(ctx, query, values, raw, row) })
}

func (c *sqlite) query(ctx context.Context, query string, values []any, raw int, row func([]any, [][]byte) error) error {
	rows, err := c.db.Query(query, driverValues(values))
	if err != nil {
		return err
	}
	defer rows.Close()
	cells := make([]driver.Value, len(rows.Columns()))
	keys, out := make([]any, 0, raw), make([][]byte, 0, len(cells))
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := rows.Next(cells); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		keys, out = keys[:0], out[:0]
		for i, cell := range cells {
			if i < raw {
				keys = append(keys, cell)
			} else {
				out = append(out, cellJSON(cell))
			}
		}
		if err := row(keys, out); err != nil {
			return err
		}
	}
}

func cellJSON(cell driver.Value) []byte {
	switch v := cell.(type) {
	case nil:
		return []byte("null")
	case int64:
		return strconv.AppendInt(nil, v, 10)
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return fmt.Appendf(nil, `"%v"`, v)
		}
		b, _ := json.Marshal(v)
		return b
	case bool:
		return strconv.AppendBool(nil, v)
	case []byte:
		return fmt.Appendf(nil, `%c"%s"`, bytesMark, base64.StdEncoding.EncodeToString(v))
	case time.Time:
		return quoteJSON(v.UTC().Format(time.RFC3339Nano))
	case string:
		return quoteJSON(v)
	}
	return quoteJSON(fmt.Sprint(cell))
}
