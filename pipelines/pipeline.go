package pipelines

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/millrace-run/millrace/rules"
)

func pipelineDefaults() pipelineKeys {
	return pipelineKeys{Unmatched: Unmatched{Word: UnmatchedDrop}, Delivery: string(AtLeastOnce), Store: "needed", Order: orderNone}
}

func dedupeDefaults() Dedupe { return Dedupe{Window: 24 * time.Hour, MaxKeys: 1_000_000} }

func breakerDefaults() Breaker { return Breaker{After: 5, ProbeMax: 10 * time.Second} }

func sinkDefaults() sinkKeys {
	return sinkKeys{
		Retry:   Retry{Initial: time.Second, Factor: 2, Max: 15 * time.Minute, MaxAttempts: 20, MaxAge: 72 * time.Hour},
		Timeout: 15 * time.Second,
		Batch:   Batch{Count: 1, Bytes: 1 << 20},
		Order:   orderNone, OnDead: onDeadRelease, MaxHeld: 10_000,
		From: fromNow, Overflow: string(OverflowBlock),
	}
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)

const nameHint = "a name begins with a letter or digit and has up to 63 letters, digits, _ and -"

// checkName checks the name of a pipeline, a stage or a sink: it appears in file names, metrics and commands.
func (l *loader) checkName(n *node, what string) {
	if !nameForm.MatchString(n.text) {
		l.fault(n, codeName, fmt.Sprintf("%s is not a name for a %s", quote(n.text), what), nameHint)
	}
}

// pipelines reads all pipelines; a fault in one leaves the others to be checked.
func (l *loader) pipelines(top *section, n *node, plan *Plan) {
	if n == nil || n.isNull() || n.kind == mapNode && len(n.entries) == 0 {
		e, given := top.node.find("pipelines")
		if l.unreadable || given && e.value.kind == skippedNode {
			return // it may stand in the part that was not understood
		}
		at := top.node
		if given {
			at = e.key
		}
		l.fault(at, codeMissing, "there is no pipeline: at least one is needed", "pipelines: { name: { source: ..., sinks: ... } }")
		return
	}
	if n.kind == skippedNode {
		return
	}
	f, _ := l.schema.field("pipelines")
	if n.kind != mapNode {
		l.fault(n, codeType, "pipelines: expected a map of pipelines by name, found "+n.describe(), "")
		return
	}
	for _, e := range n.entries {
		if first, _ := n.find(e.key.text); first.key != e.key {
			l.fault(e.key, codeTwice, fmt.Sprintf("the pipeline %s is there twice, first at %s", quote(e.key.text), first.key.at),
				"give one of them another name")
		}
		s := &section{title: "pipeline " + quote(e.key.text), key: e.key, node: e.value, shape: f.shape.elem, up: top}
		if p := l.pipeline(s); p != nil {
			plan.Pipelines = append(plan.Pipelines, p)
		}
	}
}

func (l *loader) pipeline(s *section) *Pipeline {
	l.checkName(s.key, "pipeline")
	keys := pipelineDefaults()
	if !l.fill(s, reflect.ValueOf(&keys).Elem()) {
		return nil
	}
	p := &Pipeline{Name: s.key.text, Description: keys.Description, Place: s.key.at, Strict: keys.Strict, Delivery: Delivery(keys.Delivery)}
	if e, ok := s.node.find("dedupe"); ok {
		p.Dedupe = l.dedupe(s, e)
	}
	if keys.Priority != nil {
		p.Priority = l.priority(s, keys.Priority)
	}
	if e, ok := s.node.find("source"); ok {
		p.Source = l.source(s, e, p.Delivery)
	}
	if e, ok := s.node.find("stages"); ok {
		p.Stages = l.stages(s, e)
	}
	if e, ok := s.node.find("sinks"); ok {
		p.Sinks = l.sinks(s, e, l.order(s, keys.OrderKey, keys.Order))
	}
	if p.Priority != nil {
		l.refuseUnordered(s)
	}
	if l.memory != nil || p.Delivery == AtMostOnce {
		l.refuseForgotten(s)
	}
	p.Unmatched = l.unmatched(s, keys.Unmatched)
	if p.Delivery == ExactlyOnce {
		l.exactlyOnce(s, p)
	}
	row, _ := typeOf(l.o.Types.Sources, p.Source.Type)
	if p.Rereadable = row.Rereadable; p.Rereadable && keys.Store == "needed" {
		p.PushDown = pushDown(p.Stages)
	}
	suite := l.suite(s, p)
	if e, ok := s.node.find("tests"); ok {
		suite.tests(e)
	}
	return p
}

