package app

import (
	"log/slog"

	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/sinks/http"
	"github.com/millrace-run/millrace/sinks/storage"
	"github.com/millrace-run/millrace/sources/webhook"
)

// types are the tables of components: one line per type, in the order of the reference. Components log to logger.
func types(logger *slog.Logger) pipelines.Types {
	newStorage := func(c storage.Config) (*storage.Sink, error) { return storage.New(c, storage.Logger(logger)) }
	return pipelines.Types{
		Sources: []pipelines.Type{
			component("webhook", "events that are posted over HTTP", webhook.Defaults, newHook),
		},
		Sinks: []pipelines.Type{
			sink(component("http", "one request per event", http.Defaults, http.New), 16, pipelines.Batch{Count: 1, Bytes: 1 << 20}),
			serial(component("storage", "local files, exactly once", storage.Defaults, newStorage), pipelines.Batch{Count: 4096, Bytes: 1 << 20}),
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

// sink adds what differs by type: how many attempts run side by side, and how much one of them takes.
func sink(t pipelines.Type, concurrency int, b pipelines.Batch) pipelines.Type {
	t.Concurrency, t.Batch = concurrency, b
	return t
}

// serial is a sink that is one writer.
func serial(t pipelines.Type, b pipelines.Batch) pipelines.Type {
	t.Serial, t.Concurrency, t.Batch = true, 1, b
	return t
}
