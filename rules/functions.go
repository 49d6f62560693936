package rules

import (
	"encoding/base64"
	"strings"
	"time"
	"unicode/utf8"
)

// operation is an operator or function as the machine calls it: on the arguments, with the evaluation that it is part of.
type operation func(r *run, a []any) (any, error)

// function is what an expression may call. Unless it takes nil, a missing argument makes its result missing.
type function struct {
	min, max int // arguments; max below 0 is any number
	nilToo   bool
	do       operation
}

// functions are all functions but the predicates (see predicates) and those that the compiler resolves: env, timezone, get.
var functions = map[string]function{
	"len":         {1, 1, false, fnLen},
	"abs":         {1, 1, false, fnAbs},
	"ceil":        {1, 1, false, rounder("ceil", ceiling)},
	"floor":       {1, 1, false, rounder("floor", floor)},
	"round":       {1, 1, false, rounder("round", halfUp)},
	"int":         {1, 1, false, fnInt},
	"float":       {1, 1, false, fnFloat},
	"string":      {1, 1, false, fnString},
	"trim":        {1, 2, false, texts(trim(strings.TrimSpace, strings.Trim))},
	"trimPrefix":  {1, 2, false, texts(trim(trimSpaceLeft, strings.TrimPrefix))},
	"trimSuffix":  {1, 2, false, texts(trim(trimSpaceRight, strings.TrimSuffix))},
	"upper":       {1, 1, false, texts(func(s []string) (any, error) { return strings.ToUpper(s[0]), nil })},
	"lower":       {1, 1, false, texts(func(s []string) (any, error) { return strings.ToLower(s[0]), nil })},
	"indexOf":     {2, 2, false, texts(indexBy(strings.Index))},
	"lastIndexOf": {2, 2, false, texts(indexBy(strings.LastIndex))},
	"hasPrefix":   {2, 2, false, texts(func(s []string) (any, error) { return strings.HasPrefix(s[0], s[1]), nil })},
	"hasSuffix":   {2, 2, false, texts(func(s []string) (any, error) { return strings.HasSuffix(s[0], s[1]), nil })},
	"split":       {2, 3, false, splitter(strings.SplitN)},
	"splitAfter":  {2, 3, false, splitter(strings.SplitAfterN)},
	"replace":     {3, 4, false, fnReplace},
	"join":        {1, 2, false, fnJoin},
	"toBase64":    {1, 1, false, texts(toBase64)},
	"fromBase64":  {1, 1, false, texts(fromBase64)},
	"toJSON":      {1, 1, true, fnToJSON},
	"fromJSON":    {1, 1, false, texts(fromJSON)},
	"duration":    {1, 1, false, texts(duration)},
	"date":        {1, 3, false, fnDate},
	"topic":       {2, 2, true, opTopic},
	"cesql":       {1, 2, true, opCESQL},
	"max":         {1, -1, false, extreme("max", 1)},
	"min":         {1, -1, false, extreme("min", -1)},
	"mean":        {1, -1, false, fnMean},
	"median":      {1, -1, false, fnMedian},
	"first":       {1, 1, false, fnFirst},
	"last":        {1, 1, false, fnLast},
	"take":        {2, 2, false, fnTake},
	"keys":        {1, 1, false, fnKeys},
	"values":      {1, 1, false, fnValues},
	"toPairs":     {1, 1, false, fnToPairs},
	"fromPairs":   {1, 1, false, fnFromPairs},
	"reverse":     {1, 1, false, fnReverse},
	"uniq":        {1, 1, false, fnUniq},
	"concat":      {1, -1, false, fnConcat},
	"flatten":     {1, 1, false, fnFlatten},
	"sort":        {1, 2, false, opSort},
	"bitand":      {2, 2, false, bits2(func(x, y int64) int64 { return x & y })},
	"bitor":       {2, 2, false, bits2(func(x, y int64) int64 { return x | y })},
	"bitxor":      {2, 2, false, bits2(func(x, y int64) int64 { return x ^ y })},
	"bitnand":     {2, 2, false, bits2(func(x, y int64) int64 { return x &^ y })},
	"bitshl":      {2, 2, false, shift(func(x int64, y uint64) int64 { return x << y })},
	"bitshr":      {2, 2, false, shift(func(x int64, y uint64) int64 { return x >> y })},
	"bitushr":     {2, 2, false, shift(func(x int64, y uint64) int64 { return int64(uint64(x) >> y) })},
	"bitnot":      {1, 1, false, fnBitnot},
}

