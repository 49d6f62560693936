// Package http sends each event as one HTTP request.
//
// In mode binary, the default, the body is the event's data byte for byte and the attributes travel as ce- headers of the
// CloudEvents HTTP binding. Mode structured sends one CloudEvent as JSON, mode data sends the data alone.
//
// Every request carries Idempotency-Key (a quoted string of 32 hexadecimal digits, the same at every attempt), Millrace-Attempt
// (1 for the first) and, if the event has the extension traceparent and it is valid W3C Trace Context, traceparent with that
// value: Millrace takes part in no trace of its own, it hands on the one that the event came with. An attempt is at most one
// request: nothing is sent again behind the router's back.
//
// A status of 2xx is success as soon as it is there; what follows may be cut off. Redirects are not followed, since they would
// let a destination choose who receives the event. The environment's proxy settings are ignored, HTTP/1.1 is spoken, and
// answers are not decompressed.
package http

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"net/url"
	"syscall"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

const (
	maxAnswer  = 1 << 10  // of a failure, for a person to read
	maxDrain   = 64 << 10 // read of any answer, so that its connection can be used again
	maxHeaders = 64 << 10 // of an answer
	maxIdle    = 1024     // connections kept open; more than any concurrency a machine of this size runs
	maxError   = 512      // characters of an error's text, which may quote what the destination sent
)

// Sink sends events to one HTTP destination. All methods may be called concurrently.
type Sink struct {
	url       rules.Template
	fixed     *url.URL // the whole URL, if it is literal
	to        target
	method    string
	mode      string
	headers   []header
	transport *nethttp.Transport
	now       func() time.Time
	drainFor  time.Duration // how long the rest of an answer is waited for
}

// New checks the settings and returns the sink. It connects to nothing. Its error joins one *event.KeyError for each fault.
func New(c Config, options ...Option) (*Sink, error) {
	to, headers, err := c.check()
	if err != nil {
		return nil, err
	}
	s := &Sink{
		url: c.URL, to: to, method: c.Method, mode: c.Mode, headers: headers,
		transport: newTransport(c.DenyPrivate), now: time.Now, drainFor: time.Second,
	}
	if text, ok := c.URL.Literal(); ok {
		if s.fixed, err = s.parse(text); err != nil {
			return nil, &event.KeyError{Key: "url", Err: err}
		}
	}
	for _, o := range options {
		o(s)
	}
	return s, nil
}

// newTransport returns a transport that belongs to one sink, so that one destination's connections never wait for another's.
// It sets no timeouts: the context of an attempt bounds all of it, from the name's resolution to the answer's last byte.
func newTransport(denyPrivate bool) *nethttp.Transport {
	dialer := &net.Dialer{KeepAlive: 15 * time.Second}
	if denyPrivate {
		dialer.ControlContext = refusePrivate
	}
	protocols := &nethttp.Protocols{}
	protocols.SetHTTP1(true)
	return &nethttp.Transport{
		Proxy:                  nil,
		DialContext:            dialer.DialContext,
		TLSHandshakeTimeout:    10 * time.Second,
		DisableCompression:     true,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: maxHeaders,
		Protocols:              protocols,
	}
}

// Deliver sends the events one after another and answers a verdict for each. It returns when ctx ends; what was not answered by
// then is Unavailable.
func (s *Sink) Deliver(ctx context.Context, batch []event.Delivery) event.Settling {
	verdicts := make([]error, len(batch))
	for i, d := range batch {
		verdicts[i] = s.attempt(ctx, d)
	}
	return event.Settling{Verdicts: verdicts}
}

// Close closes the connections that nobody uses. The sink stays usable; Close may be called more than once.
func (s *Sink) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}

func (s *Sink) attempt(ctx context.Context, d event.Delivery) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := s.request(ctx, d)
	if err != nil {
		return event.Permanent(err)
	}
	answer, err := s.transport.RoundTrip(r)
	if err != nil {
		return s.unreachable(err)
	}
	// The rest of an answer is worth a moment, for its text and for the connection, but not the whole timeout.
	patience := time.AfterFunc(s.drainFor, cancel)
	defer patience.Stop()
	text := drain(answer)
	return s.verdict(answer, text)
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

// drain reads the beginning of the answer's body and closes it. It returns the first KiB of an answer that is not a success.
// A body that ends within the bound leaves its connection for the next request; any other closes it. What goes wrong here
// changes nothing, the status has already said all.
func drain(answer *nethttp.Response) []byte {
	defer answer.Body.Close()
	if answer.StatusCode == nethttp.StatusSwitchingProtocols {
		return nil // there is no body but a connection that says something else now
	}
	var text []byte
	if !isSuccess(answer.StatusCode) {
		text, _ = io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	}
	if answer.ContentLength <= maxDrain {
		_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxDrain-int64(len(text))))
	}
	return text
}

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
