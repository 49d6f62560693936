package routertest

import (
	"bytes"
	"maps"

	"github.com/millrace-run/millrace/event"
)

func states() []testCase {
	return []testCase{
		{"state/round trip", needs(stateful), stateRoundTrip},
		{"state/copies", needs(stateful), stateCopies},
	}
}

func stateRoundTrip(s *subject) {
	s.configure(topic("a", "a/1"))
	s.hasState("nobody", nil)
	s.remember("a", event.Changes{"k": []byte("1"), "bytes": {0, 255, 10}, "": []byte("empty key"), "empty": {}})
	s.remember("b", event.Changes{"k": []byte("other")})
	s.hasState("a", map[string][]byte{"k": []byte("1"), "bytes": {0, 255, 10}, "": []byte("empty key"), "empty": {}})
	s.hasState("b", map[string][]byte{"k": []byte("other")})

	s.remember("a", event.Changes{"k": []byte("2"), "bytes": nil, "never there": nil, "more": bytes.Repeat([]byte("x"), 1<<20)})
	s.hasState("a", map[string][]byte{
		"k": []byte("2"), "": []byte("empty key"), "empty": {}, "more": bytes.Repeat([]byte("x"), 1<<20),
	})
	s.remember("a", event.Changes{"k": nil, "": nil, "empty": nil, "more": nil})
	s.hasState("a", nil)
	s.hasState("b", map[string][]byte{"k": []byte("other")})

	s.commit(event.Commit{States: []event.State{ // the later change of one commit counts
		{Owner: "a", Changes: event.Changes{"k": []byte("first")}}, {Owner: "a", Changes: event.Changes{"k": []byte("second")}},
	}})
	s.hasState("a", map[string][]byte{"k": []byte("second")})
}

// stateCopies: bytes that the caller changes after a commit, or that another caller was given, are not the log's.
func stateCopies(s *subject) {
	s.configure(topic("a", "a/1"))
	value := []byte("value")
	s.remember("a", event.Changes{"k": value})
	value[0] = 'X'
	s.state("a")["k"][1] = 'Y'
	s.state("a")["new"] = nil
	s.hasState("a", map[string][]byte{"k": []byte("value")})
}

func (s *subject) remember(owner string, c event.Changes) {
	s.Helper()
	s.commit(event.Commit{States: []event.State{{Owner: owner, Changes: c}}})
}

func (s *subject) hasState(owner string, want map[string][]byte) {
	s.Helper()
	got := s.state(owner)
	if !maps.EqualFunc(got, want, bytes.Equal) {
		s.Errorf("state of %s is %.300q, want %.300q", owner, got, want)
	}
}
