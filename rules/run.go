package rules

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/expr-lang/expr/vm"

	"github.com/millrace-run/millrace/event"
)

// budget bounds one evaluation: a unit is one operation, or about 16 bytes of text that is made or looked through. A million units
// take some tenths of a second.
const budget = 1_000_000

// memoryBudget is the bound of the machine on the elements that it makes.
const memoryBudget = 1_000_000

// maxStack is the stack, in values, that is kept for the next evaluation.
const maxStack = 1024

// run is one evaluation. It is reused through the pool of its Expr and holds nothing of an event between two evaluations.
type run struct {
	x         *Expr
	in        *Input
	machine   vm.VM
	docs      [roots]document
	slots     []cell // by slot
	terms     []any  // the left sides of && and ||
	loops     []loop // the predicates that are running
	arguments []any  // of the operations that run without the machine
	spent     int
	note      string // the first missing field that was met outside of the result
}

// cell is a slot that is filled at its first use.
type cell struct {
	filled bool
	value  any
}

// document is data or body: bytes that are looked into.
type document struct {
	opened bool
	json   bool
	bytes  []byte
	text   any // the value where it is no JSON
	err    error
	scan   scanner
	found  *record // stands for the bytes; nil where there are bytes

	decoded bool
	whole   any
}

// root numbers the documents of an event.
type root int

const (
	rootData root = iota
	rootBody
	roots
)

func (r root) String() string { return [...]string{"data", "body"}[r] }

func newRun(x *Expr) *run {
	r := &run{x: x, slots: make([]cell, len(x.slots)), terms: make([]any, x.terms), loops: make([]loop, x.loops),
		arguments: make([]any, x.arguments)}
	r.machine.MemoryBudget = memoryBudget
	for i := range r.docs {
		r.docs[i].scan = scanner{spans: make([]span, x.trees[i].slots), seen: make([]bool, x.trees[i].members)}
	}
	return r
}

// clear lets go of the event.
func (r *run) clear() {
	r.in, r.spent, r.note = nil, 0, ""
	for i := range r.docs {
		d := &r.docs[i]
		if !d.opened {
			continue
		}
		clear(d.scan.spans)
		clear(d.scan.seen)
		*d = document{scan: scanner{spans: d.scan.spans, seen: d.scan.seen}}
	}
	clear(r.slots)
	clear(r.terms)
	clear(r.loops)
	clear(r.arguments)
	clear(r.machine.Variables)
	if stack := r.machine.Stack; cap(stack) > maxStack {
		r.machine.Stack = nil
	} else {
		clear(stack[:cap(stack)])
	}
}

// charge spends n units.
func (r *run) charge(n int) error {
	r.spent += n
	return r.overspent()
}

func (r *run) overspent() error {
	if r.spent > budget {
		return fault("this event makes the expression too expensive; it may take %d steps", budget)
	}
	return nil
}

func (r *run) chargeBytes(n int) error { return r.charge(n/16 + 1) }

// met notes a missing field that was needed.
func (r *run) met(name string) {
	if r.note == "" {
		r.note = name
	}
}

// opAttribute is the value of a context attribute.
func opAttribute(r *run, a []any) (any, error) {
	at := a[0].(attribute)
	if at == attrReceived {
		if r.in.Event == nil || r.in.Event.Received.IsZero() {
			return missing{name: "received"}, nil
		}
		return r.in.Event.Received.UTC(), nil
	}
	text := ""
	if r.in.Event != nil {
		text = *at.of(r.in.Event)
	}
	switch {
	case text == "":
		return missing{name: at.String()}, nil
	case at == attrTime:
		t, ok := parseTime(text)
		if !ok {
			return nil, fault("the event's time is not an RFC 3339 time")
		}
		return t, nil
	}
	return text, nil
}

// parseTime reads an RFC 3339 time, whose T and Z may be in lower case, as a time in UTC.
func parseTime(text string) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339, strings.ToUpper(text))
	return t.UTC(), err == nil
}

// opNamed is one value of ext, headers, query or params.
func opNamed(r *run, a []any) (any, error) {
	from := a[0].(collection)
	name := a[2].(string)
	key, ok := r.settle(a[1]).(string)
	if !ok {
		return missing{name: name}, nil
	}
	if v := r.named(from, key); v != nil {
		return v, nil
	}
	return missing{name: name}, nil
}

func (r *run) named(from collection, key string) any {
	if from == collExt {
		if r.in.Event == nil {
			return nil
		}
		x, ok := r.in.Event.Extension(key)
		if !ok {
			return nil
		}
		return extensionValue(x)
	}
	if from == collHeaders {
		key = strings.ToLower(key)
	}
	if s, ok := r.pairs(from)[key]; ok {
		return s
	}
	return nil
}

// extensionValue is a boolean or a number where the event says so, else the text.
func extensionValue(x event.Extension) any {
	switch x.Kind {
	case event.Boolean:
		return x.Text == "true"
	case event.Integer:
		if n, ok := wholeOf(x.Text); ok {
			return n
		}
	}
	return x.Text
}

