package s3

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/sinks/sinktest"
)

func TestConformance(t *testing.T) {
	sinktest.Run(t, sinktest.Harness{New: newSubject, Serial: true})
}

func newSubject(t *testing.T) *sinktest.Subject {
	f := newFake(t)
	c := f.config()
	c.Key = template(t, "{{ data.folder ?? 'all' }}/")
	s := mustNew(t, c)
	t.Cleanup(f.server.Close) // the suite skips a test in the middle
	refusal := func(status int, code string, headers ...string) func() {
		return func() { f.judges(always(refuses(status, code, headers...))) }
	}
	return &sinktest.Subject{
		Sink: s,
		Received: func(t *testing.T) (all []sinktest.Received) {
			_, bodies := f.objects()
			for _, body := range bodies {
				for _, e := range readLines(t, body) {
					all = append(all, sinktest.Received{ID: e.ID, Data: e.Data})
				}
			}
			return all
		},
		Down: refusal(503, "SlowDown"),
		Up:   func() { f.judges(nil) },
		Stall: func() (<-chan struct{}, func()) {
			reached, stall := make(chan struct{}, 1), make(chan struct{})
			f.judges(always(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				reached <- struct{}{}
				<-stall
				next.ServeHTTP(w, r)
			}))
			return reached, func() { f.judges(nil); close(stall) }
		},
		Verdicts: []sinktest.Verdict{
			{Name: "no such bucket", Prepare: refusal(404, "NoSuchBucket"), Class: event.UnavailableClass, Check: says("NoSuchBucket", "create the bucket", 404)},
			{Name: "access denied", Prepare: refusal(403, "AccessDenied"), Class: event.UnavailableClass, Check: says("AccessDenied", "s3:PutObject", 403)},
			{Name: "internal error", Prepare: refusal(500, "InternalError"), Class: event.UnavailableClass, Check: says("InternalError", bucket, 500)},
			{Name: "slow down for a while", Prepare: refusal(503, "SlowDown", "Retry-After", "7"), Class: event.UnavailableClass, Check: func(f event.Failure) error {
				if f.After != 7*time.Second || !f.Deferred {
					return fmt.Errorf("after %v, deferred %v", f.After, f.Deferred)
				}
				return nil
			}},
			{Name: "another setting", Prepare: refusal(501, "NotImplemented"), Class: event.UnavailableClass, Check: says("NotImplemented", "storage_class", 501)},
			{Name: "one event too large", Prepare: refusal(400, "EntityTooLarge"), Class: event.PermanentClass, Check: says("EntityTooLarge", "lower size", 400)},
			{Name: "a key of parts", Prepare: func() { f.judges(nil) }, Class: event.PermanentClass,
				Spoil: func(ev *event.Event) { ev.Data = []byte(`{"folder":[1,`) }},
			{Name: "connection cut", Prepare: func() { f.judges(always(cut)) }, Class: event.UnavailableClass},
			{Name: "nobody there", Prepare: f.server.Close, Class: event.UnavailableClass, Check: func(f event.Failure) error {
				if !f.Refused {
					return errors.New("not known to be refused")
				}
				return nil
			}},
		},
		Close: func() { _ = s.Close(); f.server.Close() },
	}
}

// says looks for words in a failure's text, and for its status.
func says(code, hint string, status int) func(event.Failure) error {
	return func(f event.Failure) error {
		if text := f.Err.Error(); !strings.Contains(text, code) || !strings.Contains(text, hint) || f.Status != status || strings.Contains(text, "secret") {
			return fmt.Errorf("status %d: %s", f.Status, text)
		}
		return nil
	}
}

// session is a sink with the part of the router that keeps its state.
type session struct {
	t     tb
	fake  *fake
	sink  *Sink
	state map[string][]byte
}

func newSession(t tb, f *fake, c Config) *session {
	s := &session{t: t, fake: f, sink: mustNew(t, c), state: map[string][]byte{}}
	s.open()
	return s
}

func (s *session) open() {
	s.t.Helper()
	if err := s.sink.Open(context.Background(), maps.Clone(s.state), s.save); err != nil {
		s.t.Fatalf("open: %v", err)
	}
}

func (s *session) save(_ context.Context, changes event.Changes) error {
	for k, v := range changes {
		if v == nil {
			delete(s.state, k)
		} else {
			s.state[k] = bytes.Clone(v)
		}
	}
	return nil
}

func (s *session) deliver(batch ...event.Delivery) error {
	out := s.sink.Deliver(context.Background(), batch)
	_ = s.save(context.Background(), out.Changes)
	return errors.Join(out.Verdicts...)
}

