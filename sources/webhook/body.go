package webhook

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// exchange is one request and its answer.
type exchange struct {
	w        http.ResponseWriter
	r        *http.Request
	drainFor time.Duration
	started  bool // reading the body has begun
	complete bool // all of it was read
}

// firstRead is how much memory a body gets before any of it has arrived: what a client merely announces costs no more.
const firstRead = 64 << 10

// readBody reads the whole body within timeout. It asks for no more memory than twice what has arrived.
func (x *exchange) readBody(max int64, timeout time.Duration) ([]byte, *problem) {
	size := x.r.ContentLength
	if size == 0 {
		x.complete = true
		return []byte{}, nil
	}
	if size > max {
		return nil, bodyTooLarge(max)
	}
	limit := size
	if size < 0 { // chunked: one byte more than allowed tells that it is too large
		limit, size = max+1, 4<<10
	}
	x.started = true
	// The server is shared, so the deadline is set for each request. A ResponseWriter that has none is not a connection that could
	// be slow. net/http removes the deadline when it has seen the end of the body.
	_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(timeout))
	body, err := readAll(x.r.Body, min(size, limit, firstRead), limit)
	switch {
	case err != nil:
		return nil, readProblem(err, len(body))
	case int64(len(body)) > max:
		return nil, bodyTooLarge(max)
	}
	x.complete = true
	return body, nil
}

func bodyTooLarge(max int64) *problem {
	return tooLarge(fmt.Sprintf("the body has more than %d bytes, which is the most that this webhook takes (max_body)", max))
}

// readAll reads until the end or until it has limit bytes.
func readAll(r io.Reader, first, limit int64) ([]byte, error) {
	buf := make([]byte, 0, first)
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case err == io.EOF: //nolint:errorlint // a Reader returns io.EOF itself
			return fit(buf), nil
		case err != nil:
			return buf, err
		case int64(len(buf)) >= limit:
			return fit(buf), nil
		case len(buf) == cap(buf):
			grown := make([]byte, len(buf), min(2*int64(cap(buf)), limit))
			copy(grown, buf)
			buf = grown
		}
	}
}

// fit returns buf in memory of about its size, because events keep it for long.
func fit(buf []byte) []byte {
	if cap(buf)-len(buf) > len(buf)/4 {
		return append(make([]byte, 0, len(buf)), buf...)
	}
	return buf
}

func readProblem(err error, got int) *problem {
	var tooMuch *http.MaxBytesError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return tooSlow()
	case errors.As(err, &tooMuch):
		return bodyTooLarge(tooMuch.Limit)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return malformed(fmt.Sprintf("the body ends after %d bytes, before its announced end; nothing was stored", got))
	}
	return malformed("the body cannot be read; nothing was stored")
}

// refuse answers with a problem. What is left of the body is read for a moment and thrown away: a client that writes all before
// it reads would otherwise see a broken connection in place of the answer.
func (x *exchange) refuse(p *problem) {
	if x.complete || x.r.ContentLength == 0 {
		p.write(x.w)
		return
	}
	x.w.Header().Set("Connection", "close")
	p.write(x.w)
	if _, expects := x.r.Header["Expect"]; expects && !x.started {
		return // the client waits for leave to send the body, and now has its answer instead
	}
	control := http.NewResponseController(x.w)
	_ = control.Flush() // no error of these two matters: the answer is as good as written
	_ = control.SetReadDeadline(time.Now().Add(x.drainFor))
	_, _ = io.Copy(io.Discard, x.r.Body)
}

// isBlank says whether b is white space of JSON only.
func isBlank(b []byte) bool { return len(bytes.Trim(b, " \t\r\n")) == 0 }
