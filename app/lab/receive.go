// Package lab has what stands in for the world when a configuration is tried: the receivers that take what sinks send, and show it.
package lab

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// SinkName names a sink of a plan.
type SinkName struct{ Pipeline, Sink string }

// String is what people read: orders/archive.
func (n SinkName) String() string { return n.Pipeline + "/" + n.Sink }

// Receivers stand in for the destinations of sinks: an HTTP server that answers every request with 204, and a mail server that
// takes every mail, both on loopback. What arrives is printed before it is answered.
type Receivers struct {
	authority *authority
	web       *webReceiver
	mail      *mailReceiver
	serving   sync.WaitGroup
}

// Receive opens the receivers. Close them. What onward says is for this process itself is shown too and handed on.
func Receive(ctx context.Context, printer *Printer, logger *slog.Logger, onward Onward) (*Receivers, error) {
	r := &Receivers{}
	var err error
	if r.authority, err = newAuthority(time.Now()); err != nil {
		return nil, fmt.Errorf("the built-in receivers have no certificate: %w", err)
	}
	if r.web, err = newWebReceiver(ctx, printer, logger, onward); err != nil {
		return nil, err
	}
	if r.mail, err = newMailReceiver(ctx, printer, logger, r.authority.config()); err != nil {
		r.web.door.shut()
		return nil, err
	}
	r.serving.Go(r.web.serve)
	r.serving.Go(r.mail.serve)
	r.serving.Go(r.mail.serveTLS)
	return r, nil
}

// Roots are the certificates that a sink must trust to speak TLS with the receivers.
func (r *Receivers) Roots() *x509.CertPool { return r.authority.pool() }

// Dial connects a sink with the receiver for the scheme of its address. A request for https comes without TLS: it is the same without it. Sinks
// of mail do their TLS themselves, as the server's answers depend on it.
func (r *Receivers) Dial(ctx context.Context, sink SinkName, scheme, address string) (net.Conn, error) {
	from := caller{sink, scheme, address}
	switch scheme {
	case "http", "https":
		return r.web.door.dial(ctx, from)
	case "smtp":
		return r.mail.door.dial(ctx, from)
	case "smtps":
		return r.mail.doorTLS.dial(ctx, from)
	}
	return nil, fmt.Errorf("there is no receiver for %s", scheme)
}

// Close ends the receivers: what is being answered gets until ctx ends. No goroutine of theirs is left when it returns.
func (r *Receivers) Close(ctx context.Context) {
	r.web.stop(ctx)
	r.mail.stop(ctx)
	r.serving.Wait()
}
