package pipelines

import (
	"fmt"
	"reflect"

	"github.com/millrace-run/millrace/rules"
)

// sink reads one sink: its type, and what the router needs to know about its subscription. order is that of its pipeline.
func (l *loader) sink(s *section, order *Order) *Sink {
	l.checkName(s.key, "sink")
	if !l.isSection(s) {
		return nil
	}
	types := typeNames(l.o.Types.Sinks)
	name := s.title
	if chosen, ok := onlyType(s.node, types); ok {
		s.title = fmt.Sprintf("%s (type %s)", name, chosen)
	}
	keys := sinkDefaults()
	l.fill(s, reflect.ValueOf(&keys).Elem())
	s.title = name
	chosen, ok := l.pick(s, types)
	if !ok {
		return nil
	}
	row, _ := typeOf(l.o.Types.Sinks, chosen.key.text)
	sink := &Sink{Name: s.key.text, When: l.wanted(s, &keys), Match: keys.Match != nil,
		Retry: keys.Retry, Timeout: keys.Timeout, Serial: row.Serial, Pull: row.Pull, Concurrency: l.concurrency(s, keys.Concurrency, row),
		Breaker: l.breaker(s),
		Verdict: row.Verdict}
	if sink.Order = l.sinkOrder(s, &keys, order, row); sink.Order != nil && sink.Order.Key == nil {
		sink.Concurrency = 1
	}
	sink.Batch = l.batch(s, keys.Batch, sink.Concurrency, row)
	sink.Delay, sink.Expire, sink.Rate = l.delay(s), keys.Expire, l.rate(s, keys.Batch.Count)
	l.checkExpire(s, keys.Expire, sink.Delay)
	sink.From, sink.MaxPending, sink.Overflow = l.from(s, keys.From), l.pending(s, &keys), Overflow(keys.Overflow)
	l.checkRetry(s, keys.Retry)
	sink.Retry = l.schedule(s, keys.Retry)
	l.checkStatuses(s, keys.Retry, row)
	if row.Pull {
		l.pulled(s, row)
	}
	if row.Batches && sink.Batch.Count > 1 {
		row.Build = batching(row.Build)
	}
	sink.Component = l.build([]Type{row}, s, chosen)
	if g, ok := sink.Value.(Gathering); ok {
		sink.Batch.Bytes, sink.Batch.Wait = g.Gather()
	}
	l.checkGuarded(s, chosen, sink.Component)
	return sink
}

// pulled refuses what is about attempts that Millrace makes itself.
func (l *loader) pulled(s *section, row Type) {
	for _, key := range []string{"timeout", "concurrency", "breaker"} {
		if e, ok := s.node.find(key); ok {
			l.fault(e.key, codeNotHere, fmt.Sprintf("%s does not apply to a sink of type %s: its workers come when they want", key, row.Name),
				"remove it; how long a worker has for an event is the lease")
		}
	}
}

// checkGuarded holds that what is open to everybody can be reached from this machine only.
func (l *loader) checkGuarded(s *section, chosen entry, c Component) {
	if g, ok := c.Value.(Guarded); ok && g.Open() && !loopback(l.listen) {
		l.fault(chosen.key, codeOpen, fmt.Sprintf("%s has no token, and http.listen %s can be reached from other machines", s.title, l.listen),
			"give it a token: \"${QUEUE_TOKEN}\", or listen on loopback")
	}
}

// wanted is which events the sink wants: nil takes every one. A condition stands in one place, so that what a sink gets can be read
// there.
func (l *loader) wanted(s *section, keys *sinkKeys) *rules.Expr {
	if keys.Match == nil {
		return keys.When
	}
	match, _ := s.node.find("match")
	if when, ok := s.node.find("when"); ok {
		problem := fmt.Sprintf("%s has a match and a when, at %s: one of them says what it wants", s.title, when.key.at)
		l.fault(match.key, codeNotHere, problem, "put both conditions into when; validate shows each match as an expression")
	}
	return l.match(keys.Match)
}

