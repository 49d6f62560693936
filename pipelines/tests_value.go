package pipelines

import (
	"math/big"
	"strings"

	"github.com/millrace-run/millrace/event/codec"
)

// Value is what a test writes: any value of YAML, with its place. The zero Value is null.
type Value struct {
	Place   Place
	Kind    ValueKind
	Text    string // of a text as it is; of a number and a boolean as JSON writes it
	Members []Member
	Items   []Value
}

// Member is one member of a map.
type Member struct {
	Name  string
	Place Place // of its name
	Value Value
}

// ValueKind is what a value is.
type ValueKind uint8

// The kinds of values.
const (
	NullValue ValueKind = iota
	BoolValue
	NumberValue
	TextValue
	ListValue
	MapValue
)

// Member returns the member with a name.
func (v Value) Member(name string) (Value, bool) {
	for _, m := range v.Members {
		if m.Name == name {
			return m.Value, true
		}
	}
	return Value{}, false
}

// AppendJSON writes the value as JSON, with members in the order of the file.
func (v Value) AppendJSON(b []byte) []byte {
	switch v.Kind {
	case TextValue:
		return codec.AppendString(b, v.Text)
	case BoolValue, NumberValue:
		return append(b, v.Text...)
	case ListValue:
		b = append(b, '[')
		for i, it := range v.Items {
			if i > 0 {
				b = append(b, ',')
			}
			b = it.AppendJSON(b)
		}
		return append(b, ']')
	case MapValue:
		b = append(b, '{')
		for i, m := range v.Members {
			if i > 0 {
				b = append(b, ',')
			}
			b = m.Value.AppendJSON(append(codec.AppendString(b, m.Name), ':'))
		}
		return append(b, '}')
	}
	return append(b, "null"...)
}

// value reads any value. What has a fault is null.
func (l *loader) value(n *node) Value {
	v := Value{Place: n.at}
	switch n.kind {
	case scalarNode:
		l.scalarValue(n, &v)
	case listNode:
		v.Kind = ListValue
		for _, it := range n.items {
			v.Items = append(v.Items, l.value(it))
		}
	case mapNode:
		v.Kind = MapValue
		for _, e := range n.entries {
			if !l.repeated(n, e, "a map") {
				v.Members = append(v.Members, Member{e.key.text, e.key.at, l.value(e.value)})
			}
		}
	}
	return v
}

// scalarValue gives a scalar the type that YAML 1.2 sees in its text, after substitution.
func (l *loader) scalarValue(n *node, v *Value) {
	got, ok := l.substitute(n, asIs)
	if !ok {
		return
	}
	v.Kind, v.Text = TextValue, got.text
	if n.style != plainStyle || got.unset {
		return
	}
	switch resolve(got.text) {
	case nullTag:
		v.Kind, v.Text = NullValue, ""
	case boolTag:
		v.Kind, v.Text = BoolValue, strings.ToLower(got.text)
	case intTag:
		v.Kind, v.Text = NumberValue, jsonInt(got.text)
	case floatTag:
		v.Kind, v.Text = NumberValue, jsonFloat(got.text)
	}
}

// jsonInt writes text of intTag as JSON does. It has at most 64 digits.
func jsonInt(text string) string {
	base := 10
	if digits, ok := strings.CutPrefix(text, "0o"); ok {
		text, base = digits, 8
	} else if digits, ok := strings.CutPrefix(text, "0x"); ok {
		text, base = digits, 16
	}
	n, _ := new(big.Int).SetString(text, base)
	return n.String()
}

// jsonFloat writes text of floatTag as JSON does: with the same digits, but for zeros at its ends and a sign that says nothing.
func jsonFloat(text string) string {
	mantissa, exponent := text, ""
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		mantissa, exponent = text[:i], text[i:]
	}
	sign := ""
	if strings.HasPrefix(mantissa, "-") {
		sign = "-"
	}
	whole, fraction, found := strings.Cut(strings.TrimLeft(mantissa, "+-"), ".")
	if whole = strings.TrimLeft(whole, "0"); whole == "" {
		whole = "0"
	}
	if found && fraction != "" {
		whole += "." + fraction
	}
	return sign + whole + exponent
}
