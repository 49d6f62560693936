// Package webhook receives events over HTTP: CloudEvents in every mode of the HTTP binding, and plain posts of JSON, NDJSON,
// text or bytes. A request is answered 202 only after its events were committed; everything else is a problem of
// RFC 9457, and nothing of that request is stored.
package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
	"github.com/millrace-run/millrace/rules"
)

// Config are the settings of a webhook. Type, Source, Subject and Attributes are for plain posts, which are all but CloudEvents: a
// CloudEvent must be valid by itself and keeps what it has. Their expressions see the event with its defaults, and the request:
// headers, query, params and body.
type Config struct {
	Path       string                 `yaml:"path,required" doc:"Where to post, such as /orders; a part {name} is a parameter."`
	Type       rules.Template         `yaml:"type,intake" doc:"The type of plain posts; millrace.webhook when empty."`
	Source     rules.Template         `yaml:"source,intake" doc:"The source of plain posts, a URI reference; the path when empty."`
	Subject    rules.Template         `yaml:"subject,intake" doc:"The subject of plain posts; none when empty."`
	Attributes map[string]*rules.Expr `yaml:"attributes,intake" doc:"Extensions of plain posts; one without value is left out."`
	Accept     []string               `yaml:"accept" doc:"The media types that are taken, such as text/*; all when empty."`
	MaxBody    int64                  `yaml:"max_body,size" doc:"The largest body; NDJSON has at most one line per 16 bytes of it."`
	MaxDepth   int                    `yaml:"max_depth" doc:"How deep arrays and objects of JSON data may be nested."`
	MaxHeaders int64                  `yaml:"max_headers,size" doc:"The most that the request line and headers may take together."`

	ReadTimeout time.Duration `yaml:"read_timeout" doc:"How long reading a body may take."`
}

// Defaults are the settings where the file says nothing.
func Defaults() Config {
	return Config{MaxBody: 1 << 20, MaxDepth: 64, MaxHeaders: 64 << 10, ReadTimeout: 30 * time.Second}
}

// Validate returns an *event.KeyError about the first setting that cannot be used.
func (c Config) Validate() error {
	if _, err := parsePath(c.Path); err != nil {
		return &event.KeyError{Key: "path", Err: err}
	}
	for _, bound := range [...]struct {
		key              string
		value, low, high int64
	}{
		{"max_body", c.MaxBody, 1, 1 << 30},
		{"max_depth", int64(c.MaxDepth), 1, 10_000},
		{"max_headers", c.MaxHeaders, 1 << 10, 16 << 20},
		{"read_timeout", int64(c.ReadTimeout), 1, int64(24 * time.Hour)},
	} {
		if bound.value < bound.low || bound.value > bound.high {
			return &event.KeyError{Key: bound.key, Err: boundError(bound.key, bound.low, bound.high)}
		}
	}
	for _, kind := range c.Accept {
		if !isMediaRange(kind) {
			return &event.KeyError{Key: "accept", Err: fmt.Errorf("%q is not a media type; write application/json or text/*", kind)}
		}
	}
	return c.validateAttributes()
}

func boundError(key string, low, high int64) error {
	switch key {
	case "read_timeout":
		return fmt.Errorf("must be more than 0s and at most %s", time.Duration(high))
	case "max_depth":
		return fmt.Errorf("must be from %d to %d", low, high)
	}
	return fmt.Errorf("must be from %d to %d bytes", low, high)
}

// validateAttributes checks what is known before any request: names, and values without expressions.
func (c Config) validateAttributes() error {
	e := event.Event{ID: "x", Source: "x", Type: "x"}
	for _, a := range [...]struct {
		template rules.Template
		into     *string
	}{{c.Type, &e.Type}, {c.Source, &e.Source}, {c.Subject, &e.Subject}} {
		if text, ok := a.template.Literal(); ok && text != "" {
			*a.into = text
		}
	}
	var fault *codec.AttributeError
	if errors.As(codec.Validate(&e), &fault) {
		return &event.KeyError{Key: fault.Name, Err: errors.New(fault.Problem)}
	}
	for name := range c.Attributes {
		if problem := codec.NameProblem(name); problem != "" {
			return &event.KeyError{Key: "attributes." + name, Err: errors.New(problem)}
		}
	}
	return nil
}

