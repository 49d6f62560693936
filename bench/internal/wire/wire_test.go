package wire

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestRead(t *testing.T) {
	for _, c := range []struct {
		name, text  string
		start, body string
		closes      bool
		err         error
	}{
		{"length", "POST /a HTTP/1.1\r\nContent-Length: 3\r\nHost: x\r\n\r\nabc", "POST /a HTTP/1.1", "abc", false, nil},
		{"no body", "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 204 No Content", "", false, nil},
		{"any case, no space", "HTTP/1.1 202 x\r\nCONTENT-length:2\r\ncOnnection:Close\r\n\r\nok", "HTTP/1.1 202 x", "ok", true, nil},
		{"chunks", "P / H\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n", "P / H", "abcd", false, nil},
		{"trailers", "P / H\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n", "P / H", "a", false, nil},
		{"other headers", "P / H\r\nCache: 1\r\nTe: x\r\nEtag: y\r\nContent-Length: 1\r\n\r\na", "P / H", "a", false, nil},
		{"end", "", "", "", false, io.EOF},
		{"end in the head", "POST /a HTTP/1.1\r\nHost", "", "", false, io.ErrUnexpectedEOF},
		{"end in the body", "POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", "", "", false, io.ErrUnexpectedEOF},
		{"end in a chunk", "P / H\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", "", "", false, io.ErrUnexpectedEOF},
		{"bad length", "P / H\r\nContent-Length: -1\r\n\r\n", "", "", false, ErrMalformed},
		{"huge length", "P / H\r\nContent-Length: 99999999999\r\n\r\n", "", "", false, ErrMalformed},
		{"bad chunk", "P / H\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "", "", false, ErrMalformed},
		{"bad header", "P / H\r\nConnection close\r\n\r\n", "", "", false, ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m Message
			err := m.Read(bufio.NewReader(iotest.OneByteReader(strings.NewReader(c.text))), nil)
			if !errors.Is(err, c.err) {
				t.Fatalf("%v, want %v", err, c.err)
			}
			if err == nil && (string(m.Start) != c.start || string(m.Body) != c.body || m.Close != c.closes) {
				t.Errorf("%q, %q, %v", m.Start, m.Body, m.Close)
			}
		})
	}
}

// TestReadAgain reads messages of one connection into one Message: nothing of an earlier one is left.
func TestReadAgain(t *testing.T) {
	text := "P /a?b HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello" +
		"P /c HTTP/1.1\r\n\r\n" + "HTTP/1.1 503 No\r\nContent-Length: 1\r\n\r\n!"
	r := bufio.NewReader(strings.NewReader(text))
	var m Message
	continued := 0
	hear := func() error { continued++; return nil }
	if err := m.Read(r, hear); err != nil || string(m.Path()) != "/a" || !m.Close || continued != 1 {
		t.Errorf("%q %v %d %v", m.Path(), m.Close, continued, err)
	}
	if _, err := m.Status(); err == nil {
		t.Error("a request has a status")
	}
	if err := m.Read(r, hear); err != nil || string(m.Path()) != "/c" || m.Close || len(m.Body) != 0 || continued != 1 {
		t.Errorf("%q %v %q %d %v", m.Path(), m.Close, m.Body, continued, err)
	}
	if err := m.Read(r, nil); err != nil || string(m.Body) != "!" {
		t.Errorf("%q %v", m.Body, err)
	}
	if status, err := m.Status(); status != 503 || err != nil {
		t.Errorf("%d %v", status, err)
	}
}
