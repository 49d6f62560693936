package sql

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/millrace-run/millrace/databases"
	"github.com/millrace-run/millrace/event"
)

// Bounds of a batch. How many rows are asked for follows from how large they are, so that huge rows do not fill the memory.
const (
	limitFirst = 16
	limitMost  = 2000
	bytesMost  = 1 << 20
)

// emitError is a failure of the log, not of the database.
type emitError struct{ err error }

func (e *emitError) Error() string { return e.err.Error() }
func (e *emitError) Unwrap() error { return e.err }

// reader is a Source at work. It has no goroutine.
type reader struct {
	*Source
	emit    func(context.Context, event.Batch) ([]string, error)
	conn    databases.Conn // nil while there is none
	columns []databases.Column
	limit   int
	owed    bool   // rows that were taken may still be there
	fence   *fence // nil: nothing waits to be read
	saying  string // what was told last
}

// rows is what one look has read.
type rows struct {
	keys   [][]any
	events []event.Event
	size   int
}

func (r *reader) close() {
	if r.conn != nil {
		r.conn.Close()
		r.conn = nil
	}
	r.fence = nil
}

// trouble tells once what the database does not let us do, and gives up the connection.
func (r *reader) trouble(err error) {
	r.close()
	text := databases.Verdict(err).Error()
	if r.saying != text {
		r.log.Error("the database cannot be read, it is tried again", "source", r.name, "err", text)
	}
	r.saying = text
}

func (r *reader) well() {
	if r.saying != "" {
		r.log.Info("the database can be read again", "source", r.name)
	}
	r.saying = ""
}

// connect opens a connection. What was taken by way of the one before may not have been deleted.
func (r *reader) connect(ctx context.Context) (err error) {
	if r.conn != nil {
		return nil
	}
	r.owed = len(r.state.Taken) > 0
	conn, err := r.address.Connect(ctx)
	if err != nil {
		return err
	}
	r.conn = conn
	if err = r.suits(ctx); err != nil {
		r.close()
	}
	return err
}

// turn looks once, and says whether there is more to read at once.
func (r *reader) turn(ctx context.Context) (more bool, err error) {
	if err := r.connect(ctx); err != nil {
		return false, err
	}
	if r.columns, err = r.conn.Columns(ctx, "SELECT * FROM "+r.from); err != nil {
		return false, err
	}
	if r.takes {
		return r.takeTurn(ctx)
	}
	return r.pollTurn(ctx)
}

// pollTurn reads rows behind the position.
func (r *reader) pollTurn(ctx context.Context) (more bool, err error) {
	if err := r.begin(ctx); err != nil {
		return false, err
	}
	high, err := r.high(ctx)
	if high == nil || err != nil {
		return false, err
	}
	got, err := r.read(ctx, r.conn, r.between(high), append(append([]any{}, r.state.Position...), high...), "")
	if err != nil {
		return false, err
	}
	if len(got.events) == 0 {
		r.fence = nil
		return false, nil
	}
	next := state{Begun: true, Position: got.keys[len(got.keys)-1]}
	full := r.adapt(got)
	err = event.Insist(ctx, r.clock, func() error {
		_, err := r.emit(ctx, event.Batch{Events: got.events, State: next.changes()})
		return err
	}, r.full)
	if err != nil {
		return false, &emitError{err}
	}
	r.state = next
	if !full {
		r.fence = nil
	}
	return true, nil
}

func (r *reader) full(err error) {
	r.log.Warn("the outbox takes no events, the rows wait", "source", r.name, "err", err)
}

// begin decides, once, where to begin.
func (r *reader) begin(ctx context.Context) error {
	if r.state.Begun || !r.fromEnd {
		return nil
	}
	last, err := r.last(ctx)
	if err != nil {
		return err
	}
	next := state{Begun: true, Position: last}
	if _, err := r.emit(ctx, event.Batch{State: next.changes()}); err != nil {
		return &emitError{err}
	}
	r.state = next
	return nil
}

