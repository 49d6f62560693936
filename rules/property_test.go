package rules

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/millrace-run/millrace/event"
)

// jsonText is random JSON with the place of every value that a path can reach.
type jsonText struct {
	text   []byte
	places []place
}

type place struct {
	path       []step
	start, end int
}

// names are few, so that members repeat; most of them mean something to somebody's path syntax.
var names = []string{"a", "b", "a.b", "*", "#", "0", "", "é", `"q"`, "\\", "@this", "a|b"}

func drawJSON(t *rapid.T) *jsonText {
	j := &jsonText{}
	j.value(t, nil, 0, true)
	return j
}

func (j *jsonText) space(t *rapid.T) {
	j.text = append(j.text, rapid.SampledFrom([]string{"", "", "", " ", "\n\t", "\r "}).Draw(t, "space")...)
}

// value writes a value; reachable says that no equal name came before on the way.
func (j *jsonText) value(t *rapid.T, path []step, depth int, reachable bool) {
	j.space(t)
	p := place{path: slices.Clone(path), start: len(j.text)}
	kind := rapid.IntRange(0, 6).Draw(t, "kind")
	if depth > 3 {
		kind %= 5
	}
	switch kind {
	case 0:
		j.text = append(j.text, rapid.SampledFrom([]string{"null", "true", "false"}).Draw(t, "word")...)
	case 1, 2:
		j.text = append(j.text, drawNumber(t)...)
	case 3, 4:
		j.text = appendText(t, j.text, rapid.StringN(0, 12, -1).Draw(t, "text"))
	case 5:
		j.array(t, path, depth, reachable)
	case 6:
		j.object(t, path, depth, reachable)
	}
	if p.end = len(j.text); reachable {
		j.places = append(j.places, p)
	}
	j.space(t)
}

func (j *jsonText) array(t *rapid.T, path []step, depth int, reachable bool) {
	j.text = append(j.text, '[')
	n := rapid.IntRange(0, 3).Draw(t, "elements")
	for i := range n {
		if i > 0 {
			j.text = append(j.text, ',')
		}
		j.value(t, append(path, step{index: i, item: true}), depth+1, reachable)
	}
	if n == 0 {
		j.space(t)
	}
	j.text = append(j.text, ']')
}

func (j *jsonText) object(t *rapid.T, path []step, depth int, reachable bool) {
	j.text = append(j.text, '{')
	seen := map[string]bool{}
	n := rapid.IntRange(0, 4).Draw(t, "members")
	for i := range n {
		if i > 0 {
			j.text = append(j.text, ',')
		}
		name := rapid.SampledFrom(names).Draw(t, "name")
		j.space(t)
		j.text = appendText(t, j.text, name)
		j.space(t)
		j.text = append(j.text, ':')
		j.value(t, append(path, step{name: name}), depth+1, reachable && !seen[name])
		seen[name] = true
	}
	if n == 0 {
		j.space(t)
	}
	j.text = append(j.text, '}')
}

func drawNumber(t *rapid.T) string {
	return rapid.OneOf(
		rapid.Custom(func(t *rapid.T) string { return strconv.FormatInt(rapid.Int64().Draw(t, "int"), 10) }),
		rapid.StringMatching(`-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,10})?([eE][+-]?[0-9]{1,2})?`),
	).Draw(t, "number")
}

