package email

import (
	"context"
	"crypto/x509"
	"net"
	"time"
)

// Option is a setting that the program makes, not the user.
type Option func(*Sink)

// Dial makes the sink get its connections from dial instead of the network. scheme is smtp or smtps, address is the host and port of
// the server. The sink speaks TLS over it as it always would, and trusts roots in place of the system's certificates.
func Dial(dial func(ctx context.Context, scheme, address string) (net.Conn, error), roots *x509.CertPool) Option {
	return func(s *Sink) { s.dial, s.roots = dial, roots }
}

// network dials the literal host and nobody else.
func network(ctx context.Context, _, address string) (net.Conn, error) {
	return (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext(ctx, "tcp", address)
}

func (s server) scheme() string {
	if s.implicit {
		return "smtps"
	}
	return "smtp"
}
