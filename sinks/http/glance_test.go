package http

import (
	"bufio"
	"bytes"
	"io"
	nethttp "net/http"
	"testing"
)

var glances = []struct {
	text string
	ok   bool
}{
	{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true},
	{"HTTP/1.1 200 OK\r\ncontent-length:2 \t\r\nDate: x\r\nX-A: a:b\r\nX-Empty:\r\n\r\nok", true},
	{"HTTP/1.1 202 \r\nContent-Length: 0\r\n\r\n", true},
	{"HTTP/1.1 202\r\nContent-Length: 0\r\n\r\n", true},
	{"HTTP/1.1 204 No Content\r\n\r\n", true},
	{"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", true},
	{"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok", true}, // the rest of the body comes later
	{"HTTP/1.1 200 OK\r\n\r\n", false},
	{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", false},
	{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", false},
	{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", false},
	{"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", false},
	{"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n", false},
	{"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n", false},
	{"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", false},
	{"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n", false},
	{"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", false},
	{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n folded\r\n\r\nok", false},
	{"HTTP/1.1 200 OK\r\nContent-Length: 2\nX: y\r\n\r\nok", false},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n", false},
	{"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", false},
	{"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 2\r\n\r\nok", false},
	{"HTTP/1.1 200 OK\r\nX: \x00\r\nContent-Length: 2\r\n\r\nok", false},
	{"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok", false},
	{"HTTP/1.1 100 Continue\r\n\r\n", false},
	{"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nok", false},
	{"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false},
	{"HTTP/1.1 200", false}, {"HTTP/1.1", false}, {"", false},
}

func TestGlance(t *testing.T) {
	for _, c := range glances {
		if _, _, _, ok := glance([]byte(c.text)); ok != c.ok {
			t.Errorf("%q: %v", c.text, ok)
		}
		agrees(t, []byte(c.text))
	}
}

// FuzzGlance: what glance accepts, net/http reads in the same way.
func FuzzGlance(f *testing.F) {
	for _, c := range glances {
		f.Add([]byte(c.text))
	}
	f.Fuzz(func(t *testing.T, text []byte) { agrees(t, text) })
}

func agrees(t *testing.T, text []byte) {
	status, head, body, ok := glance(text)
	if !ok {
		return
	}
	r := bufio.NewReader(bytes.NewReader(text))
	res, err := nethttp.ReadResponse(r, &nethttp.Request{Method: "POST"})
	if err != nil {
		t.Fatalf("%q: net/http says %v", text, err)
	}
	if res.StatusCode != status || res.Close || len(text)-head != r.Buffered() {
		t.Errorf("%q: status %d, close %v, %d bytes behind the head; here %d and %d", text, res.StatusCode, res.Close,
			r.Buffered(), status, len(text)-head)
	}
	got, err := io.ReadAll(res.Body)
	if whole := len(text)-head >= body; whole && (err != nil || len(got) != body) || !whole && err == nil {
		t.Errorf("%q: a body of %d bytes, %v; here %d", text, len(got), err, body)
	}
}
