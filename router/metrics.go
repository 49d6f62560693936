package router

import (
	"strconv"
	"time"

	"github.com/millrace-run/millrace/event"
)

// Metric is one number about a running router.
type Metric struct {
	Name   string // in the Prometheus form, with prefix and unit
	Help   string
	Kind   Kind
	Labels []Label // the same names, in the same order, for all metrics of a name
	Value  float64
}

// Kind says how a metric moves.
type Kind uint8

// The kinds. A counter only grows, and begins at 0 with the process.
const (
	Counter Kind = iota
	Gauge
)

// Label is one dimension of a metric.
type Label struct{ Name, Value string }

// family is what all metrics of a name have in common.
type family struct {
	name, help string
	kind       Kind
}

// The families. Whoever adds one adds it here and in Stats.
var (
	eventsReceived  = family{"millrace_events_received_total", "Events that were committed.", Counter}
	eventsFiltered  = family{"millrace_events_filtered_total", "Events that a stage dropped.", Counter}
	eventsDuplicate = family{
		"millrace_events_duplicate_total", "Events that were left out because their dedupe key was accepted before.", Counter}
	eventsUnkeyed = family{
		"millrace_events_unkeyed_total", "Events that were accepted without a look for duplicates, because they had no dedupe key.", Counter}
	keysForgotten = family{
		"millrace_dedupe_keys_forgotten_total", "Dedupe keys that were forgotten before their window ended, because of max_keys.", Counter}
	filteredMissing = family{
		"millrace_filtered_missing_total", "Decisions of a stage or a when that met a missing field.", Counter}
	stageErrors = family{
		"millrace_stage_errors_total", "Events at which a stage failed, by what on_error made of them.", Counter}
	eventsUnmatched   = family{"millrace_events_unmatched_total", "Events that no sink wanted.", Counter}
	deliveryAttempts  = family{"millrace_delivery_attempts_total", "Attempts that ended, by outcome.", Counter}
	deliverySeconds   = family{"millrace_delivery_seconds_total", "Time spent in calls of the sink.", Counter}
	deliveriesSettled = family{
		"millrace_deliveries_settled_total", "Events that a sink is done with: delivered, or skipped because it does not want them.", Counter}
	deadLettersMade = family{
		"millrace_dead_letters_total", "Dead letters that were made, by reason; an empty sink is the pipeline's own.", Counter}
	windowRows = family{
		"millrace_window_rows_total", "Deliveries that got a row because the window, or the memory for those that wait, was full.", Counter}
	subscriptionLag = family{
		"millrace_subscription_lag_events", "Events between cursor and end of the topic; an empty sink is the pipeline's runner.", Gauge}
	laneLag = family{
		"millrace_priority_lag_events",
		"Of millrace_subscription_lag_events, those of each priority; only of pipelines with priorities.", Gauge}
	priorityFaults = family{
		"millrace_priority_faults_total", "Values of priority that are not a whole number from 0 to 9: events that got another one.", Counter}
	oldestPending = family{
		"millrace_subscription_oldest_timestamp_seconds", "When the oldest event that holds the cursor was received; 0 for none.", Gauge}
	lastSuccess = family{
		"millrace_last_success_timestamp_seconds", "When a delivery last succeeded; 0 for never.", Gauge}
	deliveriesInFlight = family{
		"millrace_deliveries_in_flight", "Calls of the sink under way; for a serial sink, events of its call.", Gauge}
	workersWaiting = family{"millrace_queue_workers_waiting", "Workers that wait for an event of a queue.", Gauge}
	intakeBlocked  = family{
		"millrace_overflow_blocked", "Batches of events that sources hold back now because as much waits for the sink as max_pending lets.", Gauge}
	intakeRefused = family{
		"millrace_overflow_refused_total", "Batches of events that were refused because as much waited for the sink as max_pending lets.", Counter}
	deliveriesWaiting = family{"millrace_deliveries_waiting", "Events that wait in memory for another attempt.", Gauge}
	deliveriesHeld    = family{
		"millrace_deliveries_held", "Events that wait, in rows of the outbox, for an earlier one with their order_key.", Gauge}
	deliveriesBehind = family{
		"millrace_deliveries_behind", "Events that wait, in memory, for an earlier one with their order_key.", Gauge}
	deliveriesUnkeyed = family{
		"millrace_deliveries_unkeyed_total", "Events that are delivered in no order, because their order_key was nil.", Counter}
	delayRows = family{
		"millrace_delay_rows_total", "Deliveries that got a row because delay.until says when they may begin.", Counter}
	rateRows = family{
		"millrace_rate_rows_total", "Deliveries that got a row because the rate of their key had no turn for them yet.", Counter}
	rateSeconds = family{
		"millrace_rate_wait_seconds_total", "For how long a rate held back the sink; with a key, the sum over its events.", Counter}
	breakerOpen        = family{"millrace_breaker_open", "1 while attempts are held back because the sink is down.", Gauge}
	concurrencyLimit   = family{"millrace_concurrency_limit", "How many calls of the sink may run now.", Gauge}
	subscriptionPaused = family{
		"millrace_subscription_paused", "1 while the subscription is paused, by a person or because the destination is gone.", Gauge}
)

// stats gathers metrics.
type stats []Metric

func (s *stats) add(f family, value float64, labels ...Label) {
	*s = append(*s, Metric{Name: f.name, Help: f.help, Kind: f.kind, Labels: labels, Value: value})
}

