package http

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
	"github.com/millrace-run/millrace/rules"
)

// keyHeader carries the idempotency key. It stands in the header map in lower case, which on the wire means the same:
// in the canonical spelling net/http takes it as leave to send the request a second time by itself when a connection breaks,
// and that repetition would be an attempt that nobody counted.
const keyHeader = "idempotency-key"

// request builds one attempt. Whatever it cannot build is the event's fault, so the caller makes its errors Permanent.
func (s *Sink) request(ctx context.Context, d event.Delivery) (*nethttp.Request, error) {
	in := &rules.Input{Event: d.Event}
	u, err := s.render(in)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	h := nethttp.Header{}
	body := s.content(h, d.Event)
	h.Set("User-Agent", "millrace")
	for _, set := range s.headers {
		value, err := set.value.Render(in)
		if err != nil {
			return nil, fmt.Errorf("header %s: %w", set.name, err)
		}
		h[set.name] = []string{value}
	}
	h[keyHeader] = []string{`"` + d.Key + `"`}
	h.Set("Millrace-Attempt", strconv.Itoa(d.Attempt))
	if x, ok := d.Event.Extension("traceparent"); ok && validTraceparent(x.Text) {
		h.Set("Traceparent", x.Text)
	}
	if err := checkValues(h); err != nil {
		return nil, err
	}
	return newRequest(ctx, s.method, u, h, body), nil
}

// newRequest gives the request a body that can be had again, which lets the transport move on to another connection when the
// first turned out dead before a byte was written.
func newRequest(ctx context.Context, method string, u *url.URL, h nethttp.Header, body []byte) *nethttp.Request {
	r := &nethttp.Request{
		Method: method, URL: u, Host: u.Host, Header: h,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: nethttp.NoBody,
	}
	if len(body) > 0 {
		r.ContentLength = int64(len(body))
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		r.Body, _ = r.GetBody()
	}
	return r.WithContext(ctx)
}

// content writes the headers that the mode asks for and returns the body.
func (s *Sink) content(h nethttp.Header, ev *event.Event) []byte {
	switch s.mode {
	case modeStructured:
		return codec.WriteStructured(h, nil, ev)
	case modeData:
		if ev.DataContentType != "" {
			h.Set("Content-Type", ev.DataContentType)
		}
	default:
		codec.WriteBinary(h, ev)
	}
	return ev.Data
}

// checkValues refuses what would break out of its header, before a connection is made and the transport would refuse it as if
// the destination were at fault. It names the header and keeps its value to itself, which may be a secret.
func checkValues(h nethttp.Header) error {
	for name, values := range h {
		for _, v := range values {
			if hasControl(v) {
				return fmt.Errorf("header %s: the value has a control character in it", name)
			}
		}
	}
	return nil
}

// render fills in the URL. Scheme and host are literal, so that no event chooses who is talked to.
func (s *Sink) render(in *rules.Input) (*url.URL, error) {
	if s.fixed != nil {
		u := *s.fixed
		return &u, nil
	}
	text, err := s.url.RenderEscaped(in, percentEncode)
	if err != nil {
		return nil, err
	}
	return s.parse(text)
}

func (s *Sink) parse(text string) (*url.URL, error) {
	if hasControl(text) {
		return nil, errors.New("there is a control character in it")
	}
	u, err := url.Parse(encodeStray(text))
	if err != nil {
		return nil, errors.New("it has a % that two hexadecimal digits do not follow") // the cause would quote the query
	}
	if u.Scheme != s.to.scheme || u.Host != s.to.host || u.User != nil {
		return nil, errors.New("scheme, host and port must be literal")
	}
	u.Fragment, u.RawFragment = "", ""
	return u, checkDots(u.EscapedPath())
}

// percentEncode encodes everything but RFC 3986's unreserved characters, so that a value stays one path segment or one value
// of the query.
func percentEncode(s string) string {
	return encode(s, func(c byte) bool {
		return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
	})
}

// encodeStray encodes what no URL may hold, such as spaces and letters beyond ASCII in its literal text, and nothing else.
func encodeStray(s string) string {
	return encode(s, func(c byte) bool { return c > ' ' && c < 0x7f && !strings.ContainsRune("\"<>\\^`{|}", rune(c)) })
}

func encode(s string, keep func(byte) bool) string {
	var b strings.Builder
	b.Grow(len(s))
	for i := range len(s) {
		if c := s[i]; keep(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// validTraceparent says whether s is a traceparent of W3C Trace Context: version, 32 and 16 hexadecimal digits that are not all
// zero, flags. Versions after 00 may go on behind the flags.
func validTraceparent(s string) bool {
	if len(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return false
	}
	version, trace, parent, flags, more := s[:2], s[3:35], s[36:52], s[53:55], s[55:]
	for _, part := range []string{version, trace, parent, flags} {
		if strings.Trim(part, "0123456789abcdef") != "" {
			return false
		}
	}
	if strings.Trim(trace, "0") == "" || strings.Trim(parent, "0") == "" || version == "ff" {
		return false
	}
	return more == "" || version != "00" && more[0] == '-'
}
