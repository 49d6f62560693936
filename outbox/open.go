package outbox

import (
	"crypto/rand"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	sqlite3 "github.com/mattn/go-sqlite3"
	"golang.org/x/sys/unix"

	"github.com/millrace-run/millrace/event"
)

//go:embed schema/*.sql
var schemas embed.FS

const (
	schemaVersion = 4
	applicationID = 0x4d696c6c // "Mill", in the header of the file
)

// resolve returns the path that all names of one file lead to, so that two processes cannot hold it under two names.
func resolve(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(abs), 0o700); err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(abs)
	if err == nil {
		return real, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if target, err := os.Readlink(abs); err == nil { // a link to a file that is still to be made
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(abs), target)
		}
		return resolve(target)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, filepath.Base(abs)), nil
}

func folder(path string) string { return filepath.Dir(path) }

// networkFileSystems are those on which locks or shared memory do not reach the other hosts. Source: linux/magic.h and the
// kernel's file systems.
var networkFileSystems = map[int64]string{
	0x6969: "NFS", 0x517b: "SMB", 0xff534d42: "CIFS", 0xfe534d42: "SMB2", 0x01021997: "9P", 0x5346414f: "AFS",
	0x00c36400: "Ceph", 0x0bd00bd0: "Lustre", 0x47504653: "GPFS", 0x7461636f: "OCFS2", 0x01161970: "GFS2",
}

func checkFileSystem(path string) error {
	var s unix.Statfs_t
	if err := unix.Statfs(folder(path), &s); err != nil {
		return err
	}
	return refuseNetwork(path, int64(s.Type))
}

// refuseNetwork judges by the type that statfs gives, of which some platforms extend the sign.
func refuseNetwork(path string, kind int64) error {
	if name, ok := networkFileSystems[kind&0xffffffff]; ok {
		return fmt.Errorf("outbox %s is on a network file system (%s), where its locks do not hold; put it on a local disk", path, name)
	}
	return nil
}

// inspect looks at an existing file without changing it: a file that is not ours, too new or behind its mark must stay as it is
// for whoever repairs it.
func inspect(path string) error {
	exists, err := hasContent(path)
	if err != nil {
		return err
	}
	if !exists {
		if wal, err := hasContent(path + "-wal"); err != nil || !wal {
			return err
		}
		return fmt.Errorf("%s is missing or empty, but its log %s-wal is there: put the file back, or move the log away", path, path)
	}
	mode := "ro"
	if hot, err := hasContent(path + "-journal"); err != nil {
		return err
	} else if hot {
		// The very first start was interrupted before the file had a WAL. Nothing was acknowledged then, and only a connection
		// that may write can take the half-made change back.
		mode = "rw"
	}
	c, err := openConn(path, mode)
	if err != nil {
		return fmt.Errorf("outbox %s: %w", path, err)
	}
	return errors.Join(inspectFile(c, path), c.close())
}

func inspectFile(c *conn, path string) error {
	app, err := c.integer("PRAGMA application_id")
	if err != nil {
		return fmt.Errorf("outbox %s cannot be read: %w", path, err)
	}
	version, err := c.integer("PRAGMA user_version")
	if err != nil {
		return fmt.Errorf("outbox %s cannot be read: %w", path, err)
	}
	if app == 0 && version == 0 {
		tables, err := c.integer("SELECT count(*) FROM sqlite_schema")
		if err == nil && tables > 0 {
			err = fmt.Errorf("%s is a database, but not an outbox", path)
		}
		return err // an empty database is one whose first start was interrupted
	}
	if app != applicationID {
		return fmt.Errorf("%s is a database, but not an outbox", path)
	}
	if version > schemaVersion {
		return fmt.Errorf("outbox %s has schema %d, this program knows up to %d: a newer version of it wrote the file; use that one", path, version, schemaVersion)
	}
	id, commits, err := identity(c)
	if err != nil {
		return fmt.Errorf("outbox %s: %w", path, err)
	}
	seen, err := readMark(path, id)
	if err == nil && commits < seen {
		err = &BehindError{Path: path, Has: commits, Seen: seen}
	}
	return err
}

func identity(c *conn) (id []byte, commits int64, err error) {
	err = c.each("SELECT id, commits FROM file", func(columns []driver.Value) error {
		id, _ = columns[0].([]byte)
		commits, _ = columns[1].(int64)
		return nil
	})
	if err == nil && len(id) != idSize {
		err = errors.New("the file has no id")
	}
	return id, commits, err
}

