package app

import (
	"context"
	"crypto/x509"
	"io"
	"net"
	"os"
	"path/filepath"

	"github.com/millrace-run/millrace/app/lab"
	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/router"
	"github.com/millrace-run/millrace/sinks/console"
	"github.com/millrace-run/millrace/sinks/email"
	"github.com/millrace-run/millrace/sinks/http"
	"github.com/millrace-run/millrace/sinks/s3"
	sqlsink "github.com/millrace-run/millrace/sinks/sql"
	"github.com/millrace-run/millrace/sinks/storage"
	"github.com/millrace-run/millrace/sources/file"
	sqlsource "github.com/millrace-run/millrace/sources/sql"
)

// Detour leads what sinks deliver elsewhere than the file says, so that a configuration can be tried without reaching anybody.
// The sinks are the real ones: what they send, what they make of the answer and what the router makes of that is no different.
type Detour struct {
	// Dial makes the connections of sinks that speak to somebody, in place of the network. The scheme is that of the sink's
	// address. A connection for https is used as it is; over those for smtp and smtps the sink does TLS itself, as always, and
	// trusts Roots.
	Dial func(ctx context.Context, sink SinkName, scheme, address string) (net.Conn, error)
	// Roots are the certificates that are trusted in place of the machine's.
	Roots *x509.CertPool
	// Folder is where sinks that write files put them, under the paths that the file gives; those of object stores do so as s3, bucket
	// and key.
	Folder string
	// Stored is called for each event that such a sink has written, with the path of the file.
	Stored func(sink SinkName, e *event.Event, path string)
	// Row takes each row that a sink writes to a database, in place of the database.
	Row func(sink SinkName, table string, columns []string, values []any)
	// Out is where console sinks write, as to a terminal, in color if Color says so. nil is standard output.
	Out   io.Writer
	Color bool
}

// SinkName names a sink of a plan.
type SinkName = lab.SinkName

// http are the options of an http sink. A nil Detour has none.
func (d *Detour) http() []http.Option {
	if d == nil {
		return nil
	}
	return []http.Option{http.Dial(d.dial)}
}

// email are the options of an email sink.
func (d *Detour) email() []email.Option {
	if d == nil {
		return nil
	}
	return []email.Option{email.Dial(d.dial, d.Roots)}
}

// storage are the options of a storage sink.
func (d *Detour) storage() []storage.Option {
	if d == nil {
		return nil
	}
	working, err := os.Getwd()
	if err != nil {
		working = "/" // then no path is below it, and the whole path is kept
	}
	return []storage.Option{storage.Below(d.Folder, working)}
}

// s3 are the options of an s3 sink.
func (d *Detour) s3() []s3.Option {
	if d == nil {
		return nil
	}
	return []s3.Option{s3.Into(filepath.Join(d.Folder, "s3"))}
}

// file are the options of a file source: files that are read to try a configuration stay where they are.
func (d *Detour) file() []file.Option {
	if d == nil {
		return nil
	}
	return []file.Option{file.KeepAll()}
}

// sql are the options of a sink that writes to a database.
func (d *Detour) sql() []sqlsink.Option {
	if d == nil {
		return nil
	}
	return []sqlsink.Option{sqlsink.Catch(func(ctx context.Context, table string, columns []string, values []any) error {
		d.Row(nameIn(ctx), table, columns, values)
		return nil
	})}
}

// table are the options of a source that reads from a database: rows that are read to try a configuration stay as they are.
func (d *Detour) table() []sqlsource.Option {
	if d == nil {
		return nil
	}
	return []sqlsource.Option{sqlsource.KeepAll()}
}

// console is where the console sinks of a plan write, all to the same.
func (d *Detour) console() *console.Output {
	if d == nil || d.Out == nil {
		return console.NewOutput(os.Stdout, os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
	}
	return console.NewPlainOutput(d.Out, d.Color)
}

// dial finds out which sink asks: its name came with the context of the attempt.
func (d *Detour) dial(ctx context.Context, scheme, address string) (net.Conn, error) {
	return d.Dial(ctx, nameIn(ctx), scheme, address)
}

// nameIn is the name of the sink whose attempt it is. Every sink of a plan has one, see apply.
func nameIn(ctx context.Context) SinkName {
	name, _ := ctx.Value(sinkKey{}).(SinkName)
	return name
}

// sinkKey is the key of the sink's name in the context of an attempt.
type sinkKey struct{}

// apply puts a thin layer around each sink of a plan, which knows the name that the sink itself is not told.
func (d *Detour) apply(plan *Plan) {
	for _, p := range plan.Pipelines {
		for _, s := range p.Sinks {
			name := SinkName{Pipeline: p.Name, Sink: s.Name}
			switch sink := s.Value.(type) {
			case *storage.Sink:
				s.Value = &storedSink{Sink: sink, name: name, tell: d.Stored}
			case *s3.Sink:
				s.Value = &placedSink{Sink: sink, name: name, tell: d.Stored}
			case router.Sink:
				s.Value = &namedSink{sink, name}
			}
		}
	}
}

// namedSink tells those who dial for it who they dial for.
type namedSink struct {
	router.Sink
	name SinkName
}

// Deliver is the sink's.
func (s *namedSink) Deliver(ctx context.Context, batch []event.Delivery) event.Settling {
	return s.Sink.Deliver(context.WithValue(ctx, sinkKey{}, s.name), batch)
}

// storedSink tells what was written where.
type storedSink struct {
	*storage.Sink
	name SinkName
	tell func(SinkName, *event.Event, string)
}

// Deliver is the sink's. One writer calls it, so that asking for the file afterwards meets no other call.
func (s *storedSink) Deliver(ctx context.Context, batch []event.Delivery) event.Settling {
	settling := s.Sink.Deliver(ctx, batch)
	for i, d := range batch {
		if settling.Verdicts[i] != nil {
			continue
		}
		if path, err := s.File(d.Event); err == nil {
			s.tell(s.name, d.Event, path)
		}
	}
	return settling
}

// placedSink is storedSink for objects.
type placedSink struct {
	*s3.Sink
	name SinkName
	tell func(SinkName, *event.Event, string)
}

// Deliver is the sink's. One writer calls it, so that asking for the place afterwards meets no other call.
func (s *placedSink) Deliver(ctx context.Context, batch []event.Delivery) event.Settling {
	settling := s.Sink.Deliver(ctx, batch)
	for i, d := range batch {
		if settling.Verdicts[i] == nil {
			s.tell(s.name, d.Event, s.Placed(i))
		}
	}
	return settling
}
