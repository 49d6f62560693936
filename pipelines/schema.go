package pipelines

import (
	"reflect"
	"slices"
	"time"

	"github.com/millrace-run/millrace/rules"
)

// fileKeys are the keys of a file. Values of type *node are read by code of their own.
type fileKeys struct {
	HTTP            Listener      `yaml:"http" doc:"Where webhooks are received; an address without a host, such as :8080, is every interface."`
	Admin           Listener      `yaml:"admin" doc:"Where health, metrics and the API are served; loopback only."`
	Outbox          *node         `yaml:"outbox" doc:"The log that keeps events until every sink has them: exactly one engine."`
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout,min=0s,max=1h" doc:"How long attempts in flight may take at the end."`
	Pipelines       *node         `yaml:"pipelines" doc:"The pipelines, by name."`
}

// pipelineKeys are the keys of a pipeline.
type pipelineKeys struct {
	Description string      `yaml:"description" doc:"What the pipeline is for, in words."`
	Source      *node       `yaml:"source,required" doc:"Where events come from: exactly one type."`
	Stages      *node       `yaml:"stages" doc:"Steps that each event goes through, in order."`
	Sinks       *node       `yaml:"sinks,required" doc:"Where events go, by name: each sink gets every event that its when or match wants."`
	Unmatched   Unmatched   `yaml:"unmatched,oneof=drop|dead_letter" doc:"What becomes of an event that no sink wants; it is counted. A sink may be named that gets what no other wants."`
	Store       string      `yaml:"store,oneof=needed|all" doc:"What is stored of a source that can be read again: what its first stages let through, or all."`
	Dedupe      *node       `yaml:"dedupe" doc:"Leaves out events that came before; an empty map takes the defaults."`
	OrderKey    *rules.Expr `yaml:"order_key" doc:"Deliveries of events with the same value keep the order of the pipeline, at each sink that does not say otherwise."`
	Order       string      `yaml:"order,oneof=none|strict" doc:"strict: each sink that does not say otherwise gets one event after the other."`
	Priority    *rules.Expr `yaml:"priority" doc:"Which events go first: a whole number from 0, the last, to 9, the first; nil is 4."`
	Strict      bool        `yaml:"strict" doc:"Whether a field that an expression needs and an event lacks is an error."`
	Delivery    string      `yaml:"delivery,oneof=at_least_once|at_most_once|exactly_once" doc:"What holds for accepted events: at_least_once keeps them in the outbox; at_most_once in memory only, where a stop or a crash loses what is pending; exactly_once is refused unless source and sinks keep it."`
	Tests       *node       `yaml:"tests" doc:"What must come out for what goes in: run by the command test, never by run."`
}

// stageKeys are the keys beside the type of a stage.
type stageKeys struct {
	Name    string `yaml:"name" doc:"Its name in logs and dead letters; by default the type, the second filter-2."`
	OnError string `yaml:"on_error,oneof=dead_letter|drop|pass" doc:"What becomes of an event at which the stage fails."`
}

// stageTypeKeys are the types of stages: exactly one stands in each.
type stageTypeKeys struct {
	Filter *rules.Expr            `yaml:"filter,decision" doc:"Keeps the events for which the expression is true."`
	Match  *node                  `yaml:"match" doc:"Keeps the events whose members are what it says."`
	Map    *rules.Expr            `yaml:"map" doc:"Replaces the data by the value of the expression."`
	Set    map[string]*rules.Expr `yaml:"set" doc:"Writes members, by path such as data.total or subject."`
	Drop   *rules.Expr            `yaml:"drop,decision" doc:"Drops the events for which the expression is true."`
	Parse  *node                  `yaml:"parse" doc:"Makes data of a text: the name of a format, or a map of settings."`
	Remove []string               `yaml:"remove" doc:"Removes members, by path."`
}

