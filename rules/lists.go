package rules

import "slices"

// numbersIn gathers the numbers of arguments, arrays in them opened. An element that is missing makes the result of the function
// missing: it comes back as nothing.
func (r *run) numbersIn(name string, a []any, into []any, depth int) (list []any, nothing any, err error) {
	for _, v := range a {
		if err := r.charge(1); err != nil {
			return nil, nil, err
		}
		v = r.settle(v)
		inner, isList := v.([]any)
		switch {
		case isNumber(v):
			into = append(into, v)
		case isNil(v):
			return nil, missed(v), nil
		case isList && depth < maxDepth:
			if into, nothing, err = r.numbersIn(name, inner, into, depth+1); into == nil {
				return nil, nothing, err
			}
		default:
			return nil, nil, fault("%s takes numbers, not %s", name, kindOf(v))
		}
	}
	return into, nil, nil
}

// extreme is max (sign 1) or min (sign -1) of numbers; of none it is nil.
func extreme(name string, sign int) operation {
	return func(r *run, a []any) (any, error) {
		list, nothing, err := r.numbersIn(name, a, []any{}, 0)
		if len(list) == 0 {
			return nothing, err
		}
		best := list[0]
		for _, v := range list[1:] {
			if sign*compareNumbers(v, best) > 0 {
				best = v
			}
		}
		return best, nil
	}
}

// fnMean is the sum of numbers divided by how many they are; of none it is nil.
func fnMean(r *run, a []any) (any, error) {
	list, nothing, err := r.numbersIn("mean", a, []any{}, 0)
	if len(list) == 0 {
		return nothing, err
	}
	sum := any(int64(0))
	for _, v := range list {
		if sum, err = addNumbers(sum, v); err != nil {
			return nil, err
		}
	}
	return divNumbers(sum, int64(len(list)))
}

func fnMedian(r *run, a []any) (any, error) {
	list, nothing, err := r.numbersIn("median", a, []any{}, 0)
	if len(list) == 0 {
		return nothing, err
	}
	if err := r.charge(20 * len(list)); err != nil {
		return nil, err
	}
	slices.SortStableFunc(list, compareNumbers)
	middle := len(list) / 2
	if len(list)%2 == 1 {
		return list[middle], nil
	}
	sum, err := addNumbers(list[middle-1], list[middle])
	if err != nil {
		return nil, err
	}
	return divNumbers(sum, int64(2))
}

func fnFirst(r *run, a []any) (any, error) {
	list, _, err := r.array("first", a[0])
	if len(list) == 0 {
		return nil, err
	}
	return list[0], nil
}

func fnLast(r *run, a []any) (any, error) {
	list, _, err := r.array("last", a[0])
	if len(list) == 0 {
		return nil, err
	}
	return list[len(list)-1], nil
}

func fnTake(r *run, a []any) (any, error) {
	list, _, err := r.array("take", a[0])
	if err != nil {
		return nil, err
	}
	n, ok := toIndex(a[1])
	if !ok || n < 0 {
		return nil, fault("take counts with a whole number that is not negative")
	}
	n = min(n, int64(len(list)))
	return list[:n:n], nil
}

func (r *run) object(name string, v any) (object, error) {
	o, ok := v.(object)
	if !ok {
		return object{}, fault("%s takes an object, not %s", name, kindOf(v))
	}
	return o, r.charge(len(o.names))
}

func fnKeys(r *run, a []any) (any, error) {
	o, err := r.object("keys", a[0])
	if err != nil {
		return nil, err
	}
	list := make([]any, len(o.names))
	for i, name := range o.names {
		list[i] = name
	}
	return list, nil
}

func fnValues(r *run, a []any) (any, error) {
	o, err := r.object("values", a[0])
	if err != nil {
		return nil, err
	}
	return slices.Clone(o.values), nil
}

func fnToPairs(r *run, a []any) (any, error) {
	o, err := r.object("toPairs", a[0])
	if err != nil {
		return nil, err
	}
	list := make([]any, len(o.names))
	for i, name := range o.names {
		list[i] = []any{name, o.values[i]}
	}
	return list, nil
}

func fnFromPairs(r *run, a []any) (any, error) {
	list, _, err := r.array("fromPairs", a[0])
	if err != nil {
		return nil, err
	}
	o := newObject(len(list))
	for _, v := range list {
		pair, _ := v.([]any)
		if len(pair) != 2 {
			return nil, fault("fromPairs takes arrays of a name and a value")
		}
		name, ok := pair[0].(string)
		if !ok {
			return nil, fault("a name in fromPairs is a string, not %s", kindOf(pair[0]))
		}
		o.put(name, pair[1])
	}
	return o, r.charge(len(list))
}

func fnReverse(r *run, a []any) (any, error) {
	list, _, err := r.array("reverse", a[0])
	if err != nil {
		return nil, err
	}
	list = slices.Clone(list)
	slices.Reverse(list)
	return list, r.charge(len(list))
}

// fnUniq keeps the first of equal elements. Each comparison costs a step, for there are as many as pairs.
func fnUniq(r *run, a []any) (any, error) {
	list, _, err := r.array("uniq", a[0])
	if err != nil {
		return nil, err
	}
	out := []any{}
	for _, v := range list {
		known := false
		for _, o := range out {
			if known, err = r.equal(o, v); err != nil {
				return nil, err
			}
			if known {
				break
			}
		}
		if !known {
			out = append(out, v)
		}
	}
	return out, nil
}

func fnConcat(r *run, a []any) (any, error) {
	out := []any{}
	for _, v := range a {
		list, _, err := r.array("concat", v)
		if err != nil {
			return nil, err
		}
		if err := r.charge(1 + len(list)); err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	return out, nil
}

func fnFlatten(r *run, a []any) (any, error) {
	list, _, err := r.array("flatten", a[0])
	if err != nil {
		return nil, err
	}
	return r.flatten(list, []any{}, 0)
}

func (r *run) flatten(list, into []any, depth int) ([]any, error) {
	if depth > maxDepth {
		return nil, fault("flatten opens arrays at most %d deep", maxDepth)
	}
	for _, v := range list {
		if err := r.charge(1); err != nil {
			return nil, err
		}
		inner, ok := v.([]any)
		if !ok {
			into = append(into, v)
			continue
		}
		var err error
		if into, err = r.flatten(inner, into, depth+1); err != nil {
			return nil, err
		}
	}
	return into, nil
}

// opArray makes an array of its elements.
func opArray(r *run, a []any) (any, error) {
	list := make([]any, len(a))
	for i, v := range a {
		list[i] = r.settle(v)
	}
	return list, r.charge(1 + len(list))
}

// opObject makes an object of names and values in turn. Of equal names the last counts.
func opObject(r *run, a []any) (any, error) {
	o := newObject(len(a) / 2)
	for i := 0; i+1 < len(a); i += 2 {
		key := r.settle(a[i])
		if isNil(key) {
			return nil, fault("a name in an object is nil")
		}
		name, err := r.text(key)
		if err != nil {
			return nil, err
		}
		o.put(name, r.settle(a[i+1]))
	}
	return o, r.charge(1 + len(o.names))
}
