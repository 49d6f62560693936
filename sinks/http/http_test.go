package http

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
	"github.com/millrace-run/millrace/rules"
	"github.com/millrace-run/millrace/sinks/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func template(t testing.TB, source string) rules.Template {
	t.Helper()
	c, err := rules.CompileTemplate(source, rules.Options{})
	if err != nil {
		t.Fatalf("template %q: %v", source, err)
	}
	return c
}

// newSink returns a sink for a URL; change may alter its settings.
func newSink(t testing.TB, url string, change ...func(*Config)) *Sink {
	t.Helper()
	c := Defaults()
	c.URL = template(t, url)
	for _, f := range change {
		f(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func order() event.Delivery {
	ev := &event.Event{
		ID: "o-1", Source: "/shop", Type: "shop.order", Subject: "Zoë & co", Time: "2026-01-02T03:04:05.600+01:00",
		DataContentType: "application/json", Data: []byte("{\"id\": \"o-1\",\n \"total\": 1.50}"),
	}
	return event.Delivery{Event: ev, Key: "0123456789abcdef0123456789abcdef", Attempt: 3}
}

// send delivers one event within 10 s.
func send(t testing.TB, s *Sink, d event.Delivery) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	out := s.Deliver(ctx, []event.Delivery{d})
	if len(out.Verdicts) != 1 || out.Changes != nil {
		t.Fatalf("settling %+v", out)
	}
	if out.Verdicts[0] == nil && !isSuccess(out.Status(0)) {
		t.Errorf("the receipt of a success would have the status %d", out.Status(0))
	}
	return out.Verdicts[0]
}

// failure delivers one event and returns the verdict, which must be a failure of a class.
func failure(t testing.TB, s *Sink, d event.Delivery, class event.Class) event.Failure {
	t.Helper()
	err := send(t, s, d)
	if err == nil {
		t.Fatal("accepted")
	}
	f := event.VerdictOf(err)
	if f.Class != class {
		t.Errorf("class %d, want %d: %v", f.Class, class, err)
	}
	return f
}

// request is what a server saw.
type request struct {
	method, uri string
	header      nethttp.Header
	body        []byte
}

// capture is a server that keeps what it gets and answers 200.
func capture(t testing.TB) (url string, next func() request) {
	seen := make(chan request, 100)
	srv := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		body, _ := io.ReadAll(r.Body)
		seen <- request{r.Method, r.RequestURI, r.Header, body}
	}))
	t.Cleanup(srv.Close)
	return srv.URL, func() request { return <-seen }
}

