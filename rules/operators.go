package rules

import (
	"regexp"
	"strings"
	"time"
)

// kindOf names the kind of a value for messages.
func kindOf(v any) string {
	switch v.(type) {
	case nil, missing:
		return "nil"
	case bool, uncertain:
		return "a boolean"
	case string:
		return "a string"
	case int64, decimal, float64:
		return "a number"
	case time.Time:
		return "a time"
	case time.Duration:
		return "a duration"
	case []any:
		return "an array"
	case object:
		return "an object"
	case *time.Location:
		return "a time zone"
	}
	return "this value"
}

// opEqual compares any two values. Values of different kinds are not equal; a missing field equals nil.
func opEqual(r *run, a []any) (any, error) {
	x, y := r.settle(a[0]), r.settle(a[1])
	if isNil(x) && isNil(y) {
		return true, nil
	}
	if isNil(x) || isNil(y) {
		return unequal(x, y), nil
	}
	return r.equal(x, y)
}

// unequal is the result of comparing a value with none: softly false where a field is missing, plainly false where the
// expression asks for nil itself.
func unequal(x, y any) any {
	for _, v := range [2]any{x, y} {
		if m, ok := v.(missing); ok {
			return uncertain{name: m.name, soft: true}
		}
	}
	return false
}

func opNotEqual(r *run, a []any) (any, error) {
	v, err := opEqual(r, a)
	if err != nil {
		return nil, err
	}
	return v != true, nil
}

// equal compares two values; nil equals nil.
func (r *run) equal(x, y any) (bool, error) {
	if err := r.charge(1); err != nil {
		return false, err
	}
	if isNumber(x) {
		return isNumber(y) && compareNumbers(x, y) == 0, nil
	}
	switch x := x.(type) {
	case nil, missing:
		return isNil(y), nil
	case bool:
		return x == y, nil
	case string:
		return x == y, nil
	case time.Time:
		t, ok := y.(time.Time)
		return ok && x.Equal(t), nil
	case time.Duration:
		return x == y, nil
	case []any:
		list, ok := y.([]any)
		if !ok || len(x) != len(list) {
			return false, nil
		}
		return r.equalLists(x, list)
	case object:
		o, ok := y.(object)
		if !ok || len(x.names) != len(o.names) {
			return false, nil
		}
		return r.equalObjects(x, o)
	}
	return false, nil
}

