package rules

import (
	"maps"

	"github.com/millrace-run/millrace/event"
)

// Together are expressions that are evaluated one after the other on each event. What they want of its data is fetched for all of
// them in one pass. Safe for concurrent use.
type Together struct {
	tree   tree
	places map[*Expr][]int // where a slot of an expression is among those of tree
}

// NewTogether joins expressions, and passes over nil. They can be evaluated without each other as before.
func NewTogether(all ...*Expr) *Together {
	t := &Together{places: make(map[*Expr][]int, len(all))}
	for _, x := range all {
		if x == nil {
			continue
		}
		if own := x.trees[rootData]; own.want != nil && t.places[x] == nil {
			places := make([]int, own.slots)
			t.tree.want = t.join(t.tree.want, own.want, places)
			t.places[x] = places
		}
	}
	return t
}

// join adds to w what v wants, and notes where the slots of v are now.
func (t *Together) join(w, v *want, places []int) *want {
	if w == nil {
		w = &want{slot: -1}
	}
	if v.slot >= 0 {
		if w.slot < 0 {
			w.slot = t.tree.slots
			t.tree.slots++
		}
		places[v.slot] = w.slot
	}
	for _, m := range v.members {
		into := w.member(m.name)
		if into == nil {
			into = &member{name: m.name, id: t.tree.members}
			t.tree.members++
			w.members = append(w.members, into)
		}
		into.next = t.join(into.next, m.next, places)
	}
	for n, next := range maps.All(v.items) {
		if w.items == nil {
			w.items = map[int]*want{}
		}
		w.items[n] = t.join(w.items[n], next, places)
	}
	return w
}

func (w *want) member(name string) *member {
	for _, m := range w.members {
		if m.name == name {
			return m
		}
	}
	return nil
}

// Look is one event after the other, as expressions that are evaluated together see it. It must not be used concurrently.
type Look struct {
	in     Input
	of     *Together
	scan   scanner
	looked bool // scan was made, and found JSON if err is nil
	err    error
}

// Look begins without an event.
func (t *Together) Look() *Look {
	return &Look{of: t, scan: scanner{spans: make([]span, t.tree.slots), seen: make([]bool, t.tree.members)}}
}

// At goes on to an event. What it returns is good until the next call.
func (l *Look) At(e *event.Event) *Input {
	clear(l.scan.spans)
	clear(l.scan.seen)
	l.in, l.looked, l.err = Input{Event: e, look: l}, false, nil
	return &l.in
}

// fetch fills the spans of an expression from b, which is the data of the event. done is false for one that is not of those.
func (l *Look) fetch(x *Expr, b []byte, spans []span) (done bool, err error) {
	places, ok := l.of.places[x]
	if !ok {
		return false, nil
	}
	if !l.looked {
		l.looked, l.err = true, l.scan.scan(b, l.of.tree.want)
	}
	for slot, at := range places {
		spans[slot] = l.scan.spans[at]
	}
	return true, l.err
}
