package sql

import (
	"context"

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
}

// writer writes rows in one transaction.
type writer interface {
	// begin is called before the first write of each delivery.
	begin()
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
	s := &Sink{settings: checked}
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
	d := &delivery{Sink: s, verdicts: make([]error, len(batch))}
	rows := make([]row, 0, len(batch))
	for i := range batch {
		r, err := s.row(i, batch[i].Event)
		if err != nil {
			d.verdicts[i] = event.Permanent(err)
			continue
		}
		rows = append(rows, r)
	}
	if len(rows) > 0 {
		s.writer.begin()
		d.write(ctx, rows)
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
	verdicts []error
	down     error // the database is unavailable: nothing more is written
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
		return
	case databases.OfRow(err) && len(some) > 1:
		d.write(ctx, some[:len(some)/2])
		d.write(ctx, some[len(some)/2:])
		return
	}
	verdict := databases.Verdict(err)
	if event.VerdictOf(verdict).Class == event.UnavailableClass {
		d.down = verdict
		d.writer.close()
	}
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

func (c *caught) begin() {}
func (c *caught) close() {}

func (c *caught) write(ctx context.Context, rows []row) error {
	for _, r := range rows {
		if err := c.take(ctx, c.title, c.names, r.values); err != nil {
			return err
		}
	}
	return nil
}