// inFlightMax is how many events of a sink may be under way: half of the window in which a log settles out of order. With more, a
// delivery that ends before another would need a row for what is healthy.
const inFlightMax = 2048

// batch is what the file says, where the type takes the key; else what the type has.
func (l *loader) batch(s *section, given Batch, concurrency int, row Type) Batch {
	e, ok := s.node.find("batch")
	if !row.Batches {
		if ok {
			problem := fmt.Sprintf("batch: a sink of type %s does not take it", row.Name)
			if row.Serial {
				problem += fmt.Sprintf(": it writes all that waits at once, up to %d events", row.Batch.Count)
			}
			l.fault(e.key, codeNotHere, problem, "remove it")
		}
		b := Batch{Count: max(row.Batch.Count, 1), Bytes: row.Batch.Bytes}
		if b.Bytes == 0 {
			b.Bytes = sinkDefaults().Batch.Bytes
		}
		return b
	}
	if n := s.node.below("batch", "count"); n != nil && given.Count > 1 && given.Count*concurrency > inFlightMax && !l.anyBad(n) {
		l.fault(n, codeRange, fmt.Sprintf("count: expected at most %d with a concurrency of %d", max(1, inFlightMax/concurrency), concurrency),
			"lower count or concurrency")
	}
	if n := s.node.below("batch", "wait"); n != nil && given.Count == 1 && given.Wait > 0 && !l.anyBad(n) {
		l.fault(n, codeNotHere, "wait: a batch of one event is full at once", "set count too")
	}
	return given
}

// batching tells a component that it gets batches.
func batching(build func(Decode) (any, error)) func(Decode) (any, error) {
	return func(decode Decode) (any, error) {
		value, err := build(decode)
		if b, ok := value.(Batching); ok && err == nil {
			err = b.Batched()
		}
		return value, err
	}
}

// checkRetry holds that the longest delay is not shorter than the first.
func (l *loader) checkRetry(s *section, r Retry) {
	longest, first := s.node.below("retry", "max"), s.node.below("retry", "initial")
	switch {
	case r.Max >= r.Initial || r.Schedule != nil:
	case longest != nil && !l.anyBad(longest):
		l.fault(longest, codeRange, "max: expected at least initial", "")
	case first != nil && !l.anyBad(first):
		l.fault(first, codeRange, fmt.Sprintf("initial: expected at most max, %s", formatDuration(r.Max)), "set max too")
	}
}

// onlyType is the type of a component when it names exactly one.
func onlyType(n *node, types []string) (string, bool) {
	found := ""
	for _, t := range types {
		if _, ok := n.find(t); ok {
			if found != "" {
				return "", false
			}
			found = t
		}
	}
	return found, found != ""
}

// concurrency is what the file says, or the default of the type. A serial sink has none.
func (l *loader) concurrency(s *section, given int, row Type) int {
	e, ok := s.node.find("concurrency")
	if row.Serial {
		if ok {
			problem := fmt.Sprintf("concurrency does not apply to a sink of type %s: it writes one batch at a time, in order", row.Name)
			l.fault(e.key, codeNotHere, problem, "remove it")
		}
		return 1
	}
	if ok {
		return given
	}
	return max(row.Concurrency, 1)
}

// breaker reads a map of settings, or off.
func (l *loader) breaker(s *section) *Breaker {
	settings := breakerDefaults()
	e, ok := s.node.find("breaker")
	if !ok {
		return &settings
	}
	n := e.value
	if n.kind == scalarNode && !n.isNull() {
		if v, ok := l.substitute(n, asIs); ok && !v.unset && v.text != "off" {
			l.fault(n, codeType, "breaker: expected a map or off, found "+v.shown(), "write off, or keys with values: after, probe_max")
		}
		return nil
	}
	f, _ := s.shape.field("breaker")
	l.fill(&section{title: "breaker of " + s.title, key: e.key, node: n, shape: f.shape, up: s}, reflect.ValueOf(&settings).Elem())
	return &settings
}