// Source receives events at one path. It is an http.Handler; requests are refused with 503 while Run does not run.
type Source struct {
	config Config
	path   path
	names  []string // of the attributes, sorted
	plain  bool     // no expression needs the request
	// volatile says that what is accepted does not survive the process.
	volatile bool
	clock    event.Clock
	newID    func() string
	gate     gate
	limits   limits

	literalSource string // the default source of events; empty when the path has parameters

	appendTimeout, drainTimeout time.Duration
}

const (
	appendTimeout = 5 * time.Second // after which an append that the writer has not taken is withdrawn
	drainTimeout  = time.Second     // how long the rest of a refused body is read
)

// New checks the settings and opens nothing. Its errors are *event.KeyError.
func New(c Config) (*Source, error) { return NewWith(c, event.SystemClock{}, nil) }

// NewWith is New with a clock that says when an event is received, and a generator of ids for events that bring none. A nil
// generator makes UUIDs of version 7.
func NewWith(c Config, clock event.Clock, newID func() string) (*Source, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if newID == nil {
		ids := &event.UUIDs{}
		newID = func() string { return ids.Next(clock.Now()) }
	}
	s := &Source{config: c, clock: clock, newID: newID, appendTimeout: appendTimeout, drainTimeout: drainTimeout}
	s.path, _ = parsePath(c.Path) // Validate looked at the error
	for name := range c.Attributes {
		s.names = append(s.names, name)
	}
	slices.Sort(s.names)
	if !slices.ContainsFunc(s.path, func(p part) bool { return p.param }) {
		s.literalSource = s.path.sourceOf(nil)
	}
	s.plain = len(s.names) == 0 && isLiteral(c.Type) && isLiteral(c.Source) && isLiteral(c.Subject)
	return s, nil
}

func isLiteral(t rules.Template) bool {
	_, ok := t.Literal()
	return ok
}

// Run lets requests in until ctx ends, and returns when those that were already read have their answer. emit must not wait for
// long after its context ended. Run may be called again after it returned, not before.
func (s *Source) Run(ctx context.Context, emit func(context.Context, event.Batch) ([]string, error)) error {
	if !s.gate.open(emit) {
		return errors.New("the webhook is already running")
	}
	<-ctx.Done()
	s.gate.close()
	return nil
}

// Volatile makes every 202 of the source say that a stop or a crash loses what was accepted. It is called before Run.
func (s *Source) Volatile() { s.volatile = true }

// Path is where the source receives, as configured.
func (s *Source) Path() string { return s.config.Path }

// MaxHeaders is how many bytes of request line and headers the source takes.
func (s *Source) MaxHeaders() int { return int(s.config.MaxHeaders) }

// Exclusive names what no two sources may both have: the path. The names of parameters make no difference.
func (s *Source) Exclusive() []string { return []string{"webhook path " + s.path.normal()} }

// gate lets requests through while the source runs, and knows how many are inside.
type gate struct {
	mu     sync.Mutex // guards emit and that nobody enters once it is nil
	emit   func(context.Context, event.Batch) ([]string, error)
	inside sync.WaitGroup
}

func (g *gate) open(emit func(context.Context, event.Batch) ([]string, error)) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.emit != nil {
		return false
	}
	g.emit = emit
	return true
}

// close waits until everybody left.
func (g *gate) close() {
	g.mu.Lock()
	g.emit = nil
	g.mu.Unlock()
	g.inside.Wait()
}

// enter returns nil when the gate is closed; else leave must be called.
func (g *gate) enter() func(context.Context, event.Batch) ([]string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.emit != nil {
		g.inside.Add(1)
	}
	return g.emit
}

func (g *gate) leave() { g.inside.Done() }

// sourceOf is the default source of an event: the path as a URI reference, with what the request put in place of parameters.
func (p path) sourceOf(value func(name string) string) string {
	var b strings.Builder
	for _, part := range p {
		text := part.text
		if part.param {
			text = value(part.text)
		}
		b.WriteByte('/')
		b.WriteString(url.PathEscape(text))
	}
	return b.String()
}
