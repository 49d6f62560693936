package http

import (
	"context"
	"net"
)

// Option is a setting that the program makes, not the user.
type Option func(*Sink)

// Dial makes the sink get its connections from dial, and resolve and check no address by itself. scheme is http or https, address
// is the host and port of the URL. A connection for https is used as it is returned: whoever dials does the TLS, or leaves it out.
func Dial(dial func(ctx context.Context, scheme, address string) (net.Conn, error)) Option {
	return func(s *Sink) {
		s.dial = func(ctx context.Context) (net.Conn, error) { return dial(ctx, s.to.scheme, s.to.dial) }
	}
}
