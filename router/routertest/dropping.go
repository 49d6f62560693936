package routertest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/millrace-run/millrace/event"
)

func dropping() []testCase {
	return []testCase{
		{"drop/for good", needs(dead), dropForGood},
		{"drop/some", needs(dead), dropSome},
		{"drop/by reason", needs(dead), dropByReason},
		{"drop/spares what was redriven", needs(dead), dropSparesRedriven},
		{"drop/beside a redrive", needs(dead), dropBesideRedrive},
		{"drop/of a removed subscription", needs(dead, shared), dropOfRemoved},
		{"drop/survives", needs(dead, reopening), dropSurvives},
	}
}

// dropForGood: what is dropped is settled: it is not listed, has no row and never comes again.
func dropForGood(s *subject) {
	one, two := s.bury(3)
	s.drop(event.DeadQuery{Subscriptions: []string{"a/1"}}, 3)
	s.drop(event.DeadQuery{Subscriptions: []string{"a/1"}}, 0)
	one.hasRows()
	one.position(3, 3)
	one.nothing()
	one.dues(tomorrow, time.Time{})
	if got := s.dead(event.DeadQuery{}); len(got) != 3 || got[0].Subscription != "a/2" {
		s.Errorf("after the drop %d dead letters are listed, want those of a/2", len(got))
	}
	s.redrive(event.DeadQuery{}, 3)
	if got, _ := two.due(tomorrow, 10); len(got) != 3 {
		s.Errorf("%d of the other subscription were redriven, want 3", len(got))
	}
	one.dues(tomorrow, time.Time{})
	again := s.subscribe("a/1")
	again.nothing()
	again.dues(tomorrow, time.Time{})
}

// dropSome: by ids, by a page of them, and all; a new dead letter never gets the id of one that was dropped.
func dropSome(s *subject) {
	s.bury(5)
	all := s.dead(event.DeadQuery{})
	s.drop(event.DeadQuery{IDs: []int64{all[1].ID, all[8].ID, all[9].ID + 1000}}, 2)
	s.drop(event.DeadQuery{IDs: []int64{all[1].ID}}, 0)
	s.drop(event.DeadQuery{After: all[2].ID, Limit: 2}, 2)
	s.lists(event.DeadQuery{}, all[0], all[2], all[5], all[6], all[7], all[9])
	s.drop(event.DeadQuery{}, 6)
	s.lists(event.DeadQuery{})

	s.append("a", plain("new"))
	r := s.subscribe("a/1")
	r.settle(failed(r.take(1)[0], buried(1), false))
	if got := s.dead(event.DeadQuery{}); len(got) != 1 || got[0].ID <= all[9].ID {
		s.Errorf("after ids up to %d the next dead letter is %v", all[9].ID, got)
	}
}

// dropByReason: reasons select for a list, a redrive and a drop alike.
func dropByReason(s *subject) {
	r, recs := s.oneReader(6)
	reasons := []event.Reason{event.ReasonPermanent, event.ReasonAge, event.ReasonAttempts}
	for i, rec := range recs {
		x := buried(i)
		x.Reason = reasons[i%3]
		r.settleLazily(failed(rec, x, false))
	}
	r.flush()
	all := byPlaceOf(s.dead(event.DeadQuery{}))
	only := func(reasons ...event.Reason) event.DeadQuery { return event.DeadQuery{Reasons: reasons} }
	s.lists(only(event.ReasonAge), all[1], all[4])
	s.lists(only(event.ReasonAge, event.ReasonAttempts), all[1], all[2], all[4], all[5])
	s.lists(only(event.ReasonOnError))
	together := only(event.ReasonAge)
	together.IDs, together.Subscriptions = []int64{all[0].ID, all[4].ID}, []string{"a/1"}
	s.lists(together, all[4])
	s.redrive(only(event.ReasonAge), 2)
	r.dues(tomorrow.Add(-time.Hour), time.Time{}, recs[1], recs[4])
	s.drop(only(event.ReasonAge), 0)
	s.drop(only(event.ReasonPermanent), 2)
	s.lists(event.DeadQuery{}, all[2], all[5])
	r.hasRows(recs[1], recs[2], recs[4], recs[5])
}

