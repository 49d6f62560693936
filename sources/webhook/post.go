package webhook

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"

	"github.com/millrace-run/millrace/event"
)

// Post is a request to a webhook without a connection. All maps may be nil.
type Post struct {
	Headers map[string]string // names in any case
	Query   map[string]string
	Params  map[string]string // of the path; each one that it has is needed
	Body    []byte
}

// Receive returns the events that this source makes of a post, or why it refuses it, by the same code that answers requests.
// Nothing is stored, whether the source runs or not. clock says when the post is received, newID names an event that brings no id.
func (s *Source) Receive(p Post, clock event.Clock, newID func() string) ([]event.Event, error) {
	own, err := NewWith(s.config, clock, newID)
	if err != nil {
		return nil, err
	}
	r, err := own.request(p)
	if err != nil {
		return nil, err
	}
	contentType, refused := own.admit(r)
	if refused == nil && int64(len(p.Body)) > s.config.MaxBody {
		refused = bodyTooLarge(s.config.MaxBody)
	}
	var events []event.Event
	if refused == nil {
		events, refused = own.events(r, contentType, p.Body)
	}
	if refused != nil {
		return nil, fmt.Errorf("%d %s: %s", refused.status, refused.title, refused.detail)
	}
	return events, nil
}

func (s *Source) request(p Post) (*http.Request, error) {
	query := url.Values{}
	for name, value := range p.Query {
		query.Set(name, value)
	}
	r := &http.Request{
		Method: http.MethodPost, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Host: "localhost",
		Body: io.NopCloser(bytes.NewReader(p.Body)), ContentLength: int64(len(p.Body)),
	}
	for name, value := range p.Headers {
		r.Header.Set(name, value)
	}
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
		r.Header.Del("Host")
	}
	for name := range p.Params {
		if !slices.Contains(s.path, part{name, true}) {
			return nil, fmt.Errorf("the path %s has no parameter {%s}", s.config.Path, name)
		}
	}
	for _, part := range s.path {
		if !part.param {
			continue
		}
		value := p.Params[part.text]
		if value == "" {
			return nil, fmt.Errorf("the path %s has the parameter {%s}, which needs a value", s.config.Path, part.text)
		}
		r.SetPathValue(part.text, value)
	}
	r.RequestURI = s.path.sourceOf(r.PathValue)
	if len(query) > 0 {
		r.RequestURI += "?" + query.Encode()
	}
	var err error
	r.URL, err = url.ParseRequestURI(r.RequestURI)
	return r, err
}