func (r *run) equalLists(x, y []any) (bool, error) {
	for i := range x {
		if same, err := r.equal(x[i], y[i]); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

func (r *run) equalObjects(x, y object) (bool, error) {
	for i, name := range x.names {
		v, ok := y.get(name)
		if !ok {
			return false, nil
		}
		if same, err := r.equal(x.values[i], v); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

// compare orders two values of one kind.
func compare(x, y any) (int, error) {
	if isNumber(x) && isNumber(y) {
		return compareNumbers(x, y), nil
	}
	switch x := x.(type) {
	case string:
		if s, ok := y.(string); ok {
			return strings.Compare(x, s), nil
		}
	case time.Time:
		if t, ok := y.(time.Time); ok {
			return x.Compare(t), nil
		}
	case time.Duration:
		if d, ok := y.(time.Duration); ok {
			return compareInts(int64(x), int64(d)), nil
		}
	}
	return 0, fault("cannot compare %s with %s%s", kindOf(x), kindOf(y), timeHint(x, y))
}

// timeHint helps where a time meets a text.
func timeHint(x, y any) string {
	_, tx := x.(time.Time)
	_, ty := y.(time.Time)
	_, sx := x.(string)
	_, sy := y.(string)
	if tx && sy || sx && ty {
		return "; date(…) makes a time of a string"
	}
	return ""
}

// ordering makes an operator of a test on the result of compare. A missing value makes it unsure.
func ordering(holds func(c int) bool) operation {
	return func(r *run, a []any) (any, error) {
		x, y := r.settle(a[0]), r.settle(a[1])
		if isNil(x) || isNil(y) {
			return unsure(x, y), nil
		}
		c, err := compare(x, y)
		if err != nil {
			return nil, err
		}
		return holds(c), nil
	}
}

// arithmetic makes an operator on numbers; other tries the kinds beside them.
func arithmetic(name string, numbers func(a, b any) (any, error), other func(r *run, x, y any) (any, error)) operation {
	return func(r *run, a []any) (any, error) {
		x, y := r.settle(a[0]), r.settle(a[1])
		if isNil(x) || isNil(y) {
			return missed(x, y), nil
		}
		if isNumber(x) && isNumber(y) {
			return numbers(x, y)
		}
		if other != nil {
			if v, err := other(r, x, y); v != nil || err != nil {
				return v, err
			}
		}
		return nil, fault("%s does not work on %s and %s", name, kindOf(x), kindOf(y))
	}
}

func plusOther(r *run, x, y any) (any, error) {
	switch x := x.(type) {
	case string:
		if s, ok := y.(string); ok {
			if err := r.chargeBytes(len(x) + len(s)); err != nil {
				return nil, err
			}
			return x + s, nil
		}
		return nil, fault("+ does not work on a string and %s; string(…) makes a string of it", kindOf(y))
	case time.Time:
		if d, ok := y.(time.Duration); ok {
			return x.Add(d), nil
		}
	case time.Duration:
		switch y := y.(type) {
		case time.Time:
			return y.Add(x), nil
		case time.Duration:
			return x + y, nil
		}
	}
	return nil, nil
}

func minusOther(_ *run, x, y any) (any, error) {
	switch x := x.(type) {
	case time.Time:
		switch y := y.(type) {
		case time.Time:
			return x.Sub(y), nil
		case time.Duration:
			return x.Add(-y), nil
		}
	case time.Duration:
		if d, ok := y.(time.Duration); ok {
			return x - d, nil
		}
	}
	return nil, nil
}

func timesOther(_ *run, x, y any) (any, error) {
	if d, ok := y.(time.Duration); ok {
		x, y = d, x
	}
	if d, ok := x.(time.Duration); ok {
		n, ok := toIndex(y)
		if product := d * time.Duration(n); ok && (n == 0 || product/time.Duration(n) == d) {
			return product, nil
		}
		return nil, fault("a duration can be multiplied by a whole number, up to 290 years")
	}
	return nil, nil
}

func opNegate(r *run, a []any) (any, error) {
	switch v := r.settle(a[0]).(type) {
	case nil, missing:
		return missed(v), nil
	case time.Duration:
		return -v, nil
	default:
		if isNumber(v) {
			return negNumber(v)
		}
		return nil, fault("- does not work on %s", kindOf(v))
	}
}

func opPlus(r *run, a []any) (any, error) {
	v := r.settle(a[0])
	switch {
	case isNil(v):
		return missed(v), nil
	case isNumber(v):
		return v, nil
	}
	return nil, fault("+ does not work on %s", kindOf(v))
}

// opIn says whether a value is an element of an array or a name in an object. A missing needle is an element only where nil is.
func opIn(r *run, a []any) (any, error) {
	x := r.settle(a[0])
	switch within := r.settle(a[1]).(type) {
	case nil, missing:
		return unsure(within), nil
	case []any:
		for _, v := range within {
			if same, err := r.equal(x, v); err != nil || same {
				return same, err
			}
		}
		return unequal(x, nil), nil
	case object:
		name, ok := x.(string)
		if !ok {
			return unequal(x, nil), nil
		}
		_, ok = within.get(name)
		return ok, nil
	default:
		return nil, fault("in looks into an array or an object, not %s", kindOf(within))
	}
}

// opInRange is x in from..to, without making the range.
func opInRange(r *run, a []any) (any, error) {
	x, from, to := r.settle(a[0]), r.settle(a[1]), r.settle(a[2])
	if isNil(from) || isNil(to) {
		return unsure(from, to), nil
	}
	if _, _, err := bounds(from, to); err != nil {
		return nil, err
	}
	if isNil(x) {
		return unequal(x, nil), nil
	}
	if !isNumber(x) {
		return false, nil
	}
	if _, whole := wholeBig(x); !whole {
		return false, nil
	}
	return compareNumbers(x, from) >= 0 && compareNumbers(x, to) <= 0, nil
}

func bounds(from, to any) (low, high int64, err error) {
	low, okl := toIndex(from)
	high, okh := toIndex(to)
	if !okl || !okh {
		return 0, 0, fault("a range needs whole numbers")
	}
	return low, high, nil
}

// maxRange is how many numbers from..to may make.
const maxRange = 10_000

func opRange(r *run, a []any) (any, error) {
	from, to := r.settle(a[0]), r.settle(a[1])
	if isNil(from) || isNil(to) {
		return missed(from, to), nil
	}
	low, high, err := bounds(from, to)
	if err != nil {
		return nil, err
	}
	if high < low {
		return []any{}, nil
	}
	n := uint64(high) - uint64(low)
	if n >= maxRange {
		return nil, fault("a range holds at most %d numbers", maxRange)
	}
	if err := r.charge(int(n) + 1); err != nil {
		return nil, err
	}
	list := make([]any, 0, n+1)
	for i := low; ; i++ {
		list = append(list, i)
		if i == high {
			return list, nil
		}
	}
}

// textTest makes an operator on two strings. A missing value makes it unsure.
func textTest(name string, holds func(s, t string) bool) operation {
	return func(r *run, a []any) (any, error) {
		x, y := r.settle(a[0]), r.settle(a[1])
		if isNil(x) || isNil(y) {
			return unsure(x, y), nil
		}
		s, oks := x.(string)
		t, okt := y.(string)
		if !oks || !okt {
			return nil, fault("%s works on strings, not on %s and %s", name, kindOf(x), kindOf(y))
		}
		if err := r.chargeBytes(len(s)); err != nil {
			return nil, err
		}
		return holds(s, t), nil
	}
}

// maxPattern bounds a regular expression that is not a literal.
const maxPattern = 500

// opMatches tests a string against a regular expression, which is compiled already if it is a literal.
func opMatches(r *run, a []any) (any, error) {
	x, y := r.settle(a[0]), r.settle(a[1])
	if isNil(x) || isNil(y) {
		return unsure(x, y), nil
	}
	s, ok := x.(string)
	if !ok {
		return nil, fault("matches works on strings, not on %s", kindOf(x))
	}
	re, err := r.pattern(y)
	if err != nil {
		return nil, err
	}
	if err := r.charge(len(s)/2 + 1); err != nil {
		return nil, err
	}
	return re.MatchString(s), nil
}

func (r *run) pattern(v any) (*regexp.Regexp, error) {
	switch p := v.(type) {
	case *regexp.Regexp:
		return p, nil
	case string:
		if len(p) > maxPattern {
			return nil, fault("a regular expression that is not a literal has at most %d bytes", maxPattern)
		}
		if err := r.charge(1000); err != nil {
			return nil, err
		}
		re, err := regexp.Compile(p)
		if err != nil {
			return nil, fault("%v", err)
		}
		return re, nil
	}
	return nil, fault("a regular expression is a string, not %s", kindOf(v))
}

// opFetch reads a member of an object or an element of an array; a negative index counts from the end. What is not there is
// missing under the name in a[2].
func opFetch(r *run, a []any) (any, error) {
	name := a[2].(string)
	key := r.settle(a[1])
	switch base := a[0].(type) {
	case object:
		if k, ok := key.(string); ok {
			if v, there := base.get(k); there {
				return orNull(v, name), nil
			}
		}
	case []any:
		if i, ok := toIndex(key); ok {
			if i < 0 {
				i += int64(len(base))
			}
			if i >= 0 && i < int64(len(base)) {
				return orNull(base[i], name), nil
			}
		}
	case time.Time, time.Duration:
		return nil, fault("%s has no fields", kindOf(base))
	}
	return missing{name: name}, nil
}

// orNull gives a null its name.
func orNull(v any, name string) any {
	if v == nil {
		return missing{name: name, null: true}
	}
	return v
}

// opSlice is x[from:to] of an array or of the characters of a string. Bounds beyond the ends are the ends.
func opSlice(r *run, a []any) (any, error) {
	switch x := r.settle(a[0]).(type) {
	case nil, missing:
		return missed(x), nil
	case []any:
		from, to, err := r.sliceBounds(a, len(x))
		if err != nil {
			return nil, err
		}
		return x[from:to:to], nil
	case string:
		if err := r.chargeBytes(len(x)); err != nil {
			return nil, err
		}
		chars := []rune(x)
		from, to, err := r.sliceBounds(a, len(chars))
		if err != nil {
			return nil, err
		}
		return string(chars[from:to]), nil
	default:
		return nil, fault("a slice is of an array or a string, not of %s", kindOf(x))
	}
}

func (r *run) sliceBounds(a []any, n int) (from, to int, err error) {
	from, err = r.sliceBound(a[1], 0, n)
	if err != nil {
		return 0, 0, err
	}
	to, err = r.sliceBound(a[2], n, n)
	return min(from, to), to, err
}

func (r *run) sliceBound(v any, absent, n int) (int, error) {
	v = r.settle(v)
	if isNil(v) {
		r.met(nameOf(v))
		return absent, nil
	}
	i, ok := toIndex(v)
	if !ok {
		return 0, fault("the bounds of a slice are whole numbers, not %s", kindOf(v))
	}
	if i < 0 {
		i += int64(n)
	}
	return int(max(0, min(i, int64(n)))), nil
}
