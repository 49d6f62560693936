package stdin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace-run/millrace/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// at once is a clock whose waits are over at once.
type atOnce struct{ event.SystemClock }

func (atOnce) After(time.Duration) (<-chan time.Time, func()) {
	c := make(chan time.Time, 1)
	c <- time.Time{}
	return c, func() {}
}

// feed is a source that reads from a pipe, and what it emitted.
type feed struct {
	source *Source
	in     *os.File
	log    bytes.Buffer
	got    chan []event.Event
	answer func(n int) error // of the n-th emission, from 1; nil: all are committed
	calls  int
	ids    map[string]bool
}

func newFeed(t *testing.T, change ...func(*Config)) *feed {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	f := &feed{in: w, got: make(chan []event.Event, 100), ids: map[string]bool{}}
	c := Defaults()
	for _, change := range change {
		change(&c)
	}
	f.source, err = New(c, Input(r), Logger(slog.New(slog.NewTextHandler(&f.log, nil))), Clock(atOnce{}))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *feed) emit(ctx context.Context, b event.Batch) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if f.calls++; f.answer != nil {
		if err := f.answer(f.calls); err != nil {
			return nil, err
		}
	}
	f.got <- b.Events
	return nil, nil
}

// run runs the source in the background.
func (f *feed) run(ctx context.Context) <-chan error {
	ended := make(chan error, 1)
	go func() { ended <- f.source.Run(ctx, f.emit) }()
	return ended
}

func (f *feed) write(t *testing.T, text string) {
	t.Helper()
	if _, err := f.in.WriteString(text); err != nil {
		t.Error(err)
	}
}

// all is the data of everything that was emitted.
func (f *feed) all(t *testing.T) (data []string) {
	t.Helper()
	for {
		select {
		case events := <-f.got:
			for _, e := range events {
				if f.ids[e.ID] || e.Source != sourceName || e.Type != recordType {
					t.Errorf("%+v", e)
				}
				f.ids[e.ID] = true
				data = append(data, string(e.Data))
			}
		default:
			return data
		}
	}
}

func want(t *testing.T, got []string, records ...string) {
	t.Helper()
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", records) {
		t.Errorf("got %q, want %q", got, records)
	}
}

func TestReadsToTheEnd(t *testing.T) {
	for _, c := range []struct {
		format, text string
		want         []string
	}{
		{"lines", "a\nb\r\n\nc", []string{"a", "b", "", "c"}},
		{"lines", "", nil},
		{"ndjson", "1\n\n{}\n", []string{"1", "{}"}},
		{"csv", "a,b\n1,\n", []string{`{"a":"1","b":""}`}},
		{"json", "[\n1]\n", []string{"[\n1]\n"}},
		{"whole", "a\nb\n", []string{"a\nb\n"}},
	} {
		f := newFeed(t, func(config *Config) { config.Format = c.format })
		f.write(t, c.text)
		_ = f.in.Close()
		if err := f.source.Run(t.Context(), f.emit); err != event.ErrEnd { //nolint:errorlint // nothing else was wrong
			t.Errorf("%s: %v", c.format, err)
		}
		want(t, f.all(t), c.want...)
	}
}

