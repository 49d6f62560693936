// Package stdin reads events from standard input until its end: cat access.log | millrace run.
//
// What was read cannot be had again, so that there is no position: each batch is durable once it is committed, and what was not read
// when the process ends stays with whoever writes it. Records that came together are committed together; as soon as nothing more
// waits to be read, what there is is committed, so that nothing lies here while the writer pauses. A stop commits what was
// read in whole records. A kill loses what was read and not committed: at most one batch and what was read ahead, 64 KiB.
//
// A record that cannot be read is left out, logged and counted; the rest goes on. At the end Run says how many there were.
package stdin

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"sync/atomic"
	"unicode/utf8"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec/records"
)

// Emit commits a batch of events.
type Emit = func(context.Context, event.Batch) ([]string, error)

// Config are the settings. Begin with Defaults.
type Config struct {
	Format    string            `yaml:"format,oneof=lines|ndjson|csv|json|whole" doc:"What is read. json: one document; whole: all of it as one event."`
	Columns   []string          `yaml:"columns" doc:"Of csv whose first line is not the names of the columns: their names."`
	Types     map[string]string `yaml:"types" doc:"Of columns of csv that are not text, by name: integer, number, boolean. An empty value is null."`
	Delimiter string            `yaml:"delimiter" doc:"Between the columns of csv: one character."`
	MaxRecord int64             `yaml:"max_record,size,min=1,max=64MiB" doc:"The most bytes of a record. A longer one is left out and counted."`
}

// Defaults are the settings where the file says nothing.
func Defaults() Config { return Config{Format: records.Lines, Delimiter: ",", MaxRecord: 1 << 20} }

// Option is a setting that the program makes, not the user.
type Option func(*Source)

// Logger is where the source reports what it could not read. Without it nothing is reported.
func Logger(l *slog.Logger) Option { return func(s *Source) { s.log = l } }

// Input is what is read in place of standard input.
func Input(f *os.File) Option { return func(s *Source) { s.in = f } }

// Clock is the clock that the source waits by. Without it that is the machine's.
func Clock(c event.Clock) Option { return func(s *Source) { s.clock = c } }

// Source reads standard input once. Run must not be called concurrently; a second call goes on where the first ended.
type Source struct {
	options records.Options
	in      *os.File
	clock   event.Clock
	log     *slog.Logger

	prefix string          // of the ids
	reader *records.Reader // nil before the first Run
	wait   *awaited
	batch  event.Batch
	size   int   // of its data
	taken  int64 // records
	bad    atomic.Int64
}

// The attributes of all events of this source.
const (
	recordType = "millrace.record"
	sourceName = "/dev/stdin"
)

// Bounds of a batch.
const (
	mostEvents = 4096
	mostBytes  = 1 << 20
)

// New checks the settings and reads nothing. Its error joins one *event.KeyError for each fault.
func New(c Config, options ...Option) (*Source, error) {
	s := &Source{in: os.Stdin, clock: event.SystemClock{}, log: slog.New(slog.DiscardHandler),
		options: records.Options{Format: c.Format, Max: c.MaxRecord, Columns: c.Columns, Types: c.Types}}
	var faults []error
	fault := func(key string, err error) {
		if err != nil {
			faults = append(faults, &event.KeyError{Key: key, Err: err})
		}
	}
	r, n := utf8.DecodeRuneInString(c.Delimiter)
	if s.options.Delimiter = r; n != len(c.Delimiter) {
		fault("delimiter", fmt.Errorf("%q is not one character", c.Delimiter))
	} else {
		fault("delimiter", records.CheckDelimiter(r))
	}
	if c.Columns != nil {
		fault("columns", records.CheckColumns(c.Columns))
	}
	for column, kind := range c.Types {
		fault("types."+column, records.CheckType(kind))
	}
	if c.MaxRecord < 1 || c.MaxRecord > 64<<20 {
		fault("max_record", errors.New("must be from 1 byte to 64MiB"))
	}
	for _, o := range options {
		o(s)
	}
	return s, errors.Join(faults...)
}

// Exclusive returns what no second source may claim: there is one standard input.
func (s *Source) Exclusive() []string { return []string{"standard input"} }

// Bad is how many records were left out because they could not be read. It may be called at any time.
func (s *Source) Bad() int64 { return s.bad.Load() }

