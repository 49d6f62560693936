// Package databases speaks with the databases of users, for the source and the sink that do: PostgreSQL, and a SQLite file that
// is the user's own. It is the only home of the drivers there. What a failure says about the event and what about the database
// is decided here, once for all (verdict.go), and so is how a name becomes part of a statement (name.go).
package databases

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Engine is a kind of database.
type Engine uint8

// The engines.
const (
	PostgreSQL Engine = iota + 1
	SQLite
)

// Address is a database: where it is, and for PostgreSQL as whom. The zero value is none.
type Address struct {
	engine   Engine
	path     string // of SQLite, absolute
	postgres *pgconn.Config
}

const addressHint = "write postgres://user@host/database, or sqlite: and the path of a file"

// ParseAddress reads a URL: postgres://… (or postgresql://…) as psql takes it, or sqlite: and a path, which starts at the working
// directory of this moment. It connects to nothing. Its error never quotes the URL, which may hold a password.
func ParseAddress(text string) (Address, error) {
	scheme, rest, _ := strings.Cut(text, ":")
	switch strings.ToLower(scheme) {
	case "postgres", "postgresql":
		c, err := pgconn.ParseConfig(text)
		if err != nil {
			return Address{}, errors.New("not the URL of a PostgreSQL database: " + addressHint)
		}
		if c.Database == "" || !strings.HasPrefix(rest, "//") {
			return Address{}, errors.New("the database is missing: " + addressHint)
		}
		c.OnNotice = nil
		if c.RuntimeParams["application_name"] == "" {
			c.RuntimeParams["application_name"] = "millrace"
		}
		return Address{engine: PostgreSQL, postgres: c}, nil
	case "sqlite":
		return parsePath(rest)
	}
	return Address{}, errors.New("not the URL of a database: " + addressHint)
}

func parsePath(path string) (Address, error) {
	path = strings.TrimPrefix(path, "//")
	switch {
	case path == "" || strings.HasPrefix(path, ":memory:"):
		return Address{}, errors.New("the path is missing: write sqlite: and the path of a file")
	case strings.ContainsRune(path, 0):
		return Address{}, errors.New("there is a NUL character in the path")
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return Address{}, fmt.Errorf("the working directory cannot be told: %w", err)
	}
	return Address{engine: SQLite, path: absolute}, nil
}

// Engine is the kind of database.
func (a Address) Engine() Engine { return a.engine }

// String is the address without user, password and settings, in the form of a URI: postgres://host:port/database, or
// sqlite:///path/of/file.
func (a Address) String() string {
	if a.engine == SQLite {
		return (&url.URL{Scheme: "sqlite", Path: filepath.ToSlash(a.path)}).String()
	}
	if a.postgres == nil {
		return ""
	}
	host := net.JoinHostPort(a.postgres.Host, strconv.Itoa(int(a.postgres.Port)))
	if strings.HasPrefix(a.postgres.Host, "/") { // the folder of a socket
		host = "localhost"
	}
	return (&url.URL{Scheme: "postgres", Host: host, Path: "/" + a.postgres.Database}).String()
}

// Conn is one connection. Its methods must not be called concurrently. An error of any of them may be asked for a Verdict.
type Conn interface {
	// Exec runs a statement that answers with no rows, and returns how many it changed. Values are nil, bool, int64, float64, string
	// and []byte.
	Exec(ctx context.Context, statement string, values ...any) (changed int64, err error)
	// Select hands over the rows of a query. The first raw columns come as the database writes them, as what can be a value of a
	// later statement again; the others as JSON. The slices of a row are only good until row returns.
	Select(ctx context.Context, query string, values []any, raw int, row func(keys []any, values [][]byte) error) error
	// Columns are those that a query has.
	Columns(ctx context.Context, query string) ([]Column, error)
	// Close ends the connection, with what was begun and not committed. It may be called more than once.
	Close()
}

// Column is a column of a query.
type Column struct {
	Name string
	Kind Kind
}

// Kind is what the values of a column are, as far as JSON does not say.
type Kind uint8

// The kinds.
const (
	Other  Kind = iota
	Text        // JSON strings
	Bytes       // JSON strings in base64
	JSON        // any JSON
	Opaque      // only the database can make JSON of them: see AsJSON
)

// Connect opens a connection.
func (a Address) Connect(ctx context.Context) (Conn, error) {
	if a.engine == SQLite {
		return openSQLite(a.path)
	}
	return a.Postgres(ctx)
}
