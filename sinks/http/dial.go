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
	through := func(scheme string) func(context.Context, string, string) (net.Conn, error) {
		return func(ctx context.Context, _, address string) (net.Conn, error) { return dial(ctx, scheme, address) }
	}
	return func(s *Sink) {
		s.transport.DialContext = through("http")
		s.transport.DialTLSContext = through("https")
	}
}
