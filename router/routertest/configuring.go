package routertest

import (
	"errors"

	"github.com/millrace-run/millrace/event"
)

func configuring() []testCase {
	return []testCase{
		{"configure/again", nil, configureAgain},
		{"configure/new subscription", nil, configureNew},
		{"configure/removed topic", nil, configureTopicAway},
		{"configure/removed subscription", needs(shared), configureAway},
		{"configure/dead letters of a removed subscription", needs(shared, dead), configureAwayDead},
	}
}

// configureAgain: the same layout again changes nothing.
func configureAgain(s *subject) {
	s.configure(topic("a", "a/1"))
	s.append("a", numbered("e", 3)...)
	r := s.subscribe("a/1")
	first := r.take(1)
	s.configure(topic("a", "a/1"))
	s.append("a", plain("later"))
	recs := append(first, r.take(3)...)
	r.onceEach(recs, append(numbered("e", 3), plain("later")))
	r.settle(settled(recs...)...)
	r.position(4, 4)
}

// configureNew: a subscription begins behind the last event of its topic, a topic at its beginning.
func configureNew(s *subject) {
	s.configure(topic("a", "a/1"))
	s.append("a", numbered("before", 5)...)
	s.configure(topic("a", "a/1", "a/2"), topic("b", "b/1"))
	late := s.subscribe("a/2")
	late.nothing()
	if cursor, head := late.sub.Position(); cursor != head {
		s.Errorf("a new subscription is at %d of %d", cursor, head)
	}
	s.append("a", numbered("after", 2)...)
	if first := s.append("b", plain("of b")); first != 1 {
		s.Errorf("the first event of a new topic has offset %d", first)
	}
	late.onceEach(late.take(2), numbered("after", 2))
	late.nothing()
	early := s.subscribe("a/1")
	early.onceEach(early.take(7), append(numbered("before", 5), numbered("after", 2)...))
	b := s.subscribe("b/1")
	b.onceEach(b.take(1), []event.Event{plain("of b")})
}

// configureTopicAway: a topic that is no longer named takes nothing.
func configureTopicAway(s *subject) {
	s.configure(topic("a", "a/1"), topic("b", "b/1"))
	s.append("b", plain("one"))
	s.configure(topic("a", "a/1"))
	if _, err := s.log.Commit(s.Context(), event.Commit{Appends: []event.Append{{Topic: "b", Events: numbered("x", 1)}}}); err == nil {
		s.Error("an append to a topic that is no longer named succeeded")
	}
	if _, err := s.log.Subscribe("b/1"); err == nil {
		s.Error("subscribe to a subscription that is no longer named succeeded")
	}
}

// configureAway: a removed subscription is owed what was appended before, and what is appended once it is named again, but not
// what came between.
func configureAway(s *subject) {
	s.configure(topic("a", "a/1", "a/2"))
	s.append("a", numbered("before", 3)...)
	r := s.subscribe("a/1")
	r.settle(settled(r.take(1)...)...)
	s.configure(topic("a", "a/2"))
	if _, err := s.log.Subscribe("a/1"); err == nil {
		s.Error("subscribe to a subscription that is no longer named succeeded")
	}
	s.append("a", numbered("between", 4)...)
	s.configure(topic("a", "a/1", "a/2"))
	s.append("a", numbered("after", 2)...)

	r = s.subscribe("a/1")
	recs := r.take(4)
	r.onceEach(recs, append(numbered("before", 3)[1:], numbered("after", 2)...))
	r.nothing()
	r.position(1, 9)
	r.settle(settled(recs...)...)
	r.position(9, 9)
	other := s.subscribe("a/2")
	other.take(9)
	other.nothing()
}

func configureAwayDead(s *subject) {
	one, _ := s.bury(2)
	one.calm()
	s.configure(topic("a", "a/2"))
	if got := s.dead(event.DeadQuery{Subscriptions: []string{"a/1"}}); len(got) != 2 {
		s.Errorf("%d dead letters of the removed subscription are listed, want 2", len(got))
	}
	s.configure(topic("a", "a/1", "a/2"))
	s.redrive(event.DeadQuery{Subscriptions: []string{"a/1"}}, 2)
	again := s.subscribe("a/1")
	got, _ := again.due(tomorrow, 10)
	again.onceEach(records(got), numbered("e", 2))
}

func closing() []testCase {
	return []testCase{
		{"close/refuses", nil, closeRefuses},
		{"close/twice", nil, func(s *subject) { s.closeNow(); s.closeNow() }},
		{"close/beside appends", nil, closeBesideAppends},
	}
}

func (s *subject) closeNow() {
	s.Helper()
	if err := s.close(); err != nil {
		s.Errorf("close: %v", err)
	}
}

// closeRefuses: everybody who still asks is told why.
func closeRefuses(s *subject) {
	r, recs := s.oneReader(1)
	s.closeNow()
	ctx := s.Context()
	calls := map[string]func() error{
		"Configure": func() error { return s.log.Configure(ctx, event.Layout{}) },
		"Commit": func() error {
			_, err := s.log.Commit(ctx, event.Commit{Appends: []event.Append{{Topic: "a", Events: numbered("x", 1)}}})
			return err
		},
		"Subscribe": func() error { _, err := s.log.Subscribe("a/1"); return err },
		"Next":      func() error { _, err := r.sub.Next(ctx, everything, 1); return err },
		"Due":       func() error { _, _, err := r.sub.Due(ctx, tomorrow, 1); return err },
		"Rows":      func() error { _, err := r.sub.Rows(ctx, 1, 2); return err },
		"Settle":    func() error { return r.sub.Settle(ctx, settled(recs...)) },
	}
	if s.can.Stateful {
		calls["State"] = func() error { _, err := s.log.State(ctx, "o"); return err }
	}
	if s.can.Dead {
		calls["DeadLetters"] = func() error { _, err := s.log.DeadLetters(ctx, event.DeadQuery{}); return err }
		calls["Redrive"] = func() error { _, err := s.log.Redrive(ctx, event.DeadQuery{}); return err }
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, event.ErrClosed) {
			s.Errorf("%s after close returned %v, want ErrClosed", name, err)
		}
	}
}

// closeBesideAppends: an append beside close is answered, with its offset or with ErrClosed.
func closeBesideAppends(s *subject) {
	s.configure(topic("a", "a/1"))
	const appenders = 8
	begun, ended := make(chan struct{}, appenders), make(chan error, appenders)
	for range appenders {
		go func() {
			for first := true; ; first = false {
				_, err := s.log.Commit(s.Context(), event.Commit{Appends: []event.Append{{Topic: "a", Events: numbered("x", 1)}}})
				if first {
					begun <- struct{}{}
				}
				if err != nil {
					ended <- err
					return
				}
			}
		}()
	}
	for range appenders {
		<-begun
	}
	s.closeNow()
	for range appenders {
		if err := <-ended; !errors.Is(err, event.ErrClosed) {
			s.Errorf("an append beside close returned %v, want ErrClosed", err)
		}
	}
}
