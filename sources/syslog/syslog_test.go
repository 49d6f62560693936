package syslog

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
)

// fixed is a clock that always says noon.
type fixed struct{ event.SystemClock }

func (fixed) Now() time.Time { return time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC) }

const (
	modern     = `<165>1 2026-01-02T11:14:15.003Z web.example.com app 42 ID47 [ex@1 a="1"] hello`
	modernData = `{"priority":165,"facility":"local4","severity":"notice","time":"2026-01-02T11:14:15.003Z","host":"web.example.com",` +
		`"app":"app","proc_id":"42","msg_id":"ID47","message":"hello","structured_data":{"ex@1":{"a":"1"}}}`
	old     = `<34>Jan  2 11:59:59 web su[7]: denied`
	oldData = `{"priority":34,"facility":"auth","severity":"critical","time":"2026-01-02T11:59:59Z","host":"web","app":"su","proc_id":"7",` +
		`"msg_id":null,"message":"denied"}`
)

func texts(events []event.Event) (out []string) {
	for _, e := range events {
		out = append(out, string(e.Data))
	}
	return out
}

// What an event has of its message, over each network.
func TestEvents(t *testing.T) {
	s := serve(t, func(c *Config) { c.Protocol = []string{"tcp"} }, Clock(fixed{}))
	c := s.dial(t, "tcp")
	write(t, c, modern+"\n"+old+"\nnonsense\n<34>1 - 10.0.0.7:x - - - -\n<34>1 - fe80::1 - - - -\n")
	got := s.wait(t, 5)
	peer := []event.Extension{{Name: "peer", Text: "127.0.0.1"}}
	want := []event.Event{
		{Source: "syslog://web.example.com", Time: "2026-01-02T11:14:15.003Z", Data: []byte(modernData)},
		{Source: "syslog://web", Time: "2026-01-02T11:59:59Z", Data: []byte(oldData)},
		{Source: "syslog://127.0.0.1", Time: "2026-01-02T12:00:00Z", Data: []byte(`{"message":"nonsense","parse_error":"not a syslog message of ` +
			`RFC 3164: expecting a priority value within angle brackets [col 0]"}`)},
		{Source: "syslog://127.0.0.1", Time: "2026-01-02T12:00:00Z", Data: []byte(`{"priority":34,"facility":"auth","severity":"critical","time":null,` +
			`"host":"10.0.0.7:x","app":null,"proc_id":null,"msg_id":null,"message":null}`)},
		{Source: "syslog://[fe80::1]", Time: "2026-01-02T12:00:00Z", Data: []byte(`{"priority":34,"facility":"auth","severity":"critical","time":null,` +
			`"host":"fe80::1","app":null,"proc_id":null,"msg_id":null,"message":null}`)},
	}
	for i := range want {
		w := &want[i]
		w.ID, w.Type, w.DataContentType, w.Extensions = got[i].ID, "millrace.syslog", "application/json", peer
		if err := codec.Validate(&got[i]); err != nil || len(got[i].ID) != 36 {
			t.Errorf("event %d: %v", i, err)
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if n := s.Counts(); n.Unparsed != 1 || n.Messages["tcp"] != 5 {
		t.Errorf("%+v", n)
	}
}

func TestRaw(t *testing.T) {
	s := serve(t, func(c *Config) { c.Raw, c.Protocol = true, []string{"udp"} }, Clock(fixed{}))
	write(t, s.dial(t, "udp"), "<1>\xffa\x00b\n\x00")
	e := s.wait(t, 1)[0]
	if string(e.Data) != "<1>\xffa\x00b" || e.DataContentType != "text/plain" || e.Source != "syslog://127.0.0.1" || e.Time != "2026-01-02T12:00:00Z" {
		t.Errorf("%+v", e)
	}
}

// One source takes datagrams and streams at one port, and each stream has its own framing.
func TestMixedSenders(t *testing.T) {
	s := serve(t, func(c *Config) { c.Raw = true })
	byCount, byLine := s.dial(t, "tcp"), s.dial(t, "tcp")
	for i := range 100 {
		m := fmt.Sprintf("<1>count %d\nmore", i)
		write(t, byCount, fmt.Sprintf("%d %s", len(m), m))
		write(t, byLine, fmt.Sprintf("<1>line %d\n", i))
	}
	got := texts(s.wait(t, 200))
	var counted, lines []string
	for _, m := range got {
		if strings.HasPrefix(m, "<1>count") {
			counted = append(counted, m)
		} else {
			lines = append(lines, m)
		}
	}
	for i := range 100 {
		if counted[i] != fmt.Sprintf("<1>count %d\nmore", i) || lines[i] != fmt.Sprintf("<1>line %d", i) {
			t.Fatalf("%q, %q at %d", counted[i], lines[i], i)
		}
	}
}

func TestDatagrams(t *testing.T) {
	s := serve(t, func(c *Config) { c.Raw, c.Protocol, c.MaxMessage = true, []string{"udp"}, 2048 })
	c := s.dial(t, "udp")
	for _, text := range []string{"<1>a datagram", "", "\n", "\x00\xff", "<1>" + strings.Repeat("x", 65500)} {
		write(t, c, text)
	}
	got := texts(s.wait(t, 3))
	if d := cmp.Diff([]string{"<1>a datagram", "\x00\xff", "<1>" + strings.Repeat("x", 2045)}, got); d != "" {
		t.Error(d)
	}
	if n := s.Counts(); n.Messages["udp"] != 3 || n.Truncated != 1 {
		t.Errorf("%+v", n)
	}
}

// Datagrams and streams may come to one port.
func TestBothNetworks(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	s := serve(t, func(c *Config) { c.Raw, c.Protocol, c.Listen = true, []string{"udp", "tcp"}, l.Addr().String() })
	write(t, s.dial(t, "udp"), "<1>a")
	s.wait(t, 1)
	write(t, s.dial(t, "tcp"), "<1>b\n")
	if got := texts(s.wait(t, 2)); !slices.Equal(got, []string{"<1>a", "<1>b"}) || s.at["udp"] != s.at["tcp"] {
		t.Errorf("%q at %v", got, s.at)
	}
}

// What the system drops while nothing is taken is counted with the next datagram.
func TestDroppedDatagrams(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux says what it dropped")
	}
	s := serve(t, func(c *Config) { c.Raw, c.Protocol = true, []string{"udp"} })
	hold := make(chan struct{})
	s.set(func() { s.hold = hold })
	c := s.dial(t, "udp")
	const sent = 40_000
	text := "<1>" + strings.Repeat("x", 1000)
	for range sent {
		write(t, c, text)
	}
	close(hold)
	s.until(t, "all that was kept", func() bool { return len(s.events) > 0 })
	end := time.Now().Add(20 * time.Second)
	for {
		write(t, c, "<1>now")
		n := s.Counts()
		if n.Dropped > 0 && n.Dropped+n.Messages["udp"] >= sent {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%+v", n)
		}
		s.until(t, "more", func() bool { return s.Counts().Messages["udp"] > n.Messages["udp"] })
	}
}

// A hostile stream is closed and counted, and no other connection hears of it.
func TestHostileStreams(t *testing.T) {
	s := serve(t, func(c *Config) { c.Raw, c.MaxMessage = true, 1024 })
	good := s.dial(t, "tcp")
	write(t, good, "<1>before\n")
	s.wait(t, 1)
	for _, bad := range []string{
		"999999999 <1>x", "99999999999999999999 <1>x", "4 <1>aGET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01", "\x00\x00\x00\x00", "\xff\xfe\xfd",
		"<1>" + strings.Repeat("x", 17*1024),
	} {
		c := s.dial(t, "tcp")
		_, _ = c.Write([]byte(bad)) // it may be closed while we write
		closed(t, c)
	}
	write(t, good, "<1>after\n")
	got := texts(s.wait(t, 4))
	if len(got) != 4 || got[1] != "<1>a" || len(got[2]) != 1024 || got[3] != "<1>after" {
		t.Errorf("%.80q", got)
	}
	if n := s.Counts(); n.Refused[ReasonFraming] != 5 || n.Refused[ReasonTooLong] != 2 || n.Truncated != 1 {
		t.Errorf("%+v", n)
	}
	cut := s.wait(t, 4)[2]
	if x, ok := cut.Extension("truncated"); !ok || x.Text != "true" || codec.Validate(&cut) != nil {
		t.Errorf("%+v", cut.Extensions)
	}
}

func TestLimits(t *testing.T) {
	s := serve(t, func(c *Config) { c.Raw, c.MaxConnections = true, 2 })
	a, b := s.dial(t, "tcp"), s.dial(t, "tcp")
	write(t, a, "<1>a\n")
	write(t, b, "<1>b\n")
	s.wait(t, 2)
	closed(t, s.dial(t, "tcp"))
	if n := s.Counts(); n.Refused[ReasonConnections] != 1 || n.Connections != 2 {
		t.Errorf("%+v", n)
	}
	write(t, a, "<1>c") // a line needs no newline at the end of a stream
	_ = a.Close()
	s.wait(t, 3)
}

func TestIdleAndSlow(t *testing.T) {
	s := serve(t, func(c *Config) { c.Raw, c.IdleTimeout = true, time.Second }, func(s *Source) { s.messageTime = 100 * time.Millisecond })
	idle, slow := s.dial(t, "tcp"), s.dial(t, "tcp")
	write(t, slow, "<1>beg")
	closed(t, slow)
	closed(t, idle)
	if got := texts(s.wait(t, 1)); got[0] != "<1>beg" {
		t.Errorf("%q", got)
	}
	if n := s.Counts(); n.Refused[ReasonIdle] != 1 || n.Refused[ReasonSlow] != 1 {
		t.Errorf("%+v", n)
	}
}

// A counted message whose connection ends before it does is no message: the sender did not send it.
func TestIncomplete(t *testing.T) {
	s := serve(t, func(c *Config) { c.Raw = true })
	c := s.dial(t, "tcp")
	write(t, c, "4 <1>a100 <1>b")
	_ = c.Close()
	s.wait(t, 1)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if n := s.Counts(); n.Incomplete != 1 || n.Messages["tcp"] != 1 || n.Lost != 0 {
		t.Errorf("%+v", n)
	}
}

// What was sent before the stop is committed before Run returns.
func TestStopCommits(t *testing.T) {
	s := serve(t, func(c *Config) { c.Raw = true })
	conns := make([]string, 20)
	for i := range conns {
		c := s.dial(t, "tcp")
		write(t, c, fmt.Sprintf("<1>first of %d\n", i))
		write(t, c, strings.Repeat(fmt.Sprintf("<1>line of %d\n", i), 100)+"<1>without end")
	}
	s.wait(t, 20) // by then all are accepted, or wait to be
	s.until(t, "every connection", func() bool {
		n := 0
		for _, e := range s.events {
			if strings.HasPrefix(string(e.Data), "<1>first") {
				n++
			}
		}
		return n == len(conns)
	})
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if n := len(s.events); n != 20*102 || s.Counts().Lost != 0 {
		t.Errorf("%d events, %+v", n, s.Counts())
	}
}

// While the log takes nothing connections are not read; what came is then one batch, in order.
func TestBackPressure(t *testing.T) {
	s := serve(t, func(c *Config) { c.Raw = true })
	hold := make(chan struct{})
	s.set(func() { s.hold = hold })
	c := s.dial(t, "tcp")
	total, rest := 0, ""
	for ; rest == ""; total++ { // until a write does not end, since the buffers of the system are full
		line := fmt.Sprintf("<1>%d %s\n", total, strings.Repeat("x", 1000))
		if err := c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Write([]byte(line))
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		rest = line[n:]
	}
	if read := s.Counts().Messages["tcp"]; read >= int64(total) || read > 3*batchEvents {
		t.Fatalf("%d of %d were read while nothing was committed", read, total)
	}
	if err := c.SetWriteDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	close(hold)
	write(t, c, rest)
	got := s.wait(t, total)
	for i := range total {
		if !strings.HasPrefix(string(got[i].Data), fmt.Sprintf("<1>%d ", i)) {
			t.Fatalf("event %d is %.20q", i, got[i].Data)
		}
	}
	if most := slices.Max(s.sizes); most > batchEvents || most < 500 {
		t.Errorf("the largest batch has %d", most)
	}
}

// A log that is full gets the same batch again; at the stop once more, and what it does not take then is counted.
func TestRefusals(t *testing.T) {
	s := serve(t, func(c *Config) { c.Raw = true })
	c := s.dial(t, "tcp")
	s.set(func() { s.fail = event.ErrFull })
	write(t, c, "<1>a\n")
	s.until(t, "a second attempt", func() bool { return s.tried >= 2 })
	s.set(func() { s.fail = nil })
	if got := texts(s.wait(t, 1)); !slices.Equal(got, []string{"<1>a"}) {
		t.Errorf("%q", got)
	}
	tried := 0
	s.set(func() { s.fail, tried = fmt.Errorf("later: %w", event.ErrBusy), s.tried })
	write(t, c, "<1>b\n<1>c\n")
	s.until(t, "an attempt", func() bool { return s.tried > tried })
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if n := s.Counts(); n.Lost != 2 || len(s.events) != 1 {
		t.Errorf("%+v", n)
	}
}

// Any other failure ends the run, whatever is connected; the next run takes messages again.
func TestFailure(t *testing.T) {
	s := serve(t, func(c *Config) { c.Raw = true })
	s.set(func() { s.fail = event.ErrClosed })
	conns := make([]net.Conn, 5)
	for i := range conns {
		conns[i] = s.dial(t, "tcp")
	}
	for _, c := range conns {
		_, _ = c.Write([]byte(strings.Repeat("<1>a\n", 5000))) // the first may end it all
	}
	s.until(t, "an attempt", func() bool { return s.tried > 0 })
	if err := s.stop(); !errors.Is(err, event.ErrClosed) || s.Counts().Lost == 0 {
		t.Errorf("%v, %+v", err, s.Counts())
	}
}

func TestAddressTaken(t *testing.T) {
	s := serve(t, nil)
	c := Defaults()
	c.Listen = s.at["tcp"]
	second, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(t.Context(), s.emit); err == nil || !strings.Contains(err.Error(), "listen on tcp at "+s.at["tcp"]) {
		t.Errorf("%v", err)
	}
	if err := s.Run(t.Context(), s.emit); err == nil {
		t.Error("it ran twice at once")
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(*Config) {}, ""},
		{func(c *Config) { c.Listen = "" }, "listen: expected host:port, such as 127.0.0.1:5140 or :514"},
		{func(c *Config) { c.Listen = ":x" }, `listen: "x" is no port`},
		{func(c *Config) { c.Protocol = nil }, "protocol: expected udp, tcp, tls, or a list of them"},
		{func(c *Config) { c.Protocol = []string{"http"} }, `protocol: "http" is none of udp, tcp, tls`},
		{func(c *Config) { c.Protocol = []string{"udp", "udp"} }, "protocol: udp is there twice"},
		{func(c *Config) { c.Protocol = []string{"tcp", "tls"}; c.TLS = TLS{"a", "b", ""} },
			"protocol: tcp and tls cannot share a port; write a pipeline for each"},
		{func(c *Config) { c.TLS.Cert = "a" }, "tls: has no meaning for udp and tcp; write protocol: tls"},
		{func(c *Config) { c.Protocol = []string{"tls"} }, "tls.cert: required for protocol: tls\ntls.key: required for protocol: tls"},
		{func(c *Config) { c.Timezone = "x" }, "timezone: not a time zone of this machine, such as Europe/Berlin"},
		{func(c *Config) { c.Raw, c.Timezone = true, "UTC" }, "timezone: has no meaning with raw: times are not read then"},
		{func(c *Config) { c.MaxMessage = 5 }, "max_message: must be from 1KiB to 16MiB"},
		{func(c *Config) { c.MaxConnections = 0 }, "max_connections: must be from 1 to 100000"},
		{func(c *Config) { c.IdleTimeout = 0 }, "idle_timeout: must be from 1s to 30d"},
	} {
		config := Defaults()
		config.Listen = "127.0.0.1:5140"
		c.change(&config)
		got := ""
		if err := config.Validate(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// An event of a test is what the source would make of the message, and keeps what the test names.
func TestShape(t *testing.T) {
	c := Defaults()
	c.Listen = "127.0.0.1:5140"
	s, err := New(c, Clock(fixed{}))
	if err != nil {
		t.Fatal(err)
	}
	peer := []event.Extension{{Name: "peer", Text: "127.0.0.1"}}
	for _, c := range []struct{ given, want event.Event }{
		{event.Event{Data: []byte(`"` + old + `"`)}, event.Event{Type: "millrace.syslog", Source: "syslog://web", Time: "2026-01-02T11:59:59Z",
			DataContentType: "application/json", Data: []byte(oldData), Extensions: peer}},
		{event.Event{Data: []byte(`{"host":"web"}`), Source: "syslog://a", Extensions: []event.Extension{{Name: "peer", Text: "192.0.2.1"}}},
			event.Event{Type: "millrace.syslog", Source: "syslog://a", DataContentType: "application/json", Data: []byte(`{"host":"web"}`),
				Extensions: []event.Extension{{Name: "peer", Text: "192.0.2.1"}}}},
	} {
		got := c.given
		s.Shape(&got)
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.given.Data, d)
		}
	}
	if n := s.Counts().Messages; n["tcp"] != 0 || n["udp"] != 0 {
		t.Errorf("%v", n)
	}
}