func (r *run) pairs(from collection) map[string]string {
	switch from {
	case collHeaders:
		return r.in.Headers
	case collQuery:
		return r.in.Query
	case collParams:
		return r.in.Params
	}
	return nil
}

// opAllNamed is ext, headers, query or params as an object, in the order of the names.
func opAllNamed(r *run, a []any) (any, error) {
	from := a[0].(collection)
	o := newObject(4)
	if from != collExt {
		pairs := r.pairs(from)
		for _, name := range sortedNames(pairs) {
			o.add(name, pairs[name])
		}
		return o, nil
	}
	if r.in.Event != nil {
		for _, x := range r.in.Event.Extensions {
			o.add(x.Name, extensionValue(x))
		}
	}
	return o, nil
}

// opSlot is a field of a document whose path was known when the expression was compiled.
func opSlot(r *run, a []any) (any, error) {
	i := a[0].(int)
	c := &r.slots[i]
	if !c.filled {
		v, err := r.fill(&r.x.slots[i])
		if err != nil {
			return nil, err
		}
		*c = cell{true, v}
	}
	return c.value, nil
}

func (r *run) fill(s *slot) (any, error) {
	d := &r.docs[s.root]
	if !d.opened {
		r.open(s.root)
	}
	if d.err != nil {
		return nil, d.err
	}
	if d.found != nil {
		return d.found.slot(s)
	}
	at := d.scan.spans[s.index]
	if !d.json || at.end == 0 {
		return s.absent, nil
	}
	raw := d.bytes[at.start:at.end]
	switch c := raw[0]; {
	case c == 'n':
		return s.null, nil
	case c == '"':
		return textOf(raw[1:len(raw)-1], strings.IndexByte(alias(raw), '\\') >= 0), nil
	case c == '-' || c >= '0' && c <= '9':
		return numberOf(alias(raw)), nil
	}
	return decode(raw) // true, false, an array or an object
}

// open finds out what a document is and, if it is JSON, fetches every slot of it in one pass.
func (r *run) open(which root) {
	d := &r.docs[which]
	d.opened = true
	if which == rootData && !r.x.trees[which].deep {
		if d.found = r.in.members(); d.found != nil {
			return
		}
	}
	b, format, there := r.source(which)
	if !there {
		d.text = missing{name: which.String()}
		return
	}
	if format == formatText {
		d.text = alias(b)
		return
	}
	if err := r.fetch(which, b); err != nil {
		if format == formatJSONOrText {
			d.text = alias(b)
			return
		}
		d.err = fault("the %s is %s although its content type says JSON: %v", which, sizeWord(b), err)
		return
	}
	d.json, d.bytes = true, b
}

// fetch fills the spans of a document, which is JSON if there is no error.
func (r *run) fetch(which root, b []byte) error {
	scan := &r.docs[which].scan
	if which == rootData && r.in.look != nil {
		if done, err := r.in.look.fetch(r.x, b, scan.spans); done {
			return err
		}
	}
	return scan.scan(b, r.x.trees[which].want)
}

func sizeWord(b []byte) string {
	if len(b) == 0 {
		return "empty"
	}
	return "broken"
}

// format says how bytes are read.
type format uint8

const (
	formatText format = iota
	formatJSON
	formatJSONOrText
)

// source returns the bytes of a document and how to read them; there is false where the event has none.
func (r *run) source(which root) (b []byte, f format, there bool) {
	if which == rootBody {
		if r.in.Body == nil {
			return nil, formatText, false
		}
		mediaType := r.in.Headers["content-type"]
		switch {
		case mediaType == "":
			return r.in.Body, formatJSONOrText, true
		case event.IsJSONType(mediaType):
			return r.in.Body, formatJSON, true
		}
		return r.in.Body, formatText, true
	}
	ev := r.in.Event
	if ev == nil || ev.Data == nil {
		return nil, formatText, false
	}
	if r.in.found != nil {
		return r.in.found.appendJSON(nil), formatJSON, true
	}
	if ev.IsJSON() {
		return ev.Data, formatJSON, true
	}
	return ev.Data, formatText, true
}

// opWhole is data or body as a whole, decoded.
func opWhole(r *run, a []any) (any, error) {
	which := a[0].(root)
	d := &r.docs[which]
	if !d.opened {
		r.open(which)
	}
	if d.err != nil {
		return nil, d.err
	}
	if d.found != nil {
		return d.found.whole()
	}
	if !d.json {
		return d.text, nil
	}
	if !d.decoded {
		v, err := decode(d.bytes)
		if err != nil {
			return nil, err
		}
		d.decoded, d.whole = true, orNull(v, which.String())
	}
	return d.whole, nil
}

// shorten quotes the beginning of a text for a message.
func shorten(s string) string {
	const most = 40
	if len(s) > most {
		cut := most
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	return `"` + strings.ToValidUTF8(s, "�") + `"`
}
