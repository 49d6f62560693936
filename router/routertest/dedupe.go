package routertest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/event"
)

var dedupes = capability{"Dedupe", func(c event.Capabilities) bool { return c.Dedupe }}

func deduping() []testCase {
	return []testCase{
		{"dedupe/first counts", needs(dedupes), dedupeFirst},
		{"dedupe/at once", needs(dedupes), dedupeAtOnce},
		{"dedupe/conflict", needs(dedupes, stateful), dedupeConflict},
		{"dedupe/on and off", needs(dedupes), dedupeSwitched},
		{"dedupe/restart", needs(dedupes, reopening), dedupeRestart},
		{"dedupe/shared keys", needs(dedupes), dedupeShared},
		{"dedupe/shared keys at a restart", needs(dedupes, reopening), dedupeSharedRestart},
		{"dedupe/keys of nobody", needs(dedupes), dedupeOfNobody},
	}
}

func deduped(name string, d event.Dedupe, subscriptions ...string) event.Topic {
	d.Window, d.MaxKeys = time.Hour, 1000
	return event.Topic{Name: name, Subscriptions: subscriptions, Dedupe: &d}
}

// keyed is an append of events to topic a, with a key each.
func keyed(keys string, events ...event.Event) event.Append {
	a := event.Append{Topic: "a", Events: events}
	for _, key := range keys {
		a.Keys = append(a.Keys, string(key))
	}
	return a
}

// dedupeFirst: of events with the same key, in one append, in one commit or in two, the first stays and its id is told. Keys of
// topics differ, and an event without one is taken.
func dedupeFirst(s *subject) {
	s.configure(deduped("a", event.Dedupe{}, "a/1"), deduped("b", event.Dedupe{}, "b/1"))
	got := s.commit(event.Commit{Appends: []event.Append{
		keyed("xyx", plain("1"), plain("2"), plain("3")),
		{Topic: "b", Events: []event.Event{plain("4")}, Keys: []string{"x"}},
		keyed("zy", plain("5"), plain("6")),
		{Topic: "a", Events: []event.Event{plain("7"), plain("8")}, Keys: []string{"", ""}},
	}})
	want := []event.Appended{
		{First: 1, Duplicates: map[int]string{2: "1"}}, {First: 1}, {First: 3, Duplicates: map[int]string{1: "2"}}, {First: 4},
	}
	if d := cmp.Diff(want, got); d != "" {
		s.Errorf("one commit: %s", d)
	}
	got = s.commit(event.Commit{Appends: []event.Append{keyed("zv", plain("9"), plain("10")), keyed("z", plain("11"))}})
	want = []event.Appended{{First: 6, Duplicates: map[int]string{0: "5"}}, {First: 7, Duplicates: map[int]string{0: "5"}}}
	if d := cmp.Diff(want, got); d != "" {
		s.Errorf("another: %s", d)
	}
	s.append("a", plain("no keys at all"))
	sameIDs(s.T, byOffset(s.subscribe("a/1").take(7)), "1", "2", "5", "7", "8", "10", "no keys at all")
	sameIDs(s.T, s.subscribe("b/1").take(1), "4")
}

// dedupeAtOnce: of commits at the same time one appends, and the others hear its id.
func dedupeAtOnce(s *subject) {
	s.configure(deduped("a", event.Dedupe{}, "a/1"))
	const callers = 64
	ids := make([]string, callers)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			ids[i] = fmt.Sprint("e-", i)
			got, err := s.log.Commit(s.Context(), event.Commit{Appends: []event.Append{keyed("k", plain(ids[i]))}})
			if err != nil {
				s.Error(err)
				return
			}
			if first, ok := got[0].Duplicates[0]; ok {
				ids[i] = first
			}
		})
	}
	all.Wait()
	r := s.subscribe("a/1")
	recs := r.take(1)
	r.nothing()
	for i, id := range ids {
		if id != recs[0].Event.ID {
			s.Errorf("caller %d was told %s, the event is %s", i, id, recs[0].Event.ID)
		}
	}
}

// dedupeConflict: where keys say the id, the same key with another body refuses the whole commit.
func dedupeConflict(s *subject) {
	s.configure(deduped("a", event.Dedupe{SameID: true}, "a/1"), deduped("b", event.Dedupe{Name: "b"}, "b/1"))
	send := func(topic, body, keys string) error {
		a := keyed(keys)
		for _, key := range a.Keys {
			a.Events = append(a.Events, plain(key))
		}
		a.Topic, a.Body = topic, []byte(body)
		_, err := s.log.Commit(s.Context(), event.Commit{Appends: []event.Append{a},
			States: []event.State{{Owner: "o", Changes: event.Changes{"last": []byte(body)}}}})
		return err
	}
	for _, c := range []struct {
		topic, body, keys string
		want              error
	}{
		{"a", "1", "xy", nil}, {"a", "1", "x", nil}, {"a", "2", "zx", event.ErrConflict}, {"a", "3", "z", nil},
		{"b", "1", "x", nil}, {"b", "2", "x", nil},
	} {
		if err := send(c.topic, c.body, c.keys); !errors.Is(err, c.want) {
			s.Errorf("%+v: %v", c, err)
		}
		if got := string(s.state("o")["last"]); c.want == nil && got != c.body || c.want != nil && got == c.body {
			s.Errorf("%+v: the state is %s", c, got)
		}
	}
	sameIDs(s.T, byOffset(s.subscribe("a/1").take(3)), "x", "y", "z")
	sameIDs(s.T, s.subscribe("b/1").take(1), "x")
}