func (s *session) close() {
	_ = s.sink.Close()
	s.fake.server.Close()
}

var day = time.Date(2026, 1, 2, 15, 4, 5, 123e6, time.UTC)

// order is the n-th delivery; its subject is chosen by the test.
func order(n int, subject string) event.Delivery {
	return event.Delivery{Key: fmt.Sprintf("%032x", n), Attempt: 1, Event: &event.Event{
		ID: fmt.Sprintf("o-%d", n), Source: "/orders", Type: "order", Subject: subject, DataContentType: "application/json",
		Data: fmt.Appendf(nil, `{"n":%d}`, n), Received: day.Add(time.Duration(n) * time.Second),
	}}
}

func ordersOf(from, to int, subject string) (all []event.Delivery) {
	for n := from; n <= to; n++ {
		all = append(all, order(n, subject))
	}
	return all
}

var keyForm = regexp.MustCompile(`^(\S*?)\d{8}T\d{6}\.\d{3}Z-\d{10}-[0-9a-f]{16}\.ndjson$`)

// ids are the ids of the events by the prefix of their object, objects divided by |.
func (f *fake) ids(t tb) string {
	t.Helper()
	keys, bodies := f.objects()
	var all []string
	for i, body := range bodies {
		m := keyForm.FindStringSubmatch(keys[i])
		if m == nil {
			t.Fatalf("the key is %q", keys[i])
		}
		text := m[1] + ":"
		for _, e := range readLines(t, body) {
			text += " " + e.ID
		}
		all = append(all, text)
	}
	return strings.Join(all, " | ")
}

func (f *fake) holds(t tb, want string) {
	t.Helper()
	if got := f.ids(t); got != want {
		t.Errorf("the bucket holds %s\nwant %s", got, want)
	}
	if n := f.uploads(); n != 0 {
		t.Errorf("%d uploads in parts are left", n)
	}
}

func TestPrefixes(t *testing.T) {
	f := newFake(t)
	c := f.config()
	c.Key = template(t, "{{ subject }}/{{ received.Format('2006-01-02') }}/")
	s := newSession(t, f, c)
	defer s.close()
	if err := s.deliver(order(1, "a"), order(2, "b/c"), order(3, "a"), order(4, "")); err == nil || !strings.Contains(err.Error(), "subject") {
		t.Errorf("an event without a subject: %v", err)
	}
	f.holds(t, "a/2026-01-02/: o-1 o-3 | b%2Fc/2026-01-02/: o-2")
	if len(s.state) != 1 {
		t.Errorf("the state is %q", s.state)
	}
}

func TestFormats(t *testing.T) {
	for _, c := range []struct{ content, format, compress, suffix, want string }{
		{"data", "ndjson", "none", ".ndjson", "{\"n\":1}\n{\"n\":2}\n"},
		{"data", "json", "none", ".json", "[\n{\"n\":1},\n{\"n\":2}\n]\n"},
		{"raw", "ndjson", "none", ".txt", "{\"n\":1}\n{\"n\":2}\n"},
		{"data", "ndjson", "gzip", ".ndjson.gz", "{\"n\":1}\n{\"n\":2}\n"},
		{"data", "ndjson", "zstd", ".ndjson.zst", "{\"n\":1}\n{\"n\":2}\n"},
	} {
		f := newFake(t)
		config := f.config()
		config.Content, config.Format, config.Compress = c.content, c.format, c.compress
		s := newSession(t, f, config)
		if err := s.deliver(order(1, ""), order(2, "")); err != nil {
			t.Error(err)
		}
		keys, bodies := f.objects()
		if got := expand(t, c.compress, bodies[0]); len(keys) != 1 || !strings.HasSuffix(keys[0], c.suffix) || got != c.want {
			t.Errorf("%+v: %q holds %q", c, keys, got)
		}
		s.close()
	}
}

