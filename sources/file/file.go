// Package file reads files that are put into a folder, each record once, and then keeps, moves or deletes them.
//
// A file is taken once its size and time have been the same for a while. It is known by inode, size and time, and by a hash of its
// first bytes where those could mislead; what is changed is another file. Records are emitted together with the position behind
// them, so that both are committed or neither is: after a crash the reading goes on behind the last record that was committed, with
// the ids that the records would have had. With the last record the file's end is committed. Only then the file is moved or
// deleted, and what is still owed in this way is done after a crash; it is forgotten when the folders have been synced.
//
// A file that cannot be read as what it is has failed: what was read of it stays, it is logged and counted, and moved away if the
// settings say so. A file that the system does not let us read is tried again at each look.
//
// Everything happens in one goroutine, one file after the other, the oldest first.
package file

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/millrace-run/millrace/event"
)

// Emit commits a batch: events and the state behind them.
type Emit = func(context.Context, event.Batch) ([]string, error)

// recordType is the type of all events of this source.
const recordType = "millrace.record"

// Source reads the files that a pattern names. Open and Run must not be called at the same time.
type Source struct {
	settings settings
	clock    event.Clock
	log      *slog.Logger
	state    map[string][]byte
	opened   bool
	running  atomic.Bool
	limits   limits
	counts   counts
}

// limits bound a batch.
type limits struct{ events, bytes int }

var usual = limits{events: 4096, bytes: 1 << 20}

// counts are what a source has done since it was made. They may be read at any time.
type counts struct{ files, failed, lost, problems atomic.Int64 }

// Counts tell what a source has done since the process began.
type Counts struct {
	Files    int64 // read to their end
	Failed   int64 // that could not be read as what they are
	Lost     int64 // that were gone or changed before they were read to their end
	Problems int64 // files and folders that could not be opened, read, moved or deleted, as often as that was told
}

// New checks the settings and opens nothing. Relative paths start at the working directory of this moment. Its error joins one
// *event.KeyError for each fault.
func New(c Config, options ...Option) (*Source, error) {
	s := &Source{clock: event.SystemClock{}, log: slog.New(slog.DiscardHandler), limits: usual}
	var err error
	if s.settings, err = c.check(); err != nil {
		return nil, err
	}
	for _, o := range options {
		o(s)
	}
	return s, nil
}

// Open takes the committed state. It must be called before each Run, since what a Run emitted without hearing of its end may or
// may not be committed. save is not needed: the state is committed with the records.
func (s *Source) Open(_ context.Context, state map[string][]byte, _ func(context.Context, event.Changes) error) error {
	if _, err := newReader(s, state); err != nil {
		return err
	}
	s.state, s.opened = state, true
	return nil
}

// Counts is what the source has done so far. It may be called at any time.
func (s *Source) Counts() Counts {
	return Counts{s.counts.files.Load(), s.counts.failed.Load(), s.counts.lost.Load(), s.counts.problems.Load()}
}

// Path is the pattern of the files, absolute.
func (s *Source) Path() string { return s.settings.glob }

// Exclusive returns what no second source may claim: files that it takes away.
func (s *Source) Exclusive() []string {
	if s.settings.then.keeps() {
		return nil
	}
	return []string{"the files " + s.settings.glob}
}

// Shape makes an event that stands in a test one of this source: what it does not name is as in the event of a record.
func (s *Source) Shape(e *event.Event) {
	if e.Type == "" {
		e.Type = recordType
	}
	if e.Source == "" {
		e.Source = sourceOf(s.settings.glob)
	}
	if e.DataContentType == "" && e.Data != nil {
		s.shapeData(e)
	}
}

// sourceOf is the path of a file as the source of its events, which must be a URI-reference.
func sourceOf(path string) string { return (&url.URL{Path: path}).EscapedPath() }

// The pauses of Run.
const (
	lookMost  = time.Second            // between two looks
	lookLeast = 100 * time.Millisecond // likewise, if files are taken at once
	lookShare = 20                     // a look that took long is not repeated for so many times as long
)

// Run reads files until ctx ends, and returns nil then. While the log is full or busy it waits and tries the same batch again. After
// any other failure of emit it returns it: what is committed is not known then, so the source must be opened again.
func (s *Source) Run(ctx context.Context, emit Emit) error {
	if !s.running.CompareAndSwap(false, true) {
		return errors.New("the source is already running")
	}
	defer s.running.Store(false)
	if !s.opened {
		return errors.New("the source was not opened")
	}
	s.opened = false
	r, err := newReader(s, s.state)
	if err != nil {
		return err
	}
	r.emit = func(ctx context.Context, b event.Batch) error { return s.insist(ctx, emit, b) }
	ended := ctx.Done()
	for ctx.Err() == nil {
		begun := s.clock.Now()
		if err := r.turn(ctx); err != nil {
			if ctx.Err() != nil {
				break
			}
			return err
		}
		pause := max(lookLeast, min(lookMost, s.settings.stable/2), lookShare*r.looked)
		again, release := s.clock.After(begun.Add(pause).Sub(s.clock.Now()))
		select {
		case <-again:
		case <-ended:
		}
		release()
	}
	return nil
}

// insist commits one batch, however long that takes.
func (s *Source) insist(ctx context.Context, emit Emit, b event.Batch) error {
	return event.Insist(ctx, s.clock, func() error {
		_, err := emit(ctx, b)
		return err
	}, func(err error) {
		s.log.Warn("the outbox takes no events, the files wait", "path", s.settings.glob, "err", err)
	})
}

// newReader is a reader that goes on from a committed state.
func newReader(s *Source, state map[string][]byte) (*reader, error) {
	r := &reader{Source: s, entries: map[identity][]*entry{}, waiting: map[string]waiting{}, pending: event.Changes{}, told: map[string]string{}}
	for key, value := range state {
		e, err := decodeMark(key, value)
		if err != nil {
			return nil, fmt.Errorf("the state of a file cannot be read: %w", err)
		}
		r.entries[e.identity] = append(r.entries[e.identity], e)
	}
	return r, nil
}

// relative is a path below the first folder of the pattern.
func (s *settings) relative(path string) string {
	name, err := filepath.Rel(s.base, path)
	if err != nil || !filepath.IsLocal(name) {
		return filepath.Base(path)
	}
	return name
}
