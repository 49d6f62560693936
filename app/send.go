package app

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
)

// Post is data for the webhook of a pipeline, with what is to be said about it.
type Post struct {
	Data        []byte
	ContentType string
	Header      http.Header // further headers; may be nil

	// CloudEvent makes it a CloudEvent in binary mode, for which Type is required. Without it Type, Source, Subject and Extensions
	// are not used.
	CloudEvent            bool
	ID                    string // of a plain post the idempotency key; a CloudEvent gets a random one if it is empty
	Type, Source, Subject string
	Extensions            map[string]string
}

// WebhookURL is where the webhook of a pipeline is: at base, or if that is empty where http.listen of the plan says. Each
// parameter of its path needs a value in params, and params may name no other.
func WebhookURL(plan *Plan, pipeline, base string, params map[string]string) (string, error) {
	h, err := hookOf(plan, pipeline)
	if err != nil {
		return "", err
	}
	if base == "" {
		if base, err = listenURL(plan); err != nil {
			return "", err
		}
	}
	left := maps.Clone(params)
	var missing []string
	path := parameter.ReplaceAllStringFunc(h.Path(), func(p string) string {
		name := strings.Trim(p, "{}")
		value, ok := params[name]
		delete(left, name)
		if !ok || value == "" {
			missing = append(missing, name)
		}
		return url.PathEscape(value)
	})
	switch {
	case len(missing) > 0:
		return "", fmt.Errorf("the path %s needs --param %s=…", h.Path(), strings.Join(missing, "=… --param "))
	case len(left) > 0:
		return "", fmt.Errorf("the path %s has no parameter %s", h.Path(), strings.Join(slices.Sorted(maps.Keys(left)), ", "))
	}
	return strings.TrimRight(base, "/") + path, nil
}

// listenURL is where http.listen can be reached from this machine.
func listenURL(plan *Plan) (string, error) {
	host, port, err := net.SplitHostPort(plan.HTTP.Listen)
	if _, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil {
		return "", errors.New("http.listen needs a variable that is not set; say with --url where Millrace is")
	}
	return "http://" + reachable(net.JoinHostPort(cmp.Or(host, "127.0.0.1"), port)), nil
}

func hookOf(plan *Plan, pipeline string) (*hook, error) {
	var names []string
	for _, p := range plan.Pipelines {
		names = append(names, p.Name)
		if p.Name != pipeline {
			continue
		}
		if p.Source.Unset {
			return nil, fmt.Errorf("the source of pipeline %s needs variables that are not set; not set are: %s", pipeline, strings.Join(plan.Unset, ", "))
		}
		if h, ok := p.Source.Value.(*hook); ok {
			return h, nil
		}
		return nil, fmt.Errorf("pipeline %s has a source of type %s; only a webhook can be sent to", pipeline, p.Source.Type)
	}
	return nil, fmt.Errorf("there is no pipeline %q; there are %s", pipeline, strings.Join(names, ", "))
}

// kinds are the content types of file names, by suffix.
var kinds = map[string]string{
	".json": "application/json", ".ndjson": ndjson, ".jsonl": ndjson, ".txt": "text/plain; charset=utf-8", ".csv": "text/csv; charset=utf-8",
	".xml": "application/xml", ".html": "text/html; charset=utf-8", ".yaml": "application/yaml", ".yml": "application/yaml",
}

const ndjson = "application/x-ndjson"