// dedupeSwitched: keys of another name do not match, and without Dedupe all are forgotten.
func dedupeSwitched(s *subject) {
	send := func(id string, duplicate bool) {
		s.Helper()
		got := s.commit(event.Commit{Appends: []event.Append{keyed("k", plain(id))}})
		if len(got[0].Duplicates) > 0 != duplicate {
			s.Errorf("%s: %+v", id, got)
		}
	}
	s.configure(deduped("a", event.Dedupe{}, "a/1"))
	send("1", false)
	s.configure(deduped("a", event.Dedupe{}, "a/1"))
	send("2", true)
	s.configure(deduped("a", event.Dedupe{Name: "data.x"}, "a/1"))
	send("3", false)
	send("4", true)
	s.configure(topic("a", "a/1"))
	if _, err := s.log.Commit(s.Context(), event.Commit{Appends: []event.Append{keyed("k", plain("5"))}}); err == nil {
		s.Error("keys were taken for a topic that has no use for them")
	}
	s.configure(deduped("a", event.Dedupe{}, "a/1"))
	send("6", false)
	sameIDs(s.T, byOffset(s.subscribe("a/1").take(3)), "1", "3", "6")
}

func dedupeRestart(s *subject) {
	d := deduped("a", event.Dedupe{SameID: true}, "a/1")
	s.configure(d)
	s.commit(event.Commit{Appends: []event.Append{keyed("xy", plain("x"), plain("y"))}})
	s.reopen(d)
	got := s.commit(event.Commit{Appends: []event.Append{keyed("yz", plain("y"), plain("z"))}})
	if want := []event.Appended{{First: 3, Duplicates: map[int]string{0: "y"}}}; !cmp.Equal(want, got) {
		s.Errorf("%+v, want %+v", got, want)
	}
	sameIDs(s.T, byOffset(s.subscribe("a/1").take(3)), "x", "y", "z")
}

// sharing is a topic with the keys of topic a.
func sharing(name string, subscriptions ...string) event.Topic {
	return event.Topic{Name: name, Subscriptions: subscriptions, KeysOf: "a"}
}

// in is an append to another topic.
func in(topic string, a event.Append) event.Append {
	a.Topic = topic
	return a
}

// dedupeShared: an event is a duplicate of one in another topic with the same keys, in one commit and in two, and it is so
// whichever came first. A commit that is refused leaves none of its keys.
func dedupeShared(s *subject) {
	s.configure(sharing("b", "b/1"), deduped("a", event.Dedupe{SameID: true}, "a/1"), sharing("c", "c/1"))
	got := s.commit(event.Commit{Appends: []event.Append{
		in("b", keyed("xy", plain("x"), plain("y"))), keyed("xz", plain("x"), plain("z")), in("b", keyed("z", plain("z"))),
	}})
	want := []event.Appended{
		{First: 1}, {First: 1, Duplicates: map[int]string{0: "x"}}, {First: 3, Duplicates: map[int]string{0: "z"}},
	}
	if d := cmp.Diff(want, got); d != "" {
		s.Errorf("one commit: %s", d)
	}
	body := in("c", keyed("v", plain("v")))
	body.Body = []byte("1")
	s.commit(event.Commit{Appends: []event.Append{body}})
	other := keyed("v", plain("v"))
	other.Body = []byte("2")
	_, err := s.log.Commit(s.Context(), event.Commit{Appends: []event.Append{in("b", keyed("w", plain("w"))), other}})
	if !errors.Is(err, event.ErrConflict) {
		s.Errorf("the same key with another body in another topic: %v", err)
	}
	got = s.commit(event.Commit{Appends: []event.Append{in("c", keyed("xyzw", plain("x"), plain("y"), plain("z"), plain("w")))}})
	if want := (event.Appended{First: 2, Duplicates: map[int]string{0: "x", 1: "y", 2: "z"}}); !cmp.Equal(want, got[0]) {
		s.Errorf("another: %+v", got)
	}
	sameIDs(s.T, s.subscribe("a/1").take(1), "z")
	sameIDs(s.T, byOffset(s.subscribe("b/1").take(2)), "x", "y")
	sameIDs(s.T, byOffset(s.subscribe("c/1").take(2)), "v", "w")
}

// dedupeSharedRestart: keys stay those of the topic that has them, whoever shares them later.
func dedupeSharedRestart(s *subject) {
	a := deduped("a", event.Dedupe{}, "a/1")
	s.configure(a, sharing("b", "b/1"))
	s.commit(event.Commit{Appends: []event.Append{in("b", keyed("x", plain("x"))), keyed("y", plain("y"))}})
	s.reopen(a)
	again := s.commit(event.Commit{Appends: []event.Append{keyed("xyz", plain("x"), plain("y"), plain("z"))}})
	s.reopen(a, sharing("b", "b/1"), sharing("c", "c/1"))
	other := s.commit(event.Commit{Appends: []event.Append{in("c", keyed("xyz", plain("x"), plain("y"), plain("z")))}})
	if len(again[0].Duplicates) != 2 || len(other[0].Duplicates) != 3 {
		s.Errorf("without the other topic %+v, with a new one %+v", again, other)
	}
	sameIDs(s.T, byOffset(s.subscribe("a/1").take(2)), "y", "z")
	sameIDs(s.T, s.subscribe("b/1").take(1), "x")
}

// dedupeOfNobody: the keys of a topic that has none are refused.
func dedupeOfNobody(s *subject) {
	for _, l := range [][]event.Topic{
		{sharing("b", "b/1")}, {topic("a", "a/1"), sharing("b", "b/1")}, {sharing("a", "a/1")},
	} {
		if err := s.log.Configure(s.Context(), event.Layout{Topics: l}); err == nil {
			s.Errorf("%+v was taken", l)
		}
	}
}
