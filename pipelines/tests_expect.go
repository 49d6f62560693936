package pipelines

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
)

// given reads the events that a test gives: one, or a list.
func (u *suite) given(test *section, e entry) []Given {
	f, _ := test.shape.field("given")
	items := []*node{e.value}
	switch n := e.value; {
	case n.kind == listNode && len(n.items) == 0:
		u.l.fault(n, codeType, "given: expected at least one event, found an empty list", "")
		return nil
	case n.kind == listNode:
		items = n.items
	case n.isNull():
		u.l.fault(n, codeType, "given: expected an event or a list of them, found nothing", "such as  given: { data: { total: 5 } }")
		return nil
	}
	var all []Given
	for i, n := range items {
		s := &section{title: "given of " + test.title, node: n, shape: f.shape, up: test}
		if len(items) > 1 {
			s.title = fmt.Sprintf("event %d of %s", i+1, s.title)
		}
		if g, ok := u.givenEvent(s); ok {
			all = append(all, g)
		}
	}
	return all
}

func (u *suite) givenEvent(s *section) (Given, bool) {
	var keys givenKeys
	before := u.l.faults
	if !u.l.fill(s, reflect.ValueOf(&keys).Elem()) || u.l.faults > before {
		return Given{}, false
	}
	g := Given{Place: s.node.at, Headers: keys.Headers, Query: keys.Query, Params: keys.Params, Event: event.Event{
		ID: keys.ID, Source: keys.Source, Type: keys.Type, Subject: keys.Subject, Time: keys.Time,
		DataContentType: keys.DataContentType, DataSchema: keys.DataSchema,
	}}
	if e, ok := s.node.find("ext"); ok {
		u.extensions(e.value, &g.Event)
	}
	u.checkAttributes(s, g.Event)
	if e, ok := s.node.find("data"); ok {
		g.Event.Data = u.data(e, keys.DataContentType)
	}
	return g, true
}

// data is what the event carries: JSON, or a text of another media type as it is.
func (u *suite) data(e entry, mediaType string) []byte {
	if e.value.kind == skippedNode {
		return nil
	}
	v := u.l.value(e.value)
	if event.IsJSONType(mediaType) {
		return v.AppendJSON(nil)
	}
	if v.Kind != TextValue {
		u.l.fault(e.value, codeType, fmt.Sprintf("data: expected a text, because datacontenttype is %s, found %s",
			u.l.secrets.hide(quote(mediaType)), e.value.describe()), "put it in quotes, or write it as a block after |")
	}
	return []byte(v.Text)
}

// extensions sets extension attributes: numbers and booleans keep their type.
func (u *suite) extensions(n *node, into *event.Event) {
	if n.kind == skippedNode || n.isNull() {
		return
	}
	if n.kind != mapNode {
		u.l.fault(n, codeType, "ext: expected a map of attributes, found "+n.describe(), "")
		return
	}
	for _, e := range n.entries {
		if u.l.repeated(n, e, "ext") {
			continue
		}
		if problem := codec.NameProblem(e.key.text); problem != "" {
			u.l.fault(e.key, codeSetting, "ext: "+problem, "")
			continue
		}
		v := u.l.value(e.value)
		x := event.Extension{Name: e.key.text, Text: v.Text}
		switch v.Kind {
		case BoolValue:
			x.Kind = event.Boolean
		case NumberValue:
			if i, err := strconv.ParseInt(v.Text, 10, 64); err == nil && i >= math.MinInt32 && i <= math.MaxInt32 {
				x.Kind = event.Integer
			}
		case TextValue:
		default:
			u.l.fault(e.value, codeType, e.key.text+": expected a text, a number or a boolean, found "+e.value.describe(), "")
			continue
		}
		into.SetExtension(x)
	}
}

// checkAttributes holds that the attributes have the form that CloudEvents ask for. Those that are not given are none to check.
func (u *suite) checkAttributes(s *section, e event.Event) {
	for _, text := range []*string{&e.ID, &e.Source, &e.Type} {
		if *text == "" {
			*text = "x"
		}
	}
	var fault *codec.AttributeError
	if !errors.As(codec.Validate(&e), &fault) {
		return
	}
	n := s.node.below(fault.Name)
	if n == nil {
		n = s.node.below("ext", fault.Name)
	}
	if n != nil && !u.l.anyBad(n) && !u.l.holdsStandIn(n) {
		u.l.fault(n, codeSetting, fault.Name+": "+fault.Problem, "")
	}
}

