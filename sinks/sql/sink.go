package sql

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace-run/millrace/databases"
	"github.com/millrace-run/millrace/event"
)

// Option is a setting that the program makes, not the user.
type Option func(*Sink)

// Catch takes every row in place of the database, so that a configuration can be tried without one.
func Catch(take func(ctx context.Context, table string, columns []string, values []any) error) Option {
	return func(s *Sink) { s.writer = &caught{s.settings, take} }
}

// Sink writes to one table. Deliver must not be called concurrently: it is one writer, see the package.
type Sink struct {
	*settings
	writer writer
	doubt  doubt
}

// writer writes rows in one transaction.
type writer interface {
	// begin is called first in each delivery.
	begin()
	// direct writes all rows if it can be done without knowing them. An error means that no other way is to be tried.
	direct(ctx context.Context, rows *rows) (done bool, err error)
	// write returns nil when the transaction is committed. Any error means that nothing was written, or that it is not known.
	write(ctx context.Context, rows []row) error
	close()
}

// New checks the settings and returns the sink. It connects to nothing. Its error joins one *event.KeyError for each fault.
func New(c Config, options ...Option) (*Sink, error) {
	checked, err := c.check()
	if err != nil {
		return nil, err
	}
	s := &Sink{settings: checked, doubt: doubt{suspects: map[identity]bool{}}}
	if checked.address.Engine() == databases.SQLite {
		s.writer = newSQLite(checked)
	} else {
		s.writer = newPostgres(checked)
	}
	for _, o := range options {
		o(s)
	}
	return s, nil
}

// Deliver writes the events in one transaction, and answers a verdict for each. What was not written when ctx ends is Unavailable.
func (s *Sink) Deliver(ctx context.Context, batch []event.Delivery) event.Settling {
	made := &rows{settings: s.settings, batch: batch, verdicts: make([]error, len(batch)), look: s.together.Look()}
	d := &delivery{Sink: s, batch: batch, verdicts: made.verdicts}
	s.writer.begin()
	var done bool
	var err error
	if !s.doubt.any(batch) {
		done, err = s.writer.direct(ctx, made)
	}
	if err != nil {
		d.failed(ctx, made.all(), err)
	} else if !done {
		d.writeAll(ctx, made.all())
	}
	if d.down == nil {
		s.doubt.ease()
	}
	return event.Settling{Verdicts: d.verdicts}
}

// Close ends the connection. The sink stays usable; Close may be called more than once.
func (s *Sink) Close() error {
	s.writer.close()
	return nil
}

// delivery is one call of Deliver.
type delivery struct {
	*Sink
	batch    []event.Delivery
	verdicts []error
	down     error // the database is unavailable: nothing more is written
}

// writeAll writes rows in the order of the log, but those under suspicion behind all others, each by itself.
func (d *delivery) writeAll(ctx context.Context, all []row) {
	suspects, plain := d.doubt.split(d.batch, all)
	for len(plain) > 0 {
		n := d.doubt.bound(len(plain))
		d.write(ctx, plain[:n])
		plain = plain[n:]
	}
	for i := range suspects {
		d.write(ctx, suspects[i:i+1])
	}
}

// write writes some of the rows. A failure of several that may be the fault of one says nothing about the others: each half is
// written by itself, in the order of the log.
func (d *delivery) write(ctx context.Context, some []row) {
	if d.down != nil {
		d.all(some, d.down)
		return
	}
	err := d.writer.write(ctx, some)
	switch {
	case err == nil:
		d.doubt.accepted(d.batch, some)
	case databases.OfRow(err) && len(some) > 1:
		d.write(ctx, some[:len(some)/2])
		d.write(ctx, some[len(some)/2:])
	default:
		d.failed(ctx, some, err)
	}
}

// failed gives rows the verdict that a failure means for each of them.
func (d *delivery) failed(ctx context.Context, some []row, err error) {
	verdict := databases.Verdict(err)
	if event.VerdictOf(verdict).Class != event.UnavailableClass {
		d.all(some, verdict)
		return
	}
	d.writer.close()
	if !databases.IsSetup(err) && !errors.Is(ctx.Err(), context.Canceled) && d.doubt.blames(d.batch, some) {
		d.all(some, &event.Failure{Class: event.Counted, Err: fmt.Errorf("the database fails at this row and takes others: %w", verdict)})
		return
	}
	d.down = verdict
	d.all(some, verdict)
}

func (d *delivery) all(some []row, verdict error) {
	for _, r := range some {
		d.verdicts[r.at] = verdict
	}
}

// caught hands rows to somebody who shows them.
type caught struct {
	*settings
	take func(ctx context.Context, table string, columns []string, values []any) error
}

func (c *caught) begin()                                      {}
func (c *caught) close()                                      {}
func (c *caught) direct(context.Context, *rows) (bool, error) { return false, nil }

func (c *caught) write(ctx context.Context, rows []row) error {
	for _, r := range rows {
		if err := c.take(ctx, c.title, c.names, r.values); err != nil {
			return err
		}
	}
	return nil
}
