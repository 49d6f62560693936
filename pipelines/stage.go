package pipelines

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/millrace-run/millrace/rules"
)

// stages reads the list of stages.
func (l *loader) stages(pipeline *section, e entry) []Stage {
	n := e.value
	if n.kind == skippedNode || n.isNull() {
		return nil
	}
	if n.kind != listNode {
		l.fault(n, codeType, "stages: expected a list, found "+n.describe(), "begin each stage with '- ' on a line of its own")
		return nil
	}
	f, _ := pipeline.shape.field("stages")
	b := &stageBuilder{l: l, count: map[string]int{}, names: map[string]Place{}}
	for i, it := range n.items {
		s := &section{title: fmt.Sprintf("stage %d of %s", i+1, pipeline.title), node: it, shape: f.shape.elem, up: pipeline}
		b.stage(s)
	}
	return b.stages
}

// stageBuilder builds the stages of one pipeline and gives them their names.
type stageBuilder struct {
	l      *loader
	stages []Stage
	count  map[string]int // of each type
	names  map[string]Place
}

func (b *stageBuilder) stage(s *section) {
	if s.node.kind == scalarNode && !s.node.isNull() {
		b.l.fault(s.node, codeType, s.title+": expected a map, found "+s.node.describe(),
			"write the type as a key, such as  - filter: data.total > 0")
		return
	}
	keys := stageKeys{OnError: string(OnErrorDeadLetter)}
	if !b.l.fill(s, reflect.ValueOf(&keys).Elem()) {
		return
	}
	chosen, ok := b.l.pick(s, stageTypes())
	if !ok {
		return
	}
	st := Stage{Type: chosen.key.text, OnError: OnError(keys.OnError), Place: chosen.key.at}
	st.Name = b.name(s, st.Type, keys.Name, chosen)
	b.l.operation(s, chosen, &st)
	b.stages = append(b.stages, st)
}

func stageTypes() []string { return shapeOf(reflect.ValueOf(stageTypeKeys{})).names() }

// name is what the file says, or the type, with a number from the second stage of a type on: filter, filter-2, filter-3. Stages
// that are named count too, so that giving one a name does not change the names of others.
func (b *stageBuilder) name(s *section, kind, given string, chosen entry) string {
	b.count[kind]++
	name, at := kind, chosen.key
	if n := b.count[kind]; n > 1 {
		name = fmt.Sprintf("%s-%d", kind, n)
	}
	if e, ok := s.node.find("name"); ok {
		if b.l.anyBad(e.value) || e.value.kind == skippedNode || b.l.standIns[e.value] {
			return name
		}
		name, at = given, e.value
		if !nameForm.MatchString(given) {
			b.l.fault(e.value, codeName, "this is not a name for a stage", nameHint)
			return name
		}
	}
	if first, taken := b.names[name]; taken {
		problem := b.l.secrets.hide(fmt.Sprintf("two stages have the name %s, the first at %s", quote(name), first))
		b.l.fault(at, codeTwice, problem, "give one of them another name")
	} else {
		b.names[name] = at.at
	}
	return name
}

// operation compiles what a stage does, nil when it has a fault, and notes what it keeps to.
func (l *loader) operation(s *section, chosen entry, st *Stage) {
	var keys stageTypeKeys
	sh := shapeOf(reflect.ValueOf(keys))
	f, _ := sh.field(chosen.key.text)
	n := chosen.value
	switch chosen.key.text {
	case "set":
		all, op := l.set(s, chosen, f)
		st.Op, st.Identity = op, slices.ContainsFunc(all, rules.Assignment.Identity)
		return
	case "remove":
		st.Op = l.remove(chosen, f)
		return
	case "parse":
		st.Op, st.DataOnly = l.parseStage(s, chosen), true
		return
	case "match":
		if st.Match = l.match(n); st.Match != nil {
			st.Op, st.DataOnly = rules.Filter(st.Match), st.Match.DataOnly()
		}
		return
	}
	l.decodeScalar(n, f, reflect.ValueOf(&keys).Elem().Field(f.index))
	switch {
	case keys.Filter != nil:
		l.constantDecision(n, "filter")
		st.Op, st.DataOnly = rules.Filter(keys.Filter), keys.Filter.DataOnly()
	case keys.Drop != nil:
		l.constantDecision(n, "drop")
		st.Op, st.DataOnly = rules.Drop(keys.Drop), keys.Drop.DataOnly()
	case keys.Map != nil:
		st.Op, st.DataOnly = rules.Map(keys.Map), keys.Map.DataOnly()
	}
}

// constantDecision warns of a filter that does not look at the event.
func (l *loader) constantDecision(n *node, kind string) {
	if text := strings.TrimSpace(n.text); resolve(text) == boolTag {
		effect := "keeps every event"
		if (kind == "filter") != strings.EqualFold(text, "true") {
			effect = "drops every event"
		}
		if kind == "drop" && strings.EqualFold(text, "false") {
			effect = "keeps every event"
		}
		l.warn(n, codeConstant, fmt.Sprintf("this %s is constant: it %s", kind, effect), "")
	}
}

// set reads the members that a stage writes, in the order of the file.
func (l *loader) set(s *section, chosen entry, f *field) (all []rules.Assignment, op rules.Op) {
	n := chosen.value
	if n.kind == skippedNode {
		return nil, nil
	}
	if n.kind != mapNode || len(n.entries) == 0 {
		l.fault(n, codeType, "set: expected a map of paths and expressions, found "+emptyOr(n),
			"such as  set: { data.total: int(data.price * 100) }")
		return nil, nil
	}
	item := *f
	item.shape = f.shape.elem
	before := l.faults
	for _, e := range n.entries {
		if l.repeated(n, e, "set of "+s.title) {
			continue
		}
		item.name = e.key.text
		a := rules.Assignment{Path: e.key.text}
		l.decodeScalar(e.value, &item, reflect.ValueOf(&a.Value).Elem())
		if a.Value == nil {
			continue
		}
		if _, err := rules.Set([]rules.Assignment{a}); err != nil {
			l.pathFault(e.key, err)
			continue
		}
		all = append(all, a)
	}
	op, err := rules.Set(all)
	if err != nil && l.faults == before {
		l.pathFault(chosen.key, err)
		return nil, nil
	}
	return all, op
}

func emptyOr(n *node) string {
	if n.kind == mapNode {
		return "an empty one"
	}
	return n.describe()
}

// pathFault reports a path that cannot be written or removed.
func (l *loader) pathFault(n *node, err error) {
	hint := ""
	var fault *rules.Error
	if errors.As(err, &fault) {
		hint = l.secrets.hide(fault.Hint)
	}
	l.fault(n, codePath, l.secrets.hide(err.Error()), hint)
}

// remove reads the paths that a stage removes.
func (l *loader) remove(chosen entry, f *field) rules.Op {
	n := chosen.value
	if n.kind == skippedNode {
		return nil
	}
	var paths []string
	l.decodeList(n, f, reflect.ValueOf(&paths).Elem())
	if l.anyBad(n) {
		return nil
	}
	if len(paths) == 0 {
		l.fault(n, codeType, "remove: expected at least one path, found an empty list", "such as  remove: [data.password]")
		return nil
	}
	items := n.items
	if n.kind == scalarNode {
		items = []*node{n}
	}
	good := true
	for i, p := range paths {
		if _, err := rules.Remove([]string{p}); err != nil {
			l.pathFault(items[i], err)
			good = false
		}
	}
	op, err := rules.Remove(paths)
	if err != nil && good {
		l.pathFault(chosen.key, err)
	}
	return op
}
