package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// Subscription is how far a sink, or the stages of a pipeline, have come, as people and programs see it.
type Subscription struct {
	Pipeline    string     `json:"pipeline"`
	Sink        string     `json:"sink"`               // empty is the pipeline's own runner, which has the stages
	Priority    *int       `json:"priority,omitempty"` // of its events; absent where the pipeline has had one only
	State       string     `json:"state"`              // running, down, paused or removed; stopped when no instance runs
	Lag         int64      `json:"lag"`                // events that were not tried yet, or are being tried
	Retrying    int64      `json:"retrying"`           // events that wait for another attempt, for their time, or for the rate of their key
	Held        int64      `json:"held"`               // events that wait for an earlier one with their order_key
	DeadLetters int64      `json:"dead_letters"`       // until they are redriven or dropped
	Attempts    int        `json:"attempts"`           // the most that an event which waits has had
	OldestAt    *time.Time `json:"oldest_at"`          // when the oldest event that still waits was received, UTC; null: none waits
	Pinned      int64      `json:"pinned_bytes"`       // what it keeps in the outbox from being purged
	Cursor      int64      `json:"cursor"`             // the offset up to which all is settled
	Head        int64      `json:"head"`               // the last offset there is for it
	Durable     bool       `json:"durable"`            // false: what waits is in memory only and lost when the process ends

	// Of a paused subscription only.
	PausedAt     *time.Time `json:"paused_at,omitempty"` // UTC
	PausedReason string     `json:"paused_reason,omitempty"`
}

// The states of a subscription.
const (
	StateRunning = "running"
	StateDown    = "down"    // the sink is down: its breaker is open, probes find out when it is back
	StatePaused  = "paused"  // by a person, or because the destination said that it is gone: until it is resumed
	StateRemoved = "removed" // the configuration no longer names it; what it was owed waits
	StateStopped = "stopped" // no instance runs
)

// SelectSubscriptions returns those of a pipeline and of a sink; empty names select all.
func SelectSubscriptions(all []Subscription, pipeline, sink string) []Subscription {
	return slices.DeleteFunc(slices.Clone(all), func(s Subscription) bool {
		return pipeline != "" && s.Pipeline != pipeline || sink != "" && s.Sink != sink
	})
}

// listSubscriptions answers with one array.
func (c *console) listSubscriptions(w http.ResponseWriter, r *http.Request) {
	v := r.URL.Query()
	for name := range v {
		if name != "pipeline" && name != "sink" {
			problem(w, http.StatusBadRequest, fmt.Sprintf("unknown parameter %q; there are pipeline and sink", name))
			return
		}
	}
	all, err := c.Instance.Subscriptions(r.Context())
	if err != nil {
		problem(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	writeJSON(w, append([]Subscription{}, SelectSubscriptions(all, v.Get("pipeline"), v.Get("sink"))...)) // [] and not null
}

// Pause names sinks that are to be paused or resumed: one, or without Sink all of a pipeline.
type Pause struct {
	Pipeline string `json:"pipeline"`
	Sink     string `json:"sink,omitempty"`
	Reason   string `json:"reason,omitempty"` // for a pause; people see it
}

// maxReason bounds the reason of a pause, in bytes.
const maxReason = 1000

// Why is the reason, or words that stand for none.
func (p Pause) Why() string {
	if p.Reason == "" {
		return "asked for by a person"
	}
	return p.Reason
}

// Paused is the answer to a pause: how many sinks rest now, those that did before among them.
type Paused struct {
	Paused int `json:"paused"`
}

// Resumed is the answer to a resume.
type Resumed struct {
	Resumed int `json:"resumed"`
}

func (c *console) pause(w http.ResponseWriter, r *http.Request) {
	c.rest(w, r, c.Instance.Pause, func(n int) any { return Paused{n} })
}

func (c *console) resume(w http.ResponseWriter, r *http.Request) {
	c.rest(w, r, c.Instance.Resume, func(n int) any { return Resumed{n} })
}

// rest pauses or resumes what the body names.
func (c *console) rest(
	w http.ResponseWriter, r *http.Request, do func(context.Context, Pause) (int, error), answer func(int) any,
) {
	var p Pause
	if !takeJSON(w, r, &p) {
		return
	}
	switch {
	case p.Pipeline == "":
		problem(w, http.StatusBadRequest, `say which: {"pipeline":"…","sink":"…"}, or without sink all of a pipeline`)
		return
	case len(p.Reason) > maxReason:
		problem(w, http.StatusBadRequest, fmt.Sprintf("the reason is longer than %d bytes", maxReason))
		return
	}
	n, err := do(r.Context(), p)
	var unknown *UnknownError
	switch {
	case errors.As(err, &unknown):
		problem(w, http.StatusBadRequest, unknown.Detail)
	case err != nil:
		problem(w, http.StatusServiceUnavailable, fmt.Sprintf("of %d it is done, then: %v", n, err))
	default:
		writeJSON(w, answer(n))
	}
}