// appendText writes a string, now and then with escapes where none are needed.
func appendText(t *rapid.T, out []byte, s string) []byte {
	if !rapid.Bool().Draw(t, "escape") {
		return appendString(out, s)
	}
	out = append(out, '"')
	for _, r := range s {
		if r > 0xffff {
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04X`, 0xd800+r>>10, 0xdc00+r&0x3ff)
			continue
		}
		out = fmt.Appendf(out, `\u%04x`, r)
	}
	return append(out, '"')
}

// source is the path as an expression.
func source(path []step) string {
	src := "data"
	for _, s := range path {
		if s.item {
			src += "[" + strconv.Itoa(s.index) + "]"
		} else {
			src += "[" + strconv.Quote(s.name) + "]"
		}
	}
	return src
}

// TestSlotsEqualDecoded compares the two ways to a field: by slot from the bytes, and from the decoded whole, for paths that are
// there and for others.
func TestSlotsEqualDecoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j := drawJSON(t)
		paths := make([][]step, 0, 4)
		for range 3 {
			paths = append(paths, rapid.SampledFrom(j.places).Draw(t, "place").path)
		}
		last := rapid.SampledFrom([]step{{name: "a"}, {name: "*"}, {name: "0"}, {index: 1, item: true}}).Draw(t, "step")
		paths = append(paths, append(slices.Clone(paths[0]), last))

		var slots, decoded []string
		for _, p := range paths {
			slots = append(slots, source(p))
			decoded = append(decoded, strings.Replace(source(p), "data", "whole", 1))
		}
		ev := &event.Event{Data: j.text}
		bySlot, _, err := mustCompileIn(t, "["+strings.Join(slots, ", ")+"]").JSON(&Input{Event: ev})
		if err != nil {
			t.Fatalf("%s: %v", j.text, err)
		}
		byDecoding, _, err := mustCompileIn(t, "let whole = data; ["+strings.Join(decoded, ", ")+"]").JSON(&Input{Event: ev})
		if err != nil || !bytes.Equal(bySlot, byDecoding) {
			t.Fatalf("%s of %s:\nslots   %s\ndecoded %s, %v", slots, j.text, bySlot, byDecoding, err)
		}
	})
}

func mustCompileIn(t *rapid.T, src string) *Expr {
	x, err := Compile(src, Options{})
	if err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	return x
}

// TestSlotIsTheValue compares a slot with what was written at that place.
func TestSlotIsTheValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j := drawJSON(t)
		p := rapid.SampledFrom(j.places).Draw(t, "place")
		got, _, err := mustCompileIn(t, source(p.path)).JSON(&Input{Event: &event.Event{Data: j.text}})
		if err != nil {
			t.Fatalf("%s: %v", j.text, err)
		}
		want, err := decode(j.text[p.start:p.end])
		if err != nil {
			t.Fatal(err)
		}
		r := newRun(mustCompileIn(t, "1"))
		if want := r.appendJSON(nil, want); !bytes.Equal(got, want) {
			t.Fatalf("%s of %s: got %s, want %s", source(p.path), j.text, got, want)
		}
	})
}

// TestDecodeEqualsStandard compares the decoder with encoding/json, the first of equal names apart.
func TestDecodeEqualsStandard(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j := drawJSON(t)
		text := j.text
		if rapid.Bool().Draw(t, "damage") {
			i := rapid.IntRange(0, len(text)-1).Draw(t, "at")
			text = append(append(slices.Clone(text[:i]), rapid.SampledFrom([]byte(`{}[],:"\0-.e x`)).Draw(t, "byte")), text[i+1:]...)
		}
		got, err := decode(text)
		if valid := json.Valid(text); valid != (err == nil) {
			t.Fatalf("%q: valid is %v, and we say %v", text, valid, err)
		}
		if s := (&scanner{}); (s.scan(text, nil) == nil) != (err == nil) {
			t.Fatalf("%q: the scanner and the decoder disagree", text)
		}
		if err != nil {
			return
		}
		compact := newRun(mustCompileIn(t, "1")).appendJSON(nil, got)
		var ours, theirs any
		if json.Unmarshal(compact, &ours) != nil || json.Unmarshal(text, &theirs) != nil || hasRepeated(text) {
			return // a number that no float64 holds, or repeated names, of which encoding/json takes the last
		}
		if diff := cmp.Diff(theirs, ours); diff != "" {
			t.Fatalf("%s\n%s", text, diff)
		}
	})
}

// hasRepeated says whether any object repeats a name, told by its size.
func hasRepeated(text []byte) bool {
	count := func(v any) (n int) {
		var walk func(v any)
		walk = func(v any) {
			switch v := v.(type) {
			case map[string]any:
				for _, e := range v {
					n++
					walk(e)
				}
			case []any:
				for _, e := range v {
					walk(e)
				}
			}
		}
		walk(v)
		return n
	}
	var v any
	if json.Unmarshal(text, &v) != nil {
		return true
	}
	colons, d := 0, json.NewDecoder(bytes.NewReader(text))
	names := []bool{}
	key := false
	for {
		token, err := d.Token()
		if err != nil {
			return colons != count(v)
		}
		switch token {
		case json.Delim('{'):
			names, key = append(names, true), true
			continue
		case json.Delim('['):
			names = append(names, false)
		case json.Delim('}'), json.Delim(']'):
			names = names[:len(names)-1]
		default:
			if key && len(names) > 0 && names[len(names)-1] {
				colons++
				key = false
				continue
			}
		}
		key = len(names) > 0 && names[len(names)-1]
	}
}