func TestBinaryMode(t *testing.T) {
	url, next := capture(t)
	d := order()
	d.Event.SetExtension(event.Extension{Name: "traceparent", Text: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
	d.Event.SetExtension(event.Extension{Name: "region", Text: "50% \"Süd\""})
	if err := send(t, newSink(t, url+"/in"), d); err != nil {
		t.Fatal(err)
	}
	r := next()
	if r.method != "POST" || r.uri != "/in" || !bytes.Equal(r.body, d.Event.Data) {
		t.Errorf("%s %s %q", r.method, r.uri, r.body)
	}
	for name, want := range map[string]string{
		"Idempotency-Key": `"0123456789abcdef0123456789abcdef"`, "Millrace-Attempt": "3", "Content-Type": "application/json",
		"Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"Ce-Id":       "o-1", "Ce-Time": "2026-01-02T03:04:05.600+01:00",
		"Content-Length": fmt.Sprint(len(d.Event.Data)), "User-Agent": "millrace", "Accept-Encoding": "",
	} {
		if got := r.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	back, err := codec.ReadBinary(r.header, r.body)
	if err != nil {
		t.Fatal(err)
	}
	x, _ := back.Extension("region")
	if back.Subject != d.Event.Subject || x.Text != "50% \"Süd\"" {
		t.Errorf("read back %+v", back)
	}
}

func TestAttributeCannotBreakOut(t *testing.T) {
	url, next := capture(t)
	d := order()
	d.Event.Subject = "a\r\nX-Evil: 1"
	if err := send(t, newSink(t, url), d); err != nil {
		t.Fatal(err)
	}
	if r := next(); r.header.Get("X-Evil") != "" || r.header.Get("Ce-Subject") != "a%0D%0AX-Evil:%201" {
		t.Errorf("%q", r.header)
	}
}

func TestStructuredMode(t *testing.T) {
	url, next := capture(t)
	d := order()
	if err := send(t, newSink(t, url, func(c *Config) { c.Mode, c.Method = "structured", "PUT" }), d); err != nil {
		t.Fatal(err)
	}
	r := next()
	back, err := codec.DecodeJSON(r.body, 0)
	if err != nil {
		t.Fatalf("%s: %v", r.body, err)
	}
	if r.method != "PUT" || r.header.Get("Content-Type") != codec.TypeJSON || r.header.Get("Ce-Id") != "" {
		t.Errorf("%+v", r)
	}
	if back.ID != "o-1" || back.Time != d.Event.Time {
		t.Errorf("%+v", back)
	}
}

func TestDataMode(t *testing.T) {
	url, next := capture(t)
	s := newSink(t, url, func(c *Config) { c.Mode = "data" })
	d := order()
	if err := send(t, s, d); err != nil {
		t.Fatal(err)
	}
	r := next()
	if !bytes.Equal(r.body, d.Event.Data) || r.header.Get("Content-Type") != "application/json" || r.header.Get("Ce-Id") != "" {
		t.Errorf("%+v", r)
	}
	d.Event.Data, d.Event.DataContentType = nil, ""
	if err := send(t, s, d); err != nil {
		t.Fatal(err)
	}
	r = next()
	if _, has := r.header["Content-Type"]; len(r.body) != 0 || has || r.header.Get("Content-Length") != "0" {
		t.Errorf("without data: %+v", r)
	}
}

func TestTemplates(t *testing.T) {
	url, next := capture(t)
	s := newSink(t, url+"/a b/{{ data.x }}/é?q={{ data.y }}&k=v w", func(c *Config) {
		c.Headers = map[string]rules.Template{"x-tenant": template(t, "t/{{ data.x }}"), "Authorization": template(t, "Bearer secret")}
	})
	d := order()
	d.Event.Data = []byte(`{"x":"../a/b?c#d%41 ü","y":"1&k=2+3/="}`)
	if err := send(t, s, d); err != nil {
		t.Fatal(err)
	}
	r := next()
	if want := "/a%20b/..%2Fa%2Fb%3Fc%23d%2541%20%C3%BC/%C3%A9?q=1%26k%3D2%2B3%2F%3D&k=v%20w"; r.uri != want {
		t.Errorf("uri  %s\nwant %s", r.uri, want)
	}
	if got := r.header.Get("X-Tenant"); got != "t/../a/b?c#d%41 ü" {
		t.Errorf("X-Tenant %q", got)
	}
	if got := r.header.Get("Authorization"); got != "Bearer secret" {
		t.Errorf("Authorization %q", got)
	}
}

func TestPermanentBeforeSending(t *testing.T) {
	url, _ := capture(t)
	data := func(s string) func(*event.Event) { return func(ev *event.Event) { ev.Data = []byte(s) } }
	s := newSink(t, url+"/{{ data.x }}/y?token=hunter2", func(c *Config) {
		c.Mode = "data"
		c.Headers = map[string]rules.Template{
			"X-A": template(t, "hunter2{{ data.h }}"), "X-B": template(t, `hunter2{{ data.h == "b" ? int("hunter3") : 1 }}`),
		}
	})
	for _, c := range []struct {
		name  string
		spoil func(*event.Event)
		want  string
	}{
		{"url meets nil", data(`{"h":"a"}`), "data.x"},
		{"header meets nil", data(`{"x":"a"}`), "data.h"},
		{"line feed in a header", data(`{"x":"a","h":"1\nX-Evil: 1"}`), "X-A"},
		{"carriage return in a header", data(`{"x":"a","h":"1\r"}`), "X-A"},
		{"header that cannot be filled in", data(`{"x":"a","h":"b"}`), "X-B"},
		{"NUL in a header", data(`{"x":"a","h":"\u0000"}`), "X-A"},
		{"DEL in a header", data(`{"x":"a","h":"\u007f"}`), "X-A"},
		{"line feed in the content type", func(ev *event.Event) {
			ev.Data, ev.DataContentType = []byte(`{"x":"a","h":"c"}`), "application/json;a=b\r\nX-Evil: 1"
		}, "Content-Type"},
		{"two dots in the path", data(`{"x":"..","h":"a"}`), ".."},
		{"one dot in the path", data(`{"x":".","h":"a"}`), ".."},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := order()
			c.spoil(d.Event)
			f := failure(t, s, d, event.PermanentClass)
			if !strings.Contains(f.Error(), c.want) || strings.Contains(f.Error(), "hunter2") {
				t.Errorf("error %q, want it to name %q and no secret", f.Error(), c.want)
			}
		})
	}
}

func TestTraceparent(t *testing.T) {
	const ok = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for value, want := range map[string]bool{
		ok:                            true,
		ok + "-more":                  false,
		"01" + ok[2:]:                 true,
		"cc" + ok[2:] + "-what-comes": true,
		"cc" + ok[2:] + "what-comes":  false,
		"ff" + ok[2:]:                 false,
		strings.ToUpper(ok):           false,
		"00-00000000000000000000000000000000-b7ad6b7169203331-01": false,
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01": false,
		ok[:54]:         false,
		"":              false,
		ok + "\r\nX: 1": false,
	} {
		if got := validTraceparent(value); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
	url, next := capture(t)
	d := order()
	d.Event.SetExtension(event.Extension{Name: "traceparent", Text: "ff" + ok[2:]})
	if err := send(t, newSink(t, url), d); err != nil {
		t.Fatal(err)
	}
	if r := next(); r.header.Get("Traceparent") != "" || r.header.Get("Ce-Traceparent") != "ff"+ok[2:] {
		t.Errorf("%v", r.header)
	}
}

func TestVerdicts(t *testing.T) {
	var status atomic.Int64
	srv := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(int(status.Load()))
		if s := status.Load(); s >= 200 && s != 204 && s != 304 {
			fmt.Fprintf(w, "status %d", s)
		}
	}))
	defer srv.Close()
	s := newSink(t, srv.URL)
	want := map[int]event.Class{410: event.GoneClass}
	for _, n := range []int{400, 406, 411, 413, 414, 415, 422, 431} {
		want[n] = event.PermanentClass
	}
	for _, n := range []int{401, 403, 404, 407, 408, 409, 425, 429} {
		want[n] = event.UnavailableClass
	}
	for n := 300; n < 400; n++ {
		want[n] = event.UnavailableClass
	}
	for n := 500; n < 600; n++ {
		want[n] = event.UnavailableClass
	}
	for n := 200; n < 1000; n++ {
		status.Store(int64(n))
		err := send(t, s, order())
		if n < 300 {
			if err != nil {
				t.Errorf("%d: %v", n, err)
			}
			continue
		}
		var f *event.Failure
		if !errors.As(err, &f) {
			t.Fatalf("%d: %v", n, err)
		}
		if f.Class != want[n] || f.Status != n || f.After != 0 || f.Deferred != (n == 429) || f.Refused {
			t.Errorf("%d: %+v, want class %d", n, f, want[n])
		}
		if text := fmt.Sprintf("status %d", n); n != 304 && string(f.Answer) != text {
			t.Errorf("%d: answer %q", n, f.Answer)
		}
		if !strings.Contains(f.Error(), fmt.Sprint(n)) {
			t.Errorf("%d: error %q", n, f.Error())
		}
	}
}

