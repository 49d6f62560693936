package s3

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/minio/minio-go/v7"
	"go.uber.org/goleak"

	"github.com/millrace-run/millrace/rules"
)

func TestMain(m *testing.M) {
	minio.DefaultRetryUnit = time.Millisecond // how long the library waits behind a failure, although it tries no more
	goleak.VerifyTestMain(m)
}

// tb is what testing.T and rapid.T have in common.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

func template(t tb, source string) rules.Template {
	t.Helper()
	c, err := rules.CompileTemplate(source, rules.Options{})
	if err != nil {
		t.Fatalf("template %q: %v", source, err)
	}
	return c
}

const bucket = "orders"

// fault is what happens to a request in place of being answered; nil is nothing.
type fault func(w http.ResponseWriter, r *http.Request, next http.Handler)

// fake is a store, and the network before it.
type fake struct {
	t       tb
	backend *s3mem.Backend
	handler http.Handler
	server  *httptest.Server

	mu    sync.Mutex                  // guards what follows
	judge func(r *http.Request) fault // nil lets everything pass
	log   []string                    // method and query of each request
}

func newFake(t tb) *fake {
	t.Helper()
	f := &fake{t: t, backend: s3mem.New()}
	f.handler = gofakes3.New(f.backend, gofakes3.WithLogger(gofakes3.DiscardLog()), gofakes3.WithIntegrityCheck(true)).Server()
	if err := f.backend.CreateBucket(bucket); err != nil {
		t.Fatal(err)
	}
	f.server = httptest.NewUnstartedServer(f)
	f.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	f.server.Start()
	return f
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	var what fault
	if f.judge != nil {
		what = f.judge(r)
	}
	f.log = append(f.log, r.Method+" "+r.URL.RequestURI())
	f.mu.Unlock()
	if what == nil {
		f.handler.ServeHTTP(w, r)
		return
	}
	what(w, r, f.handler)
}

// judges sets what happens to requests from now on.
func (f *fake) judges(judge func(r *http.Request) fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.judge = judge
}

func (f *fake) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	log := f.log
	f.log = nil
	return log
}

func always(what fault) func(*http.Request) fault { return func(*http.Request) fault { return what } }

// refuses answers with an error of the protocol.
func refuses(status int, code string, headers ...string) fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body)
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "<Error><Code>"+code+"</Code><Message>as the test says</Message></Error>")
	}
}

// cut ends the connection in the middle of the body.
func cut(w http.ResponseWriter, r *http.Request, _ http.Handler) {
	_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2)
	hangUp(w)
}

// mute does what is asked and hangs up without an answer.
func mute(w http.ResponseWriter, r *http.Request, next http.Handler) {
	next.ServeHTTP(httptest.NewRecorder(), r)
	hangUp(w)
}

func hangUp(w http.ResponseWriter) {
	if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
}

// objects are the objects of the bucket, in the order of their keys.
func (f *fake) objects() (keys []string, bodies [][]byte) {
	f.t.Helper()
	list, err := f.backend.ListBucket(bucket, nil, gofakes3.ListBucketPage{})
	if err != nil {
		f.t.Fatal(err)
	}
	for _, c := range list.Contents {
		o, err := f.backend.GetObject(bucket, c.Key, nil)
		if err != nil {
			f.t.Fatal(err)
		}
		body, err := io.ReadAll(o.Contents)
		if err != nil {
			f.t.Fatal(err)
		}
		keys, bodies = append(keys, c.Key), append(bodies, body)
	}
	return keys, bodies
}

// uploads is how many uploads in parts were begun and neither completed nor aborted.
func (f *fake) uploads() int {
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/"+bucket+"?uploads", nil))
	return strings.Count(w.Body.String(), "<Upload>")
}

// stored is one event as it is in an object.
type stored struct {
	ID   string          `json:"id"`
	Data json.RawMessage `json:"data"`
}

func readLines(t tb, body []byte) (all []stored) {
	t.Helper()
	for line := range bytes.Lines(body) {
		var s stored
		if err := json.Unmarshal(line, &s); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, s)
	}
	return all
}

// config are settings for the fake.
func (f *fake) config() Config {
	c := Defaults()
	c.Bucket, c.Endpoint, c.PathStyle = bucket, f.server.URL, true
	c.Credentials.AccessKey, c.Credentials.SecretKey = "me", "secret"
	return c
}

// partsOf makes a sink upload in parts that the settings do not allow.
func (s *Sink) partsOf(size int64) {
	s.partSize = size
	s.store.(*remote).partSize = size
}

func mustNew(t tb, c Config, options ...Option) *Sink {
	t.Helper()
	s, err := New(c, options...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
