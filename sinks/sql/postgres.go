package sql

import (
	"bytes"
	"context"
	"fmt"

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

	text []byte // of the last COPY, kept for the next one
}

// carefulMost is for how many deliveries COPY is not tried after one that failed.
const carefulMost = 64

// textMost is how much memory is kept from one COPY to the next.
const textMost = 8 << 20

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

func (p *postgres) write(ctx context.Context, rows []row) error {
	if err := p.connect(ctx); err != nil {
		return err
	}
	rows = p.last(rows)
	if (p.proved || p.conflict == onError) && !p.refused && p.careful == 0 {
		err := p.copy(ctx, p.copyTable, rows)
		if err == nil {
			p.pause /= 2
			return nil
		}
		if p.conn.Broken() || ctx.Err() != nil {
			return err
		}
		p.refused = databases.IsRefused(err)
		p.pause = min(2*p.pause+1, carefulMost)
		p.careful = p.pause + 1
	}
	return p.upsert(ctx, rows)
}

func (p *postgres) connect(ctx context.Context) (err error) {
	if p.conn != nil && !p.conn.Broken() {
		return nil
	}
	p.close()
	if p.conn, err = p.address.Postgres(ctx); err != nil {
		p.conn = nil
		return err
	}
	if p.create {
		return p.conn.Script(ctx, p.createStatement())
	}
	return nil
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
		return err
	}
	p.staged, p.fresh = true, true
	return nil
}

// transaction writes rows. After an error that leaves the connection whole, nothing is open on it.
func (p *postgres) transaction(ctx context.Context, rows []row) error {
	err := p.conn.Script(ctx, "BEGIN")
	if err == nil {
		err = p.copy(ctx, p.copyStage, rows)
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

// copy writes rows in the text format of COPY.
func (p *postgres) copy(ctx context.Context, statement string, rows []row) error {
	text := p.text[:0]
	for _, r := range rows {
		for i, v := range r.values {
			if i > 0 {
				text = append(text, '\t')
			}
			text = appendCopy(text, v)
		}
		text = append(text, '\n')
	}
	err := p.conn.Copy(ctx, statement, text)
	if p.text = text; p.conn.Broken() || cap(text) > textMost {
		p.text = nil // of a connection that broke, the driver may still be reading it
	}
	return err
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
