package routertest

import (
	"slices"
	"sync"

	"github.com/millrace-run/millrace/event"
)

func settling() []testCase {
	return []testCase{
		{"settle/moves the position", nil, settleMoves},
		{"settle/out of order", nil, settleOutOfOrder},
		{"settle/a whole window ahead", nil, settleWindow},
		{"settle/twice", nil, settleTwice},
		{"settle/from many goroutines", nil, settleConcurrently},
		{"settle/before it was read", needs(shared, ordered), settleUnread},
		{"settle/alone", needs(shared), settleOneOfTwo},
	}
}

func settleMoves(s *subject) {
	s.configure(topic("a", "a/1"))
	r := s.subscribe("a/1")
	r.position(0, 0)
	s.append("a", numbered("e", 10)...)
	recs := r.take(10)
	r.position(0, 10)
	for i, rec := range recs {
		r.settle(settled(rec)...)
		r.position(event.Offset(i+1), 10)
	}
	r.nothing()
}

// settleOutOfOrder: the cursor is where everything up to it is settled.
func settleOutOfOrder(s *subject) {
	s.configure(topic("a", "a/1"))
	s.append("a", numbered("e", 6)...)
	r := s.subscribe("a/1")
	recs := byOffset(r.take(6))
	for _, step := range []struct {
		settle []int
		cursor event.Offset
	}{
		{[]int{2}, 0}, {[]int{5, 4}, 0}, {[]int{0}, 1}, {[]int{1}, 3}, {[]int{3}, 6},
	} {
		for _, i := range step.settle {
			r.settleLazily(settled(recs[i])...)
		}
		r.flush()
		r.position(step.cursor, 6)
	}
	r.nothing()
}

// settleWindow: as far ahead of the cursor as a window is long, from the far end.
func settleWindow(s *subject) {
	const n = event.Window
	s.configure(topic("a", "a/1"))
	s.append("a", numbered("first", n)...)
	r := s.subscribe("a/1")
	recs := byOffset(r.take(n))
	ahead := slices.Clone(recs[1:])
	slices.Reverse(ahead)
	r.settle(settled(ahead...)...)
	r.position(0, n)
	r.settle(settled(recs[0])...)
	r.position(n, n)

	s.append("a", numbered("second", n)...) // and again, where the window begins elsewhere
	recs = byOffset(r.take(n))
	r.settle(settled(recs[n-1])...)
	r.position(n, 2*n)
	r.settle(settled(recs[:n-1]...)...)
	r.position(2*n, 2*n)
	r.nothing()
}

func settleTwice(s *subject) {
	s.configure(topic("a", "a/1"))
	s.append("a", numbered("e", 3)...)
	r := s.subscribe("a/1")
	recs := byOffset(r.take(3))
	r.settle(append(settled(recs[0]), settled(recs[0])...)...)
	r.position(1, 3)
	r.settle(settled(recs[0])...)
	r.position(1, 3)
	r.settle(settled(recs[2])...)
	r.settle(settled(recs[2])...)
	r.position(1, 3)
	r.settle(settled(recs[1])...)
	r.position(3, 3)
}

func settleConcurrently(s *subject) {
	s.configure(topic("a", "a/1"))
	s.append("a", numbered("e", 1000)...)
	r := s.subscribe("a/1")
	recs := r.take(1000)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := i; j < len(recs); j += 8 {
				if err := r.sub.Settle(r.Context(), settled(recs[j])); err != nil {
					r.Errorf("settle: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	r.flush()
	r.position(1000, 1000)
	r.nothing()
}

// settleUnread: another reader of the topic may have handed the event over; this one does not read it again.
func settleUnread(s *subject) {
	s.configure(topic("a", "a/1"))
	s.append("a", numbered("e", 6)...)
	r := s.subscribe("a/1")
	x := waiting(tomorrow)
	r.settle(event.Outcome{Offset: 1}, event.Outcome{Offset: 2}, event.Outcome{Offset: 4}, event.Outcome{Offset: 5, Exception: &x})
	r.position(2, 6)
	sameIDs(s.T, r.take(2), "e-00002", "e-00005")
	r.nothing()
}

// settleOneOfTwo: what one subscription settles is still owed to the other.
func settleOneOfTwo(s *subject) {
	s.configure(topic("a", "a/1", "a/2"))
	s.append("a", numbered("e", 5)...)
	one, two := s.subscribe("a/1"), s.subscribe("a/2")
	one.settle(settled(one.take(5)...)...)
	one.position(5, 5)
	two.position(0, 5)
	two.take(5)
}

func byOffset(recs []event.Record) []event.Record {
	return slices.SortedFunc(slices.Values(recs), func(a, b event.Record) int { return int(a.Offset - b.Offset) })
}