// What waits for more is committed: nothing lies in memory while the writer pauses.
func TestCommitsBeforeItWaits(t *testing.T) {
	f := newFeed(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f.write(t, "a\nb\nha")
	ended := f.run(ctx)
	if first := <-f.got; len(first) != 2 {
		t.Errorf("%d events", len(first))
	}
	f.write(t, "lf\n")
	if second := <-f.got; len(second) != 1 || string(second[0].Data) != "half" {
		t.Errorf("%v", second)
	}
	f.write(t, "torn")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	want(t, f.all(t)) // a part of a line is no record
}

func TestBatches(t *testing.T) {
	f := newFeed(t)
	go func() {
		_, _ = f.in.WriteString(strings.Repeat("line\n", 10_000) + strings.Repeat(strings.Repeat("x", 1<<19)+"\n", 5))
		_ = f.in.Close()
	}()
	n, size := 0, 0
	ended := f.run(t.Context())
	for done := false; !done; {
		select {
		case b := <-f.got:
			bytes := 0
			for _, e := range b {
				bytes += len(e.Data)
			}
			if n, size = n+len(b), size+bytes; len(b) > mostEvents || bytes > mostBytes+1<<19 {
				t.Errorf("%d events of %d bytes", len(b), bytes)
			}
		case err := <-ended:
			if err != event.ErrEnd { //nolint:errorlint // nothing else was wrong
				t.Error(err)
			}
			done = true
		}
	}
	for _, e := range f.all(t) {
		n, size = n+1, size+len(e)
	}
	if n != 10_005 || size != 40_000+5<<19 {
		t.Errorf("%d events of %d bytes", n, size)
	}
}

func TestBadRecordsAreLeftOut(t *testing.T) {
	f := newFeed(t, func(c *Config) { c.Format, c.MaxRecord = "ndjson", 5 })
	f.write(t, "1\n{\n\"long\"\n2\n")
	_ = f.in.Close()
	err := f.source.Run(t.Context(), f.emit)
	if !errors.Is(err, event.ErrEnd) || !strings.Contains(err.Error(), "2 of its records could not be read, 2 were taken") {
		t.Error(err)
	}
	want(t, f.all(t), "1", "2")
	for _, says := range []string{"line 2: ", "line 3: it is longer than max_record"} {
		if !strings.Contains(f.log.String(), says) {
			t.Errorf("no %q in %s", says, f.log.String())
		}
	}
	f = newFeed(t, func(c *Config) { c.Format = "csv" })
	f.write(t, "a,a\n1,2\n")
	if err := f.source.Run(t.Context(), f.emit); !errors.Is(err, event.ErrEnd) || f.source.Bad() != 1 {
		t.Error(err)
	}
}

// A log that is full is waited for; one that failed is an end, since nobody knows what it has.
func TestLogThatRefuses(t *testing.T) {
	f := newFeed(t)
	f.answer = func(n int) error {
		return []error{event.ErrFull, event.ErrBusy, nil}[min(n-1, 2)]
	}
	f.write(t, "a\nb\n")
	_ = f.in.Close()
	if err := f.source.Run(t.Context(), f.emit); err != event.ErrEnd || f.calls != 3 { //nolint:errorlint // as above
		t.Error(err, f.calls)
	}
	want(t, f.all(t), "a", "b")

	f = newFeed(t)
	f.answer = func(int) error { return event.ErrUnknown }
	f.write(t, "a\n")
	if err := f.source.Run(t.Context(), f.emit); !errors.Is(err, event.ErrUnknown) || errors.Is(err, event.ErrEnd) {
		t.Error(err)
	}
}

// What was read before a stop and could not be committed yet is committed by it.
func TestStopCommitsWhatWasRead(t *testing.T) {
	f := newFeed(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.answer = func(n int) error {
		if n > 1 {
			return nil
		}
		cancel()
		return event.ErrFull
	}
	f.write(t, "a\nb\n")
	if err := f.source.Run(ctx, f.emit); err != nil {
		t.Error(err)
	}
	want(t, f.all(t), "a", "b")
}

func TestShape(t *testing.T) {
	f := newFeed(t)
	e := event.Event{Data: []byte(`"a line"`)}
	f.source.Shape(&e)
	if string(e.Data) != "a line" || e.DataContentType != "text/plain" || e.Type != recordType || e.Source != sourceName {
		t.Errorf("%+v", e)
	}
}

func TestSettings(t *testing.T) {
	c := Defaults()
	c.Delimiter, c.Columns, c.Types, c.MaxRecord = "ab", []string{""}, map[string]string{"a": "b"}, 0
	_, err := New(c)
	for _, key := range []string{"delimiter: ", "columns: ", "types.a: ", "max_record: "} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("no %s in %v", key, err)
		}
	}
}
