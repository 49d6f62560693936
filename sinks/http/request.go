package http

import (
	"errors"
	"fmt"
	nethttp "net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
	"github.com/millrace-run/millrace/rules"
)

// message is a request as it goes over the wire. It is used for one attempt at a time.
type message struct {
	head, body []byte
	whole      bool   // head has the body behind it
	room       []byte // memory for bodies that are made
}

// maxRoom is how much memory for bodies a message keeps for the next one.
const maxRoom = 256 << 10

// grow returns room for a body of about so many bytes, and keeps it for the next message unless it is large.
func (m *message) grow(size int) []byte {
	if size > maxRoom {
		return make([]byte, 0, size)
	}
	if cap(m.room) < size {
		m.room = make([]byte, 0, size+size/4)
	}
	return m.room
}

// joined is all of the message in one piece.
func (m *message) joined() []byte {
	if !m.whole {
		m.head, m.whole = append(m.head, m.body...), true
	}
	return m.head
}

var messages = sync.Pool{New: func() any { return &message{head: make([]byte, 0, 4<<10)} }}

// release gives back the memory of a message that nobody uses any more.
func (m *message) release() {
	if cap(m.head) > 2*inlineMax {
		return
	}
	m.head, m.body, m.whole = m.head[:0], nil, false
	messages.Put(m)
}

// set adds a header. It refuses what would break out of it, before a connection is made. It names the header and keeps its value
// to itself, which may be a secret.
func (m *message) set(name, value string) error {
	if hasControl(value) {
		return fmt.Errorf("header %s: the value has a control character in it", name)
	}
	m.head = append(append(append(append(m.head, name...), ": "...), value...), "\r\n"...)
	return nil
}

// request builds one attempt. Whatever it cannot build is the event's fault, so the caller makes its errors Permanent.
func (s *Sink) request(d event.Delivery) (*message, error) {
	m := messages.Get().(*message)
	if err := s.build(m, d); err != nil {
		m.release()
		return nil, err
	}
	return m, nil
}

func (s *Sink) build(m *message, d event.Delivery) error {
	in := &rules.Input{Event: d.Event}
	if err := s.begin(m, in); err != nil {
		return err
	}
	if err := s.content(m, d.Event); err != nil {
		return err
	}
	m.head = append(append(append(m.head, `Idempotency-Key: "`...), d.Key...), "\"\r\n"...)
	if x, ok := d.Event.Extension("traceparent"); ok && validTraceparent(x.Text) {
		if err := m.set("Traceparent", x.Text); err != nil {
			return err
		}
	}
	m.end(d.Attempt)
	return nil
}

// begin writes the request line and the headers that the file asks for.
func (s *Sink) begin(m *message, in *rules.Input) error {
	path := s.path
	if s.fixed == nil {
		u, err := s.render(in)
		if err != nil {
			return fmt.Errorf("url: %w", err)
		}
		path = u.RequestURI()
	}
	m.head = append(append(append(append(m.head, s.method...), ' '), path...), s.start...)
	for _, set := range s.headers {
		value, err := set.value.Render(in)
		if err != nil {
			return fmt.Errorf("header %s: %w", set.name, err)
		}
		if err := m.set(set.name, value); err != nil {
			return err
		}
	}
	return nil
}

// end writes the headers that stand in every request, and the line behind them.
func (m *message) end(attempt int) {
	m.head = strconv.AppendInt(append(m.head, "Millrace-Attempt: "...), int64(attempt), 10)
	m.head = strconv.AppendInt(append(m.head, "\r\nContent-Length: "...), int64(len(m.body)), 10)
	m.head = append(m.head, "\r\n\r\n"...)
}

// beginning is what follows the path in every request: the rest of the request line, and the headers that no event changes. It
// returns the others.
func beginning(to target, headers []header) (start string, others []header) {
	m := &message{}
	agent := "millrace"
	for _, h := range headers {
		if h.name == "User-Agent" {
			agent = ""
		}
		if text, literal := h.value.Literal(); literal {
			_ = m.set(h.name, text) // checked with the settings
		} else {
			others = append(others, h)
		}
	}
	start = " HTTP/1.1\r\nHost: " + to.header + "\r\n"
	if agent != "" {
		start += "User-Agent: " + agent + "\r\n"
	}
	return start + string(m.head), others
}

// content writes the headers that the mode asks for and sets the body.
func (s *Sink) content(m *message, ev *event.Event) error {
	m.body = ev.Data
	switch s.mode {
	case modeStructured:
		m.body = codec.EncodeJSON(m.grow(ev.Size()+512), ev)
		return m.set("Content-Type", codec.TypeJSON)
	case modeData:
		if ev.DataContentType == "" || s.ownType {
			return nil
		}
		return m.set("Content-Type", ev.DataContentType)
	}
	return m.binary(ev)
}

// binary writes the attributes as headers. Those that a header can carry as they are, which is nearly all, take the short way;
// how others are encoded is known to codec.
func (m *message) binary(ev *event.Event) error {
	attributes := [...]struct{ name, text string }{{"Ce-Id", ev.ID}, {"Ce-Source", ev.Source}, {"Ce-Type", ev.Type},
		{"Ce-Subject", ev.Subject}, {"Ce-Time", ev.Time}, {"Ce-Dataschema", ev.DataSchema}}
	for _, a := range attributes {
		if !isPlain(a.text) {
			return m.encoded(ev)
		}
	}
	if len(ev.Extensions) > 0 {
		return m.encoded(ev)
	}
	m.head = append(m.head, "Ce-Specversion: 1.0\r\n"...)
	for i, a := range attributes {
		if i < 3 || a.text != "" {
			_ = m.set(a.name, a.text)
		}
	}
	if ev.DataContentType == "" {
		return nil
	}
	return m.set("Content-Type", ev.DataContentType)
}

// isPlain says whether a header's value in the CloudEvents binding is the text itself.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == '%' {
			return false
		}
	}
	return true
}

func (m *message) encoded(ev *event.Event) error {
	h := nethttp.Header{}
	codec.WriteBinary(h, ev)
	for name, values := range h {
		if !isToken(name) {
			return fmt.Errorf("header %q: not a valid name of a header", name)
		}
		if err := m.set(name, values[0]); err != nil {
			return err
		}
	}
	return nil
}

// render fills in the URL. Scheme and host are literal, so that no event chooses who is talked to.
func (s *Sink) render(in *rules.Input) (*url.URL, error) {
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