// last is the key of the highest row behind the position, nil if there is none.
func (r *reader) last(ctx context.Context) (last []any, err error) {
	where := " WHERE " + r.notNull() + r.unmarked()
	if len(r.state.Position) > 0 {
		where = " WHERE " + r.compare(">", 1) + r.unmarked()
	}
	falling := make([]string, len(r.After))
	for i, name := range r.After {
		falling[i] = databases.Quote(name) + " DESC"
	}
	query := fmt.Sprintf("SELECT %s FROM %s%s ORDER BY %s LIMIT 1", r.rawKeys(), r.from, where, strings.Join(falling, ", "))
	err = r.conn.Select(ctx, query, r.state.Position, len(r.After), func(keys []any, _ [][]byte) error {
		last = append([]any{}, keys...)
		return checkKeys(r.After, keys)
	})
	return last, err
}

// notNull leaves out rows that have no place in the order: NULL is neither before nor behind anything.
func (s *settings) notNull() string {
	terms := make([]string, len(s.After))
	for i, name := range s.After {
		terms[i] = databases.Quote(name) + " IS NOT NULL"
	}
	return strings.Join(terms, " AND ")
}

// compare compares the key with the parameters from first on, as a row: its first columns count most.
func (s *settings) compare(operator string, first int) string {
	return fmt.Sprintf("(%s) %s (%s)", s.after, operator, parameters(first, len(s.After)))
}

// parameters are $1, $2 and so on.
func parameters(first, n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprint("$", first+i)
	}
	return strings.Join(all, ", ")
}

// between are the rows behind the position, up to high.
func (r *reader) between(high []any) string {
	where := " WHERE "
	if n := len(r.state.Position); n > 0 {
		where += r.compare(">", 1) + " AND "
	}
	return where + r.compare("<=", len(r.state.Position)+1) + r.unmarked()
}

// read runs one query and makes events of its rows.
func (r *reader) read(ctx context.Context, conn databases.Conn, where string, values []any, locking string) (rows, error) {
	selected := make([]string, len(r.columns))
	for i, c := range r.columns {
		selected[i] = c.AsJSON(r.address.Engine())
	}
	query := fmt.Sprintf("SELECT %s, %s FROM %s%s ORDER BY %s LIMIT %d%s", r.rawKeys(), strings.Join(selected, ", "), r.from, where,
		r.after, r.limit, locking)
	var got rows
	err := conn.Select(ctx, query, values, len(r.After), func(keys []any, values [][]byte) error {
		if err := checkKeys(r.After, keys); err != nil {
			return err
		}
		own := append([]any{}, keys...)
		e := r.event(idOf(own), r.columns, values)
		got.keys, got.events = append(got.keys, own), append(got.events, e)
		got.size += e.Size()
		return nil
	})
	return got, err
}

// rawKeys are the columns of after, without what a driver makes of declared types.
func (s *settings) rawKeys() string {
	if s.address.Engine() != databases.SQLite {
		return s.after
	}
	raw := make([]string, len(s.After))
	for i, name := range s.After {
		raw[i] = "+" + databases.Quote(name)
	}
	return strings.Join(raw, ", ")
}

var errKey = errors.New("the values of after must be numbers or texts")

func checkKeys(names []string, keys []any) error {
	for i, k := range keys {
		switch k.(type) {
		case string, int64, float64:
		default:
			return fmt.Errorf("column %q has a %T: %w", names[i], k, errKey)
		}
	}
	return nil
}

// adapt sets how many rows are asked for next, and says whether there may be more of them now.
func (r *reader) adapt(got rows) (full bool) {
	full = len(got.events) >= r.limit
	switch {
	case got.size > bytesMost:
		r.limit = max(1, r.limit*bytesMost/(got.size+1))
	case full:
		r.limit = min(2*r.limit, limitMost)
	}
	return full
}
