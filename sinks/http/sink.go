// Package http sends each event as one HTTP request, or several as a batch.
//
// In mode binary, the default, the body is the event's data byte for byte and the attributes travel as ce- headers of the
// CloudEvents HTTP binding. Mode structured sends one CloudEvent as JSON, mode data sends the data alone.
//
// Every request carries Idempotency-Key (a quoted string of 32 hexadecimal digits, the same at every attempt), Millrace-Attempt
// (1 for the first) and, if the event has the extension traceparent and it is valid W3C Trace Context, traceparent with that
// value: Millrace takes part in no trace of its own, it hands on the one that the event came with. An attempt is at most one
// request: nothing is sent again behind the router's back.
//
// A batch is a CloudEvents JSON batch, in mode data a JSON array of the data, in which an event without data is null; one of a
// single event too. It has no key of its own: in a CloudEvents batch each member has its key as the attribute idempotencykey, in
// mode data a batch of up to 100 has them in the header Idempotency-Keys, in the order of the members. Millrace-Attempt is the
// highest of the members'. Data that is not JSON cannot be in such an array, which is a Permanent failure of that event alone.
// An answer of 2xx whose JSON has batchItemFailures names the events that failed by their ids, as [{"itemIdentifier": "…"}], each
// with a status of its own if it likes. When a batch of several is refused as if the event were at fault, its halves are sent by
// themselves, until it shows which event is meant.
//
// A status of 2xx is success as soon as it is there; what follows may be cut off. Redirects are not followed, since they would
// let a destination choose who receives the event. The environment's proxy settings are ignored, HTTP/1.1 is spoken, and
// answers are not decompressed.
package http

import (
	"context"
	"errors"
	"fmt"

	"net"
	nethttp "net/http"
	"net/url"
	"slices"
	"syscall"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

const (
	maxAnswer  = 1 << 10  // of a failure, for a person to read
	maxDrain   = 64 << 10 // read of any answer, so that its connection can be used again
	maxHeaders = 64 << 10 // of an answer
	maxError   = 512      // characters of an error's text, which may quote what the destination sent
)

// Sink sends events to one HTTP destination. All methods may be called concurrently.
type Sink struct {
	url     rules.Template
	fixed   *url.URL // the whole URL, if it is literal
	path    string   // of it, with the query
	to      target
	method  string
	mode    string
	start   string   // see beginning
	headers []header // whose values depend on the event
	ownType bool     // the file sets Content-Type
	batched bool     // see Batched
	dial    func(ctx context.Context) (net.Conn, error)
	network exchanger

	batchType string // Content-Type of a batch; empty where the file sets it
	now       func() time.Time
}

// New checks the settings and returns the sink. It connects to nothing. Its error joins one *event.KeyError for each fault.
func New(c Config, options ...Option) (*Sink, error) {
	to, headers, err := c.check()
	if err != nil {
		return nil, err
	}
	s := &Sink{url: c.URL, to: to, method: c.Method, mode: c.Mode, dial: dialer(to, c.DenyPrivate), now: time.Now}
	s.ownType = slices.ContainsFunc(headers, func(h header) bool { return h.name == "Content-Type" })
	s.start, s.headers = beginning(to, headers)
	if text, ok := c.URL.Literal(); ok {
		if s.fixed, err = s.parse(text); err != nil {
			return nil, &event.KeyError{Key: "url", Err: err}
		}
		s.path = s.fixed.RequestURI()
	}
	for _, o := range options {
		o(s)
	}
	s.network = newClient(s.method, s.dial)
	return s, nil
}

// Deliver sends the events one after another, or as a batch, and answers a verdict for each. It returns when ctx ends; what was
// not answered by then is Unavailable.
func (s *Sink) Deliver(ctx context.Context, batch []event.Delivery) event.Settling {
	if s.batched {
		return s.deliverBatch(ctx, batch)
	}
	settling := event.Settling{Verdicts: make([]error, len(batch)), Statuses: make([]int, len(batch))}
	for i, d := range batch {
		settling.Statuses[i], settling.Verdicts[i] = s.attempt(ctx, d)
	}
	return settling
}

// Close closes the connections that nobody uses. The sink stays usable; Close may be called more than once.
func (s *Sink) Close() error {
	s.network.close()
	return nil
}

// attempt makes one request and returns the status of the answer, 0 if there was none.
func (s *Sink) attempt(ctx context.Context, d event.Delivery) (status int, verdict error) {
	m, err := s.request(d)
	if err != nil {
		return 0, event.Permanent(err)
	}
	defer m.release()
	a, err := s.network.exchange(ctx, m, keepFailure)
	if err != nil {
		return 0, s.unreachable(err)
	}
	return a.status, s.verdict(a)
}

// keepFailure keeps the first KiB of an answer that is not a success.
func keepFailure(status int) (bytes int64, patient bool) {
	if isSuccess(status) {
		return 0, false
	}
	return maxAnswer, false
}

// unreachable is the verdict of an attempt that brought no status.
func (s *Sink) unreachable(err error) error {
	return &event.Failure{
		Class:   event.UnavailableClass,
		Refused: errors.Is(err, syscall.ECONNREFUSED),
		Err:     &transportError{host: s.to.host, err: err},
	}
}

// transportError bounds the text of an error that may quote the destination.
type transportError struct {
	host string
	err  error
}

func (e *transportError) Error() string {
	text := e.host + ": " + e.err.Error()
	if errors.Is(e.err, context.DeadlineExceeded) {
		text = e.host + ": no answer in time"
	}
	return text[:min(len(text), maxError)]
}

func (e *transportError) Unwrap() error { return e.err }

func isSuccess(status int) bool { return status >= 200 && status <= 299 }

func statusError(host string, status int) error {
	text := nethttp.StatusText(status)
	if text != "" {
		text = " " + text
	}
	if status >= 300 && status <= 399 {
		text += "; redirects are not followed"
	}
	return fmt.Errorf("%s answered %d%s", host, status, text)
}