// expect reads what a test demands.
func (u *suite) expect(test *section, e entry) Expect {
	n, title := e.value, "expect of "+test.title
	x := Expect{Place: e.key.at}
	if n.kind == skippedNode {
		return x
	}
	words := append([]string{"attempts", "dead_letters"}, u.sinks...)
	if n.kind != mapNode || len(n.entries) == 0 {
		u.l.fault(n, codeType, title+": expected a map with at least one member, found "+emptyOr(n), suggest("", words))
		return x
	}
	f, _ := test.shape.field("expect")
	for _, e := range n.entries {
		if u.l.repeated(n, e, title) {
			continue
		}
		s := &section{title: e.key.text + " of " + title, key: e.key, node: e.value, up: test}
		switch name := e.key.text; {
		case name == "attempts":
			x.Attempts = u.expectedAttempts(s)
		case name == "dead_letters":
			d, _ := f.shape.field("dead_letters")
			s.shape = d.shape.elem
			x.DeadLetters = &ExpectedLetters{Place: e.key.at, Letters: u.parts(e, s, u.letter)}
		case !slices.Contains(u.sinks, name):
			problem := fmt.Sprintf("%s has no sink %s, which expect of %s names", u.section.title, quote(name), test.title)
			u.l.fault(e.key, codeNoSuch, problem, suggest(name, words))
		default:
			d, _ := f.shape.field("<sink>")
			s.shape = d.shape.elem
			x.Sinks = append(x.Sinks, ExpectedEvents{Sink: name, Place: e.key.at, Events: u.parts(e, s, u.event)})
		}
	}
	return x
}

// parts reads a list of maps, each of which is checked.
func (u *suite) parts(e entry, s *section, check func(*section)) []Value {
	var all []Value
	for _, n := range u.l.listOf(e, "a map of members to compare") {
		own := *s
		own.node, own.key = n, nil
		if own.node.kind != mapNode {
			u.l.isSection(&own)
			if !n.isNull() {
				continue
			}
		}
		check(&own)
		v := u.l.value(n)
		v.Kind = MapValue // nothing at all is a map that compares nothing
		u.asWritten(n, &v)
		all = append(all, v)
	}
	return all
}

// asWritten makes texts of the members that are texts whatever they look like in YAML: an id of 007 is not 7, in given neither.
func (u *suite) asWritten(n *node, v *Value) {
	for i := range v.Members {
		m := &v.Members[i]
		switch m.Name {
		case "data", "ext", "status", "attempts":
			continue
		}
		if m.Value.Kind != NumberValue && m.Value.Kind != BoolValue {
			continue
		}
		if got, ok := u.l.substitute(n.below(m.Name), asIs); ok {
			m.Value.Kind, m.Value.Text = TextValue, got.text
		}
	}
}

// event checks an expected event: the names of its members, and that attributes are single values.
func (u *suite) event(s *section) {
	u.l.checkKeys(s)
	for _, e := range s.node.entries {
		switch n := e.value; {
		case e.key.text == "data" || n.kind == scalarNode || n.kind == skippedNode:
		case e.key.text != "ext":
			if _, known := s.shape.field(e.key.text); known {
				u.l.fault(n, codeType, fmt.Sprintf("%s: expected text, found %s", e.key.text, n.describe()), "")
			}
		case n.kind != mapNode:
			u.l.fault(n, codeType, "ext: expected a map of attributes, found "+n.describe(), "")
		}
	}
}

// letter checks an expected dead letter: its members, and that its sink and its stage exist.
func (u *suite) letter(s *section) {
	var keys letterKeys
	if !u.l.fill(s, reflect.ValueOf(&keys).Elem()) {
		return
	}
	if e, ok := s.node.find("sink"); ok && keys.Sink != "" && !u.l.anyBad(e.value) && !u.l.standIns[e.value] {
		u.sink(e.value, keys.Sink, s.title)
	}
	e, ok := s.node.find("stage")
	if !ok || keys.Stage == "" || u.stages == nil || u.l.standIns[e.value] || slices.Contains(u.stages, keys.Stage) {
		return
	}
	u.l.fault(e.value, codeNoSuch, fmt.Sprintf("%s has no stage %s, which %s names", u.section.title,
		u.l.secrets.hide(quote(keys.Stage)), s.title), suggest(keys.Stage, u.stages))
}

// expectedAttempts reads how many attempts each sink got.
func (u *suite) expectedAttempts(s *section) []ExpectedAttempts {
	n := s.node
	if n.kind == skippedNode {
		return nil
	}
	if n.kind != mapNode {
		u.l.fault(n, codeType, "attempts: expected a map of sinks and numbers, found "+n.describe(), suggest("", u.sinks))
		return nil
	}
	var all []ExpectedAttempts
	for _, e := range n.entries {
		if u.l.repeated(n, e, "attempts") || !u.sink(e.key, e.key.text, s.title) {
			continue
		}
		x := ExpectedAttempts{Sink: e.key.text, Place: e.value.at}
		f := &field{name: e.key.text, shape: &shape{kind: intKind}, min: "0"}
		u.l.decodeScalar(e.value, f, reflect.ValueOf(&x.Count).Elem())
		all = append(all, x)
	}
	return all
}