// sinkKeys are the keys beside the type of a sink.
type sinkKeys struct {
	When        *rules.Expr   `yaml:"when,decision" doc:"Which events the sink wants; by default every one."`
	Match       *node         `yaml:"match" doc:"The same by members and what they must be; instead of when."`
	From        string        `yaml:"from" doc:"Where a sink that is new begins: now, beginning (with all that retention has left), or a time such as 2026-11-20T08:00:00Z. Once the sink has a subscription it says nothing any more; millrace subscriptions seek moves that."`
	MaxPending  MaxPending    `yaml:"max_pending" doc:"Bounds what may wait for the sink; by default only the size of the outbox does."`
	Overflow    string        `yaml:"overflow,oneof=block|reject|dead_letter" doc:"What happens when more waits: block lets the sources of the pipeline wait (a webhook answers 503 when it has waited for 5 s), reject refuses at once, dead_letter makes dead letters of the oldest events that were not tried yet."`
	Retry       Retry         `yaml:"retry" doc:"When a failed attempt is repeated."`
	Timeout     time.Duration `yaml:"timeout,min=1ms,max=1h" doc:"How long one attempt may take."`
	Concurrency int           `yaml:"concurrency,min=1,max=1024" doc:"How many attempts run at once; the default depends on the type."`
	Batch       Batch         `yaml:"batch" doc:"Several events in one delivery, for types that can."`
	OrderKey    *rules.Expr   `yaml:"order_key" doc:"Events with the same value are delivered one after the other, in their order; those for which it is nil in none. By default that of the pipeline."`
	Order       string        `yaml:"order,oneof=none|strict" doc:"strict: one delivery after the other, in the order of the pipeline; none: in any order, whatever the pipeline says."`
	OnDead      string        `yaml:"on_dead,oneof=release|hold" doc:"What a dead letter means to later events with its order_key: release lets them go, hold keeps them until it is redriven or dropped."`
	MaxHeld     int           `yaml:"max_held,min=1,max=1000000" doc:"How many events may wait in rows of the outbox for earlier ones with their order_key; beyond that nothing new is taken."`
	Breaker     *node         `yaml:"breaker" doc:"Stops attempts while the sink is down; off switches it off."`
	Delay       *node         `yaml:"delay" doc:"How long after it was received an event may go: a duration, or a map with a time for each event."`
	Expire      time.Duration `yaml:"expire,min=1ms,max=3650d" doc:"How long after it was received an event that is not delivered becomes a dead letter; by default never. An event with the extension expirytime has that time too."`
	Rate        *node         `yaml:"rate" doc:"The most events that the sink is given, such as 100/s, or a map of settings; by default as many as it takes."`
}

// schemaOf is the shape of a file with these component types.
func schemaOf(t Types) *shape {
	root := shapeOf(reflect.ValueOf(fileDefaults()))
	root.put("outbox", typesShape(engineTypes()))
	pipeline := shapeOf(reflect.ValueOf(pipelineDefaults()))
	pipeline.put("dedupe", shapeOf(reflect.ValueOf(dedupeDefaults())))
	root.put("pipelines", &shape{kind: mapKind, elem: pipeline})
	pipeline.put("source", typesShape(t.Sources))
	pipeline.put("stages", &shape{kind: listKind, elem: stageShape()})
	sink := shapeOf(reflect.ValueOf(sinkDefaults()))
	sink.put("breaker", shapeOf(reflect.ValueOf(breakerDefaults())))
	breaker, _ := sink.field("breaker")
	breaker.def = "on"
	sink.put("delay", shapeOf(reflect.ValueOf(delayKeys{})))
	sink.put("rate", shapeOf(reflect.ValueOf(Rate{})))
	sink.put("match", &shape{kind: matchKind})
	sink.fields = append(sink.fields, typesShape(t.Sinks).fields...)
	pipeline.put("sinks", &shape{kind: mapKind, elem: sink})
	pipeline.put("tests", &shape{kind: listKind, elem: testShape(testKeys{})})
	return root
}

func (sh *shape) put(name string, s *shape) {
	if f, ok := sh.field(name); ok {
		f.shape = s
	}
}

func stageShape() *shape {
	sh := shapeOf(reflect.ValueOf(stageTypeKeys{}))
	sh.put("parse", shapeOf(reflect.ValueOf(parseDefaults())))
	sh.put("match", &shape{kind: matchKind})
	for i := range sh.fields {
		sh.fields[i].index = -1 // read by name, not into a struct
	}
	sh.fields = append(shapeOf(reflect.ValueOf(stageKeys{OnError: string(OnErrorDeadLetter)})).fields, sh.fields...)
	return sh
}

// typesShape is a section in which exactly one of the types stands.
func typesShape(types []Type) *shape {
	sh := &shape{kind: sectionKind}
	for _, t := range types {
		f := field{name: t.Name, doc: t.Doc, index: -1, shape: &shape{kind: sectionKind}}
		if v := reflect.ValueOf(t.Config); v.Kind() == reflect.Pointer && v.Elem().Kind() == reflect.Struct {
			f.shape = shapeOf(v.Elem())
		}
		sh.fields = append(sh.fields, f)
	}
	return sh
}

func typeNames(types []Type) []string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = t.Name
	}
	return names
}

func typeOf(types []Type, name string) (Type, bool) {
	i := slices.IndexFunc(types, func(t Type) bool { return t.Name == name })
	if i < 0 {
		return Type{}, false
	}
	return types[i], true
}
