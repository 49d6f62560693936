package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/millrace-run/millrace/app"
)

// remote speaks to the admin listener of a running instance.
type remote struct {
	instance
	client *http.Client
}

func newRemote(in instance) *remote {
	return &remote{in, &http.Client{
		// No proxy: the listener is on loopback or behind a tunnel, which a proxy of the environment cannot see.
		Transport:     &http.Transport{DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// errNobody says that the address was reached and nothing listens there.
var errNobody = errors.New("nothing listens there")

// alive asks whether a Millrace answers. errNobody: there is none.
func (r *remote) alive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return r.call(ctx, http.MethodGet, "/api/v1/dead-letters?limit=1", nil, &[]app.DeadLetter{})
}

const (
	pageSize  = 1000
	eventPage = 16 // of dead letters with their events
)

// DeadLetters reads page by page, so that neither side holds more than one beside the result.
func (r *remote) DeadLetters(ctx context.Context, q app.Query) ([]app.DeadLetter, error) {
	var all []app.DeadLetter
	for {
		size := pageSize
		if q.Event {
			size = eventPage
		}
		if q.Limit > 0 {
			size = min(size, q.Limit-len(all))
		}
		var page []app.DeadLetter
		if err := r.call(ctx, http.MethodGet, "/api/v1/dead-letters?"+values(q, size).Encode(), nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < size || len(all) == q.Limit {
			return all, nil
		}
		q.After = page[len(page)-1].ID
	}
}

func values(q app.Query, limit int) url.Values {
	v := filters(q)
	v.Set("limit", strconv.Itoa(limit))
	v.Set("after", strconv.FormatInt(q.After, 10))
	for _, id := range q.IDs {
		v.Add("id", strconv.FormatInt(id, 10))
	}
	if q.Event {
		v.Set("event", "true")
	}
	return v
}

func filters(q app.Query) url.Values {
	v := url.Values{}
	set := func(name, value string) {
		if value != "" {
			v.Set(name, value)
		}
	}
	set("pipeline", q.Pipeline)
	set("sink", q.Sink)
	set("error", q.Text)
	set("where", q.Where)
	for _, r := range q.Reasons {
		v.Add("reason", r)
	}
	for _, s := range q.Statuses {
		v.Add("status", strconv.Itoa(s))
	}
	if !q.Since.IsZero() {
		v.Set("since", q.Since.Format(time.RFC3339Nano))
	}
	if !q.Until.IsZero() {
		v.Set("until", q.Until.Format(time.RFC3339Nano))
	}
	return v
}

// CountDead asks how many there are.
func (r *remote) CountDead(ctx context.Context, q app.Query) ([]app.Count, error) {
	var counts []app.Count
	err := r.call(ctx, http.MethodGet, "/api/v1/dead-letters/counts?"+filters(q).Encode(), nil, &counts)
	return counts, err
}

// Redrive asks for what q selects; no ids means all.
func (r *remote) Redrive(ctx context.Context, q app.Query, how app.Redrive) (app.Redriven, error) {
	var answer app.Redriven
	body := app.RedriveRequest{Selection: app.SelectionOf(q), Redrive: how}
	err := r.call(ctx, http.MethodPost, "/api/v1/dead-letters/redrive", body, &answer)
	return answer, err
}

// Drop asks for what q selects; no ids means all.
func (r *remote) Drop(ctx context.Context, q app.Query) (app.Dropped, error) {
	var answer app.Dropped
	err := r.call(ctx, http.MethodPost, "/api/v1/dead-letters/drop", app.SelectionOf(q), &answer)
	return answer, err
}

// Subscriptions asks how all of them stand.
func (r *remote) Subscriptions(ctx context.Context) ([]app.Subscription, error) {
	var all []app.Subscription
	err := r.call(ctx, http.MethodGet, "/api/v1/subscriptions", nil, &all)
	return all, err
}

// Pause asks for a pause of what p names.
func (r *remote) Pause(ctx context.Context, p app.Pause) (int, error) {
	var answer app.Paused
	err := r.call(ctx, http.MethodPost, "/api/v1/subscriptions/pause", p, &answer)
	return answer.Paused, err
}

// Resume asks for the end of a pause.
func (r *remote) Resume(ctx context.Context, p app.Pause) (int, error) {
	var answer app.Resumed
	err := r.call(ctx, http.MethodPost, "/api/v1/subscriptions/resume", p, &answer)
	return answer.Resumed, err
}

// Seek asks for a seek, or what it would come to.
func (r *remote) Seek(ctx context.Context, k app.Seek) ([]app.Sought, error) {
	var all []app.Sought
	err := r.call(ctx, http.MethodPost, "/api/v1/subscriptions/seek", k, &all)
	return all, err
}

// Events asks where an event is.
func (r *remote) Events(ctx context.Context, id string, limit int) ([]app.Place, error) {
	var places []app.Place
	err := r.call(ctx, http.MethodGet, fmt.Sprintf("/api/v1/events/%s?limit=%d", url.PathEscape(id), limit), nil, &places)
	return places, err
}

// Close releases nothing: connections are not kept.
func (r *remote) Close() error { return nil }

// call sends one request and decodes the answer. A refusal is an error with the problem's detail; whatever cannot be reached or
// is no Millrace ends with exitUnreachable.
func (r *remote) call(ctx context.Context, method, path string, body, into any) error {
	var b []byte
	if body != nil {
		var err error
		if b, err = json.Marshal(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, r.url.String()+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := r.client.Do(req)
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) {
			err = errNobody
		}
		return r.unreachable(err)
	}
	defer res.Body.Close()
	return r.decode(res, into)
}

func (r *remote) decode(res *http.Response, into any) error {
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	d := json.NewDecoder(res.Body)
	switch {
	case res.StatusCode == http.StatusOK && kind == "application/json":
		if err := d.Decode(into); err != nil && !errors.Is(err, io.EOF) {
			return r.unreachable(fmt.Errorf("its answer cannot be read: %w", err))
		}
		return nil
	case res.StatusCode == http.StatusNotFound || res.StatusCode == http.StatusMethodNotAllowed:
		// The admin API answers neither to what is asked here; a webhook listener does.
		return r.unreachable(fmt.Errorf("what answers there is no admin listener (%s)", res.Status))
	case kind == "application/problem+json":
		var p struct{ Detail string }
		if err := d.Decode(&p); err != nil {
			return r.unreachable(fmt.Errorf("its answer cannot be read: %w", err))
		}
		return fmt.Errorf("%s answered %d: %s", r.url, res.StatusCode, p.Detail)
	}
	return r.unreachable(fmt.Errorf("what answers there is no Millrace (%s)", res.Status))
}

func (r *remote) unreachable(cause error) error {
	return &exit{exitUnreachable, fmt.Errorf("no Millrace reached at %s (from %s): %w; start it with millrace run, or give its admin.listen with --admin", r.url, r.from, cause)}
}
