package cesql

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/millrace-run/millrace/event"
)

// valueType is one of the types of the language, or any of them.
type valueType uint8

const (
	anyType valueType = iota
	stringType
	integerType
	booleanType
)

func (t valueType) String() string { return [...]string{"any", "String", "Integer", "Boolean"}[t] }

// value is a value of one of the types: it is passed by value, so that an evaluation makes nothing.
type value struct {
	is   valueType
	yes  bool
	n    int32
	text string
}

func textValue(s string) value { return value{is: stringType, text: s} }
func intValue(n int32) value   { return value{is: integerType, n: n} }
func boolValue(b bool) value   { return value{is: booleanType, yes: b} }

// cast makes a value of another type. Every value is a string; of strings, those that say so are integers or booleans.
func (v value) cast(to valueType) (value, error) {
	switch {
	case to == anyType || v.is == to:
		return v, nil
	case to == stringType:
		return textValue(v.String()), nil
	case v.is == integerType:
		return boolValue(v.n != 0), nil
	case v.is == booleanType && v.yes:
		return intValue(1), nil
	case v.is == booleanType:
		return intValue(0), nil
	case to == integerType:
		if n, err := strconv.ParseInt(v.text, 10, 32); err == nil {
			return intValue(int32(n)), nil
		}
	case strings.EqualFold(v.text, "true"):
		return boolValue(true), nil
	case strings.EqualFold(v.text, "false"):
		return boolValue(false), nil
	}
	return value{is: to}, &CastError{fmt.Sprintf("%q is no %s", shortened(v.text), to)}
}

// shortened keeps messages short.
func shortened(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}

func (v value) String() string {
	switch v.is {
	case integerType:
		return strconv.Itoa(int(v.n))
	case booleanType:
		return strconv.FormatBool(v.yes)
	}
	return v.text
}

// attribute is a context attribute. of is nil for an extension.
type attribute struct {
	name string
	of   func(ev *event.Event) string
}

var attributes = map[string]func(ev *event.Event) string{
	"specversion":     func(*event.Event) string { return "1.0" },
	"id":              func(ev *event.Event) string { return ev.ID },
	"source":          func(ev *event.Event) string { return ev.Source },
	"type":            func(ev *event.Event) string { return ev.Type },
	"subject":         func(ev *event.Event) string { return ev.Subject },
	"time":            func(ev *event.Event) string { return ev.Time },
	"datacontenttype": func(ev *event.Event) string { return ev.DataContentType },
	"dataschema":      func(ev *event.Event) string { return ev.DataSchema },
}

func attributeOf(name string) attribute { return attribute{name, attributes[name]} }

// get returns the value of the attribute, and whether the event has it.
func (a attribute) get(ev *event.Event) (value, bool) {
	if a.of != nil {
		text := a.of(ev)
		return textValue(text), text != ""
	}
	x, ok := ev.Extension(a.name)
	switch {
	case ok && x.Kind == event.Boolean:
		return boolValue(x.Text == "true"), true
	case ok && x.Kind == event.Integer:
		if n, err := strconv.ParseInt(x.Text, 10, 32); err == nil {
			return intValue(int32(n)), true
		}
	}
	return textValue(x.Text), ok
}
