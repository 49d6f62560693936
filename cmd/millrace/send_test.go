package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// posting is a command line of send for a webhook at an address.
func posting(t *testing.T, in io.Reader, address string) (*command, *sendFlags) {
	t.Helper()
	return &command{
		streams: streams{in: in, out: &bytes.Buffer{}, err: &bytes.Buffer{}, env: func(string) (string, bool) { return "", false }},
		config:  "templates/orders/pipelines.yaml",
	}, &sendFlags{url: address}
}

// Ctrl-C ends a send that waits for standard input.
func TestSendHearsCtrlC(t *testing.T) {
	in, keyboard := io.Pipe()
	defer keyboard.Close()
	c, f := posting(t, in, "http://127.0.0.1:1")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("interrupt received"))
	if err := c.send(ctx, []string{"orders", "-"}, f, false); err == nil || !strings.Contains(err.Error(), "interrupt received") {
		t.Error(err)
	}
}

// An error tells whether what was posted may be accepted: not where nobody was reached, but where the answer is missing.
func TestSendInDoubt(t *testing.T) {
	const doubt = "may be accepted all the same"
	for name, c := range map[string]struct {
		answer string
		doubt  bool
	}{
		"no answer":      {"", true},
		"half of one":    {"HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\n{", true},
		"another's":      {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", false},
		"nobody listens": {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			served := make(chan struct{})
			if name == "nobody listens" {
				_ = l.Close()
			}
			go func() {
				defer close(served)
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					_, _ = io.Copy(io.Discard, r.Body)
				}
				_, _ = io.WriteString(conn, c.answer)
			}()
			cmd, f := posting(t, nil, "http://"+l.Addr().String())
			f.data = "{}"
			err = cmd.send(t.Context(), []string{"orders"}, f, true)
			<-served
			var e *exit
			if !errors.As(err, &e) || e.code != exitUnreachable || strings.Contains(err.Error(), doubt) != c.doubt {
				t.Error(err)
			}
		})
	}
}
