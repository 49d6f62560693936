package webhook

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
)

// events turns a request into events: all of it, or a problem.
func (s *Source) events(r *http.Request, contentType string, body []byte) ([]event.Event, *problem) {
	if mediaKind(contentType) == "application/x-www-form-urlencoded" && looksLikeJSON(body) {
		return nil, unsupported("this is JSON under the content type of a form, which curl -d sends: " +
			"add -H 'Content-Type: application/json'")
	}
	received := s.clock.Now().UTC()
	switch codec.Detect(r.Header) {
	case codec.Structured:
		e, err := codec.DecodeJSON(body, s.config.MaxDepth)
		return accepted([]event.Event{e}, received, err)
	case codec.Batch:
		events, err := codec.DecodeBatch(body, s.config.MaxDepth)
		return accepted(events, received, err)
	case codec.Binary:
		e, err := codec.ReadBinary(r.Header, body)
		if err == nil && e.Data != nil && e.DataContentType != "" && e.IsJSON() {
			if err = codec.CheckJSON(e.Data, s.config.MaxDepth); err == nil {
				e.MarkJSON()
			}
		}
		return accepted([]event.Event{e}, received, err)
	}
	return s.plainEvents(r, contentType, body, received)
}

func looksLikeJSON(body []byte) bool {
	trimmed := bytes.TrimLeft(body, " \t\r\n")
	return len(trimmed) > 0 && (trimmed[0] == '{' || trimmed[0] == '[')
}

// accepted marks events as received, unless err says that the request is malformed.
func accepted(events []event.Event, received time.Time, err error) ([]event.Event, *problem) {
	if err != nil {
		return nil, malformed(describe(err))
	}
	for i := range events {
		events[i].Received = received
	}
	return events, nil
}

// describe is err for the sender: faults of JSON and of attributes, told apart.
func describe(err error) string {
	var syntax *codec.SyntaxError
	if errors.As(err, &syntax) {
		return "the body is not valid JSON: " + err.Error()
	}
	return "not a valid CloudEvent: " + err.Error()
}

// plainEvents makes events of a request that does not present itself as a CloudEvent.
func (s *Source) plainEvents(r *http.Request, contentType string, body []byte, received time.Time) ([]event.Event, *problem) {
	key, p := idempotencyKey(r.Header)
	if p != nil {
		return nil, p
	}
	sh := s.shaper(r, body, received)
	if isNDJSON(contentType) {
		return s.lines(sh, key, body)
	}
	switch {
	case contentType == "":
		if contentType = "application/json"; codec.CheckJSON(body, s.config.MaxDepth) != nil {
			contentType = "application/octet-stream"
		}
		if p := s.accepts(contentType); p != nil {
			return nil, p
		}
	case event.IsJSONType(contentType):
		if err := codec.CheckJSON(body, s.config.MaxDepth); err != nil {
			return nil, malformed(describe(err))
		}
	}
	if key == "" {
		key = s.newID()
	}
	events := make([]event.Event, 1)
	if events[0], p = sh.event(key, contentType, body); p != nil {
		return nil, p
	}
	if events[0].IsJSON() { // else it is not checked above
		events[0].MarkJSON()
	}
	return events, nil
}

// lines makes one event of each line of NDJSON. Blank lines are none, but count: line n is the n-th of the body.
func (s *Source) lines(sh *shaper, key string, body []byte) ([]event.Event, *problem) {
	if isBlank(body) {
		return nil, malformed("the body is not valid NDJSON: it has no line")
	}
	// Without a bound a small body of very short lines would become a hundred times its size in memory.
	most := max(1, int(s.config.MaxBody/16))
	events := make([]event.Event, 0, min(most, 1+bytes.Count(body, []byte{'\n'})))
	for n := 1; len(body) > 0; n++ {
		line, rest, _ := bytes.Cut(body, []byte{'\n'})
		body = rest
		line = bytes.TrimSuffix(line, []byte{'\r'})
		if isBlank(line) {
			continue
		}
		if len(events) == most {
			return nil, tooLarge(fmt.Sprintf("the body has more than %d lines, which is the most that this webhook takes "+
				"(a 16th of max_body)", most))
		}
		if err := codec.CheckJSON(line, s.config.MaxDepth); err != nil {
			return nil, malformed(fmt.Sprintf("line %d is not valid JSON: %v", n, err))
		}
		id := ""
		if key == "" {
			id = s.newID()
		} else {
			id = key + "/" + strconv.Itoa(n)
		}
		e, p := sh.event(id, "application/json", line[:len(line):len(line)])
		if p != nil {
			p.detail = fmt.Sprintf("line %d: %s", n, p.detail)
			return nil, p
		}
		e.MarkJSON()
		events = append(events, e)
	}
	return events, nil
}