// Shape makes an event that stands in a test one of this source: what it does not name is as in the event of a record.
func (s *Source) Shape(e *event.Event) {
	if e.Type == "" {
		e.Type = recordType
	}
	if e.Source == "" {
		e.Source = sourceName
	}
	if e.DataContentType != "" || e.Data == nil {
		return
	}
	e.DataContentType = "application/json"
	var text string
	if f := s.options.Format; (f == records.Lines || f == records.Whole) && json.Unmarshal(e.Data, &text) == nil {
		e.DataContentType, e.Data = "text/plain", []byte(text)
	}
}

// Run reads until the end, then returns an error that is or wraps event.ErrEnd; or until ctx ends, then it returns nil. While the log
// is full or busy it waits and tries the same batch again; after any other failure of emit it returns that failure.
func (s *Source) Run(ctx context.Context, emit Emit) error {
	if s.prefix == "" {
		var b [12]byte
		_, _ = rand.Read(b[:]) // it never fails
		s.prefix = hex.EncodeToString(b[:]) + "/"
	}
	s.wait = &awaited{file: s.in, ended: ctx.Done(), pause: func() error { return s.flush(ctx, emit) }}
	stop, err := s.wait.begin(ctx)
	if err != nil {
		return err
	}
	defer stop()
	err = s.records(ctx, emit)
	if ctx.Err() != nil {
		return s.last(ctx, emit)
	}
	return err
}

// records reads all of them.
func (s *Source) records(ctx context.Context, emit Emit) error {
	for {
		rec, err := s.next()
		var fault *records.Fault
		switch {
		case err == nil:
			s.add(rec)
			if len(s.batch.Events) < mostEvents && s.size < mostBytes {
				continue
			}
			err = s.flush(ctx, emit)
		case errors.As(err, &fault):
			s.bad.Add(1)
			s.log.Error("a record of standard input is left out", "err", fault)
			if err = nil; fault.Fatal {
				return errors.Join(s.flush(ctx, emit), s.end())
			}
		case errors.Is(err, io.EOF):
			if err = s.flush(ctx, emit); err == nil {
				return s.end()
			}
		}
		if err != nil {
			return err
		}
	}
}

// next returns the next record. The reader is made by the first, since of CSV it reads the names of the columns.
func (s *Source) next() (records.Record, error) {
	if s.reader == nil {
		from, err := records.New(input{s}, s.options, records.Position{})
		if err != nil {
			return records.Record{}, err
		}
		s.reader = from
	}
	return s.reader.Next()
}

// input reads what the present Run awaits.
type input struct{ *Source }

// Read is that of the file, when there is something to read.
func (i input) Read(p []byte) (int, error) { return i.wait.Read(p) }

func (s *Source) add(rec records.Record) {
	s.taken++
	s.batch.Events = append(s.batch.Events, event.Event{ID: s.prefix + strconv.FormatInt(s.taken, 10), Source: sourceName,
		Type: recordType, DataContentType: rec.ContentType, Data: rec.Data})
	s.size += len(rec.Data)
}

// end is the reason of an end.
func (s *Source) end() error {
	if n := s.bad.Load(); n > 0 {
		return fmt.Errorf("%w: %d of its records could not be read, %d were taken", event.ErrEnd, n, s.taken)
	}
	return event.ErrEnd
}

// flush commits what was read, however long that takes.
func (s *Source) flush(ctx context.Context, emit Emit) error {
	if len(s.batch.Events) == 0 {
		return nil
	}
	err := event.Insist(ctx, s.clock, func() error {
		_, err := emit(ctx, s.batch)
		return err
	}, nil)
	if err == nil {
		s.batch, s.size = event.Batch{Events: make([]event.Event, 0, len(s.batch.Events))}, 0
	}
	return err
}

// last commits what was read before a stop. It is tried once: a log that takes nothing now must not hold up the stop.
func (s *Source) last(ctx context.Context, emit Emit) error {
	if len(s.batch.Events) == 0 {
		return nil
	}
	if _, err := emit(context.WithoutCancel(ctx), s.batch); err != nil {
		s.log.Error("records that were read from standard input are lost", "records", len(s.batch.Events), "err", err)
		return err
	}
	s.batch, s.size = event.Batch{}, 0
	return nil
}
