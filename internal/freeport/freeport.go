// Package freeport finds ports of loopback for tests and benchmarks, which start programs that are told where to listen.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// tries is far more than are taken on any machine that tests run on.
const tries = 1000

// Find returns n different addresses, host:port, on which nobody listens. Their ports are below those that systems give to
// outgoing connections, one of which could otherwise take a port before the program does.
func Find(n int) ([]string, error) {
	var found []string
	for range tries {
		if len(found) == n {
			return found, nil
		}
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 10_000+rand.IntN(20_000)))
		if err != nil {
			continue
		}
		defer l.Close() // not before all are found, so that they differ
		found = append(found, l.Addr().String())
	}
	return nil, errors.New("no port is free on 127.0.0.1")
}