// TestSetKeepsBytes writes to places that are there: everything before and behind the value is as it was.
func TestSetKeepsBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j := drawJSON(t)
		p := rapid.SampledFrom(j.places).Draw(t, "place")
		value := []byte(rapid.SampledFrom([]string{`1.50`, `"x"`, `null`, `{"z":[]}`}).Draw(t, "value"))
		if len(p.path) == 0 {
			return
		}
		old := slices.Clone(j.text)
		got, err := setIn(j.text, p.path, value)
		want := slices.Concat(old[:p.start], value, old[p.end:])
		if err != nil || !bytes.Equal(got, want) || !bytes.Equal(old, j.text) {
			t.Fatalf("%s in %q:\n got %q, %v\nwant %q", source(p.path), old, got, err, want)
		}
	})
}

// TestSetInsertsOnly writes new members: the result without what was put in is the old text, and the member has the value.
func TestSetInsertsOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j := drawJSON(t)
		p := rapid.SampledFrom(j.places).Draw(t, "place")
		path := append(slices.Clone(p.path), step{name: "new.name"}, step{name: "deeper"})
		got, err := setIn(j.text, path, []byte(`1.50`))
		if j.text[p.start] != '{' && j.text[p.start] != 'n' {
			if err == nil {
				t.Fatalf("%s became an object in %q", source(p.path), got)
			}
			return
		}
		if err != nil || !json.Valid(got) {
			t.Fatalf("%q: %v", got, err)
		}
		added := len(got) - len(j.text)
		at := 0
		for at < len(j.text) && got[at] == j.text[at] {
			at++
		}
		put := string(got[at : at+max(added, 0)])
		if j.text[p.start] == '{' && (!bytes.Equal(got[at+added:], j.text[at:]) || !strings.Contains(put, "1.50")) {
			t.Fatalf("%q became %q", j.text, got)
		}
		v, _, err := mustCompileIn(t, source(path)).JSON(&Input{Event: &event.Event{Data: got}})
		if err != nil || string(v) != "1.50" {
			t.Fatalf("%s of %q is %s, %v", source(path), got, v, err)
		}
	})
}

// TestRemoveOnlyRemoves takes members out: the rest is JSON without the member, made of the old text with one piece less for each.
func TestRemoveOnlyRemoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j := drawJSON(t)
		p := rapid.SampledFrom(j.places).Draw(t, "place")
		if len(p.path) == 0 {
			return
		}
		got, err := removeIn(j.text, p.path)
		if err != nil || !json.Valid(got) {
			t.Fatalf("%q without %s: %q, %v", j.text, source(p.path), got, err)
		}
		before, _ := decode(j.text)
		after, _ := decode(got)
		want := without(before, p.path)
		r := newRun(mustCompileIn(t, "1"))
		if a, b := r.appendJSON(nil, want), r.appendJSON(nil, after); !bytes.Equal(a, b) {
			t.Fatalf("%q without %s: got %s, want %s", j.text, source(p.path), b, a)
		}
		if !isSubsequence(got, j.text) {
			t.Fatalf("%q is not a part of %q", got, j.text)
		}
	})
}

// without removes a path from a decoded value.
func without(v any, path []step) any {
	switch v := v.(type) {
	case object:
		out := newObject(len(v.names))
		for i, name := range v.names {
			switch {
			case name != path[0].name:
				out.add(name, v.values[i])
			case len(path) > 1:
				out.add(name, without(v.values[i], path[1:]))
			}
		}
		return out
	case []any:
		out := slices.Clone(v)
		if len(path) > 1 {
			out[path[0].index] = without(v[path[0].index], path[1:])
			return out
		}
		return slices.Delete(out, path[0].index, path[0].index+1)
	}
	return v
}

func isSubsequence(part, whole []byte) bool {
	for _, c := range part {
		i := bytes.IndexByte(whole, c)
		if i < 0 {
			return false
		}
		whole = whole[i+1:]
	}
	return true
}