// Stats is a snapshot of the router's numbers: metrics of one name follow each other only within a pipeline or a sink.
func (r *Router) Stats() []Metric {
	r.mu.Lock()
	configured := r.configured
	r.mu.Unlock()
	var s stats
	for _, p := range r.pipelines {
		s.pipeline(p)
		if configured {
			s.lag(p, "", func(i int) Subscription { return p.topics[i].sub })
		}
		for _, sink := range p.sinks {
			s.sink(p.name, sink)
			if configured {
				s.lag(p, sink.plan.Name, func(i int) Subscription { return sink.lanes[i].sub })
			}
		}
	}
	return s
}

func (s *stats) pipeline(p *pipeline) {
	pipeline := Label{"pipeline", p.name}
	s.add(eventsReceived, float64(p.received.Load()), pipeline)
	if p.keyer != nil {
		s.add(eventsDuplicate, float64(p.keyer.duplicates.Load()), pipeline)
		s.add(eventsUnkeyed, float64(p.keyer.unkeyed.Load()), pipeline)
		s.add(keysForgotten, float64(p.keyer.forgotten.Load()), pipeline)
	}
	if p.ranks != nil {
		s.add(priorityFaults, float64(p.ranks.faults.Load()), pipeline)
	}
	s.add(eventsUnmatched, float64(p.tally.unmatched.Load()), pipeline)
	s.add(deadLettersMade, float64(p.tally.dead.Load()), pipeline, Label{"sink", ""}, Label{"reason", string(event.ReasonOnError)})
	if p.shaper.bury {
		s.add(deadLettersMade, float64(p.tally.unmatched.Load()), pipeline, Label{"sink", ""},
			Label{"reason", string(event.ReasonUnmatched)})
	}
	for i := range p.tally.steps {
		step := &p.tally.steps[i]
		stage, sink := Label{"stage", step.stage}, Label{"sink", step.sink}
		s.add(filteredMissing, float64(step.lacking.Load()), pipeline, stage, sink)
		if step.sink == "" {
			s.add(eventsFiltered, float64(step.dropped.Load()), pipeline, stage)
			s.add(stageErrors, float64(step.errors.Load()), pipeline, stage, Label{"on_error", string(step.effect)})
		}
	}
}

func (s *stats) sink(of string, k *subscriber) {
	c := &k.counts
	pipeline, sink := Label{"pipeline", of}, Label{"sink", k.plan.Name}
	for i, name := range outcomeNames {
		s.add(deliveryAttempts, float64(c.attempts[i].Load()), pipeline, sink, Label{"outcome", name})
	}
	for i, reason := range reasonNames {
		s.add(deadLettersMade, float64(c.dead[i].Load()), pipeline, sink, Label{"reason", string(reason)})
	}
	s.add(deliveriesSettled, float64(c.delivered.Load()), pipeline, sink, Label{"result", "delivered"})
	s.add(deliveriesSettled, float64(c.skipped.Load()), pipeline, sink, Label{"result", "skipped"})
	s.add(deliverySeconds, time.Duration(c.nanos.Load()).Seconds(), pipeline, sink)
	s.add(delayRows, float64(c.delayed.Load()), pipeline, sink)
	s.add(rateRows, float64(c.rated.Load()), pipeline, sink)
	s.add(rateSeconds, time.Duration(c.rateNanos.Load()).Seconds(), pipeline, sink)
	s.add(windowRows, float64(c.parked.Load()), pipeline, sink)
	s.add(oldestPending, float64(c.oldest.Load())/1e9, pipeline, sink)
	s.add(lastSuccess, float64(c.lastSuccess.Load())/1e9, pipeline, sink)
	s.add(deliveriesInFlight, float64(c.inFlight.Load()), pipeline, sink)
	if k.desk != nil {
		s.add(workersWaiting, float64(c.workers.Load()), pipeline, sink)
	}
	if m := k.gauge; m != nil {
		s.add(intakeBlocked, float64(m.blocked.Load()), pipeline, sink)
		s.add(intakeRefused, float64(m.refusals.Load()), pipeline, sink)
	}
	s.add(deliveriesWaiting, float64(c.waiting.Load()), pipeline, sink)
	if o := k.plan.Order; o != nil && o.Key != nil {
		s.add(deliveriesHeld, float64(c.held.Load()), pipeline, sink)
		s.add(deliveriesBehind, float64(c.behind.Load()), pipeline, sink)
		s.add(deliveriesUnkeyed, float64(c.unkeyed.Load()), pipeline, sink)
	}
	s.add(breakerOpen, float64(c.open.Load()), pipeline, sink)
	s.add(concurrencyLimit, float64(c.limit.Load()), pipeline, sink)
	s.add(subscriptionPaused, float64(c.paused.Load()), pipeline, sink)
}

// lag is that of a sink, or of the runners (sink is empty): of all priorities together, and of each if there are several.
func (s *stats) lag(p *pipeline, sink string, of func(topic int) Subscription) {
	pipeline, reader := Label{"pipeline", p.name}, Label{"sink", sink}
	sum := event.Offset(0)
	for i, t := range p.topics {
		cursor, head := of(i).Position()
		sum += head - cursor
		if len(p.topics) > 1 {
			s.add(laneLag, float64(head-cursor), pipeline, reader, Label{"priority", strconv.Itoa(t.level)})
		}
	}
	s.add(subscriptionLag, float64(sum), pipeline, reader)
}
