package sql

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/millrace-run/millrace/databases"
)

// postgres writes to a PostgreSQL server.
type postgres struct {
	*settings
	conn *databases.Postgres

	copyTable, makeStage, dropStage, copyStage, insert string

	staged  bool // the temporary table is there
	fresh   bool // it was made in this delivery
	proved  bool // the upsert was seen to work on this connection, so a COPY that meets a key fails
	refused bool // the table takes no COPY
	careful int  // for so many deliveries COPY is not tried
	pause   int  // what careful was set to last
}

// carefulMost is for how many deliveries COPY is not tried after one that failed.
const carefulMost = 64

func newPostgres(s *settings) *postgres {
	columns := databases.QuoteAll(s.names)
	const stage = "CREATE TEMPORARY TABLE millrace_stage ON COMMIT DELETE ROWS AS SELECT %s FROM %s WITH NO DATA"
	return &postgres{
		settings:  s,
		copyTable: fmt.Sprintf("COPY %s (%s) FROM STDIN", s.table, columns),
		makeStage: fmt.Sprintf(stage, columns, s.table),
		dropStage: "DROP TABLE IF EXISTS pg_temp.millrace_stage",
		copyStage: fmt.Sprintf("COPY pg_temp.millrace_stage (%s) FROM STDIN", columns),
		insert:    fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM pg_temp.millrace_stage%s", s.table, columns, columns, s.onConflict()),
	}
}

func (p *postgres) begin() {
	p.fresh = false
	p.careful = max(0, p.careful-1)
}

func (p *postgres) close() {
	if p.conn != nil {
		p.conn.Close()
		p.conn = nil
	}
	p.staged, p.proved, p.refused = false, false, false
}

// direct is COPY into the table itself, of rows that are made while the server takes in those before them.
func (p *postgres) direct(ctx context.Context, rows *rows) (done bool, err error) {
	if p.refused || p.careful > 0 || !p.proved && p.conflict != onError {
		return false, nil
	}
	if err := p.connect(ctx); err != nil {
		return false, err
	}
	at, values := -1, make([]any, len(p.columns))
	err = p.copy(ctx, p.copyTable, func() []any {
		for at++; at < len(rows.batch); at++ {
			if rows.make(at, values) {
				return values
			}
		}
		return nil
	})
	if err == nil {
		p.pause /= 2
		return true, nil
	}
	if p.conn.Broken() || ctx.Err() != nil {
		return false, err
	}
	p.refused = databases.IsRefused(err)
	p.pause = min(2*p.pause+1, carefulMost)
	p.careful = p.pause + 1
	return false, nil
}

// write is the way of rows of which one may be there.
func (p *postgres) write(ctx context.Context, rows []row) error {
	if err := p.connect(ctx); err != nil {
		return err
	}
	return p.upsert(ctx, p.last(rows))
}

func (p *postgres) connect(ctx context.Context) (err error) {
	if p.conn != nil && !p.conn.Broken() {
		return nil
	}
	p.close()
	if p.conn, err = p.address.Postgres(ctx); err != nil {
		p.conn = nil
	} else if p.create {
		err = p.conn.Script(ctx, p.createStatement())
	}
	return databases.Setup(err)
}

// upsert goes by way of the temporary table.
func (p *postgres) upsert(ctx context.Context, rows []row) error {
	if err := p.stage(ctx, false); err != nil {
		return err
	}
	err := p.transaction(ctx, rows)
	if err == nil || !databases.OfRow(err) || p.fresh {
		return err
	}
	// The columns may have other types by now than when the temporary table was made.
	if err := p.stage(ctx, true); err != nil {
		return err
	}
	return p.transaction(ctx, rows)
}

// stage makes the temporary table, if it is not there, or anew.
func (p *postgres) stage(ctx context.Context, anew bool) error {
	if p.staged && !anew {
		return nil
	}
	p.staged = false
	if err := p.conn.Script(ctx, p.dropStage+"; "+p.makeStage); err != nil {
		return databases.Setup(err)
	}
	p.staged, p.fresh = true, true
	return nil
}

// transaction writes rows. After an error that leaves the connection whole, nothing is open on it.
func (p *postgres) transaction(ctx context.Context, rows []row) error {
	err := p.conn.Script(ctx, "BEGIN")
	if err == nil {
		at := -1
		err = p.copy(ctx, p.copyStage, func() []any {
			if at++; at < len(rows) {
				return rows[at].values
			}
			return nil
		})
	}
	if err == nil {
		err = p.conn.Commit(ctx, p.insert)
	}
	if err == nil {
		p.proved = true
		return nil
	}
	if !p.conn.Broken() && p.conn.Script(ctx, "ROLLBACK") != nil {
		p.conn.Close()
	}
	return err
}

// copy writes the rows that next makes until it returns nil. Next is called by another goroutine, but not after copy has returned.
func (p *postgres) copy(ctx context.Context, statement string, next func() []any) error {
	text := &copyText{next: next}
	defer text.stop()
	return p.conn.Copy(ctx, statement, text)
}

// copyText is rows in the text format of COPY, each made when it is read. The client of the database reads in a goroutine of its
// own, which may still be at it when the COPY has failed.
type copyText struct {
	mu      sync.Mutex // guards what follows
	next    func() []any
	text    []byte // made and not read
	stopped bool
	fault   any // what next panicked with
}

var errStopped = errors.New("no more rows")

// Read makes as many rows as there is room for. A panic of next is kept for stop: here nobody would catch it.
func (c *copyText) Read(p []byte) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() {
		if fault := recover(); fault != nil {
			n, err, c.fault, c.stopped = 0, errStopped, fault, true
		}
	}()
	if c.stopped {
		return 0, errStopped
	}
	for len(c.text) < len(p) && c.next != nil {
		if values := c.next(); values != nil {
			c.text = appendRow(c.text, values)
		} else {
			c.next = nil
		}
	}
	if len(c.text) == 0 {
		return 0, io.EOF
	}
	n = copy(p, c.text)
	c.text = append(c.text[:0], c.text[n:]...)
	return n, nil
}

// stop ends reading, and panics if next did.
func (c *copyText) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	if c.fault != nil {
		panic(c.fault)
	}
}

func appendRow(text []byte, values []any) []byte {
	for i, v := range values {
		if i > 0 {
			text = append(text, '\t')
		}
		text = appendCopy(text, v)
	}
	return append(text, '\n')
}

// appendCopy writes a value with what has a meaning in COPY escaped; NULL is \N.
func appendCopy(line []byte, v any) []byte {
	from := len(line)
	line, ok := databases.AppendText(line, v)
	if !ok {
		return append(line, `\N`...)
	}
	if !bytes.ContainsAny(line[from:], "\\\n\r\t") {
		return line
	}
	text := bytes.Clone(line[from:])
	line = line[:from]
	for _, c := range text {
		switch c {
		case '\\':
			line = append(line, `\\`...)
		case '\n':
			line = append(line, `\n`...)
		case '\r':
			line = append(line, `\r`...)
		case '\t':
			line = append(line, `\t`...)
		default:
			line = append(line, c)
		}
	}
	return line
}
