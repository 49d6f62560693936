package rules

import (
	"slices"
	"time"
)

// loop is what a predicate such as all(…) or filter(…) keeps while the machine goes through its array.
type loop struct {
	absent  any // the missing value that stands where an array should, or nil
	items   []any
	unknown any // the first uncertain that an element gave, of each kind
	soft    any
}

// opList is the array that a predicate goes through. Instead of one that is missing the machine gets an empty one (of one
// element where it needs a first), and opDone gives the result.
func opList(r *run, a []any) (any, error) {
	l := &r.loops[a[0].(int)]
	*l = loop{}
	name := a[2].(string)
	switch v := r.settle(a[1]).(type) {
	case nil:
		l.absent = missing{}
	case missing:
		l.absent = missing{name: v.name}
	case []any:
		if fromEnd(name) {
			v = slices.Clone(v)
			slices.Reverse(v)
		}
		l.items = v
		return v, r.charge(1 + len(v)/16)
	default:
		return nil, fault("%s goes through an array, not %s", name, kindOf(v))
	}
	if name == "reduce" {
		return []any{nil}, nil
	}
	return []any{}, nil
}

// fromEnd says whether a predicate begins with the last element. The machine's own loop from the end leaves values on its stack,
// so it gets the array turned round instead.
func fromEnd(name string) bool { return name == "findLast" || name == "findLastIndex" }

// opTruth is the answer of a predicate for one element. What is uncertain is kept for opDone; the machine goes on as if it did
// not decide.
func opTruth(r *run, a []any) (any, error) {
	v, err := truthOf(a[2])
	u, ok := v.(uncertain)
	if !ok {
		return v, err
	}
	l := &r.loops[a[0].(int)]
	switch {
	case u.soft && l.soft == nil:
		l.soft = u
	case !u.soft && l.unknown == nil:
		l.unknown = u
	}
	return a[1].(string) == "all", nil
}

// opStep is what a predicate makes of one element.
func opStep(r *run, a []any) (any, error) {
	return r.settle(a[0]), nil
}

// opDone is the result of a predicate: what the machine found, unless its array was missing or an element was uncertain where
// that matters.
func opDone(r *run, a []any) (any, error) {
	l := &r.loops[a[0].(int)]
	name, found := a[1].(string), a[2]
	if n, ok := found.(int); ok {
		if name == "findLastIndex" {
			n = len(l.items) - 1 - n
		}
		found = int64(n)
	}
	switch name {
	case "all", "any", "none", "one":
		if l.absent != nil {
			return unsure(l.absent), nil
		}
		return l.decide(name, found), nil
	}
	if l.absent != nil {
		return l.absent, nil
	}
	for _, u := range [2]any{l.unknown, l.soft} {
		r.met(nameOf(u))
	}
	return found, nil
}

// decide joins the answers of all elements by the rules of && (all) and || (any, and none, which is its negation).
func (l *loop) decide(name string, found any) any {
	settled := map[string]any{"all": false, "any": true, "none": false}
	if found == settled[name] {
		return found
	}
	first, second := l.unknown, l.soft
	if name == "all" { // one element that is softly false is enough
		first, second = second, first
	}
	switch {
	case first != nil:
		return first
	case second != nil && (name == "none" || name == "one"):
		return found // what is softly false does not count
	case second != nil:
		return second
	}
	return found
}

// opSum adds the elements of an array, numbers or durations. An element that is missing makes the sum missing.
func opSum(r *run, a []any) (any, error) {
	list, nothing, err := r.array("sum", a[0])
	if list == nil {
		return nothing, err
	}
	sum := any(int64(0))
	for i, v := range list {
		if d, ok := v.(time.Duration); ok && i == 0 {
			sum = d
			continue
		}
		if sum, err = opAdd(r, []any{sum, v}); err != nil || isNil(sum) {
			return sum, err
		}
	}
	return sum, r.charge(len(list))
}

// array is an argument that must be an array. Instead of one that is missing, nothing is the result of the function.
func (r *run) array(name string, v any) (list []any, nothing any, err error) {
	switch v := r.settle(v).(type) {
	case nil, missing:
		return nil, missed(v), nil
	case []any:
		return v, nil, nil
	default:
		return nil, nil, fault("%s takes an array, not %s", name, kindOf(v))
	}
}

// opGroupBy gathers the elements of the array of a loop by their keys, which the machine has mapped. It makes an object, in the
// order in which the keys come up.
func opGroupBy(r *run, a []any) (any, error) {
	l := &r.loops[a[0].(int)]
	if l.absent != nil {
		return l.absent, nil
	}
	o := newObject(4)
	for i, key := range a[1].([]any) {
		if isNil(key) {
			r.met(nameOf(key))
			continue
		}
		name, err := r.text(key)
		if err != nil {
			return nil, err
		}
		group, _ := o.get(name)
		list, _ := group.([]any)
		o.put(name, append(list, l.items[i]))
	}
	return o, nil
}

// opSortBy sorts the elements of the array of a loop by their keys. Equal keys keep their order; missing ones go to the end.
func opSortBy(r *run, a []any) (any, error) {
	l := &r.loops[a[0].(int)]
	if l.absent != nil {
		return l.absent, nil
	}
	return r.sorted(l.items, a[1].([]any), a[2:])
}

func opSort(r *run, a []any) (any, error) {
	list, nothing, err := r.array("sort", a[0])
	if list == nil {
		return nothing, err
	}
	return r.sorted(list, list, a[1:])
}

func (r *run) sorted(items, keys []any, order []any) (any, error) {
	sign := 1
	if len(order) > 0 {
		switch r.settle(order[0]) {
		case "asc":
		case "desc":
			sign = -1
		default:
			return nil, fault(`the order is "asc" or "desc"`)
		}
	}
	if err := r.charge(20 * len(items)); err != nil {
		return nil, err
	}
	places := make([]int, len(items))
	for i := range places {
		places[i] = i
	}
	var failed error
	slices.SortStableFunc(places, func(i, j int) int {
		x, y := keys[i], keys[j]
		if isNil(x) || isNil(y) {
			return rankOfNil(x) - rankOfNil(y)
		}
		c, err := compare(x, y)
		if failed == nil {
			failed = err
		}
		return sign * c
	})
	out := make([]any, len(items))
	for i, from := range places {
		out[i] = items[from]
	}
	return out, failed
}

func rankOfNil(v any) int {
	if isNil(v) {
		return 1
	}
	return 0
}