// call runs a function as its declaration says.
func (f function) call(r *run, a []any) (any, error) {
	if f.nilToo {
		return f.do(r, a)
	}
	for i, v := range a {
		a[i] = r.settle(v)
	}
	for _, v := range a {
		if isNil(v) {
			return missed(a...), nil
		}
	}
	return f.do(r, a)
}

func fnLen(r *run, a []any) (any, error) {
	switch v := a[0].(type) {
	case string:
		return int64(utf8.RuneCountInString(v)), r.chargeBytes(len(v))
	case []any:
		return int64(len(v)), nil
	case object:
		return int64(len(v.names)), nil
	}
	return nil, fault("len takes a string, an array or an object, not %s", kindOf(a[0]))
}

func fnAbs(_ *run, a []any) (any, error) {
	if !isNumber(a[0]) {
		return nil, fault("abs takes a number, not %s", kindOf(a[0]))
	}
	if compareNumbers(a[0], int64(0)) < 0 {
		return negNumber(a[0])
	}
	return a[0], nil
}

func rounder(name string, how rounding) operation {
	return func(_ *run, a []any) (any, error) {
		if !isNumber(a[0]) {
			return nil, fault("%s takes a number, not %s", name, kindOf(a[0]))
		}
		return round(a[0], how)
	}
}

// fnInt cuts the fraction off. The value is exact, so int(19.99 * 100) is 1999.
func fnInt(_ *run, a []any) (any, error) {
	n, err := toNumber("int", a[0])
	if err != nil {
		return nil, err
	}
	return round(n, truncate)
}

func fnFloat(_ *run, a []any) (any, error) { return toNumber("float", a[0]) }

func toNumber(name string, v any) (any, error) {
	if isNumber(v) {
		return v, nil
	}
	s, ok := v.(string)
	if !ok {
		return nil, fault("%s takes a number or a string, not %s", name, kindOf(v))
	}
	n, ok := parseDecimal(s)
	if !ok {
		return nil, fault("%s: the string is not a number", name)
	}
	return n, nil
}

func fnString(r *run, a []any) (any, error) { return r.text(a[0]) }

// texts makes a function of one that takes strings only.
func texts(do func(s []string) (any, error)) operation {
	return func(r *run, a []any) (any, error) {
		s := make([]string, len(a))
		for i, v := range a {
			t, ok := v.(string)
			if !ok {
				return nil, fault("a string is needed, not %s", kindOf(v))
			}
			if err := r.chargeBytes(len(t)); err != nil {
				return nil, err
			}
			s[i] = t
		}
		return do(s)
	}
}

func trim(space func(string) string, with func(s, cut string) string) func([]string) (any, error) {
	return func(s []string) (any, error) {
		if len(s) == 1 {
			return space(s[0]), nil
		}
		return with(s[0], s[1]), nil
	}
}

// The prefix and suffix that are cut when none is given are one space.
func trimSpaceLeft(s string) string  { return strings.TrimPrefix(s, " ") }
func trimSpaceRight(s string) string { return strings.TrimSuffix(s, " ") }

// indexBy counts characters, as len and slices do.
func indexBy(find func(s, part string) int) func([]string) (any, error) {
	return func(s []string) (any, error) {
		i := find(s[0], s[1])
		if i > 0 {
			i = utf8.RuneCountInString(s[0][:i])
		}
		return int64(i), nil
	}
}

