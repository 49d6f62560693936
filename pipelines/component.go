package pipelines

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

// pick finds the one key of a section that is a type. Zero and two are faults, which name the types.
func (l *loader) pick(s *section, types []string) (entry, bool) {
	var found []entry
	unknown := false
	for _, e := range s.node.entries {
		if first, _ := s.node.find(e.key.text); first.key != e.key {
			continue
		}
		for _, t := range types {
			if e.key.text == t {
				found = append(found, e)
			}
		}
		_, known := s.shape.field(e.key.text)
		unknown = unknown || !known
	}
	if len(found) == 1 {
		return found[0], true
	}
	if len(found) > 1 {
		names := make([]string, len(found))
		for i, e := range found {
			names[i] = quote(e.key.text)
		}
		problem := fmt.Sprintf("%s names the types %s: exactly one is allowed", s.title, strings.Join(names, " and "))
		l.fault(found[1].key, codeOneType, problem, "remove all but one")
		l.maskSecrets(s.node)
		return entry{}, false
	}
	if !unknown { // an unknown key is probably the type, misspelled
		at := s.key
		if at == nil {
			at = s.node
		}
		l.fault(at, codeOneType, s.title+" names no type: exactly one is needed", suggest("", types))
	}
	return entry{}, false
}

// build decodes and builds one component. A fault leaves its Value nil.
func (l *loader) build(types []Type, s *section, chosen entry) Component {
	row, _ := typeOf(types, chosen.key.text)
	f, _ := s.shape.field(row.Name)
	c := Component{Type: row.Name, Place: chosen.key.at}
	settings := &section{title: s.below(row.Name), key: chosen.key, node: chosen.value, shape: f.shape, up: s}
	if chosen.value.kind == skippedNode {
		return c
	}
	before, decoded := l.faults, false
	value, err := l.run(row, func(into any) error {
		v := reflect.ValueOf(into)
		if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
			return fmt.Errorf("the settings are decoded into a %T, which is no pointer to a struct", into)
		}
		decoded = true
		own := *settings
		own.shape = shapeOf(v.Elem())
		l.fill(&own, v.Elem())
		return nil
	}, func() bool { return l.faults > before })
	if !decoded { // the type has no settings
		l.fill(settings, reflect.ValueOf(&struct{}{}).Elem())
	}
	if err != nil {
		l.buildFaults(settings, err, l.faults > before)
		return c
	}
	if l.faults == before {
		c.Value, c.Unset = value, l.holdsStandIn(chosen.value)
	}
	l.claim(c, s)
	return c
}

// run builds a component. Build gets settings with faults too, so that its own checks are reported at once; when it cannot
// cope with them that says nothing new.
func (l *loader) run(row Type, decode Decode, faulty func() bool) (value any, err error) {
	defer func() {
		if faulty() {
			if r := recover(); r != nil {
				value, err = nil, nil
			}
		}
	}()
	return row.Build(decode)
}

// buildFaults reports what Build refused: each error that names a key at the place of that key.
func (l *loader) buildFaults(s *section, err error, faulty bool) {
	for _, e := range split(err) {
		var key *event.KeyError
		if errors.As(e, &key) {
			l.keyFault(s, key)
			continue
		}
		if faulty || l.holdsStandIn(s.node) {
			continue // it may only be a consequence
		}
		l.fault(s.key, codeSetting, l.secrets.hide(fmt.Sprintf("%s: %v", s.title, e)), "")
	}
}

// split takes joined errors apart.
func split(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, split(e)...)
		}
		return all
	}
	return []error{err}
}

// keyFault reports an error about a key, unless something else about that key was reported.
func (l *loader) keyFault(s *section, e *event.KeyError) {
	n, at, rest := follow(s.node, e.Key)
	if rest != "" {
		first, _, _ := strings.Cut(rest, ".")
		if l.missed[missedKey{at, first}] || l.holdsStandIn(at) && at != s.node {
			return
		}
		l.fault(s.key, codeSetting, l.secrets.hide(fmt.Sprintf("%s: %v", s.title, e)), "")
		return
	}
	if l.anyBad(n) || l.holdsStandIn(n) {
		return
	}
	var inner *rules.Error
	if errors.As(e.Err, &inner) && inner.Line > 0 && n.kind == scalarNode {
		l.expressionFault(value{node: n, text: n.text, parts: []part{{0, 0, true}}}, &field{name: e.Key}, inner)
		return
	}
	l.fault(n, codeSetting, l.secrets.hide(e.Error()), "")
}

// follow goes along a key path such as tls.ca, headers.X-Id or accept.0. It returns the node that it reached, the last map or
// list on the way, and what is left of the path where the file does not have it.
func follow(n *node, path string) (reached, last *node, rest string) {
	last = n
	for path != "" {
		last = n
		next, left := step(n, path)
		if next == nil {
			return nil, last, path
		}
		n, path = next, left
	}
	return n, last, ""
}

func step(n *node, path string) (*node, string) {
	if n.kind == listNode {
		head, left, _ := strings.Cut(path, ".")
		if i, ok := pathIndex(head); ok && i < len(n.items) {
			return n.items[i], left
		}
		return nil, path
	}
	// A key of the user's may hold dots itself: the longest that fits is meant.
	var best entry
	for _, e := range n.entries {
		k := e.key.text
		if (path == k || strings.HasPrefix(path, k+".")) && (best.key == nil || len(k) > len(best.key.text)) {
			best = e
		}
	}
	if best.key == nil {
		return nil, path
	}
	return best.value, strings.TrimPrefix(path[len(best.key.text):], ".")
}

// pathIndex reads the index of a list in a key path.
func pathIndex(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 0
}

// anyBad says whether a value or a part of it has a fault already.
func (l *loader) anyBad(n *node) bool {
	return n.any(func(n *node) bool { return l.bad[n] || n.kind == skippedNode })
}

// holdsStandIn says whether a variable that is not set is a part of the value.
func (l *loader) holdsStandIn(n *node) bool {
	return n.any(func(n *node) bool { return l.standIns[n] })
}

// any says whether yes holds for a node or one below it.
func (n *node) any(yes func(*node) bool) bool {
	if yes(n) {
		return true
	}
	for _, e := range n.entries {
		if yes(e.key) || e.value.any(yes) {
			return true
		}
	}
	for _, it := range n.items {
		if it.any(yes) {
			return true
		}
	}
	return false
}

// Exclusive is what a component implements that must be alone with something, such as the path of a webhook or a file. The
// names are compared as they are across the whole plan, so they begin with what they name: "webhook /orders".
type Exclusive interface{ Exclusive() []string }

// claim is who has a name for itself.
type claim struct {
	title string
	place Place
}

func (l *loader) claim(c Component, s *section) {
	exclusive, ok := c.Value.(Exclusive)
	if !ok {
		return
	}
	for _, name := range exclusive.Exclusive() {
		first, taken := l.claims[name]
		if !taken {
			l.claims[name] = claim{s.title, c.Place}
			continue
		}
		l.diagnostics = append(l.diagnostics, Diagnostic{Place: c.Place, Width: len(c.Type), Code: codeTwice,
			Problem: l.secrets.hide(fmt.Sprintf("%s claims %s, which belongs to %s at %s", s.title, quote(name), first.title, first.place)),
			Hint:    "two cannot share it: change one of them"})
	}
}