func TestSwitchingProtocolsCounts(t *testing.T) {
	addr := rawServer(t, func(c net.Conn) {
		readRequest(c)
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
		_, _ = io.Copy(io.Discard, c)
	})
	if f := failure(t, newSink(t, addr), order(), event.Counted); f.Status != 101 {
		t.Errorf("status %d", f.Status)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	date := func(d time.Duration) string { return now.Add(d).Format(nethttp.TimeFormat) }
	for _, c := range []struct {
		value string
		after time.Duration
		ok    bool
	}{
		{"", 0, false}, {" ", 0, false}, {"0", 0, true}, {"120", 2 * time.Minute, true}, {" 7 ", 7 * time.Second, true},
		{"3600", time.Hour, true}, {"3601", time.Hour, true}, {"99999999999999999999999999", time.Hour, true},
		{"9223372036854775807", time.Hour, true}, {"-1", 0, false}, {"+5", 0, false}, {"1.5", 0, false}, {"soon", 0, false},
		{"5s", 0, false}, {"٣", 0, false}, {date(90 * time.Second), 90 * time.Second, true}, {date(48 * time.Hour), time.Hour, true},
		{date(-time.Minute), 0, true}, {now.Add(time.Minute).Format(time.ANSIC), time.Minute, true},
		{"Fri, 99 Jan 2026 00:00:00 GMT", 0, false},
	} {
		if after, ok := retryAfter(c.value, now); after != c.after || ok != c.ok {
			t.Errorf("%q: %v %v, want %v %v", c.value, after, ok, c.after, c.ok)
		}
	}
}

func TestRetryAfterByStatus(t *testing.T) {
	var status atomic.Int64
	var header atomic.Value
	srv := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		if v := header.Load().(string); v != "" {
			w.Header().Set("Retry-After", v)
		}
		w.WriteHeader(int(status.Load()))
	}))
	defer srv.Close()
	s := newSink(t, srv.URL)
	for _, c := range []struct {
		status   int
		header   string
		class    event.Class
		after    time.Duration
		deferred bool
	}{
		{429, "", event.UnavailableClass, 0, true},
		{429, "30", event.UnavailableClass, 30 * time.Second, true},
		{429, "rubbish", event.UnavailableClass, 0, true},
		{503, "", event.UnavailableClass, 0, false},
		{503, "30", event.UnavailableClass, 30 * time.Second, true},
		{503, "-30", event.UnavailableClass, 0, false},
		{503, "86400", event.UnavailableClass, time.Hour, true},
		{302, "5", event.UnavailableClass, 5 * time.Second, true},
		{404, "5", event.UnavailableClass, 5 * time.Second, true},
		{400, "5", event.PermanentClass, 0, false},
		{418, "5", event.Counted, 0, false},
		{410, "5", event.GoneClass, 0, false},
	} {
		status.Store(int64(c.status))
		header.Store(c.header)
		f := failure(t, s, order(), c.class)
		if f.After != c.after || f.Deferred != c.deferred {
			t.Errorf("%d %q: after %v deferred %v, want %v %v", c.status, c.header, f.After, f.Deferred, c.after, c.deferred)
		}
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	var hits atomic.Int64
	other := httptest.NewServer(nethttp.HandlerFunc(func(nethttp.ResponseWriter, *nethttp.Request) { hits.Add(1) }))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		srv := httptest.NewServer(nethttp.RedirectHandler(other.URL, status))
		f := failure(t, newSink(t, srv.URL), order(), event.UnavailableClass)
		if f.Status != status || !strings.Contains(f.Error(), "not followed") {
			t.Errorf("%d: %v", status, f.Error())
		}
		srv.Close()
	}
	if hits.Load() != 0 {
		t.Errorf("%d requests followed a redirect", hits.Load())
	}
}

