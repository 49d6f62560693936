// Package wire reads HTTP/1.1 messages for the two ends of a benchmark, as cheaply as can be: they share the machine with what is
// measured. It understands what a well-behaved peer sends on a kept connection, and refuses the rest.
package wire

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// ErrMalformed means that the peer does not speak HTTP/1.1 as it is understood here.
var ErrMalformed = errors.New("malformed HTTP message")

// maxBody is the largest body that is read, in bytes.
const maxBody = 64 << 20

// Message is a request or a response. Its slices are valid until the next Read.
type Message struct {
	Start []byte // the request line or the status line
	Body  []byte
	Close bool // the peer closes the connection after it

	length  int
	chunked bool
	expect  bool // the peer waits for "100 Continue" before it sends the body
}

// Read reads one message into m, whose buffers are used again. continued is told when the peer wants to hear "100 Continue"; it
// may be nil for responses. At a clean end before the first byte the error is io.EOF.
func (m *Message) Read(r *bufio.Reader, continued func() error) error {
	m.Body, m.length, m.chunked, m.Close, m.expect = m.Body[:0], 0, false, false, false
	line, err := r.ReadSlice('\n')
	if err != nil {
		return err
	}
	m.Start = append(m.Start[:0], bytes.TrimRight(line, "\r\n")...)
	if err := m.headers(r); err != nil {
		return whole(err)
	}
	if m.expect && continued != nil {
		if err := continued(); err != nil {
			return err
		}
	}
	if m.chunked {
		return whole(m.chunks(r))
	}
	return whole(m.read(r, m.length))
}

// whole tells an end inside a message from one between two.
func whole(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (m *Message) headers(r *bufio.Reader) error {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 {
			return nil
		}
		// Only four headers matter, so the first letter decides for nearly all.
		switch line[0] | 0x20 {
		case 'c', 't', 'e':
			if err := m.header(line); err != nil {
				return err
			}
		}
	}
}

func (m *Message) header(line []byte) error {
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok {
		return fmt.Errorf("%w: header %q", ErrMalformed, line)
	}
	value = bytes.TrimSpace(value)
	switch {
	case equal(name, "content-length"):
		n, err := strconv.Atoi(string(value))
		if err != nil || n < 0 || n > maxBody {
			return fmt.Errorf("%w: Content-Length %q", ErrMalformed, value)
		}
		m.length = n
	case equal(name, "transfer-encoding"):
		m.chunked = equal(value, "chunked")
	case equal(name, "connection"):
		m.Close = equal(value, "close")
	case equal(name, "expect"):
		m.expect = equal(value, "100-continue")
	}
	return nil
}

// equal compares without regard to case; lower is in lower case.
func equal(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i := range b {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func (m *Message) chunks(r *bufio.Reader) error {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		size, _, _ := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(";"))
		n, err := strconv.ParseUint(string(size), 16, 31)
		if err != nil || len(m.Body)+int(n) > maxBody {
			return fmt.Errorf("%w: chunk %q", ErrMalformed, line)
		}
		if n == 0 {
			return m.headers(r) // trailers and the empty line
		}
		if err := m.read(r, int(n)); err != nil {
			return err
		}
		if _, err := r.ReadSlice('\n'); err != nil {
			return err
		}
	}
}

// read appends n bytes to the body.
func (m *Message) read(r *bufio.Reader, n int) error {
	at := len(m.Body)
	if cap(m.Body) < at+n {
		m.Body = append(make([]byte, 0, 2*(at+n)), m.Body...)
	}
	m.Body = m.Body[:at+n]
	_, err := io.ReadFull(r, m.Body[at:])
	return err
}

// Status is the code of a response.
func (m *Message) Status() (int, error) {
	if len(m.Start) < 12 || !bytes.HasPrefix(m.Start, []byte("HTTP/1.")) {
		return 0, fmt.Errorf("%w: status line %q", ErrMalformed, m.Start)
	}
	code, err := strconv.Atoi(string(m.Start[9:12]))
	if err != nil || code < 100 || code > 599 {
		return 0, fmt.Errorf("%w: status line %q", ErrMalformed, m.Start)
	}
	return code, nil
}

// Path is the target of a request, without its query. It is valid until the next Read.
func (m *Message) Path() []byte {
	_, target, _ := bytes.Cut(m.Start, []byte(" "))
	target, _, _ = bytes.Cut(target, []byte(" "))
	target, _, _ = bytes.Cut(target, []byte("?"))
	return target
}
