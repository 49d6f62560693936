package console

import (
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
	Retrying    int64      `json:"retrying"`           // events that wait for another attempt
	DeadLetters int64      `json:"dead_letters"`       // until they are redriven or dropped
	Attempts    int        `json:"attempts"`           // the most that an event which waits has had
	OldestAt    *time.Time `json:"oldest_at"`          // when the oldest event that still waits was received, UTC; null: none waits
	Pinned      int64      `json:"pinned_bytes"`       // what it keeps in the outbox from being purged
	Cursor      int64      `json:"cursor"`             // the offset up to which all is settled
	Head        int64      `json:"head"`               // the last offset there is for it
	Durable     bool       `json:"durable"`            // false: what waits is in memory only and lost when the process ends
}

// The states of a subscription.
const (
	StateRunning = "running"
	StateDown    = "down"    // the sink is down: its breaker is open, probes find out when it is back
	StatePaused  = "paused"  // the destination said that it is gone
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