func expand(t *testing.T, compress string, body []byte) string {
	t.Helper()
	var r io.Reader = bytes.NewReader(body)
	var err error
	switch compress {
	case "gzip":
		r, err = gzip.NewReader(r)
	case "zstd":
		var d *zstd.Decoder
		if d, err = zstd.NewReader(r); err == nil {
			defer d.Close()
			r = d
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestHeaders: what the settings say about an object is in the request that makes it.
func TestHeaders(t *testing.T) {
	f := newFake(t)
	c := f.config()
	c.Compress, c.StorageClass, c.Tags, c.Metadata = "gzip", "STANDARD_IA", map[string]string{"team": "a b"}, map[string]string{"origin": "shop"}
	c.SSE = SSE{Type: "aws:kms", KeyID: "k-1"}
	s := newSession(t, f, c)
	defer s.close()
	var got http.Header
	f.judges(func(r *http.Request) fault { got = r.Header.Clone(); return nil })
	if err := s.deliver(order(1, "")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/gzip", "Content-Encoding": "", "X-Amz-Storage-Class": "STANDARD_IA", "X-Amz-Tagging": "team=a+b", "X-Amz-Meta-Origin": "shop",
		"X-Amz-Server-Side-Encryption": "aws:kms", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": "k-1",
	} {
		if got.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, got.Get(name), want)
		}
	}
}

// TestSameObjectAgain: what the store took and did not confirm is sent to the same key, with the same bytes.
func TestSameObjectAgain(t *testing.T) {
	for name, what := range map[string]fault{"cut": cut, "mute": mute, "slow down": refuses(503, "SlowDown")} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			s := newSession(t, f, f.config())
			defer s.close()
			f.judges(always(what))
			if err := s.deliver(ordersOf(1, 3, "")...); err == nil {
				t.Fatal("accepted")
			}
			if n := len(f.requests()); n != 1 {
				t.Errorf("%d requests for one attempt", n)
			}
			before, _ := f.objects()
			f.judges(nil)
			s.open()
			if err := s.deliver(ordersOf(1, 3, "")...); err != nil {
				t.Fatal(err)
			}
			after, _ := f.objects()
			if len(before) > 0 && !slices.Equal(before, after) {
				t.Errorf("the keys are %q, and were %q", after, before)
			}
			f.holds(t, ": o-1 o-2 o-3")
		})
	}
}

// TestStoredBefore: what is stored of a batch is not sent again with it, unless the store may have taken something else since then.
func TestStoredBefore(t *testing.T) {
	f := newFake(t)
	c := f.config()
	c.Key = template(t, "{{ subject }}/")
	s := newSession(t, f, c)
	defer s.close()
	refused := order(9, "b")
	deliver := func(others fault, batch ...event.Delivery) {
		f.requests()
		f.judges(func(r *http.Request) fault {
			if strings.HasPrefix(r.URL.Path, "/"+bucket+"/b/") {
				return refuses(503, "SlowDown")
			}
			return others
		})
		if err := s.deliver(append(batch, refused)...); err == nil {
			t.Fatal("accepted")
		}
		s.open()
	}
	deliver(nil, ordersOf(1, 3, "a")...)
	deliver(mute, ordersOf(1, 2, "a")...)
	deliver(nil, ordersOf(1, 3, "a")...)
	if _, bodies := f.objects(); len(bodies) != 1 || len(readLines(t, bodies[0])) != 3 {
		t.Errorf("the bucket holds %q", bodies)
	}
	deliver(nil, ordersOf(1, 3, "a")...)
	if got := f.requests(); len(got) != 1 {
		t.Errorf("sent again: %q", got)
	}
}

