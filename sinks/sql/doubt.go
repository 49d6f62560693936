package sql

import (
	"slices"

	"github.com/millrace-run/millrace/event"
)

// doubt finds the row that the database does not survive: one that ends the connection, or that takes longer than a delivery may.
// What it does looks like an outage, which says nothing about an event, so it would be tried without end and keep all others
// waiting. After each such failure the transactions are made smaller, until a row fails that is alone in one. From then on it is
// written last; when it fails again, and others were taken since it failed before, it is the row and no outage. Must not be used
// concurrently.
type doubt struct {
	most     int               // rows of a transaction; 0: all
	suspects map[identity]bool // whether others were written since it failed last
}

// identity is what tells an event from others.
type identity struct{ source, id string }

const (
	shrink       = 8    // by how much transactions are made smaller, and larger again
	most         = 4096 // from so many rows on there is no bound
	suspectsMost = 64
)

func identityOf(e *event.Event) identity { return identity{e.Source, e.ID} }

// any says whether a batch cannot be written as a whole.
func (d *doubt) any(batch []event.Delivery) bool {
	return d.most > 0 ||
		len(d.suspects) > 0 && slices.ContainsFunc(batch, func(one event.Delivery) bool { return d.has(one.Event) })
}

func (d *doubt) has(e *event.Event) bool {
	_, ok := d.suspects[identityOf(e)]
	return ok
}

// split keeps the order of both.
func (d *doubt) split(batch []event.Delivery, all []row) (suspects, plain []row) {
	if len(d.suspects) == 0 {
		return nil, all
	}
	for _, r := range all {
		if d.has(batch[r.at].Event) {
			suspects = append(suspects, r)
		} else {
			plain = append(plain, r)
		}
	}
	return suspects, plain
}

// bound is how many of n rows may be in one transaction.
func (d *doubt) bound(n int) int {
	if d.most == 0 {
		return n
	}
	return min(n, d.most)
}

// accepted notes that rows were written.
func (d *doubt) accepted(batch []event.Delivery, some []row) {
	for i := 0; i < len(some) && len(d.suspects) > 0; i++ {
		delete(d.suspects, identityOf(batch[some[i].at].Event))
	}
	for who := range d.suspects {
		d.suspects[who] = true
	}
}

// ease makes transactions larger again, after a delivery that the database survived.
func (d *doubt) ease() {
	if d.most *= shrink; d.most >= most {
		d.most = 0
	}
}

// blames notes that the database failed while rows were written, and says whether that is the fault of the only one.
func (d *doubt) blames(batch []event.Delivery, some []row) bool {
	d.most = max(1, len(some)/shrink)
	if len(some) != 1 {
		return false
	}
	who := identityOf(batch[some[0].at].Event)
	guilty, known := d.suspects[who]
	if known || len(d.suspects) < suspectsMost {
		d.suspects[who] = false
	}
	return guilty
}