// dropSparesRedriven: between the list that a person sees and the drop somebody may redrive. What is then on its way again is
// no dead letter, and must reach its sink.
func dropSparesRedriven(s *subject) {
	r, recs := s.oneReader(2)
	r.settle(failed(recs[0], buried(1), false), failed(recs[1], buried(1), false))
	list := s.dead(event.DeadQuery{})
	ids := event.DeadQuery{IDs: []int64{list[0].ID, list[1].ID}}
	s.redrive(event.DeadQuery{IDs: []int64{list[0].ID}}, 1)
	s.drop(ids, 1)
	r.dues(tomorrow, time.Time{}, list[0].Record)
	s.drop(ids, 0) // it is in flight
	r.hasRows(list[0].Record)
	r.settle(failed(list[0].Record, waiting(at(5)), true))
	s.drop(event.DeadQuery{}, 0)
	r.dues(at(5), time.Time{}, list[0].Record)
}

// dropBesideRedrive: of two who decide at the same time each dead letter hears one; what was redriven comes, what was dropped
// does not.
func dropBesideRedrive(s *subject) {
	const n, piece = 300, 10
	r, recs := s.oneReader(n)
	for _, rec := range recs {
		r.settleLazily(failed(rec, buried(1), false))
	}
	r.flush()
	var ids []int64
	for _, d := range s.dead(event.DeadQuery{}) {
		ids = append(ids, d.ID)
	}
	var wg sync.WaitGroup
	var counts [2]int
	for i, do := range []func(context.Context, event.DeadQuery) (int, error){s.log.Redrive, s.log.Drop} {
		wg.Go(func() {
			for some := range slices.Chunk(ids, piece) {
				k, err := do(s.Context(), event.DeadQuery{IDs: some})
				if err != nil {
					s.Errorf("%v", err)
				}
				counts[i] += k
			}
		})
	}
	wg.Wait()
	if counts[0]+counts[1] != n {
		s.Errorf("%d redriven and %d dropped of %d", counts[0], counts[1], n)
	}
	if came, _ := r.due(tomorrow, n); len(came) != counts[0] {
		s.Errorf("%d were redriven, %d came", counts[0], len(came))
	}
	s.lists(event.DeadQuery{})
	r.nothing()
}

// dropOfRemoved: what a subscription left behind can be dropped when nobody names it any more.
func dropOfRemoved(s *subject) {
	_, two := s.bury(2)
	s.configure(topic("a", "a/2"))
	s.drop(event.DeadQuery{Subscriptions: []string{"a/1"}}, 2)
	if got := s.dead(event.DeadQuery{}); len(got) != 2 || got[0].Subscription != "a/2" {
		s.Errorf("%d dead letters are left, want those of a/2", len(got))
	}
	two.position(2, 2)
	s.configure(topic("a", "a/1", "a/2"))
	r := s.subscribe("a/1")
	r.hasRows()
	r.nothing()
	r.dues(tomorrow, time.Time{})
}

func dropSurvives(s *subject) {
	s.bury(2)
	s.drop(event.DeadQuery{Subscriptions: []string{"a/1"}}, 2)
	s.reopen(topic("a", "a/1", "a/2"))
	if got := s.dead(event.DeadQuery{}); len(got) != 2 || got[0].Subscription != "a/2" {
		s.Errorf("%d dead letters are left, want those of a/2", len(got))
	}
	r := s.subscribe("a/1")
	r.nothing()
	r.hasRows()
	r.dues(tomorrow, time.Time{})
}

func (s *subject) drop(q event.DeadQuery, want int) {
	s.Helper()
	n, err := s.log.Drop(s.Context(), q)
	if err != nil || n != want {
		s.Fatalf("drop %+v = %d, %v; want %d", q, n, err, want)
	}
}

// byPlaceOf sorts dead letters by where their events are: one commit may number them in any order.
func byPlaceOf(list []event.DeadLetter) []event.DeadLetter {
	return slices.SortedFunc(slices.Values(list), func(a, b event.DeadLetter) int { return strings.Compare(place(a), place(b)) })
}

func (s *subject) lists(q event.DeadQuery, want ...event.DeadLetter) {
	s.Helper()
	if d := cmp.Diff(byPlaceOf(want), byPlaceOf(s.dead(q)), cmpopts.EquateEmpty()); d != "" {
		s.Errorf("%+v lists (-want +got):\n%s", q, d)
	}
}