// TestNumbersAreExact compares order, sums, differences and products with math/big.
func TestNumbersAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		texts := [2]string{drawNumber(t), drawNumber(t)}
		a, b := numberOf(texts[0]), numberOf(texts[1])
		x, _ := new(big.Rat).SetString(texts[0])
		y, _ := new(big.Rat).SetString(texts[1])
		if got, want := compareNumbers(a, b), x.Cmp(y); got != want {
			t.Fatalf("%s against %s: got %d, want %d", texts[0], texts[1], got, want)
		}
		for name, op := range map[string]struct {
			ours   func(a, b any) (any, error)
			theirs func(x, y *big.Rat) *big.Rat
		}{
			"+": {addNumbers, new(big.Rat).Add}, "-": {subNumbers, new(big.Rat).Sub}, "*": {mulNumbers, new(big.Rat).Mul},
		} {
			got, err := op.ours(a, b)
			if err != nil {
				t.Fatalf("%s %s %s: %v", texts[0], name, texts[1], err)
			}
			want := op.theirs(x, y)
			if _, inexact := got.(float64); inexact {
				continue // past the bounds of exact numbers
			}
			if r, _ := new(big.Rat).SetString(numberText(got)); r.Cmp(want) != 0 {
				t.Fatalf("%s %s %s = %s, want %s", texts[0], name, texts[1], numberText(got), want.RatString())
			}
			if !json.Valid([]byte(numberText(got))) {
				t.Fatalf("%s is no JSON number", numberText(got))
			}
		}
	})
}

// TestCentsAreExact shows what people compute: amounts stay decimal, they never become binary fractions.
func TestCentsAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cents := rapid.Int64Range(-1e12, 1e12).Draw(t, "cents")
		text := fmt.Sprintf("%d.%02d", cents/100, max(cents, -cents)%100)
		if cents < 0 && cents > -100 {
			text = "-" + text
		}
		got, _, err := mustCompileIn(t, "[int(data * 100), data * 100, data + data == data * 2, data / 100 * 100 == data]").
			JSON(&Input{Event: &event.Event{Data: []byte(text)}})
		if want := fmt.Sprintf("[%d,%d,true,true]", cents, cents); err != nil || string(got) != want {
			t.Fatalf("%s: got %s, %v, want %s", text, got, err, want)
		}
	})
}

// TestTermsMayChangePlaces evaluates random decisions with their terms in both orders.
func TestTermsMayChangePlaces(t *testing.T) {
	terms := []string{
		`data.a > 1`, `data.x > 1`, `data.x == 1`, `data.x != 1`, `data.flag`, `data.y`, `not data.x`, `true`, `false`, `data.a == 5`,
		`data.x contains "a"`, `any(data.list, # > 2)`, `all(data.list, #.q == 1)`,
	}
	in := &Input{Event: &event.Event{Data: []byte(`{"a":5,"flag":false,"list":[1,2]}`)}}
	var draw func(t *rapid.T, depth int) (string, string)
	draw = func(t *rapid.T, depth int) (string, string) {
		if depth == 0 || rapid.IntRange(0, 3).Draw(t, "leaf") == 0 {
			term := rapid.SampledFrom(terms).Draw(t, "term")
			return "(" + term + ")", "(" + term + ")"
		}
		l, lr := draw(t, depth-1)
		r, rr := draw(t, depth-1)
		op := rapid.SampledFrom([]string{" && ", " || "}).Draw(t, "op")
		not := rapid.SampledFrom([]string{"", "not "}).Draw(t, "not")
		return not + "(" + l + op + r + ")", not + "(" + rr + op + lr + ")"
	}
	rapid.Check(t, func(t *rapid.T) {
		one, other := draw(t, 3)
		ok1, missing1, err1 := mustCompileIn(t, one).Bool(in)
		ok2, missing2, err2 := mustCompileIn(t, other).Bool(in)
		if err1 != nil || err2 != nil || ok1 != ok2 || (missing1 == "") != (missing2 == "") {
			t.Fatalf("%s: %v, missing %q, %v\n%s: %v, missing %q, %v", one, ok1, missing1, err1, other, ok2, missing2, err2)
		}
	})
}
