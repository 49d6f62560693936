package tests

import (
	"maps"
	"net/http"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/sources/webhook"
)

// receiver is a source that can be asked what it makes of a request, such as a webhook.
type receiver interface {
	Receive(p webhook.Post, clock event.Clock, newID func() string) ([]event.Event, error)
}

// shaper is a source that can give an event what its events have and the test does not name, such as a follower of files. The
// data of the event is JSON until then.
type shaper interface{ Shape(e *event.Event) }

// enter makes events of what a test gives, as the source of the pipeline would. An event that has its id, source and type is a
// CloudEvent, which keeps what it has. Any other is a plain post of its data, and the attributes that the test names replace
// those that the source gives it. The error says why the source refuses it.
func enter(p *pipelines.Pipeline, g *pipelines.Given, clock event.Clock, newID func() string) ([]event.Event, error) {
	e, named := g.Event, g.Event
	complete := e.ID != "" && e.Source != "" && e.Type != ""
	if s, ok := p.Source.Value.(shaper); ok && !complete {
		s.Shape(&e)
		return direct(p, e, clock, newID)
	}
	if e.DataContentType == "" && e.Data != nil {
		e.DataContentType = "application/json"
	}
	source, ok := p.Source.Value.(receiver)
	if !ok {
		return direct(p, e, clock, newID)
	}
	post := webhook.Post{Headers: maps.Clone(g.Headers), Query: g.Query, Params: g.Params, Body: e.Data}
	if post.Headers == nil {
		post.Headers = map[string]string{}
	}
	switch headers := canonical(post.Headers); {
	case complete:
		h := http.Header{}
		post.Body = codec.WriteStructured(h, nil, &e)
		post.Headers["Content-Type"] = h.Get("Content-Type")
	case headers["Content-Type"] == "" && e.DataContentType != "":
		post.Headers["Content-Type"] = e.DataContentType
		named.DataContentType = "" // what the events have is for the source to say: a line of many is not what the body is
	}
	events, err := source.Receive(post, clock, newID)
	if err != nil || complete {
		return events, err
	}
	for i := range events {
		replace(&events[i], &named)
		if err := codec.Validate(&events[i]); err != nil {
			return nil, err
		}
	}
	return events, nil
}

// keyed is the body of what a test gives, if its events have the Idempotency-Key as their id: that of another body refuses it.
func keyed(g *pipelines.Given) []byte {
	h := http.Header{}
	for name, value := range g.Headers {
		h.Set(name, value)
	}
	if e := &g.Event; e.ID != "" || h.Get("Idempotency-Key") == "" || codec.Detect(h) != codec.None {
		return nil
	}
	return append([]byte{}, g.Event.Data...)
}

// canonical is the headers by the names as net/http writes them.
func canonical(headers map[string]string) map[string]string {
	out := make(map[string]string, len(headers))
	for name, value := range headers {
		out[http.CanonicalHeaderKey(name)] = value
	}
	return out
}

// direct is an event of a source that makes events of something other than a request.
func direct(p *pipelines.Pipeline, e event.Event, clock event.Clock, newID func() string) ([]event.Event, error) {
	if e.ID == "" {
		e.ID = newID()
	}
	if e.Source == "" {
		e.Source = "/" + p.Name
	}
	if e.Type == "" {
		e.Type = "millrace." + p.Source.Type
	}
	e.Received = clock.Now().UTC()
	return []event.Event{e}, codec.Validate(&e)
}

// replace sets the attributes that a test names.
func replace(e, named *event.Event) {
	for _, a := range [...]struct{ into, from *string }{
		{&e.ID, &named.ID}, {&e.Source, &named.Source}, {&e.Type, &named.Type}, {&e.Subject, &named.Subject}, {&e.Time, &named.Time},
		{&e.DataContentType, &named.DataContentType}, {&e.DataSchema, &named.DataSchema},
	} {
		if *a.from != "" {
			*a.into = *a.from
		}
	}
	for _, x := range named.Extensions {
		e.SetExtension(x)
	}
}
