package tests

import (
	"context"
	"slices"
	"sync"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/router"
)

// heardLog is a log whose subscriptions say whether their readers have heard what there is (see router.Router.Idle): it rings
// for every change that can bring them more. The log beneath hands out a commit before Commit returns, and its own signals are
// not used.
type heardLog struct {
	router.Log

	mu     sync.Mutex // guards everything below
	topics map[string][]string
	bells  map[string]*router.Bell
}

func newHeardLog(log router.Log) *heardLog {
	return &heardLog{Log: log, topics: map[string][]string{}, bells: map[string]*router.Bell{}}
}

// Configure is that of the log.
func (l *heardLog) Configure(ctx context.Context, layout event.Layout) error {
	if err := l.Log.Configure(ctx, layout); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range layout.Topics {
		l.topics[t.Name] = t.Subscriptions
		for _, name := range t.Subscriptions {
			if l.bells[name] == nil {
				l.bells[name] = router.NewBell()
			}
		}
	}
	return nil
}

// Commit is that of the log, after which the readers of what was appended, and those whose rows may be due, are woken.
func (l *heardLog) Commit(ctx context.Context, c event.Commit) ([]event.Appended, error) {
	first, err := l.Log.Commit(ctx, c)
	if err != nil {
		return first, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range c.Appends {
		for _, name := range l.topics[a.Topic] {
			l.bells[name].Ring()
		}
	}
	for _, s := range c.Settles {
		if comesAgain(s.Outcomes) {
			l.bells[s.Subscription].Ring()
		}
	}
	return first, nil
}

// comesAgain says whether an outcome is a row that will be due.
func comesAgain(outcomes []event.Outcome) bool {
	return slices.ContainsFunc(outcomes, func(o event.Outcome) bool {
		return o.Exception != nil && (o.Exception.State == event.Retry || o.Exception.State == event.Released)
	})
}

// Subscribe is that of the log, with a bell.
func (l *heardLog) Subscribe(name string) (event.Subscription, error) {
	sub, err := l.Log.Subscribe(name)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bells[name].Ring() // it begins with what is there
	return &heardReader{sub, l.bells[name]}, nil
}

// Redrive is that of the log.
func (l *heardLog) Redrive(ctx context.Context, q event.DeadQuery) (int, error) {
	defer l.ringAll()
	return l.Log.Redrive(ctx, q)
}

// Drop is that of the log.
func (l *heardLog) Drop(ctx context.Context, q event.DeadQuery) (int, error) {
	defer l.ringAll()
	return l.Log.Drop(ctx, q)
}

func (l *heardLog) ringAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.bells {
		b.Ring()
	}
}

// heardReader is a subscription that knows whether its reader has heard.
type heardReader struct {
	event.Subscription
	bell *router.Bell
}

// Wake is the bell.
func (s *heardReader) Wake() <-chan struct{} { return s.bell.C() }

// Heard is that of the bell.
func (s *heardReader) Heard() bool { return s.bell.Heard() }

// Settle is that of the subscription, which is woken by rows of its own.
func (s *heardReader) Settle(ctx context.Context, outcomes []event.Outcome) error {
	err := s.Subscription.Settle(ctx, outcomes)
	if err == nil && comesAgain(outcomes) {
		s.bell.Ring()
	}
	return err
}
