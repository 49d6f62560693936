package pipelines

import (
	"fmt"

	"github.com/millrace-run/millrace/rules"
)

const (
	orderNone     = "none"
	orderStrict   = "strict"
	onDeadRelease = "release"
	onDeadHold    = "hold"
)

// order is what order_key and order of a pipeline or a sink say; nil is no order.
func (l *loader) order(s *section, key *rules.Expr, order string) *Order {
	byKey, gaveKey := s.node.find("order_key")
	all, gaveOrder := s.node.find("order")
	if gaveKey && gaveOrder {
		l.fault(all.key, codeNotHere, fmt.Sprintf("order: %s says something else with order_key, at %s", s.title, byKey.key.at),
			"keep order_key for an order among the events of one key, or order: strict for one of all events")
		return nil
	}
	if gaveKey && key != nil && isConstant(key.String()) {
		l.fault(byKey.value, codeValue, "order_key: this is the same for every event", "write order: strict for an order of all events")
	}
	switch {
	case key != nil:
		return &Order{Key: key}
	case order == orderStrict:
		return &Order{}
	}
	return nil
}

// sinkOrder is the order of a sink: its own, or that of its pipeline where it says nothing.
func (l *loader) sinkOrder(s *section, keys *sinkKeys, inherited *Order, row Type) *Order {
	if row.Serial {
		l.refuseOrder(s, row)
		return nil
	}
	order := l.order(s, keys.OrderKey, keys.Order)
	_, key := s.node.find("order_key")
	_, all := s.node.find("order")
	if !key && !all {
		order = inherited
	}
	if order == nil || order.Key == nil {
		for _, name := range []string{"on_dead", "max_held"} {
			if e, ok := s.node.find(name); ok {
				l.fault(e.key, codeNotHere, name+": it is about events with one order_key, and this sink has none", "add order_key or remove it")
			}
		}
	}
	if order == nil {
		return nil
	}
	if order.Key == nil {
		l.checkStrict(s, keys.Concurrency)
		return order
	}
	return &Order{Key: order.Key, Hold: keys.OnDead == onDeadHold, MaxHeld: keys.MaxHeld}
}

// refuseOrder refuses all keys about order where they would say nothing.
func (l *loader) refuseOrder(s *section, row Type) {
	for _, name := range []string{"order_key", "order", "on_dead", "max_held"} {
		if e, ok := s.node.find(name); ok {
			l.fault(e.key, codeNotHere, fmt.Sprintf("%s: a sink of type %s writes one event after the other anyway", name, row.Name), "remove it")
		}
	}
}

// checkStrict holds that a sink which gets one event after the other is not to get many at once, nor some later than others.
func (l *loader) checkStrict(s *section, concurrency int) {
	strict, own := s.node.find("order")
	if !own {
		strict, _ = s.up.node.find("order")
	}
	for _, path := range [][]string{{"delay", "until"}, {"rate", "key"}} {
		if n := s.node.below(path...); n != nil {
			l.fault(n, codeNotHere, fmt.Sprintf("%s: order: strict, at %s, lets no event wait while later ones go", path[1], strict.key.at),
				"remove it, or use order_key, which keeps the order within each key")
		}
	}
	e, ok := s.node.find("concurrency")
	if !ok || concurrency == 1 || l.anyBad(e.value) {
		return
	}
	l.fault(e.key, codeNotHere, fmt.Sprintf("concurrency: order: strict, at %s, is one delivery at a time", strict.key.at),
		"remove it, or use order_key, which keeps the order within each key")
}

// refuseUnordered refuses what asks for an order in a pipeline with priorities, which let later events go before earlier ones.
func (l *loader) refuseUnordered(pipeline *section) {
	priority, _ := pipeline.node.find("priority")
	all := []*node{pipeline.node}
	if sinks := pipeline.node.below("sinks"); sinks != nil {
		for _, e := range sinks.entries {
			all = append(all, e.value)
		}
	}
	for _, n := range all {
		for _, name := range []string{"order_key", "order"} {
			if e, ok := n.find(name); ok && e.value.text != orderNone {
				l.fault(e.key, codeNotHere, fmt.Sprintf("%s: the priority, at %s, lets later events go before earlier ones", name, priority.key.at),
					"remove one of them")
			}
		}
	}
}