func splitter(split func(s, sep string, n int) []string) operation {
	return func(r *run, a []any) (any, error) {
		s, oks := a[0].(string)
		sep, okp := a[1].(string)
		n, okn := int64(-1), true
		if len(a) == 3 {
			n, okn = toIndex(a[2])
		}
		if !oks || !okp || !okn {
			return nil, fault("split takes a string, a separator and a whole number")
		}
		if err := r.charge(1 + strings.Count(s, sep)); err != nil {
			return nil, err
		}
		parts := split(s, sep, int(max(-1, min(n, 1<<30))))
		list := make([]any, len(parts))
		for i, p := range parts {
			list[i] = p
		}
		return list, nil
	}
}

// fnReplace asks for the size of the result first: two texts of an event can make a product of their sizes.
func fnReplace(r *run, a []any) (any, error) {
	var s [3]string
	for i := range s {
		t, ok := a[i].(string)
		if !ok {
			return nil, fault("replace takes strings, not %s", kindOf(a[i]))
		}
		s[i] = t
	}
	n := int64(-1)
	if len(a) == 4 {
		var ok bool
		if n, ok = toIndex(a[3]); !ok {
			return nil, fault("replace counts with a whole number, not %s", kindOf(a[3]))
		}
	}
	times := int64(strings.Count(s[0], s[1]))
	if n >= 0 {
		times = min(times, n)
	}
	size := int64(len(s[0])) + times*int64(len(s[2]))
	if err := r.chargeBytes(int(size)); err != nil {
		return nil, err
	}
	return strings.Replace(s[0], s[1], s[2], int(times)), nil
}

// fnJoin joins strings; numbers, booleans and times join as their text.
func fnJoin(r *run, a []any) (any, error) {
	list, ok := a[0].([]any)
	glue := ""
	if len(a) == 2 && ok {
		glue, ok = a[1].(string)
	}
	if !ok {
		return nil, fault("join takes an array and a string")
	}
	var b strings.Builder
	for i, v := range list {
		if i > 0 {
			b.WriteString(glue)
		}
		if isNil(v) {
			return missed(v), nil
		}
		s, err := r.text(r.settle(v))
		if err != nil {
			return nil, err
		}
		if err := r.chargeBytes(len(s) + len(glue)); err != nil {
			return nil, err
		}
		b.WriteString(s)
	}
	return b.String(), nil
}

func toBase64(s []string) (any, error) { return base64.StdEncoding.EncodeToString([]byte(s[0])), nil }

func fromBase64(s []string) (any, error) {
	b, err := base64.StdEncoding.DecodeString(s[0])
	if err != nil {
		return nil, fault("fromBase64: the string is not base64")
	}
	return string(b), nil
}

func fnToJSON(r *run, a []any) (any, error) {
	return string(r.appendJSON(nil, a[0])), r.overspent()
}

func fromJSON(s []string) (any, error) {
	v, err := decode([]byte(s[0]))
	if err != nil {
		return nil, fault("fromJSON: %v", err)
	}
	return v, nil
}

func duration(s []string) (any, error) {
	d, err := time.ParseDuration(s[0])
	if err != nil {
		return nil, fault("duration: the string is not a duration such as 90s or 1h30m")
	}
	return d, nil
}

func bits2(do func(x, y int64) int64) operation {
	return func(_ *run, a []any) (any, error) {
		x, okx := toIndex(a[0])
		y, oky := toIndex(a[1])
		if !okx || !oky {
			return nil, fault("bits are of whole numbers of 64 bits")
		}
		return do(x, y), nil
	}
}

func shift(do func(x int64, y uint64) int64) operation {
	return func(_ *run, a []any) (any, error) {
		x, okx := toIndex(a[0])
		y, oky := toIndex(a[1])
		if !okx || !oky || y < 0 {
			return nil, fault("bits are of whole numbers of 64 bits, and shifts are not negative")
		}
		return do(x, uint64(y)), nil
	}
}

func fnBitnot(_ *run, a []any) (any, error) {
	x, ok := toIndex(a[0])
	if !ok {
		return nil, fault("bits are of whole numbers of 64 bits")
	}
	return ^x, nil
}