// secret is a key of hashes, nil if there is none of this name.
func secret(c *conn, name string) (value []byte, err error) {
	err = c.each("SELECT value FROM secrets WHERE name = ?", func(columns []driver.Value) error {
		value, _ = columns[0].([]byte)
		return io.EOF
	}, name)
	return value, err
}

func hasContent(path string) (bool, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Size() > 0, err
}

// openFile opens the file for writing, recovers and migrates it, and leaves its WAL empty.
func openFile(path string) (*conn, error) {
	if version, number, _ := sqlite3.Version(); number < minSQLite {
		return nil, fmt.Errorf("SQLite %s can corrupt an outbox; this program must be built with 3.51.3 or newer", version)
	}
	if err := create(path); err != nil {
		return nil, err
	}
	c, err := openConn(path, "rw")
	if err != nil {
		return nil, err
	}
	if err := prepareFile(c); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// create makes the file with narrow rights before SQLite would make it with wide ones, and its name durable.
func create(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	dir, err := os.Open(folder(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func prepareFile(c *conn) error {
	if _, err := c.db.Exec("PRAGMA page_size = "+strconv.Itoa(pageSize), nil); err != nil {
		return err
	}
	var mode any
	err := c.each("PRAGMA journal_mode = WAL", func(columns []driver.Value) error {
		mode = columns[0]
		return io.EOF
	})
	if err == nil && mode != "wal" {
		err = fmt.Errorf("its journal mode is %v and cannot be made WAL", mode)
	}
	if err != nil {
		return err
	}
	// What recovery took from the WAL may be in the page cache only: written anew and synced, before anyone builds on it.
	if err := takeIn(c); err != nil {
		return err
	}
	return migrate(c)
}

// takeIn moves all of the WAL into the file.
func takeIn(c *conn) error {
	frames, err := c.checkpoint("TRUNCATE")
	if err == nil && frames != 0 {
		err = errors.New("another program reads the file, so that its log cannot be taken in; end that program")
	}
	return err
}

// migrate brings the schema to this version in one transaction.
func migrate(c *conn) error {
	version, err := c.integer("PRAGMA user_version")
	if err != nil || version == schemaVersion {
		return err
	}
	if err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := migrateFrom(c, version); err != nil {
		if !c.db.AutoCommit() {
			err = errors.Join(err, c.exec("ROLLBACK"))
		}
		return err
	}
	return takeIn(c) // the id is in the file itself: without its WAL it must not look like a new one
}

func migrateFrom(c *conn, version int64) error {
	if err := makeSchemas(c, version+1, schemaVersion); err != nil {
		return err
	}
	script := fmt.Sprintf("PRAGMA user_version = %d;\n", schemaVersion)
	if version == 0 {
		id := make([]byte, idSize)
		if _, err := rand.Read(id); err != nil {
			return err
		}
		script += fmt.Sprintf("INSERT INTO file (one, id, commits) VALUES (1, x'%x', 0);\nPRAGMA application_id = %d;\n", id, applicationID)
	}
	_, err := c.db.Exec(script+"COMMIT;", nil)
	return err
}

// makeSchemas brings the tables from one version to another, inside a transaction.
func makeSchemas(c *conn, from, to int64) error {
	for v := from; v <= to; v++ {
		script, err := schemas.ReadFile(fmt.Sprintf("schema/%d.sql", v))
		if err == nil {
			_, err = c.db.Exec(string(script), nil)
		}
		if err == nil && v == 2 {
			err = copySegments(c)
		}
		if err != nil {
			return fmt.Errorf("making schema %d: %w", v, err)
		}
	}
	return nil
}

// copySegments gives the segments of version 1 their times and totals. One that is damaged keeps its bytes, and gets the time of
// the one before it: who comes to it finds it damaged, as ever.
func copySegments(c *conn) error {
	var topic, at, total int64
	err := c.each("SELECT id, topic, first, n, body FROM segments_of_version_1 ORDER BY topic, first", func(columns []driver.Value) error {
		first, n := columns[2].(int64), columns[3].(int64)
		body, _ := columns[4].([]byte)
		if columns[1] != topic {
			topic, at, total = columns[1].(int64), 0, 0
		}
		if records, err := decodeSegment(body, event.Offset(first), int(n)); err == nil {
			at = newest(records, at)
		}
		total += int64(len(body))
		return c.exec("INSERT INTO segments (id, topic, first, n, at, total, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
			columns[0], topic, first, n, at, total, body)
	})
	if err != nil {
		return err
	}
	// A statement that reads the old table is kept prepared and has ended, so nothing locks it.
	return c.exec("DROP TABLE segments_of_version_1")
}
