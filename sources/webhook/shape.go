package webhook

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
	"github.com/millrace-run/millrace/rules"
)

const defaultType = "millrace.webhook"

// shaper gives plain posts their attributes: those of one request.
type shaper struct {
	s        *Source
	received time.Time
	time     string
	source   string
	input    *rules.Input // nil when no expression needs it
}

func (s *Source) shaper(r *http.Request, body []byte, received time.Time) *shaper {
	sh := &shaper{s: s, received: received, time: received.Format(time.RFC3339Nano), source: s.literalSource}
	if sh.source == "" {
		sh.source = s.path.sourceOf(r.PathValue)
	}
	if !s.plain {
		sh.input = &rules.Input{Headers: headersOf(r), Query: queryOf(r.URL), Params: s.paramsOf(r), Body: body}
	}
	return sh
}

// headersOf are the headers by lower-case name; of one that was sent more than once the values are joined, as HTTP allows.
func headersOf(r *http.Request) map[string]string {
	headers := make(map[string]string, len(r.Header)+1)
	for name, values := range r.Header {
		headers[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	headers["host"] = r.Host
	return headers
}

// queryOf is the query by name; of a repeated name the first counts. What is not well-formed in it is left out.
func queryOf(u *url.URL) map[string]string {
	query := map[string]string{}
	for name, values := range u.Query() {
		query[name] = values[0]
	}
	return query
}

func (s *Source) paramsOf(r *http.Request) map[string]string {
	params := map[string]string{}
	for _, p := range s.path {
		if p.param {
			params[p.text] = r.PathValue(p.text)
		}
	}
	return params
}

// event makes one event. Every expression sees it with the defaults, whatever the order of the settings.
func (sh *shaper) event(id, contentType string, data []byte) (event.Event, *problem) {
	shaped := event.Event{ID: id, Source: sh.source, Type: defaultType, Time: sh.time, DataContentType: contentType, Data: data,
		Received: sh.received}
	if sh.input != nil {
		defaults := shaped
		sh.input.Event = &defaults
	}
	c := &sh.s.config
	for _, a := range [...]struct {
		name     string
		template *rules.Template
		into     *string
	}{{"type", &c.Type, &shaped.Type}, {"source", &c.Source, &shaped.Source}, {"subject", &c.Subject, &shaped.Subject}} {
		if p := sh.render(a.name, a.template, a.into); p != nil {
			return event.Event{}, p
		}
	}
	for _, name := range sh.s.names {
		if p := sh.attribute(&shaped, name, c.Attributes[name]); p != nil {
			return event.Event{}, p
		}
	}
	if err := codec.Validate(&shaped); err != nil {
		return event.Event{}, malformed(err.Error())
	}
	return shaped, nil
}

// render sets an attribute, unless its setting is empty.
func (sh *shaper) render(name string, t *rules.Template, into *string) *problem {
	if text, ok := t.Literal(); ok {
		if text != "" {
			*into = text
		}
		return nil
	}
	text, err := t.Render(sh.input)
	if err != nil {
		return malformed(name + " cannot be made from this request: " + err.Error())
	}
	if text == "" {
		return malformed(name + " is empty for this request")
	}
	*into = text
	return nil
}

func (sh *shaper) attribute(e *event.Event, name string, x *rules.Expr) *problem {
	v, _, err := x.Value(sh.input)
	if err == nil {
		var extension event.Extension
		if extension, err = extensionOf(name, v); err == nil && v != nil {
			e.SetExtension(extension)
		}
	}
	if err != nil {
		return malformed("the attribute " + name + " cannot be made from this request: " + err.Error())
	}
	return nil
}

// extensionOf holds the value of an expression. Numbers that are no integers of 32 bits become text, which keeps their digits.
func extensionOf(name string, v any) (event.Extension, error) {
	x := event.Extension{Name: name}
	switch v := v.(type) {
	case nil:
	case string:
		x.Text = v
	case bool:
		x.Kind, x.Text = event.Boolean, strconv.FormatBool(v)
	case int64:
		x.Text = strconv.FormatInt(v, 10)
		x.Kind = kindOfNumber(x.Text)
	case json.Number:
		x.Text = v.String()
		x.Kind = kindOfNumber(x.Text)
	case float64:
		x.Text = strconv.FormatFloat(v, 'f', -1, 64)
		x.Kind = kindOfNumber(x.Text)
	case time.Time:
		x.Kind, x.Text = event.Timestamp, v.UTC().Format(time.RFC3339Nano)
	default:
		return x, errors.New("an attribute is a text, a number, a boolean or a time")
	}
	return x, nil
}

func kindOfNumber(text string) event.Kind {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < math.MinInt32 || n > math.MaxInt32 {
		return event.String
	}
	return event.Integer
}
