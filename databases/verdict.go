package databases

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/millrace-run/millrace/event"
)

const maxError = 512 // characters of an error, which may quote what is in the database

// rowClasses are the classes of SQLSTATE that speak of a row: its values (22), the constraints of the table (23, 44), its size
// (54), what a trigger of the user's raised (P0).
var rowClasses = []string{"22", "23", "44", "54", "P0"}

// downClasses speak of the server, the connection, the transaction or the schema, and say nothing about an event: a row that meets
// them now may be taken later. 40 is a deadlock or a conflict of transactions, 42 a table or column that is not there, 53 a full
// disk or too many connections, 57 a server that stops.
var downClasses = []string{
	"08", "0A", "25", "26", "28", "2D", "34", "3B", "3D", "3F", "40", "42", "53", "55", "57", "58", "72", "F0", "HV",
}

// corrupt are the codes of broken files, out of a class whose other code is a bug that one row may meet.
var corrupt = []string{"XX001", "XX002"}

// duplicateInStatement is two rows of one statement with one key: none of them is at fault by itself.
const duplicateInStatement = "21000"

// OfRow says whether a failure is one of a row: of several that were written together, single ones may be taken.
func OfRow(err error) bool {
	var p *pgconn.PgError
	var s sqlite3.Error
	switch {
	case IsSetup(err):
		return false
	case errors.As(err, &p):
		return !slices.Contains(downClasses, class(p)) && !slices.Contains(corrupt, p.Code)
	case errors.As(err, &s):
		return s.Code == sqlite3.ErrConstraint || s.Code == sqlite3.ErrMismatch || s.Code == sqlite3.ErrTooBig
	}
	return false
}

// setup is a failure before any row was written.
type setup struct{ error }

func (s *setup) Unwrap() error { return s.error }

// Setup notes that a failure happened before any row was written, so that it speaks of none. Of nil it is nil.
func Setup(err error) error {
	if err == nil {
		return nil
	}
	return &setup{err}
}

// IsSetup says whether a failure was noted by Setup.
func IsSetup(err error) bool {
	var s *setup
	return errors.As(err, &s)
}

// IsRefused says whether the statement is one that this table never takes: COPY into a view, or where rows have policies.
func IsRefused(err error) bool {
	var p *pgconn.PgError
	return errors.As(err, &p) && (class(p) == "0A" || class(p) == "42")
}

func class(p *pgconn.PgError) string { return p.Code[:min(2, len(p.Code))] }

// Verdict is what a failure to write one row says about its event; err must not be nil. A row that the table refuses is Permanent.
// What says nothing about the row is Unavailable, and that is everything but the answer of a database: a broken connection leaves
// open whether the transaction happened, which an upsert makes harmless. What is neither counts.
func Verdict(err error) error {
	var p *pgconn.PgError
	if errors.As(err, &p) && OfRow(err) && !slices.Contains(rowClasses, class(p)) && p.Code != duplicateInStatement {
		return &readable{err}
	}
	if OfRow(err) {
		return event.Permanent(&readable{err})
	}
	return &event.Failure{Class: event.UnavailableClass, Refused: errors.Is(err, syscall.ECONNREFUSED), Err: &readable{err}}
}

// readable says a failure in words, with what to do about it, and bounds its text.
type readable struct{ err error }

// Unwrap returns the failure.
func (r *readable) Unwrap() error { return r.err }

// Error is what happened, where, and what to do.
func (r *readable) Error() string {
	text := r.err.Error()
	var p *pgconn.PgError
	var s sqlite3.Error
	switch {
	case errors.As(r.err, &p):
		text = "PostgreSQL: " + place(p) + p.Message + " (" + p.Code + ")" + hint(postgresHints[p.Code])
	case errors.As(r.err, &s):
		text = "SQLite: " + s.Error() + hint(sqliteHint(s))
	case errors.Is(r.err, context.DeadlineExceeded):
		text = "the database did not answer in time"
	}
	if len(text) > maxError {
		text = strings.ToValidUTF8(text[:maxError], "") + "…"
	}
	return text
}

func hint(text string) string {
	if text == "" {
		return ""
	}
	return "; " + text
}

// place names the column, if the server does.
func place(p *pgconn.PgError) string {
	if p.ColumnName != "" {
		return fmt.Sprintf("column %q: ", p.ColumnName)
	}
	// Of a COPY: COPY table, line 3, column total: "abc"
	if _, rest, ok := strings.Cut(p.Where, ", column "); ok {
		name, _, _ := strings.Cut(rest, ":")
		name, _, _ = strings.Cut(name, "\n")
		return fmt.Sprintf("column %q: ", name)
	}
	return ""
}

var postgresHints = map[string]string{
	"42P01": "create the table, or write create: true",
	"42703": "the table has changed, or columns name one that it never had",
	"42P10": "the table needs a unique index on the columns of key: CREATE UNIQUE INDEX",
	"42501": "the user of the URL lacks a right: SELECT, INSERT and UPDATE on the table, TEMPORARY on the database",
	"3D000": "create the database",
	"53100": "the disk of the server is full",
	"53300": "raise max_connections of the server, or lower what others take",
	"25006": "the server is a standby: write target_session_attrs=read-write in the URL",
}

func sqliteHint(s sqlite3.Error) string {
	text := s.Error()
	switch {
	case s.Code == sqlite3.ErrBusy || s.Code == sqlite3.ErrLocked:
		return "another process holds the file"
	case s.Code == sqlite3.ErrFull:
		return "the disk is full"
	case strings.Contains(text, "no such table"):
		return "create the table, or write create: true"
	case strings.Contains(text, "no such column") || strings.Contains(text, "has no column"):
		return "the table has changed, or columns name one that it never had"
	case strings.Contains(text, "ON CONFLICT clause does not match"):
		return "the table needs a unique index on the columns of key: CREATE UNIQUE INDEX"
	}
	return ""
}