func TestProxyEnvironmentIsIgnored(t *testing.T) {
	url, next := capture(t)
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "ALL_PROXY"} {
		t.Setenv(name, "http://127.0.0.1:1")
	}
	var dialed string
	c := Defaults()
	c.URL = template(t, "http://shop.example.com/")
	s, err := New(c, Dial(func(ctx context.Context, _, address string) (net.Conn, error) {
		dialed = address
		return (&net.Dialer{}).DialContext(ctx, "tcp", strings.TrimPrefix(url, "http://"))
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := send(t, s, order()); err != nil || dialed != "shop.example.com:80" || next().uri != "/" {
		t.Errorf("dialed %s: %v", dialed, err)
	}
}

// Sixteen senders keep to about as many connections for any number of events. A connection may come back to the pool just after a
// sender began to dial, hence the margin.
func TestConnectionsAreReused(t *testing.T) {
	var conns atomic.Int64
	srv := httptest.NewUnstartedServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write(bytes.Repeat([]byte("x"), 32<<10)) // a small body is read to its end
	}))
	srv.Config.ConnState = func(_ net.Conn, state nethttp.ConnState) {
		if state == nethttp.StateNew {
			conns.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	s := newSink(t, srv.URL)
	var senders sync.WaitGroup
	for range 16 {
		senders.Go(func() {
			for range 50 {
				if err := send(t, s, order()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	senders.Wait()
	if n := conns.Load(); n > 32 {
		t.Errorf("%d connections for 16 senders and 800 events", n)
	}
}

func TestNoSecretsInErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	s := newSink(t, "http://"+addr+"/{{ id }}?token=hunter2", func(c *Config) {
		c.Headers = map[string]rules.Template{"Authorization": template(t, "Bearer hunter2")}
	})
	f := failure(t, s, order(), event.UnavailableClass)
	if !f.Refused || strings.Contains(f.Error(), "hunter2") || !strings.Contains(f.Error(), addr) {
		t.Errorf("refused %v: %v", f.Refused, f.Error())
	}
}

func TestConformance(t *testing.T) { sinktest.Run(t, sinktest.Harness{New: newSubject}) }

// peer is a destination for the suite.
type peer struct {
	read func(r *nethttp.Request, body []byte) []sinktest.Received

	mu       sync.Mutex // guards what follows
	received []sinktest.Received
	status   int           // answered instead of accepting; 0 accepts
	answer   string        // of status
	stall    chan struct{} // closed when answers may go; nil answers at once
	reached  chan struct{}
}

func (p *peer) ServeHTTP(w nethttp.ResponseWriter, r *nethttp.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	p.mu.Lock()
	stall, reached, status, answer := p.stall, p.reached, p.status, p.answer
	p.mu.Unlock()
	if stall != nil {
		select {
		case reached <- struct{}{}:
		default:
		}
		select {
		case <-stall:
		case <-r.Context().Done():
			return
		}
	}
	if status != 0 {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
		return
	}
	all := p.read(r, body)
	p.mu.Lock()
	p.received = append(p.received, all...)
	p.mu.Unlock()
}

// single reads a request of one event.
func single(r *nethttp.Request, body []byte) []sinktest.Received {
	var key string
	if json.Unmarshal([]byte(r.Header.Get("Idempotency-Key")), &key) != nil {
		key = "not a quoted string"
	}
	return []sinktest.Received{{ID: r.Header.Get("Ce-Id"), Key: key, Data: body}}
}

func (p *peer) set(status int, answer string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status, p.answer = status, answer
}

func newSubject(t *testing.T) *sinktest.Subject {
	return newSubjectOf(t, func(*Sink) error { return nil }, "?n={{ data.n }}", single)
}

// newSubjectOf returns a subject whose sink is set up by a function, with what its URL ends in, and how its requests are read.
func newSubjectOf(t *testing.T, setUp func(*Sink) error, query string,
	read func(*nethttp.Request, []byte) []sinktest.Received) *sinktest.Subject {
	p := &peer{read: read}
	srv := httptest.NewServer(p)
	addr := srv.Listener.Addr().String()
	s := newSink(t, srv.URL+"/in"+query)
	if err := setUp(s); err != nil {
		t.Fatal(err)
	}
	answers := func(status int) func() { return func() { p.set(status, fmt.Sprint("no ", status)) } }
	return &sinktest.Subject{
		Sink: s,
		Received: func(*testing.T) []sinktest.Received {
			p.mu.Lock()
			defer p.mu.Unlock()
			return append([]sinktest.Received(nil), p.received...)
		},
		Down: func() { srv.Close() },
		Up: func() {
			l, err := net.Listen("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			srv = httptest.NewUnstartedServer(p)
			_ = srv.Listener.Close()
			srv.Listener = l
			srv.Start()
		},
		Stall: func() (<-chan struct{}, func()) {
			p.mu.Lock()
			defer p.mu.Unlock()
			stall, reached := make(chan struct{}), make(chan struct{}, 1)
			p.stall, p.reached = stall, reached
			return reached, func() { close(stall) }
		},
		Verdicts: []sinktest.Verdict{
			{Name: "refuses the event", Prepare: answers(422), Class: event.PermanentClass, Check: func(f event.Failure) error {
				if f.Status != 422 || string(f.Answer) != "no 422" {
					return fmt.Errorf("status %d, answer %q", f.Status, f.Answer)
				}
				return nil
			}},
			{Name: "is overloaded", Prepare: answers(503), Class: event.UnavailableClass},
			{Name: "is gone", Prepare: answers(410), Class: event.GoneClass},
			{Name: "is a teapot", Prepare: answers(418), Class: event.Counted},
			{Name: "misses a field", Spoil: func(ev *event.Event) { ev.Data = []byte(`{}`) }, Class: event.PermanentClass},
		},
		Close: func() {
			_ = s.Close()
			srv.Close()
		},
	}
}
