package router

import (
	goflag "flag"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/millrace-run/millrace/event"
)

// orderSim is a sink with an order in miniature: an orderer, a log, and the outcomes on the way to it. A crash loses what has not
// arrived.
type orderSim struct {
	t    *rapid.T
	hold bool
	keys []orderKey                            // of offset i+1
	disk map[event.Offset]event.ExceptionState // a row, or done (0); what is absent is pending
	way  []event.Outcome

	o       *orderer
	next    event.Offset
	handed  map[event.Offset]bool
	going   []*task
	waiting []*task
	over    map[event.Offset]bool // in this process: settled, or a dead letter that keeps nothing
	redrove map[event.Offset]bool // taken back, and not handed out since

	died  map[event.Offset]bool // at any time
	first map[orderKey][]event.Offset
}

const simDone = event.ExceptionState(0)

func (s *orderSim) start() {
	s.o, s.next = newOrderer(3, s.hold), 1
	s.handed, s.over, s.redrove = map[event.Offset]bool{}, map[event.Offset]bool{}, map[event.Offset]bool{}
	s.going, s.waiting, s.way = nil, nil, nil
	for _, in := range []struct {
		state event.ExceptionState
		place linkPlace
	}{{event.Dead, inDeadRow}, {event.Retry, inRow}, {event.Held, inHeldRow}} {
		for at, state := range s.disk {
			if state == in.state && (state != event.Dead || s.hold) {
				s.o.load(at, s.key(at), in.place)
			}
			s.over[at] = state == simDone || state == event.Dead && !s.hold
		}
	}
	s.o.loaded()
	s.moveOn()
}

func (s *orderSim) key(at event.Offset) orderKey { return s.keys[at-1] }

func (s *orderSim) settle(at event.Offset, x *event.Exception) {
	s.way = append(s.way, event.Outcome{Offset: at, Exception: x})
}

func (s *orderSim) arrive(n int) {
	for _, o := range s.way[:n] {
		switch x := o.Exception; {
		case x == nil:
			s.disk[o.Offset] = simDone
		case x.State == event.Released:
			if s.disk[o.Offset] == event.Held {
				s.disk[o.Offset] = event.Retry
			}
		default:
			s.disk[o.Offset] = x.State
		}
	}
	s.way = slices.Clone(s.way[n:])
}

func (s *orderSim) moveOn() {
	s.waiting = append(s.waiting, s.o.ready...)
	for _, at := range s.o.released {
		s.settle(at, &event.Exception{State: event.Released})
	}
	s.o.ready, s.o.released = nil, nil
}

func (s *orderSim) crowded() bool { return s.o.behind >= 3 }

func (s *orderSim) take(at event.Offset, row bool) {
	t := &task{place: place{offset: at}, item: &shaped{size: 10}, row: row}
	switch s.o.enter(t, s.key(at), s.crowded()) {
	case turnNow:
		s.begin(t)
	case turnHeld:
		s.end(t, &event.Exception{State: event.Held})
	}
	s.moveOn()
}

func (s *orderSim) end(t *task, x *event.Exception) {
	s.o.end(t, x, s.crowded())
	s.handed[t.offset] = false
	s.settle(t.offset, x)
	s.moveOn()
}

// begin checks what the order is for.
func (s *orderSim) begin(t *task) {
	for _, other := range s.going {
		if s.key(other.offset) == s.key(t.offset) {
			s.t.Fatalf("%d and %d of one key are under way", other.offset, t.offset)
		}
	}
	for at := event.Offset(1); at < t.offset; at++ {
		if s.key(at) == s.key(t.offset) && !s.over[at] && !s.redrove[at] {
			s.t.Fatalf("%d begins before %d", t.offset, at)
		}
	}
	s.going = append(s.going, t)
}

func (s *orderSim) finish(t *task, how int) {
	s.going = slices.DeleteFunc(s.going, func(x *task) bool { return x == t })
	switch how {
	case 0:
		t.tries++
		t.row = true
		s.end(t, &event.Exception{State: event.Retry})
	case 1:
		s.died[t.offset] = true
		s.over[t.offset] = !s.hold
		s.end(t, &event.Exception{State: event.Dead})
	case 2:
		t.tries++
		s.waiting = append(s.waiting, t)
		s.o.pause(t)
		s.moveOn()
	default:
		s.succeed(t)
	}
}

func (s *orderSim) succeed(t *task) {
	k := s.key(t.offset)
	if !slices.Contains(s.first[k], t.offset) {
		for _, before := range s.first[k] {
			if before > t.offset && !s.died[t.offset] {
				s.t.Fatalf("%d succeeds for the first time behind %d", t.offset, before)
			}
		}
		s.first[k] = append(s.first[k], t.offset)
	}
	s.over[t.offset] = true
	s.end(t, nil)
}