// pushDown is how many stages run before an event is stored: those before the first that may change what deliveries and duplicates
// are known by. Two events that a stage gives one id are two deliveries, whether the source can be read again or not.
func pushDown(stages []Stage) int {
	if i := slices.IndexFunc(stages, func(s Stage) bool { return s.Identity }); i >= 0 {
		return i
	}
	return len(stages)
}

// dedupe reads the settings; that the key is there switches it on.
func (l *loader) dedupe(pipeline *section, e entry) *Dedupe {
	settings := dedupeDefaults()
	f, _ := pipeline.shape.field("dedupe")
	l.fill(&section{title: pipeline.below("dedupe"), key: e.key, node: e.value, shape: f.shape, up: pipeline},
		reflect.ValueOf(&settings).Elem())
	if n := e.value.below("key"); n != nil && settings.Key != nil && isConstant(settings.Key.String()) {
		l.fault(n, codeValue, "key: this is the same for every event, so only the first would be accepted",
			"say what is the same in duplicates and differs in other events, such as data.order")
	}
	return &settings
}

// priority checks an expression that is a single value: what others come to is known when there is an event.
func (l *loader) priority(pipeline *section, x *rules.Expr) *rules.Expr {
	text := strings.TrimSpace(x.String())
	if !isConstant(text) || text == "nil" || len(text) == 1 && text >= "0" && text <= "9" {
		return x
	}
	l.fault(pipeline.node.below("priority"), codeValue, "priority: "+text+" is not a whole number from 0 to 9",
		"the events with 9 go first; nil is 4")
	return nil
}

// isConstant says whether an expression is a single value as it stands: a number, true or false, nil, or a text in quotes.
func isConstant(text string) bool {
	text = strings.TrimSpace(text)
	if resolve(text) != stringTag {
		return true
	}
	n := len(text)
	return text == "nil" || n > 1 && strings.ContainsRune("\"'`", rune(text[0])) && strings.IndexByte(text[1:], text[0]) == n-2
}

func (l *loader) source(pipeline *section, e entry, d Delivery) Component {
	f, _ := pipeline.shape.field("source")
	s := &section{title: "the source of " + pipeline.title, key: e.key, node: e.value, shape: f.shape, up: pipeline}
	if !l.isSection(s) {
		return Component{}
	}
	l.checkKeys(s)
	chosen, ok := l.pick(s, typeNames(l.o.Types.Sources))
	if !ok {
		return Component{}
	}
	row, _ := typeOf(l.o.Types.Sources, chosen.key.text)
	if d == AtMostOnce && row.Rereadable {
		row.Build = forgetting(row)
	}
	return l.build([]Type{row}, s, chosen)
}

// forgetting asks a source that can be read again whether it can begin anew at every start. One that is not asked would deliver
// again what it delivered before, which is what at_most_once is not for.
func forgetting(row Type) func(Decode) (any, error) {
	return func(decode Decode) (any, error) {
		value, err := row.Build(decode)
		if err != nil {
			return value, err
		}
		if f, ok := value.(Forgetting); ok {
			return value, f.Forgets()
		}
		return value, fmt.Errorf("a source of type %s needs the outbox to remember what it has read, and delivery: %s keeps nothing; "+
			"remove delivery", row.Name, AtMostOnce)
	}
}

// sinks reads the sinks of a pipeline; order is what they keep unless they say otherwise.
func (l *loader) sinks(pipeline *section, e entry, order *Order) []*Sink {
	n := e.value
	if n.kind == skippedNode {
		return nil
	}
	if n.isNull() || n.kind == mapNode && len(n.entries) == 0 {
		l.fault(e.key, codeMissing, pipeline.title+" has no sink: at least one is needed", "sinks: { name: { http: { url: ... } } }")
		return nil
	}
	if n.kind != mapNode {
		l.fault(n, codeType, "sinks: expected a map of sinks by name, found "+n.describe(), "")
		return nil
	}
	f, _ := pipeline.shape.field("sinks")
	var sinks []*Sink
	for _, se := range n.entries {
		l.repeated(n, se, "sinks of "+pipeline.title)
		s := &section{title: "sink " + quote(se.key.text), key: se.key, node: se.value, shape: f.shape.elem, up: pipeline}
		if sink := l.sink(s, order); sink != nil {
			sinks = append(sinks, sink)
		}
	}
	return sinks
}
