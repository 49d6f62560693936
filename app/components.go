package app

import (
	"log/slog"

	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/sinks/console"
	"github.com/millrace-run/millrace/sinks/email"
	"github.com/millrace-run/millrace/sinks/http"
	"github.com/millrace-run/millrace/sinks/queue"
	"github.com/millrace-run/millrace/sinks/s3"
	sqlsink "github.com/millrace-run/millrace/sinks/sql"
	"github.com/millrace-run/millrace/sinks/storage"
	"github.com/millrace-run/millrace/sources/file"
	sqlsource "github.com/millrace-run/millrace/sources/sql"
	"github.com/millrace-run/millrace/sources/stdin"
	"github.com/millrace-run/millrace/sources/syslog"
	"github.com/millrace-run/millrace/sources/tail"
	"github.com/millrace-run/millrace/sources/webhook"
)

// types are the tables of components: one line per type, in the order of the reference. Components log to logger. A nil Detour is
// none.
func (d *Detour) types(logger *slog.Logger) pipelines.Types {
	newHTTP := func(c http.Config) (*http.Sink, error) { return http.New(c, d.http()...) }
	newEmail := func(c email.Config) (*email.Sink, error) { return email.New(c, d.email()...) }
	newStorage := func(c storage.Config) (*storage.Sink, error) {
		return storage.New(c, append(d.storage(), storage.Logger(logger))...)
	}
	newS3 := func(c s3.Config) (*s3.Sink, error) { return s3.New(c, append(d.s3(), s3.Logger(logger))...) }
	newFile := func(c file.Config) (*file.Source, error) {
		return file.New(c, append(d.file(), file.Logger(logger))...)
	}
	newStdin := func(c stdin.Config) (*stdin.Source, error) { return stdin.New(c, stdin.Logger(logger)) }
	out := d.console()
	newConsole := func(c console.Config) (*console.Sink, error) { return console.New(c, out) }
	newTail := func(c tail.Config) (*tail.Source, error) { return tail.New(c, tail.Logger(logger)) }
	newSyslog := func(c syslog.Config) (*syslog.Source, error) { return syslog.New(c, syslog.Logger(logger)) }
	newSQL := func(c sqlsink.Config) (*sqlsink.Sink, error) { return sqlsink.New(c, d.sql()...) }
	newTable := func(c sqlsource.Config) (*sqlsource.Source, error) {
		return sqlsource.New(c, append(d.table(), sqlsource.Logger(logger))...)
	}
	single, many := pipelines.Batch{Count: 1, Bytes: 1 << 20}, pipelines.Batch{Count: 4096, Bytes: 1 << 20}
	return pipelines.Types{
		Sources: []pipelines.Type{
			once(pipelines.DedupeOnce, "is posted the same event again by a sender who heard no answer",
				component("webhook", "Events that are posted over HTTP.", webhook.Defaults, newHook)),
			rereadable(component("file", "Files that are put into a folder, each record once.", file.Defaults, newFile)),
			once(pipelines.NeverOnce, "cannot be read again: what a crash keeps from the outbox is lost, or comes anew with all before it",
				component("stdin", "Standard input, until its end.", stdin.Defaults, newStdin)),
			rereadable(component("tail", "The lines of files, each exactly once, as they are written and rotated.", tail.Defaults, newTail)),
			once(pipelines.DedupeOnce, "may take again the rows of an outbox table that another process, which died, had taken",
				rereadable(component("sql", "Rows of a table in PostgreSQL or SQLite: new ones, or those of an outbox table.", sqlsource.Defaults, newTable))),
			once(pipelines.NeverOnce, "hears from senders who neither wait for a yes nor say what they sent before",
				component("syslog", "Messages of many machines over UDP, TCP and TLS, RFC 5424 and 3164.", syslog.Defaults, newSyslog)),
		},
		Sinks: []pipelines.Type{
			once(pipelines.NeverOnce, inFlight, answers(http.StatusVerdict, batches(
				sink(component("http", "One request per event, or per batch.", http.Defaults, newHTTP), 16, single)))),
			once(pipelines.NeverOnce, inFlight,
				answers(email.StatusVerdict, batches(sink(component("email", "One mail per event, or per batch.", email.Defaults, newEmail), 4, single)))),
			once(pipelines.AlwaysOnce, "",
				serial(component("storage", "Local files, each event exactly once.", storage.Defaults, newStorage), many)),
			once(pipelines.AlwaysOnce, "", serial(
				component("s3", "Objects in Amazon S3 and stores that speak its protocol, each event in exactly one.", s3.Defaults, newS3),
				pipelines.Batch{Count: 1 << 15, Bytes: 8 << 20})),
			once(pipelines.AlwaysOnce, "", serial(
				component("sql", "Rows of a table in PostgreSQL or SQLite, each event exactly once.", sqlsink.Defaults, newSQL),
				pipelines.Batch{Count: 4096, Bytes: 4 << 20})),
			once(pipelines.NeverOnce, "has an event again whose worker was not heard",
				pulled(sink(component("queue", "Workers take the events themselves, over HTTP.", queue.Defaults, queue.New), 1, single))),
			once(pipelines.NeverOnce, "shows again what a crash kept from being settled",
				serial(component("console", "Standard output: for a person on a terminal, NDJSON in a pipe.", console.Defaults, newConsole), many)),
		},
	}
}

// component makes a row of a package's defaults and constructor. The constructor's errors carry the key (event.KeyError), the
// decoder's the place.
func component[C, T any](name, doc string, defaults func() C, build func(C) (T, error)) pipelines.Type {
	shown := defaults()
	return pipelines.Type{Name: name, Doc: doc, Config: &shown, Build: func(decode pipelines.Decode) (any, error) {
		c := defaults()
		if err := decode(&c); err != nil {
			return nil, err
		}
		return build(c)
	}}
}

// rereadable is a source that has again what it delivered, until its position is committed: with the events, so that each is taken
// once.
func rereadable(t pipelines.Type) pipelines.Type {
	t.Rereadable, t.Once = true, pipelines.AlwaysOnce
	return t
}

// inFlight is why a sink that speaks to somebody delivers at least once.
const inFlight = "delivers at least once: what was in flight at a crash is sent again"

// once says whether a type keeps delivery: exactly_once, and why not.
func once(o pipelines.Once, twice string, t pipelines.Type) pipelines.Type {
	t.Once, t.Twice = o, twice
	return t
}

// sink adds what differs by type: how many attempts run side by side, and how much one of them takes.
func sink(t pipelines.Type, concurrency int, b pipelines.Batch) pipelines.Type {
	t.Concurrency, t.Batch = concurrency, b
	return t
}

// batches lets the file say how many events one attempt takes.
func batches(t pipelines.Type) pipelines.Type {
	t.Batches = true
	return t
}

// answers adds what the statuses mean that the destination answers with.
func answers(verdict func(status int) error, t pipelines.Type) pipelines.Type {
	t.Verdict = verdict
	return t
}

// serial is a sink that is one writer.
func serial(t pipelines.Type, b pipelines.Batch) pipelines.Type {
	t.Serial, t.Concurrency, t.Batch = true, 1, b
	return t
}

// pulled is a sink from which workers take events.
func pulled(t pipelines.Type) pipelines.Type {
	t.Pull = true
	return t
}