// TestNoAnswerInTime: the store takes an object and says nothing until the attempt is over.
func TestNoAnswerInTime(t *testing.T) {
	f := newFake(t)
	s := newSession(t, f, f.config())
	defer s.close()
	f.judges(always(func(_ http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(httptest.NewRecorder(), r)
		<-r.Context().Done()
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	v := event.VerdictOf(s.sink.Deliver(ctx, ordersOf(1, 2, "")).Verdicts[0])
	if v.Class != event.UnavailableClass || !strings.Contains(v.Err.Error(), "raise timeout") {
		t.Errorf("%v", v.Err)
	}
	f.judges(nil)
	s.open()
	if err := s.deliver(ordersOf(1, 2, "")...); err != nil {
		t.Fatal(err)
	}
	f.holds(t, ": o-1 o-2")
}

// TestAnotherBatch: after a crash the events come in another batch. The object that was uploaded is made again of those that come,
// whoever comes later is in another, and none is in two.
func TestAnotherBatch(t *testing.T) {
	for _, c := range []struct {
		name    string
		batches [][]event.Delivery
		want    string
	}{
		{"the same", [][]event.Delivery{ordersOf(1, 4, "")}, ": o-1 o-2 o-3 o-4"},
		{"larger", [][]event.Delivery{ordersOf(1, 6, "")}, ": o-1 o-2 o-3 o-4 | : o-5 o-6"},
		{"smaller", [][]event.Delivery{ordersOf(1, 2, ""), ordersOf(3, 6, "")}, ": o-1 o-2 | : o-3 o-4 o-5 o-6"},
		{"later", [][]event.Delivery{ordersOf(7, 8, ""), ordersOf(1, 6, "")}, ": o-1 o-2 o-3 o-4 | : o-5 o-6 | : o-7 o-8"},
		{"some filtered", [][]event.Delivery{{order(2, ""), order(5, "")}}, ": o-2 | : o-5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			s := newSession(t, f, f.config())
			defer s.close()
			f.judges(always(mute))
			if err := s.deliver(ordersOf(1, 4, "")...); err == nil {
				t.Fatal("accepted")
			}
			f.judges(nil)
			_ = s.sink.Close()
			s.sink = mustNew(t, f.config())
			s.open()
			for _, batch := range c.batches {
				if err := s.deliver(batch...); err != nil {
					t.Fatal(err)
				}
			}
			got := strings.Split(f.ids(t), " | ")
			slices.Sort(got)
			if strings.Join(got, " | ") != c.want {
				t.Errorf("the bucket holds %s\nwant %s", got, c.want)
			}
			if len(s.state) != 1 {
				t.Errorf("the state is %q", s.state)
			}
		})
	}
}

// TestOtherFormat: an object that is made again is what the end of its key says, though the settings are others by now.
func TestOtherFormat(t *testing.T) {
	f := newFake(t)
	c := f.config()
	c.Content, c.Compress = "data", "gzip"
	s := newSession(t, f, c)
	defer s.close()
	f.judges(always(mute))
	if err := s.deliver(order(1, "")); err == nil {
		t.Fatal("accepted")
	}
	f.judges(nil)
	_ = s.sink.Close()
	s.sink = mustNew(t, f.config())
	s.open()
	if err := s.deliver(order(1, "")); err != nil {
		t.Fatal(err)
	}
	keys, bodies := f.objects()
	if len(keys) != 1 || !strings.HasSuffix(keys[0], ".ndjson.gz") || expand(t, "gzip", bodies[0]) != "{\"n\":1}\n" {
		t.Errorf("%q: %q", keys, bodies)
	}
}

// TestEqualIdentity: two accepted events with the same source and id are two, in one object or in two.
func TestEqualIdentity(t *testing.T) {
	f := newFake(t)
	s := newSession(t, f, f.config())
	defer s.close()
	f.judges(always(mute))
	twice := []event.Delivery{order(1, ""), order(1, "")}
	if err := s.deliver(twice[:1]...); err == nil {
		t.Fatal("accepted")
	}
	f.judges(nil)
	s.open()
	if err := s.deliver(twice...); err != nil {
		t.Fatal(err)
	}
	f.holds(t, ": o-1 | : o-1")
}

// TestParts: a large object goes in parts, and parts of an upload that failed do not stay.
func TestParts(t *testing.T) {
	at := func(method, query string, what fault) func(*http.Request) fault {
		return func(r *http.Request) fault {
			if r.Method == method && strings.Contains(r.URL.RawQuery, query) {
				return what
			}
			return nil
		}
	}
	for name, judge := range map[string]func(*http.Request) fault{
		"begin mute":       at(http.MethodPost, "uploads=", mute),
		"part cut":         at(http.MethodPut, "partNumber=2", cut),
		"part mute":        at(http.MethodPut, "partNumber=3", mute),
		"complete refused": at(http.MethodPost, "uploadId=", refuses(500, "InternalError")),
		"complete mute":    at(http.MethodPost, "uploadId=", mute),
		"all after the first part": func(r *http.Request) fault {
			if strings.Contains(r.URL.RawQuery, "uploads=") || strings.Contains(r.URL.RawQuery, "partNumber=1") {
				return nil
			}
			return cut
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			s := newSession(t, f, f.config())
			defer s.close()
			s.sink.partsOf(1 << 10)
			f.judges(judge)
			batch := ordersOf(1, 30, "")
			if err := s.deliver(batch...); err == nil {
				t.Fatal("accepted")
			}
			f.judges(nil)
			_ = s.sink.Close()
			s.sink = mustNew(t, f.config())
			s.sink.partsOf(1 << 10)
			s.open()
			if err := s.deliver(batch[:20]...); err != nil {
				t.Fatal(err)
			}
			if err := s.deliver(batch[20:]...); err != nil {
				t.Fatal(err)
			}
			if n := f.uploads(); n != 0 {
				t.Errorf("%d uploads in parts are left", n)
			}
			if n := strings.Count(f.ids(t), "o-"); n != 30 {
				t.Errorf("%d events are stored: %s", n, f.ids(t))
			}
		})
	}
}

// TestSweepForbidden: a sink that may not look for parts tells so and stores the events.
func TestSweepForbidden(t *testing.T) {
	f := newFake(t)
	s := newSession(t, f, f.config())
	defer s.close()
	s.sink.partsOf(1 << 10)
	f.judges(always(cut))
	if err := s.deliver(ordersOf(1, 30, "")...); err == nil {
		t.Fatal("accepted")
	}
	f.judges(func(r *http.Request) fault {
		if r.Method == http.MethodGet {
			return refuses(403, "AccessDenied")
		}
		return nil
	})
	s.open()
	if err := s.deliver(ordersOf(1, 30, "")...); err != nil {
		t.Fatal(err)
	}
	f.holds(t, ":"+strings.TrimPrefix(f.ids(t), ":"))
}

// TestOneObjectFails: nothing is settled until all objects are stored, and what is stored is not sent again.
func TestOneObjectFails(t *testing.T) {
	f := newFake(t)
	c := f.config()
	c.Key = template(t, "{{ subject }}/")
	s := newSession(t, f, c)
	defer s.close()
	f.judges(func(r *http.Request) fault {
		if strings.Contains(r.URL.Path, "/b/") {
			return refuses(500, "InternalError")
		}
		return nil
	})
	batch := []event.Delivery{order(1, "a"), order(2, "b"), order(3, "c"), order(4, "..")}
	for range 3 {
		out := s.sink.Deliver(context.Background(), batch)
		for i, v := range out.Verdicts {
			if v == nil || event.VerdictOf(v).Class != event.UnavailableClass {
				t.Errorf("event %d: %v", i, v)
			}
		}
		s.open()
	}
	f.judges(nil)
	if n := len(f.requests()); n != 5+1 { // a, c, %2E., and b three times
		t.Errorf("%d requests", n)
	}
	if err := s.deliver(batch...); err != nil {
		t.Fatal(err)
	}
	f.holds(t, "%2E./: o-4 | a/: o-1 | b/: o-2 | c/: o-3")
}

// TestStrays: pins that nobody comes for are kept within bounds.
func TestStrays(t *testing.T) {
	f := newFake(t)
	s := newSession(t, f, f.config())
	defer s.close()
	s.sink.most = 5
	f.judges(always(cut))
	for n := range 4 {
		_ = s.deliver(ordersOf(10*n+1, 10*n+2, "")...)
		s.open()
	}
	f.judges(nil)
	if err := s.deliver(order(99, "")); err != nil {
		t.Fatal(err)
	}
	pins, _, err := readState(s.state)
	if err != nil || len(pins) != 2 || pins[0].number != 3 || pins[1].number != 4 {
		t.Errorf("%d pins are left, %v", len(pins), err)
	}
}

func TestStateThatCannotBeRead(t *testing.T) {
	s := mustNew(t, func() Config { c := Defaults(); c.Bucket = "abc"; return c }())
	good, _ := json.Marshal(pin{Key: "k", Members: make([]byte, 16)})
	for name, state := range map[string]map[string][]byte{
		"next": {"next": []byte("x")}, "pin": {"pin/0000000001": []byte("{")}, "members": {"pin/1": []byte(`{"key":"k","members":"AAA="}`)}, "number": {"pin/x": good},
	} {
		if err := s.Open(t.Context(), state, nil); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	if out := s.Deliver(t.Context(), ordersOf(1, 1, "")); event.VerdictOf(out.Verdicts[0]).Class != event.UnavailableClass {
		t.Errorf("not open: %v", out.Verdicts[0])
	}
}

// TestInto: objects are files, and the sink tells where.
func TestInto(t *testing.T) {
	dir := t.TempDir()
	c := Defaults()
	c.Bucket = bucket
	s := mustNew(t, c, Into(dir))
	if _, wait := s.Gather(); wait != 0 {
		t.Errorf("it waits %v", wait)
	}
	save := func(context.Context, event.Changes) error { return nil }
	if err := s.Open(t.Context(), nil, save); err != nil {
		t.Fatal(err)
	}
	if out := s.Deliver(t.Context(), ordersOf(1, 2, "")); errors.Join(out.Verdicts...) != nil {
		t.Fatal(out.Verdicts)
	}
	if !strings.HasPrefix(s.Placed(1), dir+"/"+bucket+"/2026") {
		t.Errorf("placed at %s", s.Placed(1))
	}
}