// due returns the rows that the log would hand out.
func (s *orderSim) due() (rows []event.Offset) {
	for _, at := range slices.Sorted(maps.Keys(s.disk)) {
		if s.disk[at] == event.Retry && !s.handed[at] && !slices.ContainsFunc(s.way, func(o event.Outcome) bool { return o.Offset == at }) {
			rows = append(rows, at)
		}
	}
	return rows
}

func (s *orderSim) handOut(at event.Offset) {
	s.handed[at] = true
	delete(s.redrove, at)
	s.take(at, true)
}

func (s *orderSim) fresh() bool {
	for ; int(s.next) <= len(s.keys); s.next++ {
		if _, past := s.disk[s.next]; !past {
			return true
		}
	}
	return false
}

func (s *orderSim) takeFresh() {
	at := s.next
	s.next++
	s.take(at, false)
}

func (s *orderSim) goOn(t *task) {
	s.waiting = slices.DeleteFunc(s.waiting, func(x *task) bool { return x == t })
	s.o.begin(t)
	s.begin(t)
}

func (s *orderSim) mayGo() []*task {
	return slices.DeleteFunc(slices.Clone(s.waiting), func(t *task) bool { return !s.o.mayGo(t) })
}

// spill is what the loop does when memory is full.
func (s *orderSim) spill() {
	for c := range s.o.stuck {
		if first := c.links[0].task; first != nil && !s.o.full() {
			s.waiting = slices.DeleteFunc(s.waiting, func(x *task) bool { return x == first })
			s.end(first, &event.Exception{State: event.Retry})
		}
		for _, t := range c.waiting() {
			if s.o.full() && !t.row {
				return
			}
			s.end(t, &event.Exception{State: event.Held})
		}
	}
}

func (s *orderSim) dead() (all []event.Offset) {
	for at, state := range s.disk {
		if state == event.Dead && !slices.ContainsFunc(s.way, func(o event.Outcome) bool { return o.Offset == at }) {
			all = append(all, at)
		}
	}
	slices.Sort(all)
	return all
}

func (s *orderSim) drop(at event.Offset) {
	s.disk[at] = simDone
	s.over[at] = true
	if s.o.dead == 0 {
		return
	}
	var rows []event.Offset
	from, to := s.o.deadSpan()
	for at, state := range s.disk {
		if state != simDone && from <= at && at <= to {
			rows = append(rows, at)
		}
	}
	slices.Sort(rows)
	s.arrive(len(s.way))
	s.o.drop(rows)
	s.moveOn()
}

func pickOne[T any](t *rapid.T, of []T, what string) T {
	if len(of) == 0 {
		t.Skip("none")
	}
	return of[rapid.IntRange(0, len(of)-1).Draw(t, what)]
}

// setRapid sets a flag of rapid for a test, unless the command line did.
func setRapid(t *testing.T, name, value string) {
	t.Helper()
	f := goflag.Lookup(name)
	if f.Value.String() != f.DefValue {
		return
	}
	if err := f.Value.Set(value); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Value.Set(f.DefValue) })
}

// TestOrderer does random things to an orderer, crashes included, and holds it to the order at each step. In the end everything is
// settled and nothing is left in it.
func TestOrderer(t *testing.T) {
	setRapid(t, "rapid.steps", "120")
	setRapid(t, "rapid.checks", "200")
	rapid.Check(t, func(rt *rapid.T) {
		s := &orderSim{
			t: rt, hold: rapid.Bool().Draw(rt, "hold"), disk: map[event.Offset]event.ExceptionState{},
			died: map[event.Offset]bool{}, first: map[orderKey][]event.Offset{},
		}
		s.start()
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				for range rapid.IntRange(1, 4).Draw(t, "events") {
					s.keys = append(s.keys, orderKey{byte(rapid.IntRange(0, 2).Draw(t, "key"))})
				}
			},
			"take": func(t *rapid.T) {
				if !s.fresh() || s.crowded() {
					t.Skip("none")
				}
				s.takeFresh()
			},
			"due":     func(t *rapid.T) { s.handOut(pickOne(t, s.due(), "row")) },
			"go on":   func(t *rapid.T) { s.goOn(pickOne(t, s.mayGo(), "task")) },
			"finish":  func(t *rapid.T) { s.finish(pickOne(t, s.going, "task"), rapid.IntRange(0, 6).Draw(t, "how")) },
			"finish2": func(t *rapid.T) { s.finish(pickOne(t, s.going, "task"), 3) },
			"arrive":  func(t *rapid.T) { s.arrive(rapid.IntRange(0, len(s.way)).Draw(t, "outcomes")) },
			"spill":   func(*rapid.T) { s.spill() },
			"drop":    func(t *rapid.T) { s.drop(pickOne(t, s.dead(), "letter")) },
			"redrive": func(t *rapid.T) {
				at := pickOne(t, s.dead(), "letter")
				s.disk[at], s.redrove[at] = event.Retry, true
				s.over[at] = false
			},
			"crash": func(t *rapid.T) {
				s.arrive(rapid.IntRange(0, len(s.way)).Draw(t, "outcomes"))
				s.start()
			},
			"": func(*rapid.T) { s.count() },
		})
		s.finishAll()
	})
}

