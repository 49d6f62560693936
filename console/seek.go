package console

import (
	"errors"
	"net/http"
	"time"
)

// Seek moves the subscription of a sink.
type Seek struct {
	Pipeline string `json:"pipeline"`
	Sink     string `json:"sink"`
	To       string `json:"to"`                // beginning, end, an offset, or a time as in RFC 3339
	DryRun   bool   `json:"dry_run,omitempty"` // says what it would come to, and changes nothing
}

// Sought is what a seek means to the events of a sink; of several priorities, to those of one. It counts events whether or not the sink
// wants them.
type Sought struct {
	Pipeline    string     `json:"pipeline"`
	Sink        string     `json:"sink"`
	Priority    *int       `json:"priority,omitempty"`  // absent where the pipeline has had one only
	Cursor      int64      `json:"cursor"`              // the offset up to which all was settled
	Next        int64      `json:"next"`                // the offset of the event that comes next
	Head        int64      `json:"head"`                // the last offset there is
	Again       int64      `json:"again"`               // events that were settled and come again
	Skipped     int64      `json:"skipped"`             // events that were pending and are jumped over
	Waiting     int64      `json:"waiting"`             // events that waited for another attempt or their time, and come anew
	DeadLetters int64      `json:"dead_letters"`        // that stay: their events do not come again
	Gone        int64      `json:"gone"`                // events asked for that retention has taken; of a time at most so many
	OldestAt    *time.Time `json:"oldest_at,omitempty"` // when the first event that is left was received, where some are gone
	DryRun      bool       `json:"dry_run"`
}

// InvalidError says what is wrong with what was asked for.
type InvalidError struct{ Detail string }

// Error is the detail.
func (e *InvalidError) Error() string { return e.Detail }

// seek answers with what the seek means to each priority.
func (c *console) seek(w http.ResponseWriter, r *http.Request) {
	var k Seek
	if !takeJSON(w, r, &k) {
		return
	}
	if k.Pipeline == "" || k.Sink == "" || k.To == "" {
		problem(w, http.StatusBadRequest, `say which and where to: {"pipeline":"…","sink":"…","to":"beginning"}`)
		return
	}
	all, err := c.Instance.Seek(r.Context(), k)
	var unknown *UnknownError
	var invalid *InvalidError
	switch {
	case errors.As(err, &unknown):
		problem(w, http.StatusBadRequest, unknown.Detail)
	case errors.As(err, &invalid):
		problem(w, http.StatusBadRequest, invalid.Detail)
	case errors.Is(err, errors.ErrUnsupported):
		problem(w, http.StatusNotImplemented, err.Error())
	case err != nil:
		problem(w, http.StatusServiceUnavailable, err.Error())
	default:
		writeJSON(w, append([]Sought{}, all...))
	}
}
