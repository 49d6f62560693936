package outbox

import (
	"context"
	"database/sql/driver"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/millrace-run/millrace/event"
)

// Standings says how an event of a topic stands in each of the topic's subscriptions, by their names, those that were removed
// too. Receipts that cannot be read are told of by the error, which then comes beside the rest.
func (b *Outbox) Standings(ctx context.Context, topic string, o event.Offset) ([]event.Standing, error) {
	t := b.topic(topic)
	if t == nil {
		return nil, fmt.Errorf("outbox has no topic %q", topic)
	}
	t.mu.Lock()
	subscriptions := slices.Clone(t.subscriptions)
	t.mu.Unlock()
	slices.SortFunc(subscriptions, func(a, b *subscription) int { return strings.Compare(a.name, b.name) })
	var all []event.Standing
	var faults error
	for _, s := range subscriptions {
		x, err := s.standing(ctx, o)
		if err != nil {
			return nil, err
		}
		if x.Receipts, err = b.Receipts(ctx, s.name, o); err != nil {
			if faults == nil {
				faults = err
			}
		}
		all = append(all, x)
	}
	return all, faults
}

// standing looks at the cursor before the row: the two change together, so a row that comes or goes in between is the newer truth.
func (s *subscription) standing(ctx context.Context, o event.Offset) (event.Standing, error) {
	x := event.Standing{Subscription: s.name, State: s.side(o)}
	if x.State == event.StandsPending {
		return x, nil
	}
	err := s.box.readers.with(ctx, func(c *conn) error {
		return c.each("SELECT "+rowColumns+" FROM deliveries WHERE subscription = ? AND offset = ?", func(columns []driver.Value) error {
			row := scanRow(columns)
			x.Exception, x.State = &row.Exception, event.StandsRetrying
			switch row.Exception.State {
			case event.Dead:
				x.State = event.StandsDead
			case event.Held:
				x.State = event.StandsHeld
			}
			return io.EOF
		}, s.id, int64(o))
	})
	return x, err
}

// side is what the cursor alone says: pending, settled (or with a row), or not owed.
func (s *subscription) side(o event.Offset) event.StandingState {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.cursor.gaps {
		if g.from <= o && o <= g.to {
			return event.StandsForeign
		}
	}
	switch {
	case s.ended && o > s.until:
		return event.StandsForeign
	case s.cursor.settled(o):
		return event.StandsSettled
	}
	return event.StandsPending
}