// TestOrdererRowsComeFirst: an event gets no row while an earlier one of its key has none. A crash would leave the row and the
// pending one, and the row would go first.
func TestOrdererRowsComeFirst(t *testing.T) {
	o, key := newOrderer(10, false), orderKey{1}
	of := func(at event.Offset, row bool) *task {
		return &task{place: place{offset: at}, item: &shaped{size: 10}, row: row}
	}
	redriven, first, last := of(7, true), of(5, false), of(9, false) // 7 was a dead letter of the pipeline
	for _, s := range []struct {
		t    *task
		want entered
	}{{redriven, turnNow}, {first, turnWaits}} {
		if got := o.enter(s.t, key, false); got != s.want {
			t.Fatalf("%d: %v", s.t.offset, got)
		}
	}
	o.end(redriven, &event.Exception{State: event.Retry}, false)
	if len(o.ready) != 1 || o.ready[0] != first {
		t.Fatalf("ready are %v", o.ready)
	}
	if got := o.enter(last, key, false); got != turnWaits {
		t.Fatalf("9, behind 5 in memory and 7 in a row: %v", got)
	}
	o.begin(first)
	o.end(first, nil, false)
	if got := o.enter(of(11, false), key, false); got != turnWaits {
		t.Fatalf("11, behind 9 in memory: %v", got)
	}
}

// count compares what the orderer counts with what it has.
func (s *orderSim) count() {
	var held, dead, behind, rows int
	for _, c := range s.o.chains {
		n := 0
		for i, l := range c.links {
			if i > 0 && l.offset <= c.links[i-1].offset {
				s.t.Fatalf("links are not in order: %+v", c.links)
			}
			switch {
			case l.place == inHeldRow:
				held++
			case l.place == inDeadRow:
				dead++
			case l.place == inMemory && l.task.behind:
				n++
			}
			if l.place != inMemory {
				rows++
			}
		}
		if behind += n; n != c.behind || len(c.links) == 0 {
			s.t.Fatalf("%d of %d links wait, counted are %d", n, len(c.links), c.behind)
		}
	}
	if behind > 3+2*3 {
		s.t.Fatalf("%d tasks wait in memory", behind)
	}
	if held != s.o.held || dead != s.o.dead || behind != s.o.behind || rows != len(s.o.rows) || s.o.bytes != int64(behind)*(10+ringOverhead) {
		s.t.Fatalf("held %d, dead %d, behind %d, rows %d: %+v", held, dead, behind, rows, s.o)
	}
}

// finishAll lets everything succeed.
func (s *orderSim) finishAll() {
	for n := 0; ; n++ {
		switch {
		case n > 10000:
			s.t.Fatalf("it does not come to an end: %v, %+v", s.disk, s.o)
		case len(s.going) > 0:
			s.finish(s.going[0], 3)
		case len(s.mayGo()) > 0:
			s.goOn(s.mayGo()[0])
		case len(s.way) > 0:
			s.arrive(len(s.way))
		case len(s.due()) > 0:
			s.handOut(s.due()[0])
		case s.fresh() && !s.crowded():
			s.takeFresh()
		case len(s.dead()) > 0:
			s.drop(s.dead()[0])
		case s.fresh():
			s.spill()
		default:
			for at := range s.keys {
				if state, past := s.disk[event.Offset(at+1)]; !past || state != simDone {
					s.t.Fatalf("%d is left: %v", at+1, s.disk)
				}
			}
			if len(s.o.chains)+len(s.o.rows)+len(s.o.stuck)+s.o.held+s.o.behind+s.o.dead > 0 {
				s.t.Fatal("the orderer is not empty", fmt.Sprintf("%+v", s.o))
			}
			return
		}
	}
}