// ContentTypeOf is the content type of data: by the suffix of the file that it comes from, else JSON if it is that, else text or
// bytes.
func ContentTypeOf(name string, data []byte) string {
	switch kind, ok := kinds[strings.ToLower(filepath.Ext(name))]; {
	case ok:
		return kind
	case codec.CheckJSON(data, 0) == nil:
		return "application/json"
	}
	if kind := http.DetectContentType(data); strings.HasPrefix(kind, "text/") {
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}

// Divide makes posts of one that holds an event a line: as many lines in each as one request takes, or one if they are
// CloudEvents, because a CloudEvent of the binary mode is a whole request. An id gets the number of its line. Any other post
// stays as it is.
func (p Post) Divide() []Post {
	kind, _, _ := mime.ParseMediaType(p.ContentType)
	if kind != ndjson || !p.CloudEvent && len(p.Data) <= requestSize {
		return []Post{p}
	}
	var posts []Post
	var part []byte
	flush := func(n int) {
		one := p
		one.Data, part = part, nil
		if one.ID != "" {
			one.ID = fmt.Sprintf("%s/%d", p.ID, n)
		}
		if p.CloudEvent {
			one.ContentType = "application/json"
		}
		posts = append(posts, one)
	}
	n := 0
	for line := range bytes.Lines(p.Data) {
		n++
		switch blank := len(bytes.TrimSpace(line)) == 0; {
		case blank:
		case p.CloudEvent:
			part = bytes.TrimRight(line, "\r\n")
			flush(n)
		default:
			if len(part) > 0 && len(part)+len(line) > requestSize {
				flush(n)
			}
			part = append(part, line...)
		}
	}
	if len(part) > 0 {
		flush(n)
	}
	return posts
}

// requestSize is how much of many lines goes into one request; a webhook takes 1 MiB unless it is told otherwise.
const requestSize = 256 << 10

// RefusedError is an answer that is no yes, with the reason that it gave. Nothing of the post was accepted.
type RefusedError struct {
	Status int
	Detail string
}

// Error tells the reason.
func (e *RefusedError) Error() string { return fmt.Sprintf("refused with %d: %s", e.Status, e.Detail) }

// Sender posts to webhooks. Close it.
type Sender struct{ client *http.Client }

// NewSender returns a sender, which uses no proxy of the environment.
func NewSender() *Sender {
	return &Sender{&http.Client{
		Timeout:       time.Minute,
		Transport:     &http.Transport{DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext, MaxIdleConns: 1},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close gives the connections back.
func (s *Sender) Close() { s.client.CloseIdleConnections() }

// Send posts and returns the ids of what was accepted. The error is a *RefusedError if Millrace said no, an *UnreachableError if
// no Millrace answered, and any other about the post itself.
func (s *Sender) Send(ctx context.Context, address string, p Post) ([]string, error) {
	header, err := p.header()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(p.Data))
	if err != nil {
		return nil, err
	}
	req.Header = header
	req.GetBody = nil // else net/http repeats a post with an Idempotency-Key by itself when its connection breaks
	res, err := s.client.Do(req)
	if err != nil {
		return nil, &UnreachableError{err}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, &UnreachableError{fmt.Errorf("its answer broke off: %w", err)}
	}
	return answer(res, body)
}

// maxAnswer is far more than the ids of one request.
const maxAnswer = 64 << 20

func (p Post) header() (http.Header, error) {
	h := http.Header{}
	if p.CloudEvent {
		e, err := p.event()
		if err != nil {
			return nil, err
		}
		codec.WriteBinary(h, &e)
	} else if p.ID != "" {
		quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(p.ID)
		h.Set("Idempotency-Key", `"`+quoted+`"`)
	}
	if p.ContentType != "" {
		h.Set("Content-Type", p.ContentType)
	}
	h.Set("User-Agent", "millrace")
	for name, values := range p.Header {
		h[name] = values
	}
	return h, nil
}

// event are the attributes, checked as whoever receives them would.
func (p Post) event() (event.Event, error) {
	e := event.Event{
		ID: cmp.Or(p.ID, rand.Text()), Type: p.Type, Source: cmp.Or(p.Source, "/millrace/send"), Subject: p.Subject,
		DataContentType: p.ContentType, Data: p.Data,
	}
	for _, name := range slices.Sorted(maps.Keys(p.Extensions)) {
		if problem := codec.NameProblem(name); problem != "" {
			return e, fmt.Errorf("extension %q: %s", name, problem)
		}
		e.SetExtension(event.Extension{Name: name, Text: p.Extensions[name]})
	}
	return e, codec.Validate(&e)
}

func answer(res *http.Response, body []byte) ([]string, error) {
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	switch {
	case res.StatusCode == http.StatusAccepted:
		var accepted struct{ IDs []string }
		if err := json.Unmarshal(body, &accepted); err != nil || accepted.IDs == nil {
			return nil, &UnreachableError{errors.New("what answers there is no Millrace: its 202 names no ids")}
		}
		return accepted.IDs, nil
	case kind == "application/problem+json":
		var problem struct{ Title, Detail string }
		if err := json.Unmarshal(body, &problem); err == nil {
			return nil, &RefusedError{res.StatusCode, cmp.Or(problem.Detail, problem.Title, http.StatusText(res.StatusCode))}
		}
	}
	return nil, &UnreachableError{fmt.Errorf("what answers there is no Millrace (%s)", res.Status)}
}
