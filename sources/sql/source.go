package sql

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/millrace-run/millrace/event"
)

// Emit commits a batch: events and the state behind them.
type Emit = func(context.Context, event.Batch) ([]string, error)

// Source reads one table or query. Open and Run must not be called at the same time.
type Source struct {
	*settings
	clock   event.Clock
	log     *slog.Logger
	told    map[string]bool // the attributes that were told of
	state   state
	opened  bool
	running atomic.Bool
}

// state is what is committed together with rows: the position, or the keys of the rows that were taken last.
type state struct {
	Position []any   `json:"position,omitempty"`
	Begun    bool    `json:"begun,omitempty"` // start was decided
	Taken    [][]any `json:"taken,omitempty"`
}

const stateKey = "rows"

// New checks the settings and connects to nothing. A relative path starts at the working directory of this moment. Its error joins
// one *event.KeyError for each fault.
func New(c Config, options ...Option) (*Source, error) {
	checked, err := c.check()
	if err != nil {
		return nil, err
	}
	s := &Source{settings: checked, clock: event.SystemClock{}, log: slog.New(slog.DiscardHandler), told: map[string]bool{}}
	for _, o := range options {
		o(s)
	}
	return s, nil
}

// Path is the table, or says that it is a query.
func (s *Source) Path() string {
	if s.Table == "" {
		return "query"
	}
	return s.Table
}

// Exclusive returns what no second source may claim: rows that it takes away.
func (s *Source) Exclusive() []string {
	if !s.takes {
		return nil
	}
	return []string{"the rows of " + s.address.String() + " " + s.Table}
}

// Forgets says whether the source does without its position at the start of a process.
func (s *Source) Forgets() error {
	switch {
	case s.takes:
		return &event.KeyError{Key: "outbox", Err: errors.New(
			"delivery: at_most_once keeps events in memory only, and rows that were taken would be lost with it")}
	case !s.fromEnd:
		return &event.KeyError{Key: "start", Err: errors.New(
			"delivery: at_most_once forgets at each stop how far the table was read, so every row would come again; write start: end")}
	}
	return nil
}

// Open takes the committed state. It must be called before each Run, since what a Run emitted without hearing of its end may or
// may not be committed.
func (s *Source) Open(_ context.Context, committed map[string][]byte, _ func(context.Context, event.Changes) error) error {
	s.state = state{}
	if text, ok := committed[stateKey]; ok {
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&s.state); err != nil {
			return fmt.Errorf("the position in a table cannot be read: %w", err)
		}
	}
	s.state.Position = plain(s.state.Position)
	for i, keys := range s.state.Taken {
		s.state.Taken[i] = plain(keys)
	}
	s.opened = true
	return nil
}

// plain makes the values of a key what a database takes.
func plain(keys []any) []any {
	for i, k := range keys {
		if n, ok := k.(json.Number); ok {
			if whole, err := n.Int64(); err == nil {
				keys[i] = whole
			} else {
				keys[i], _ = n.Float64()
			}
		}
	}
	return keys
}

func (st state) changes() event.Changes {
	text, _ := json.Marshal(st) // what a database gave as a key is a number or a text
	return event.Changes{stateKey: text}
}

// The pauses after a failure of the database: each is twice the one before.
const (
	downFirst = 500 * time.Millisecond
	downMost  = 10 * time.Second
)

// Run reads rows until ctx ends, and returns nil then. While the database is down it waits, and while the log is full or busy.
// After any other failure of emit it returns it: what is committed is not known then, so the source must be opened again.
func (s *Source) Run(ctx context.Context, emit Emit) error {
	if !s.running.CompareAndSwap(false, true) {
		return errors.New("the source is already running")
	}
	defer s.running.Store(false)
	if !s.opened {
		return errors.New("the source was not opened")
	}
	s.opened = false
	ended := ctx.Done()
	r := &reader{Source: s, emit: emit, limit: limitFirst}
	defer r.close()
	down := downFirst
	for ctx.Err() == nil {
		more, err := r.turn(ctx)
		var fault *emitError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &fault):
			return fault.err
		case err != nil:
			r.trouble(err)
			s.wait(ended, down)
			down = min(2*down, downMost)
			continue
		}
		down = downFirst
		r.well()
		if !more {
			s.wait(ended, s.Every)
		}
	}
	return nil
}

func (s *Source) wait(ended <-chan struct{}, d time.Duration) {
	again, release := s.clock.After(d)
	defer release()
	select {
	case <-again:
	case <-ended:
	}
}
