package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
	"github.com/millrace-run/millrace/sinks/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSuite(t *testing.T) {
	sinktest.Run(t, sinktest.Harness{New: newPipe, Serial: true})
}

// newPipe is a sink that writes to a pipe, and a reader of it that can stop to read and go away.
func newPipe(t *testing.T) *sinktest.Subject {
	p := &pipe{reached: make(chan struct{}, 1), held: make(chan struct{}, 1)}
	flows := make(chan struct{})
	close(flows)
	p.flows.Store(&flows)
	p.open(t)
	t.Cleanup(p.down) // of a test that is skipped
	sink, err := New(Config{Format: formatJSON, Content: contentEvent}, newOutput(p, false, false))
	if err != nil {
		t.Fatal(err)
	}
	return &sinktest.Subject{
		Sink: sink, Received: p.received, Down: p.down, Up: func() { p.open(t) }, Stall: p.stall, Close: p.down,
		Verdicts: []sinktest.Verdict{{Name: "nobody reads", Prepare: p.down, Class: event.UnavailableClass, Check: func(f event.Failure) error {
			if !errors.Is(f.Err, unix.EPIPE) {
				return f.Err
			}
			return nil
		}}},
	}
}

// pipe is a pipe with a reader.
type pipe struct {
	w, r    *os.File
	flows   atomic.Pointer[chan struct{}] // open while the reader does not read
	reached chan struct{}
	held    chan struct{}
	done    chan struct{} // closed when the reader has ended

	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (p *pipe) write(ctx context.Context, b []byte) (int, error) {
	select {
	case <-*p.flows.Load():
	default:
		if err := fill(p.w); err != nil {
			return 0, err
		}
		<-p.held // the reader had begun to read, and took a part
		if err := fill(p.w); err != nil {
			return 0, err
		}
		p.reached <- struct{}{}
	}
	return fileWriter{p.w}.write(ctx, b)
}

// fill makes a pipe so full that it takes nothing.
func fill(w *os.File) error {
	fd := int(w.Fd())
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	for range 1 << 10 {
		if _, err := unix.Write(fd, bytes.Repeat([]byte("\n"), 4096)); err != nil {
			return unix.SetNonblock(fd, false)
		}
	}
	return errors.New("it takes everything")
}

func (p *pipe) open(t *testing.T) {
	var err error
	if p.r, p.w, err = os.Pipe(); err != nil {
		t.Fatal(err)
	}
	p.done = make(chan struct{})
	go p.read(p.r, p.done)
}

func (p *pipe) read(r *os.File, done chan struct{}) {
	defer close(done)
	b := make([]byte, 4096)
	for {
		n, err := r.Read(b)
		if err != nil {
			return
		}
		select {
		case <-*p.flows.Load():
		default:
			p.held <- struct{}{}
			<-*p.flows.Load()
		}
		p.mu.Lock()
		p.text.Write(b[:n])
		p.mu.Unlock()
	}
}

// down makes the reader go away, when it has read what there is.
func (p *pipe) down() {
	for left := 1; left > 0; {
		var err error
		if left, err = unix.IoctlGetInt(int(p.w.Fd()), unix.TIOCINQ); err != nil {
			break // the pipe is closed
		}
		runtime.Gosched()
	}
	_ = p.r.Close()
	<-p.done
}

func (p *pipe) stall() (<-chan struct{}, func()) {
	stalled := make(chan struct{})
	p.flows.Store(&stalled)
	return p.reached, sync.OnceFunc(func() { close(stalled) })
}

// received ends the pipe, so that the reader has all, and opens none: it is asked for once.
func (p *pipe) received(t *testing.T) (all []sinktest.Received) {
	t.Helper()
	_ = p.w.Close()
	<-p.done
	for line := range strings.Lines(p.text.String()) {
		e, err := codec.DecodeJSON([]byte(line), 0)
		if err != nil {
			continue // of an attempt that was broken off, and what filled the pipe
		}
		all = append(all, sinktest.Received{ID: e.ID, Data: e.Data})
	}
	return all
}

func sample() *event.Event {
	return &event.Event{ID: "o-1", Source: "/shop", Type: "order", Subject: "s\x1b[2J", DataContentType: "application/json",
		Data: []byte(`{ "text": "a` + "\u202e" + `b", "n": 1 }`), Received: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Extensions: []event.Extension{{Name: "tenant", Text: "t\n1"}}}
}

func written(t *testing.T, o *Output, c Config, b *bytes.Buffer, all ...*event.Event) string {
	t.Helper()
	s, err := New(c, o)
	if err != nil {
		t.Fatal(err)
	}
	o.now = func() time.Time { return time.Unix(0, 0).UTC() }
	var batch []event.Delivery
	for _, e := range all {
		batch = append(batch, event.Delivery{Event: e})
	}
	for _, v := range s.Deliver(t.Context(), batch).Verdicts {
		if v != nil {
			t.Error(v)
		}
	}
	return b.String()
}

func TestForms(t *testing.T) {
	text := &event.Event{ID: "2", Source: "/s", Type: "line", DataContentType: "text/plain", Data: []byte("x\x07\r\n\xffy\n"), Time: "2026-01-02T10:00:00+02:00"}
	plainText := &event.Event{ID: "3", Source: "/s", Type: "line", DataContentType: "text/plain", Data: []byte("x\ty\n")}
	octets := &event.Event{ID: "4", Source: "/s", Type: "bytes", DataContentType: "application/octet-stream", Data: []byte{0, 1}}
	for _, c := range []struct {
		name     string
		terminal bool
		color    bool
		config   Config
		event    *event.Event
		want     string
	}{
		{"a person", true, false, Defaults(), sample(), "03:04:05  order  o-1  /shop  s\\u001b[2J\n          tenant t\\u000a1\n          {\n            \"text\": \"a\\u202eb\",\n            \"n\": 1\n          }\n"},
		{"in color", true, true, Defaults(), &event.Event{ID: "1", Source: "/s", Type: "t", Time: text.Time}, "\x1b[2m08:00:00\x1b[0m  \x1b[1mt\x1b[0m  1  \x1b[36m/s\x1b[0m\n"},
		{"no text", true, false, Defaults(), text, "08:00:00  line  2  /s\n          7 bytes of text/plain\n"},
		{"text", true, false, Config{formatPretty, contentEvent}, plainText, "00:00:00  line  3  /s\n          x    y\n"},
		{"octets", true, false, Defaults(), octets, "00:00:00  bytes  4  /s\n          2 bytes of application/octet-stream\n"},
		{"pretty in a pipe", false, true, Config{formatPretty, contentEvent}, plainText, "00:00:00  line  3  /s\n          x    y\n"},
		{"data", false, false, Config{formatAuto, contentData}, sample(), "{\"text\":\"a\u202eb\",\"n\":1}\n"},
		{"data on a terminal", true, false, Config{formatAuto, contentData}, sample(), "{\"text\":\"a\\u202eb\",\"n\":1}\n"},
		{"text as data", false, false, Config{formatAuto, contentData}, plainText, "\"x\\ty\\n\"\n"},
		{"octets as data", false, false, Config{formatAuto, contentData}, octets, "\"AAE=\"\n"},
		{"no data", false, false, Config{formatAuto, contentData}, &event.Event{}, "null\n"},
		{"raw", false, false, Config{formatAuto, contentRaw}, text, "x\a\r\n\xffy\n\n"},
		{"raw on a terminal", true, false, Config{formatAuto, contentRaw}, text, "x\\u0007\\u000d\n\\xffy\n\n"},
	} {
		var b bytes.Buffer
		o := newOutput(plainWriter{&b}, c.terminal, c.color)
		e := *c.event
		if e.Received.IsZero() {
			e.Received = time.Unix(0, 0)
		}
		if got := written(t, o, c.config, &b, &e); got != c.want {
			t.Errorf("%s\n got %q\nwant %q", c.name, got, c.want)
		}
	}
}

// Whatever an event holds, a terminal gets nothing but text, line feeds and our own colors.
func FuzzTerminal(f *testing.F) {
	f.Add("a\x1b[31m", []byte("\x1b]0;title\x07"), "text/plain", true)
	f.Add("\u2028", []byte(`{"a":"\u001b"}`), "", false)
	f.Fuzz(func(t *testing.T, attribute string, data []byte, kind string, pretty bool) {
		for _, content := range []string{contentEvent, contentData, contentRaw} {
			c := Config{formatJSON, content}
			if pretty {
				c.Format = formatPretty
			}
			var b bytes.Buffer
			got := written(t, NewPlainOutput(&b, true), c, &b, &event.Event{ID: attribute, Source: attribute, Type: attribute, Subject: attribute, DataContentType: kind, Data: data})
			for _, color := range []string{bold, dim, cyan, plain} {
				got = strings.ReplaceAll(got, color, "")
			}
			if i := strings.IndexFunc(strings.ReplaceAll(got, "\n", ""), func(r rune) bool { return codec.Legible(string(r)) != string(r) }); i >= 0 {
				t.Errorf("%q", got)
			}
		}
	})
}

func TestLongDataIsCut(t *testing.T) {
	var b bytes.Buffer
	got := written(t, NewPlainOutput(&b, false), Defaults(), &b,
		&event.Event{ID: "1", Data: bytes.Repeat([]byte("line\n"), 500), DataContentType: "text/plain"},
		&event.Event{ID: "2", Data: bytes.Repeat([]byte("é"), maxShown), DataContentType: "text/plain"})
	if lines := strings.Count(got, "\n"); lines > maxLines+5 || len(got) > 2*maxShown {
		t.Errorf("%d lines, %d bytes", lines, len(got))
	}
	for _, want := range []string{"… 400 more lines", "… 65536 more bytes"} {
		if !strings.Contains(got, want) {
			t.Errorf("it does not say %q", want)
		}
	}
}

// A batch that is broken off in the middle of a line: what was written whole is delivered, and the rest begins on a line of its own.
func TestBrokenOff(t *testing.T) {
	w := &broken{room: 9}
	s, err := New(Config{formatJSON, contentRaw}, newOutput(w, false, false))
	if err != nil {
		t.Fatal(err)
	}
	batch := []event.Delivery{{Event: &event.Event{Data: []byte("first")}}, {Event: &event.Event{Data: []byte("second")}}}
	got := s.Deliver(t.Context(), batch)
	if got.Verdicts[0] != nil || event.VerdictOf(got.Verdicts[1]).Class != event.UnavailableClass {
		t.Errorf("%v", got.Verdicts)
	}
	w.room = 100
	if got := s.Deliver(t.Context(), batch[1:]); got.Verdicts[0] != nil {
		t.Error(got.Verdicts[0])
	}
	if w.String() != "first\nsec\nsecond\n" {
		t.Errorf("%q", w.String())
	}
}

type broken struct {
	bytes.Buffer
	room int
}

func (b *broken) write(_ context.Context, text []byte) (int, error) {
	n := min(b.room, len(text))
	b.room -= n
	b.Write(text[:n])
	if n < len(text) {
		return n, io.ErrShortWrite
	}
	return n, nil
}

// A file is no terminal, and takes everything.
func TestFile(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, err := New(Defaults(), NewOutput(f, true))
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Deliver(t.Context(), []event.Delivery{{Event: sample()}}); got.Verdicts[0] != nil {
		t.Fatal(got.Verdicts[0])
	}
	b, err := os.ReadFile(f.Name())
	if err != nil || !json.Valid(b) || bytes.Count(b, []byte("\n")) != 1 {
		t.Errorf("%q %v", b, err)
	}
}

func TestSettings(t *testing.T) {
	_, err := New(Config{"xml", "all"}, NewPlainOutput(io.Discard, false))
	if err == nil || !strings.Contains(err.Error(), `format: "xml" is none of auto, pretty, json`) || !strings.Contains(err.Error(), "content:") {
		t.Error(err)
	}
}
