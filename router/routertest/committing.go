package routertest

import (
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/millrace-run/millrace/event"
)

func committing() []testCase {
	return []testCase{
		{"commit/nothing", nil, commitNothing},
		{"commit/everything at once", needs(atomic, stateful), commitTogether},
		{"commit/all or nothing", needs(atomic, stateful), commitAtomically},
		{"commit/unknown names", nil, commitUnknown},
	}
}

func commitNothing(s *subject) {
	s.configure(topic("a", "a/1"))
	s.commit(event.Commit{})
	r := s.subscribe("a/1")
	r.nothing()
	s.append("a", plain("e"))
	sameIDs(s.T, r.take(1), "e")
}

// commitTogether: what a durable stage does: consume, produce and remember.
func commitTogether(s *subject) {
	s.configure(topic("in", "in/1"), topic("out", "out/1"))
	s.append("in", numbered("e", 4)...)
	in, out := s.subscribe("in/1"), s.subscribe("out/1")
	recs := byOffset(in.take(4))
	x := waiting(at(5))
	s.commit(event.Commit{
		Appends: []event.Append{{Topic: "out", Events: numbered("made", 3)}},
		Settles: []event.Settle{{Subscription: "in/1", Outcomes: append(settled(recs[:3]...), failed(recs[3], x, false))}},
		States:  []event.State{{Owner: "stage", Changes: event.Changes{"seen": []byte("4")}}},
	})
	in.position(4, 4)
	in.nothing()
	in.dues(at(5), event.Exception{}.NextAt, recs[3])
	out.onceEach(out.take(3), numbered("made", 3))
	if got := string(s.state("stage")["seen"]); got != "4" {
		s.Errorf("state is %q, want 4", got)
	}
}

// commitAtomically: a commit with a part that cannot be changes nothing at all.
func commitAtomically(s *subject) {
	s.configure(topic("a", "a/1"))
	s.append("a", numbered("e", 2)...)
	r := s.subscribe("a/1")
	recs := byOffset(r.take(2))
	valid := event.Commit{
		Appends: []event.Append{{Topic: "a", Events: numbered("not stored", 2)}},
		Settles: []event.Settle{{Subscription: "a/1", Outcomes: settled(recs[0])}},
		States:  []event.State{{Owner: "o", Changes: event.Changes{"k": []byte("v")}}},
	}
	topic, subscription := valid, valid
	topic.Appends = append(topic.Appends[:1:1], event.Append{Topic: "unknown", Events: numbered("x", 1)})
	subscription.Settles = append(subscription.Settles[:1:1], event.Settle{Subscription: "unknown", Outcomes: settled(recs[1])})
	for name, c := range map[string]event.Commit{"topic": topic, "subscription": subscription} {
		if _, err := s.log.Commit(s.Context(), c); err == nil {
			s.Errorf("a commit with an unknown %s succeeded", name)
		}
		r.nothing()
		r.flush()
		r.position(0, 2)
		if d := cmp.Diff(map[string][]byte{}, s.state("o"), cmpopts.EquateEmpty()); d != "" {
			s.Errorf("state after a refused commit:\n%s", d)
		}
	}
	s.commit(valid)
	r.position(1, 4)
	r.onceEach(r.take(2), numbered("not stored", 2))
}

func commitUnknown(s *subject) {
	s.configure(topic("a", "a/1"))
	r := s.subscribe("a/1")
	for name, c := range map[string]event.Commit{
		"topic":        {Appends: []event.Append{{Topic: "b", Events: numbered("x", 1)}}},
		"subscription": {Settles: []event.Settle{{Subscription: "b/1", Outcomes: []event.Outcome{{Offset: 1}}}}},
	} {
		if _, err := s.log.Commit(s.Context(), c); err == nil {
			s.Errorf("a commit with an unknown %s succeeded", name)
		}
	}
	s.append("a", plain("e"))
	sameIDs(s.T, r.take(1), "e")
}
