package router

import (
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

// The priorities of events. What has none goes where it went before the pipeline had priorities.
const (
	LowestPriority  = 0
	DefaultPriority = 4
	HighestPriority = 9
)

// share: of so many deliveries in a row each lower level that waits gets one.
const share = 16

// TopicName is the name of the topic with the events of a pipeline that have a priority. That of the default is the pipeline's.
func TopicName(pipeline string, priority int) string {
	if priority == DefaultPriority {
		return pipeline
	}
	return pipeline + "@" + strconv.Itoa(priority)
}

// ParseTopic says whose topic it is, and of which priority: TopicName backwards.
func ParseTopic(name string) (pipeline string, priority int) {
	pipeline, level, found := strings.Cut(name, "@")
	priority, err := strconv.Atoi(level)
	if !found || err != nil {
		return name, DefaultPriority
	}
	return pipeline, priority
}

// ParseSubscription says whose subscription it is, and of which priority; the sink is empty for a runner.
func ParseSubscription(name string) (pipeline string, priority int, sink string) {
	topic, sink, _ := strings.Cut(name, "/")
	pipeline, priority = ParseTopic(topic)
	return pipeline, priority, sink
}

// Prioritized says which priorities pipelines have among the names of topics.
func Prioritized(topics []string) map[string][]int {
	levels := map[string][]int{}
	for _, name := range topics {
		pipeline, priority := ParseTopic(name)
		levels[pipeline] = append(levels[pipeline], priority)
	}
	return levels
}

// prioritizer says which priority an event has. A nil prioritizer gives each the default. It is safe for concurrent use.
type prioritizer struct {
	expr   *rules.Expr
	clock  event.Clock
	logger *slog.Logger
	faults atomic.Int64 // values that are no priority
	fold   fold
}

// of is the priority of an event. Its order is not worth an event: a number beyond the ends counts as the end, and anything else
// that is no priority, an error too, as the default. Both are counted. nil is the default.
func (p *prioritizer) of(e *event.Event) int {
	if p == nil {
		return DefaultPriority
	}
	text, _, err := evaluate(p.expr, e)
	n, wrong := math.NaN(), error(nil)
	if err == nil {
		n, wrong = strconv.ParseFloat(text, 64)
	}
	switch {
	case err == nil && text == "null":
		return DefaultPriority
	case err != nil || wrong != nil && !math.IsInf(n, 0) || n != math.Trunc(n):
		p.tell(e, text, err, DefaultPriority)
		return DefaultPriority
	case n < LowestPriority || n > HighestPriority:
		level := int(min(max(n, LowestPriority), HighestPriority))
		p.tell(e, text, nil, level)
		return level
	}
	return int(n)
}

func (p *prioritizer) tell(e *event.Event, text string, err error, instead int) {
	p.faults.Add(1)
	reason := fmt.Sprintf("%.80s is not a whole number from %d to %d", text, LowestPriority, HighestPriority)
	if err != nil {
		reason = err.Error()
	}
	if hidden, ok := p.fold.allow(p.clock.Now(), reason); ok {
		p.logger.Warn("an event has no valid priority", "event_id", e.ID, "reason", reason, "priority", instead, "folded", hidden)
	}
}

// levels are the priorities that the topics of a pipeline have, the highest first: all of them if it has priorities, else the
// default and those that the log has from a time when it had.
func (p *pipeline) levels(left []int) (levels []int) {
	for level := HighestPriority; level >= LowestPriority; level-- {
		if p.ranks != nil || level == DefaultPriority || slices.Contains(left, level) {
			levels = append(levels, level)
		}
	}
	return levels
}

// appends puts what was prepared into the topics of their priorities. It begins a new append whenever the priority changes, so that
// the first of two events with the same key stays the first.
func (p *pipeline) appends(x *prepared, body []byte) (all []event.Append) {
	events := x.events
	switch {
	case x.packed != nil:
		return []event.Append{{Topic: p.name, Packed: x.packed}}
	case len(events) == 0:
		return nil
	}
	level := p.ranks.of(&events[0])
	for from := 0; from < len(events); {
		to, next := from+1, level
		for ; to < len(events); to++ {
			if next = p.ranks.of(&events[to]); next != level {
				break
			}
		}
		a := event.Append{Topic: TopicName(p.name, level), Events: events[from:to]}
		p.keyer.keys(&a, body)
		all = append(all, a)
		from, level = to, next
	}
	return all
}

// answer puts the ids of the first events in place of those of their duplicates, and returns how many there are. ids are those of
// all events, in the order of the appends.
func (p *pipeline) answer(ids []string, appends []event.Append, appended []event.Appended) (left int) {
	for i := range appended {
		left += p.keyer.answer(ids, &appends[i], &appended[i])
		ids = ids[len(appends[i].Events):]
	}
	return left
}
