package pipelines

import "fmt"

// unmatched checks what is to become of events that no sink wants. Where a sink wants every event there are none, and what is said
// of them has no effect; neither has a condition of the sink that takes them.
func (l *loader) unmatched(s *section, u Unmatched) Unmatched {
	e, given := s.node.find("unmatched")
	sinks, ok := s.node.find("sinks")
	if !given || !ok || sinks.value.kind != mapNode || u.Word == UnmatchedDrop && e.value.kind != mapNode || l.anyBad(e.value) {
		return Unmatched{Word: UnmatchedDrop}
	}
	if e.value.kind == mapNode {
		u.Word = ""
		name, found := e.value.find("sink")
		if !found {
			l.fault(e.key, codeMissing, "unmatched: no sink is named", "such as  unmatched: { sink: name }")
			return u
		}
		if !l.standIns[name.value] && !l.takesUnmatched(name.value, sinks.value, u.Sink) {
			return u
		}
	}
	for _, sink := range sinks.value.entries {
		if sink.key.text != u.Sink && sink.value.kind == mapNode && !wantsSome(sink.value) {
			problem := fmt.Sprintf("unmatched has no effect: the sink %s wants every event, at %s", quote(sink.key.text), sink.key.at)
			l.fault(e.key, codeNotHere, problem, "give the sink a when or a match, or remove unmatched")
			return u
		}
	}
	return u
}

// takesUnmatched says whether the sink with a name can be the one that takes what no other wants.
func (l *loader) takesUnmatched(at, sinks *node, name string) bool {
	sink, ok := sinks.find(name)
	if !ok {
		names := make([]string, len(sinks.entries))
		for i, e := range sinks.entries {
			names[i] = e.key.text
		}
		l.fault(at, codeNoSuch, l.secrets.hide(fmt.Sprintf("unmatched: there is no sink %s", quote(name))), suggest(name, names))
		return false
	}
	for _, key := range []string{"when", "match"} {
		if c, ok := sink.value.find(key); ok {
			problem := "unmatched: the sink %s has a %s, at %s: it gets what no other sink wants, and nothing else"
			l.fault(at, codeNotHere, l.secrets.hide(fmt.Sprintf(problem, quote(name), key, c.key.at)), "remove the "+key)
			return false
		}
	}
	if len(sinks.entries) == 1 {
		problem := fmt.Sprintf("unmatched: %s is the only sink, so it gets every event", quote(name))
		l.fault(at, codeNotHere, l.secrets.hide(problem), "remove unmatched")
		return false
	}
	return true
}

// wantsSome says whether a sink has a condition.
func wantsSome(sink *node) bool {
	_, when := sink.find("when")
	_, match := sink.find("match")
	return when || match
}

// exactlyOnce checks that source and sinks keep what delivery promises. Each that does not is a fault at its place.
func (l *loader) exactlyOnce(s *section, p *Pipeline) {
	delivery, _ := s.node.find("delivery")
	if l.memory != nil {
		problem := "delivery: %s cannot be kept: the outbox is in memory, at %s, and forgets what is pending"
		l.fault(delivery.value, codeNotHere, fmt.Sprintf(problem, ExactlyOnce, l.memory), "write  outbox: { sqlite: {} }, or remove delivery")
	}
	row, ok := typeOf(l.o.Types.Sources, p.Source.Type)
	if ok && row.Once != AlwaysOnce && (row.Once != DedupeOnce || p.Dedupe == nil) {
		hint := "remove delivery, or use another source"
		if row.Once == DedupeOnce {
			hint = "add dedupe to the pipeline"
		}
		l.notOnce(s.node.below("source"), p.Source, delivery, fmt.Sprintf("a source of type %s %s", row.Name, row.Twice), hint)
	}
	for _, sink := range p.Sinks {
		if row, ok := typeOf(l.o.Types.Sinks, sink.Type); ok && row.Once != AlwaysOnce {
			why := fmt.Sprintf("the sink %s of type %s %s", quote(sink.Name), row.Name, row.Twice)
			l.notOnce(s.node.below("sinks", sink.Name), sink.Component, delivery, why,
				"move it into a pipeline of its own, or remove delivery")
		}
	}
}

// notOnce reports a component that breaks the promise, at its type.
func (l *loader) notOnce(n *node, c Component, delivery entry, problem, hint string) {
	at := n
	if e, ok := n.find(c.Type); ok {
		at = e.key
	}
	l.fault(at, codeNotHere, fmt.Sprintf("delivery: %s, at %s, cannot be kept: %s", ExactlyOnce, delivery.key.at, problem), hint)
}
