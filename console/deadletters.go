package console

import (
	"context"
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
)

// A page of dead letters holds DefaultPage unless the request says otherwise, and never more than MaxPage. With their events,
// which may be large, it holds at most MaxEvents.
const (
	DefaultPage = 100
	MaxPage     = 1000
	MaxEvents   = 16
)

const maxBody = 1 << 20

// listDead answers with one array. When there may be more, a Link header names the next page.
func (c *console) listDead(w http.ResponseWriter, r *http.Request) {
	q, err := parseQuery(r.URL.Query())
	if err != nil {
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	letters, err := c.Instance.DeadLetters(r.Context(), q)
	if err != nil {
		problem(w, http.StatusServiceUnavailable, err.Error())
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

func (q *Query) set(name, value string) error {
	switch name {
	case "pipeline":
		q.Pipeline = value
		return nil
	case "sink":
		q.Sink = value
		return nil
	case "reason":
		q.Reasons = append(q.Reasons, value)
		return checkReasons(q.Reasons)
	case "event":
		q.Event = value == "true"
		if !q.Event && value != "false" {
			return fmt.Errorf("event: %q is neither true nor false", value)
		}
		return nil
	}
	n, err := strconv.ParseInt(value, 10, 64)
	switch {
	case name != "id" && name != "after" && name != "limit":
		return fmt.Errorf("unknown parameter %q; there are pipeline, sink, reason, id, after, limit and event", name)
	case err != nil || n < 0:
		return fmt.Errorf("%s: %q is not a number from 0 on", name, value)
	case name == "id":
		q.IDs = append(q.IDs, n)
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

// Selection is the body of a redrive or a drop: ids, or all, which pipeline and sink may narrow. Reasons narrow either: a large
// change is made in pieces of ids that were listed, and those which have died anew for another reason are not meant.
type Selection struct {
	IDs      []int64  `json:"ids,omitempty"`
	All      bool     `json:"all,omitempty"`
	Pipeline string   `json:"pipeline,omitempty"`
	Sink     string   `json:"sink,omitempty"`
	Reasons  []string `json:"reasons,omitempty"`
}

// Redriven is the answer to a redrive.
type Redriven struct {
	Redriven int `json:"redriven"`
}

// Dropped is the answer to a drop.
type Dropped struct {
	Dropped int `json:"dropped"`
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
	}
	return Query{IDs: s.IDs, Pipeline: s.Pipeline, Sink: s.Sink, Reasons: s.Reasons}, checkReasons(s.Reasons)
}

func (c *console) redrive(w http.ResponseWriter, r *http.Request) {
	c.change(w, r, "redriven", c.Instance.Redrive, func(n int) any { return Redriven{n} })
}

func (c *console) drop(w http.ResponseWriter, r *http.Request) {
	c.change(w, r, "dropped", c.Instance.Drop, func(n int) any { return Dropped{n} })
}

// change does to the dead letters that the body selects what do does, and answers with what answer makes of their number.
func (c *console) change(
	w http.ResponseWriter, r *http.Request, done string, do func(context.Context, Query) (int, error), answer func(int) any,
) {
	var s Selection
	if !takeJSON(w, r, &s) {
		return
	}
	q, err := s.Query()
	if err != nil {
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	n, err := do(r.Context(), q)
	var unknown *UnknownError
	switch {
	case errors.As(err, &unknown):
		problem(w, http.StatusBadRequest, unknown.Detail)
		return
	case err != nil:
		problem(w, http.StatusServiceUnavailable, fmt.Sprintf("%d %s, then: %v", n, done, err))
		return
	}
	writeJSON(w, answer(n))
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
