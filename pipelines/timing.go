package pipelines

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/millrace-run/millrace/rules"
)

// Delay holds events back: all for the same time, or each until a time of its own. Exactly one of the two is set.
type Delay struct {
	For   time.Duration // counted from when an event was received
	Until *rules.Expr
}

// Rate bounds how many events a sink is given. Limit is what it comes to in the long run, Burst how many may go at once after a
// time in which none did. With a Key the bound holds for the events of each value by themselves.
type Rate struct {
	Limit Frequency   `yaml:"limit,required" doc:"How many events, such as 100/s, 10/m, 5/h or 1000/d."`
	Burst int         `yaml:"burst,min=1,max=1000000" doc:"How many may go at once after a pause; by default as many as come in a tenth of a second, at least one, or batch.count where that is more."`
	Key   *rules.Expr `yaml:"key" doc:"What has a rate of its own, such as data.customer; by default all events share one."`
}

// Frequency is a number of events in a time. The zero value is none.
type Frequency struct {
	Events float64
	Per    time.Duration
}

// Interval is the time between two events, in nanoseconds.
func (f Frequency) Interval() float64 { return float64(f.Per) / f.Events }

// burst is how many events go in a tenth of a second, but one at least.
func (f Frequency) burst() int { return max(1, int(float64(time.Second/10)/f.Interval())) }

// delay reads a duration, or a map with until.
func (l *loader) delay(s *section) *Delay {
	e, ok := s.node.find("delay")
	if !ok || e.value.kind == skippedNode {
		return nil
	}
	var d Delay
	if e.value.kind == scalarNode {
		f := &field{name: "delay", min: "1ms", max: "3650d", shape: &shape{kind: durationKind}}
		l.decodeScalar(e.value, f, reflect.ValueOf(&d.For).Elem())
		return &d
	}
	var keys delayKeys
	f, _ := s.shape.field("delay")
	l.fill(&section{title: s.below("delay"), key: e.key, node: e.value, shape: f.shape, up: s}, reflect.ValueOf(&keys).Elem())
	d.Until = keys.Until
	return &d
}

// delayKeys are the keys of a delay that differs by event.
type delayKeys struct {
	Until *rules.Expr `yaml:"until,required" doc:"When the event may go: a time, or a text of RFC 3339; nil, or a time that has passed: at once."`
}

// rate reads a frequency, or a map of settings. count is how many events the file puts in one delivery.
func (l *loader) rate(s *section, count int) *Rate {
	e, ok := s.node.find("rate")
	if !ok || e.value.kind == skippedNode {
		return nil
	}
	var r Rate
	if e.value.kind == scalarNode {
		f := &field{name: "rate", shape: &shape{kind: frequencyKind}}
		l.decodeScalar(e.value, f, reflect.ValueOf(&r.Limit).Elem())
	} else {
		f, _ := s.shape.field("rate")
		l.fill(&section{title: s.below("rate"), key: e.key, node: e.value, shape: f.shape, up: s}, reflect.ValueOf(&r).Elem())
	}
	if n := e.value.below("key"); n != nil && r.Key != nil && isConstant(r.Key.String()) {
		l.fault(n, codeValue, "key: this is the same for every event", "remove it: all events share one rate then")
	}
	if r.Limit.Events == 0 {
		return nil // it has a fault, or a variable is not set
	}
	if r.Burst == 0 {
		r.Burst = r.Limit.burst()
		if r.Key == nil {
			r.Burst = max(r.Burst, count)
		}
	}
	if n := e.value.below("burst"); n != nil && r.Key == nil && r.Burst < count && !l.anyBad(n) {
		l.fault(n, codeRange, fmt.Sprintf("burst: expected at least the count of batch, %d at %s", count, s.node.below("batch", "count").at),
			"a batch could never have more events than burst")
	}
	return &r
}

// checkExpire holds that there is a time between delay and expire in which an event can go.
func (l *loader) checkExpire(s *section, expire time.Duration, d *Delay) {
	n, delayed := s.node.below("expire"), s.node.below("delay")
	if n == nil || d == nil || d.For == 0 || expire > d.For || l.anyBad(n) || l.anyBad(delayed) {
		return
	}
	l.fault(n, codeRange, fmt.Sprintf("expire: expected more than delay, %s at %s", formatDuration(d.For), delayed.at),
		"both are counted from when an event was received: none would be delivered")
}

// schedule makes the rest of the settings follow from the schedule, and refuses what contradicts it.
func (l *loader) schedule(s *section, r Retry) Retry {
	n := s.node.below("retry", "schedule")
	if n == nil || l.anyBad(n) {
		return r
	}
	if len(r.Schedule) == 0 {
		l.fault(n, codeRange, "schedule: expected at least one duration", "for a single attempt write max_attempts: 1 in its place")
		return r
	}
	for _, name := range []string{"initial", "factor", "max", "max_attempts"} {
		if e, ok := s.node.below("retry").find(name); ok {
			l.fault(e.key, codeNotHere, fmt.Sprintf("%s: it contradicts the schedule at %s, which says all pauses and how many there are", name, n.at),
				"remove one of them")
		}
	}
	var sum time.Duration
	for _, d := range r.Schedule {
		sum += d
	}
	r.Initial, r.Factor, r.Max, r.MaxAttempts = r.Schedule[0], 1, slices.Max(r.Schedule), len(r.Schedule)+1
	switch age := s.node.below("retry", "max_age"); {
	case age == nil:
		r.MaxAge += sum
	case r.MaxAge < sum && !l.anyBad(age):
		l.fault(age, codeRange, fmt.Sprintf("max_age: expected at least %s, which is how long the schedule at %s takes", formatDuration(sum), n.at),
			"an event would be a dead letter before its last attempt")
	}
	return r
}

// checkStatuses holds that on and never name what the type can answer, and not the same.
func (l *loader) checkStatuses(s *section, r Retry, row Type) {
	retry := s.node.below("retry")
	if retry == nil {
		return
	}
	for _, name := range []string{"on", "never"} {
		if e, ok := retry.find(name); ok && row.Verdict == nil {
			l.fault(e.key, codeNotHere, fmt.Sprintf("%s: a sink of type %s has no statuses", name, row.Name), "remove it")
		}
	}
	n := retry.below("never")
	if n == nil || l.anyBad(n) {
		return
	}
	for i, status := range r.Never {
		if !slices.Contains(r.On, status) {
			continue
		}
		at := n
		if i < len(n.items) {
			at = n.items[i]
		}
		l.fault(at, codeTwice, fmt.Sprintf("never: %d stands in on too, at %s", status, retry.below("on").at), "remove one of them")
	}
}
