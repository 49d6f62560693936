package outbox

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"

	sqlite3 "github.com/mattn/go-sqlite3"
	"golang.org/x/sys/unix"
)

// minSQLite is the first version without the WAL-reset bug, in which two connections could corrupt a file.
const minSQLite = 3051003

const pageSize = 8192

// conn is one connection with its prepared statements. It is used by one goroutine at a time. It goes around database/sql on
// purpose: PRAGMAs belong to a connection, and the writer must be the only one that writes.
type conn struct {
	db         *sqlite3.SQLiteConn
	statements map[string]*sqlite3.SQLiteStmt
	fault      func(query string) error // tests make the n-th statement fail; nil otherwise
}

// openConn opens path with the settings that every promise rests on, and reads back the one that the driver would default to
// something weaker. mode is ro, rw or rwc.
func openConn(path, mode string) (*conn, error) {
	name := "file:" + (&url.URL{Path: path}).EscapedPath() + "?_mutex=no&mode=" + mode
	db, err := (&sqlite3.SQLiteDriver{}).Open(name)
	if err != nil {
		return nil, err
	}
	c := &conn{db: db.(*sqlite3.SQLiteConn), statements: map[string]*sqlite3.SQLiteStmt{}}
	for _, pragma := range []string{
		"busy_timeout = 5000", "synchronous = FULL", "wal_autocheckpoint = 0", "temp_store = MEMORY", "trusted_schema = OFF",
		"cache_size = -2048", // what is read is read once, front to back; the file's pages are in the kernel's cache
	} {
		if _, err := c.db.Exec("PRAGMA "+pragma, nil); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	if level, err := c.integer("PRAGMA synchronous"); err != nil || level < 2 {
		return nil, errors.Join(fmt.Errorf("synchronous is %d, not FULL", level), err, c.close())
	}
	return c, nil
}

func (c *conn) prepare(query string) (*sqlite3.SQLiteStmt, error) {
	if c.fault != nil {
		if err := c.fault(query); err != nil {
			return nil, err
		}
	}
	if s, ok := c.statements[query]; ok {
		return s, nil
	}
	s, err := c.db.Prepare(query)
	if err != nil {
		return nil, err
	}
	c.statements[query] = s.(*sqlite3.SQLiteStmt)
	return c.statements[query], nil
}

func (c *conn) exec(query string, args ...driver.Value) error {
	s, err := c.prepare(query)
	if err != nil {
		return err
	}
	_, err = s.Exec(args)
	return err
}

// each runs a query and calls row with the columns of each result; the slice is reused. row may return io.EOF to stop early.
func (c *conn) each(query string, row func(columns []driver.Value) error, args ...driver.Value) error {
	s, err := c.prepare(query)
	if err != nil {
		return err
	}
	rows, err := s.Query(args)
	if err != nil {
		return err
	}
	columns := make([]driver.Value, len(rows.Columns()))
	for err == nil {
		if err = rows.Next(columns); err == nil {
			err = row(columns)
		}
	}
	if err == io.EOF {
		err = nil
	}
	return errors.Join(err, rows.Close())
}

// integer returns the first column of the first row, 0 if there is none.
func (c *conn) integer(query string, args ...driver.Value) (n int64, err error) {
	err = c.each(query, func(columns []driver.Value) error {
		n, _ = columns[0].(int64)
		return io.EOF
	}, args...)
	return n, err
}

// checkpoint runs a checkpoint of the given mode. It returns the frames in the WAL, 0 after a TRUNCATE that succeeded; one that
// could not finish because of readers is no error.
func (c *conn) checkpoint(mode string) (frames int64, err error) {
	err = c.each("PRAGMA wal_checkpoint("+mode+")", func(columns []driver.Value) error {
		frames, _ = columns[1].(int64)
		return io.EOF
	})
	return frames, err
}

func (c *conn) close() error {
	var errs []error
	for _, s := range c.statements {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, c.db.Close())...)
}

// isFull says whether an error means that there is no room, or that a quota is used up. A shared-memory index that cannot grow is
// the same thing, as it is on the same disk.
func isFull(err error) bool {
	var e sqlite3.Error
	return errors.As(err, &e) && (e.Code == sqlite3.ErrFull || isIndex(err) ||
		e.ExtendedCode == sqlite3.ErrIoErrWrite && e.SystemErrno == unix.EDQUOT)
}

// isIndex says whether the shared-memory index could not grow. A COMMIT comes to that after its frames were synced.
func isIndex(err error) bool {
	var e sqlite3.Error
	return errors.As(err, &e) && e.ExtendedCode == sqlite3.ErrIoErrSHMSize
}

// isCorrupt says whether a page of the file does not hold what a page can hold.
func isCorrupt(err error) bool {
	var e sqlite3.Error
	return errors.As(err, &e) && e.Code == sqlite3.ErrCorrupt
}

// isOwn says whether an error is not the file's or the connection's, but of the one who asked.
func isOwn(err error) bool {
	var e sqlite3.Error
	var part *partError
	return err != nil && !errors.As(err, &part) && (!errors.As(err, &e) || e.Code == sqlite3.ErrConstraint)
}

// isBusy says whether somebody else holds a lock on the file, which passes.
func isBusy(err error) bool {
	var e sqlite3.Error
	return errors.As(err, &e) && (e.Code == sqlite3.ErrBusy || e.Code == sqlite3.ErrLocked)
}
