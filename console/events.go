package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Place is where an event is stored, and what became of it there, as people and programs see it.
type Place struct {
	Pipeline   string          `json:"pipeline"`
	Topic      string          `json:"topic"`       // the stream of the pipeline that holds it
	Offset     int64           `json:"offset"`      // its place in the topic
	ReceivedAt *time.Time      `json:"received_at"` // UTC
	Attributes json.RawMessage `json:"attributes"`  // a structured CloudEvent without its data
	Deliveries []Delivery      `json:"deliveries"`
	Fault      string          `json:"fault,omitempty"` // what could not be read for this answer, so that it may lack something
}

// Delivery is how an event stands with one sink.
type Delivery struct {
	Sink      string     `json:"sink"` // empty is the pipeline's own runner, which has the stages
	State     string     `json:"state"`
	Attempts  int        `json:"attempts"`          // so far, of one that waits or is dead
	Reason    string     `json:"reason"`            // why it waits or is dead
	Status    int        `json:"status"`            // of the last failed attempt, 0 if it had none
	LastError string     `json:"last_error"`        // of the last failed attempt
	LastAt    *time.Time `json:"last_at"`           // of the last failed attempt, UTC
	NextAt    *time.Time `json:"next_at"`           // when it is tried again, UTC
	History   []Attempt  `json:"history,omitempty"` // of one that waits or is dead: the last failed attempts, oldest first
	Receipts  []Receipt  `json:"receipts"`          // of its deliveries, oldest first
}

// Receipt is what is kept of one success.
type Receipt struct {
	Attempt int       `json:"attempt"` // 1 for the first
	Status  int       `json:"status"`  // what the destination answered, 0 if it has no such thing
	Millis  int64     `json:"ms"`      // how long the attempt took
	At      time.Time `json:"at"`      // to about a second, UTC
}

// The states of a delivery.
const (
	DeliveryPending = "pending"  // not tried yet, being tried, or waiting for the sink to come back
	DeliverySettled = "settled"  // it needs nothing more; a receipt says that it was delivered
	DeliveryRetry   = "retry"    // it waits for another attempt
	DeliveryHeld    = "held"     // it waits for an earlier event with its order_key
	DeliveryDead    = "dead"     // a dead letter
	DeliveryNotOwed = "not_owed" // it came while the configuration did not name the sink
)

// eventsPath is what the id of an event follows.
const eventsPath = "/api/v1/events/"

// findEvent answers with one array, [] when no event has the id.
func (c *console) findEvent(w http.ResponseWriter, r *http.Request) {
	limit := DefaultPage
	for name, values := range r.URL.Query() {
		n, err := strconv.Atoi(values[0])
		switch {
		case name != "limit" || len(values) > 1:
			problem(w, http.StatusBadRequest, fmt.Sprintf("unknown parameter %q; there is limit, once", name))
			return
		case err != nil || n < 1 || n > MaxPage:
			problem(w, http.StatusBadRequest, fmt.Sprintf("limit: %q is not from 1 to %d", values[0], MaxPage))
			return
		}
		limit = n
	}
	places, err := c.Instance.Events(r.Context(), strings.TrimPrefix(r.URL.Path, eventsPath), limit)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		problem(w, http.StatusNotImplemented, err.Error())
	case err != nil:
		problem(w, http.StatusServiceUnavailable, err.Error())
	default:
		writeJSON(w, append([]Place{}, places...)) // [] and not null
	}
}
