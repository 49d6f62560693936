package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A page of dead letters holds DefaultPage unless the request says otherwise, and never more than MaxPage. With their events,
// which may be large, it holds at most MaxEvents.
const (
	DefaultPage = 100
	MaxPage     = 1000
	MaxEvents   = 16
)

const maxBody = 1 << 20 // bytes of a request

// listDead answers with one array. When there may be more, a Link header names the next page.
func (c *console) listDead(w http.ResponseWriter, r *http.Request) {
	q, err := parseQuery(r.URL.Query())
	if err != nil {
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	letters, err := c.Instance.DeadLetters(r.Context(), q)
	if err != nil {
		refuse(w, err, "")
		return
	}
	if len(letters) == q.Limit {
		next := r.URL.Query()
		next.Set("after", strconv.FormatInt(letters[len(letters)-1].ID, 10))
		w.Header().Set("Link", fmt.Sprintf("<%s?%s>; rel=\"next\"", r.URL.Path, next.Encode()))
	}
	if letters == nil {
		letters = []DeadLetter{} // an empty list is [], not null
	}
	writeJSON(w, letters)
}

// parseQuery refuses parameters that it does not know: a filter that is misspelled must not select everything.
func parseQuery(v url.Values) (Query, error) {
	q := Query{Limit: DefaultPage}
	for name, values := range v {
		for _, value := range values {
			if err := q.set(name, value); err != nil {
				return Query{}, err
			}
		}
	}
	if q.Event && q.Limit > MaxEvents {
		if v.Has("limit") {
			return Query{}, fmt.Errorf("limit: with events it is from 1 to %d", MaxEvents)
		}
		q.Limit = MaxEvents
	}
	return q, nil
}

// countDead answers with one array of counts.
func (c *console) countDead(w http.ResponseWriter, r *http.Request) {
	q, err := parseQuery(r.URL.Query())
	if err == nil && (len(q.IDs) > 0 || q.After > 0 || q.Event || r.URL.Query().Has("limit")) {
		err = errors.New("counts are of all dead letters that the filters select: there is no id, after, limit and event")
	}
	if err != nil {
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	q.Limit = 0
	counts, err := c.Instance.CountDead(r.Context(), q)
	if err != nil {
		refuse(w, err, "")
		return
	}
	writeJSON(w, append([]Count{}, counts...)) // [] and not null
}

// refuse answers with the problem of an error; before says what was done before it.
func refuse(w http.ResponseWriter, err error, before string) {
	var unknown *UnknownError
	if errors.As(err, &unknown) {
		problem(w, http.StatusBadRequest, unknown.Detail)
		return
	}
	problem(w, http.StatusServiceUnavailable, before+err.Error())
}

func (q *Query) set(name, value string) (err error) {
	switch name {
	case "pipeline":
		q.Pipeline = value
	case "sink":
		q.Sink = value
	case "reason":
		q.Reasons = append(q.Reasons, value)
		err = checkReasons(q.Reasons)
	case "error":
		q.Text = value
	case "where":
		q.Where = value
	case "since":
		q.Since, err = parseTime(name, value)
	case "until":
		q.Until, err = parseTime(name, value)
	case "event":
		q.Event = value == "true"
		if !q.Event && value != "false" {
			err = fmt.Errorf("event: %q is neither true nor false", value)
		}
	default:
		err = q.setNumber(name, value)
	}
	return err
}

func parseTime(name, value string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, value)
	if err != nil {
		err = fmt.Errorf("%s: %q is no time of RFC 3339, such as 2026-01-31T08:00:00Z", name, value)
	}
	return at, err
}

func (q *Query) setNumber(name, value string) error {
	n, err := strconv.ParseInt(value, 10, 64)
	switch {
	case !slices.Contains([]string{"id", "status", "after", "limit"}, name):
		return fmt.Errorf("unknown parameter %q; there are pipeline, sink, reason, status, since, until, error, where, "+
			"id, after, limit and event", name)
	case err != nil || n < 0:
		return fmt.Errorf("%s: %q is not a number from 0 on", name, value)
	case name == "id":
		q.IDs = append(q.IDs, n)
	case name == "status":
		q.Statuses = append(q.Statuses, int(n))
	case name == "after":
		q.After = n
	case n < 1 || n > MaxPage:
		return fmt.Errorf("limit: %d is not from 1 to %d", n, MaxPage)
	default:
		q.Limit = int(n)
	}
	return nil
}

// checkReasons refuses words that are no reasons: a filter that is misspelled must not select nothing, or everything, in silence.
func checkReasons(words []string) error {
	for _, w := range words {
		if !slices.Contains(Reasons(), w) {
			return fmt.Errorf("reason: %q is none; there are %s", w, strings.Join(Reasons(), ", "))
		}
	}
	return nil
}

// Selection is the body of a drop, and of a redrive with more: ids, or all, which pipeline and sink may narrow. The other filters
// narrow either: a large change is made in pieces of ids that were listed, and those which have died anew for another reason are
// not meant.
type Selection struct {
	IDs      []int64    `json:"ids,omitempty"`
	All      bool       `json:"all,omitempty"`
	Pipeline string     `json:"pipeline,omitempty"`
	Sink     string     `json:"sink,omitempty"`
	Reasons  []string   `json:"reasons,omitempty"`
	Statuses []int      `json:"statuses,omitempty"`
	Since    *time.Time `json:"since,omitempty"`
	Until    *time.Time `json:"until,omitempty"`
	Error    string     `json:"error,omitempty"`
	Where    string     `json:"where,omitempty"`
	After    int64      `json:"after,omitempty"`
	Limit    int        `json:"limit,omitempty"`
}

// Redrive says how dead letters go back. The zero value hands them to their sinks as they are, as fast as it can.
type Redrive struct {
	To     string   `json:"to,omitempty"`      // another sink of the same pipeline, which gets them in place of their own
	Edit   []string `json:"edit,omitempty"`    // what the events come to: "data.total = 1" sets a member, an expression by itself is the data
	Rate   string   `json:"rate,omitempty"`    // so many in a time, such as 100/s
	DryRun bool     `json:"dry_run,omitempty"` // only say what would become of them
}

// RedriveRequest is the body of a redrive.
type RedriveRequest struct {
	Selection
	Redrive
}

// Redriven is the answer to a redrive.
type Redriven struct {
	Redriven int            `json:"redriven"`          // with dry_run: those that would be
	Stay     int            `json:"stay,omitempty"`    // those that are dead letters as before
	Why      string         `json:"why,omitempty"`     // of the first that stays
	After    int64          `json:"after,omitempty"`   // the id to go on after, when the limit was reached; 0: there are no more
	Samples  []SampledEvent `json:"samples,omitempty"` // with dry_run and edit: the first that are edited
}

// SampledEvent is what an edit makes of an event.
type SampledEvent struct {
	ID     int64           `json:"id"`
	Event  json.RawMessage `json:"event"`  // as it was stored
	Edited json.RawMessage `json:"edited"` // the same event where the edit changes nothing
}

// Dropped is the answer to a drop.
type Dropped struct {
	Dropped int   `json:"dropped"`
	After   int64 `json:"after,omitempty"` // as in Redriven
}

// Query checks s and returns what it selects: an empty selection selects nothing by mistake, so all must be said.
func (s Selection) Query() (Query, error) {
	switch {
	case s.All && len(s.IDs) > 0:
		return Query{}, errors.New("give ids or all, not both")
	case !s.All && len(s.IDs) == 0:
		return Query{}, errors.New(`say which: {"ids":[1,2]}, or {"all":true} for all of them`)
	case !s.All && (s.Pipeline != "" || s.Sink != ""):
		return Query{}, errors.New("pipeline and sink narrow all, not ids")
	case s.After < 0 || s.Limit < 0:
		return Query{}, errors.New("after and limit are numbers from 0 on")
	}
	q := Query{
		IDs: s.IDs, Pipeline: s.Pipeline, Sink: s.Sink, Reasons: s.Reasons, Statuses: s.Statuses, Text: s.Error, Where: s.Where,
		After: s.After, Limit: s.Limit,
	}
	if s.Since != nil {
		q.Since = *s.Since
	}
	if s.Until != nil {
		q.Until = *s.Until
	}
	return q, checkReasons(s.Reasons)
}

// SelectionOf is the selection of a query; no ids means all.
func SelectionOf(q Query) Selection {
	s := Selection{
		IDs: q.IDs, All: len(q.IDs) == 0, Pipeline: q.Pipeline, Sink: q.Sink, Reasons: q.Reasons, Statuses: q.Statuses, Error: q.Text,
		Where: q.Where, After: q.After, Limit: q.Limit,
	}
	if !q.Since.IsZero() {
		s.Since = &q.Since
	}
	if !q.Until.IsZero() {
		s.Until = &q.Until
	}
	return s
}

func (c *console) redrive(w http.ResponseWriter, r *http.Request) {
	var body RedriveRequest
	q, ok := takeSelection(w, r, &body, &body.Selection)
	if !ok {
		return
	}
	answer, err := c.Instance.Redrive(r.Context(), q, body.Redrive)
	if err != nil {
		refuse(w, err, fmt.Sprintf("%d redriven, then: ", answer.Redriven))
		return
	}
	writeJSON(w, answer)
}

func (c *console) drop(w http.ResponseWriter, r *http.Request) {
	var body Selection
	q, ok := takeSelection(w, r, &body, &body)
	if !ok {
		return
	}
	answer, err := c.Instance.Drop(r.Context(), q)
	if err != nil {
		refuse(w, err, fmt.Sprintf("%d dropped, then: ", answer.Dropped))
		return
	}
	writeJSON(w, answer)
}

// takeSelection decodes a body, of which s is a part, or answers why it cannot.
func takeSelection(w http.ResponseWriter, r *http.Request, body any, s *Selection) (Query, bool) {
	if !takeJSON(w, r, body) {
		return Query{}, false
	}
	q, err := s.Query()
	if err != nil {
		problem(w, http.StatusBadRequest, err.Error())
	}
	return q, err == nil
}

// takeJSON decodes the body of a request that changes something, or answers why it cannot.
func takeJSON(w http.ResponseWriter, r *http.Request, into any) bool {
	// A form of another site cannot send this type without asking first, which the console never allows.
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		problem(w, http.StatusUnsupportedMediaType, "send JSON with -H 'Content-Type: application/json'")
		return false
	}
	if status, err := readJSON(w, r, into); err != nil {
		problem(w, status, err.Error())
		return false
	}
	return true
}

// readJSON decodes a body of exactly one value without unknown members; on an error it returns the status to answer with.
func readJSON(w http.ResponseWriter, r *http.Request, into any) (int, error) {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, end := d.Token(); end != io.EOF {
			err = errors.New("more than one JSON value")
		}
	}
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return http.StatusOK, nil
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge, fmt.Errorf("the body is larger than %d bytes", tooLarge.Limit)
	}
	return http.StatusBadRequest, fmt.Errorf("the body is not what this takes: %w", err)
}
