package databases

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Postgres is a connection with a server. Everything travels as text, which the server reads by the type of the column: so each
// type can be written, and numbers keep their digits.
type Postgres struct{ conn *pgconn.PgConn }

// The texts of times must not depend on the settings of a role, and a yes must mean that the transaction is on disk: a server whose
// default is to answer before the write keeps it for others.
const settings = `SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; SET bytea_output = 'hex';
SET client_encoding = 'UTF8'; SET standard_conforming_strings = on; SET extra_float_digits = 1;
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'`

// Postgres opens a connection with a PostgreSQL server.
func (a Address) Postgres(ctx context.Context) (*Postgres, error) {
	c, err := pgconn.ConnectConfig(ctx, a.postgres)
	if err != nil {
		return nil, err
	}
	p := &Postgres{c}
	if err := p.Script(ctx, settings); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// closeWithin is how long saying good-bye may take.
const closeWithin = time.Second

// Close ends the connection. What it has open is rolled back by the server.
func (p *Postgres) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	_ = p.conn.Close(ctx)
	select {
	case <-p.conn.CleanupDone():
	case <-ctx.Done():
	}
}

// Broken says whether the connection can no longer be used.
func (p *Postgres) Broken() bool { return p.conn.IsClosed() }

// Script runs statements without values. Several make one round trip.
func (p *Postgres) Script(ctx context.Context, statements string) error {
	_, err := p.conn.Exec(ctx, statements).ReadAll()
	return err
}

var errRolledBack = errors.New("the server rolled the transaction back instead of committing it")

// Commit runs statements and commits the transaction that is open, in one round trip.
func (p *Postgres) Commit(ctx context.Context, statements string) error {
	results, err := p.conn.Exec(ctx, statements+"; COMMIT").ReadAll()
	if err != nil {
		return err
	}
	if last := results[len(results)-1].CommandTag.String(); last != "COMMIT" {
		return errRolledBack
	}
	return nil
}

// Copy writes rows in the text format of COPY. Outside of a transaction they are one. Rows are read by another goroutine, which may
// call Read once more after Copy has failed.
func (p *Postgres) Copy(ctx context.Context, statement string, rows io.Reader) error {
	_, err := p.conn.CopyFrom(ctx, rows, statement)
	return err
}

// AppendText appends a value as the server reads it; of nil nothing, and ok is false.
func AppendText(out []byte, value any) (text []byte, ok bool) {
	switch v := value.(type) {
	case string:
		return append(out, v...), true
	case bool:
		return strconv.AppendBool(out, v), true
	case int64:
		return strconv.AppendInt(out, v, 10), true
	case float64:
		return strconv.AppendFloat(out, v, 'g', -1, 64), true
	case []byte:
		return hex.AppendEncode(append(out, `\x`...), v), true
	}
	return out, false
}

func texts(values []any) [][]byte {
	all := make([][]byte, len(values))
	for i, v := range values {
		if text, ok := AppendText([]byte{}, v); ok {
			all[i] = text
		}
	}
	return all
}

// Exec is that of Conn.
func (p *Postgres) Exec(ctx context.Context, statement string, values ...any) (int64, error) {
	r := p.conn.ExecParams(ctx, statement, texts(values), nil, nil, nil).Read()
	return r.CommandTag.RowsAffected(), r.Err
}

// Columns is that of Conn.
func (p *Postgres) Columns(ctx context.Context, query string) ([]Column, error) {
	d, err := p.conn.Prepare(ctx, "", query, nil)
	if err != nil {
		return nil, err
	}
	columns := make([]Column, len(d.Fields))
	for i, f := range d.Fields {
		columns[i] = Column{string(f.Name), kindOf(f.DataTypeOID)}
	}
	return columns, nil
}

// Select is that of Conn. Of raw columns each is a string, or nil.
func (p *Postgres) Select(ctx context.Context, query string, values []any, raw int, row func([]any, [][]byte) error) error {
	rows := p.conn.ExecParams(ctx, query, texts(values), nil, nil, nil)
	var fault error
	var keys []any
	var out [][]byte
	for rows.NextRow() {
		if fault != nil {
			continue // the answer must be read to its end
		}
		fields, cells := rows.FieldDescriptions(), rows.Values()
		keys, out = keys[:0], out[:0]
		for i, cell := range cells {
			switch {
			case i >= raw:
				out = append(out, jsonOf(fields[i].DataTypeOID, cell))
			case cell == nil:
				keys = append(keys, nil)
			default:
				keys = append(keys, string(cell))
			}
		}
		fault = row(keys, out)
	}
	_, err := rows.Close()
	return errors.Join(fault, err)
}

// The types that are made JSON here. The server is asked for JSON of all others.
const (
	oidBool, oidBytea, oidName, oidInt8, oidInt2, oidInt4, oidText, oidOID = 16, 17, 19, 20, 21, 23, 25, 26
	oidJSON, oidFloat4, oidFloat8, oidBPChar, oidVarchar                   = 114, 700, 701, 1042, 1043
	oidDate, oidTime, oidTimestamp, oidTimestampTZ, oidNumeric, oidUUID    = 1082, 1083, 1114, 1184, 1700, 2950
	oidJSONB                                                               = 3802
)

func kindOf(oid uint32) Kind {
	switch oid {
	case oidText, oidVarchar, oidBPChar, oidName:
		return Text
	case oidBytea:
		return Bytes
	case oidJSON, oidJSONB:
		return JSON
	case oidBool, oidInt8, oidInt2, oidInt4, oidOID, oidFloat4, oidFloat8, oidDate, oidTime, oidTimestamp, oidTimestampTZ,
		oidNumeric, oidUUID:
		return Other
	}
	return Opaque
}

// jsonOf is the JSON of a value. What JSON has no number for (NaN, infinity) and times beyond the year 9999 are strings, as the
// database writes them.
func jsonOf(oid uint32, text []byte) []byte {
	if text == nil {
		return []byte("null")
	}
	switch oid {
	case oidBool:
		return strconv.AppendBool(nil, text[0] == 't')
	case oidInt8, oidInt2, oidInt4, oidOID, oidFloat4, oidFloat8, oidNumeric:
		if json.Valid(text) {
			return text
		}
	case oidJSON, oidJSONB:
		return text
	case oidBytea:
		if b, err := hex.DecodeString(string(text[min(2, len(text)):])); err == nil {
			return fmt.Appendf(nil, `"%s"`, base64.StdEncoding.EncodeToString(b))
		}
	case oidTimestamp, oidTimestampTZ:
		text = rfc3339(text)
	}
	return quoteJSON(string(text))
}

// quoteJSON writes a JSON string without the escapes that only a web page needs.
func quoteJSON(s string) []byte {
	var b jsonBuffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string cannot fail
	return b[:len(b)-1]
}

type jsonBuffer []byte

func (b *jsonBuffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

// timeForms are those of a timestamp, as PostgreSQL writes it in UTC and as people write it in SQLite. What names no zone is UTC.
var timeForms = []string{
	"2006-01-02 15:04:05.999999999-07", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05.999999999", time.RFC3339Nano,
}

// rfc3339 is a timestamp in the form of RFC 3339, or the text as it is.
func rfc3339(text []byte) []byte {
	for _, form := range timeForms {
		if t, err := time.Parse(form, string(text)); err == nil {
			return t.UTC().AppendFormat(nil, time.RFC3339Nano)
		}
	}
	return text
}
