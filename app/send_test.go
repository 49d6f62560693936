package app

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestContentTypeOf(t *testing.T) {
	for _, c := range []struct{ name, data, want string }{
		{"a.json", "no JSON", "application/json"}, {"A.NDJSON", "", "application/x-ndjson"}, {"a.txt", "{}", "text/plain; charset=utf-8"},
		{"", "{}", "application/json"}, {"", "12", "application/json"}, {"", "hello", "text/plain; charset=utf-8"},
		{"a.bin", "\x00\x01", "application/octet-stream"}, {"-", `{"a":1}`, "application/json"},
	} {
		if got := ContentTypeOf(c.name, []byte(c.data)); got != c.want {
			t.Errorf("%s %q: %s, want %s", c.name, c.data, got, c.want)
		}
	}
}

// Many lines are divided at their ends, in order, and none is lost, whatever their length.
func TestDivide(t *testing.T) {
	long := strings.Repeat("x", requestSize)
	for name, c := range map[string]struct {
		post Post
		want []Post
	}{
		"not lines": {Post{ContentType: "application/json", Data: []byte("1\n2")}, []Post{{ContentType: "application/json", Data: []byte("1\n2")}}},
		"few lines": {Post{ContentType: ndjson, Data: []byte("1\n2"), ID: "k"}, []Post{{ContentType: ndjson, Data: []byte("1\n2"), ID: "k"}}},
		"long lines": {Post{ContentType: ndjson, Data: []byte("1\n" + long + "\n2\n3"), ID: "k"}, []Post{
			{ContentType: ndjson, Data: []byte("1\n"), ID: "k/2"}, {ContentType: ndjson, Data: []byte(long + "\n"), ID: "k/3"},
			{ContentType: ndjson, Data: []byte("2\n3"), ID: "k/4"}}},
		"CloudEvents": {Post{ContentType: ndjson, Data: []byte("1\r\n \n2"), CloudEvent: true, ID: "k"}, []Post{
			{ContentType: "application/json", Data: []byte("1"), CloudEvent: true, ID: "k/1"},
			{ContentType: "application/json", Data: []byte("2"), CloudEvent: true, ID: "k/3"}}},
		"no line": {Post{ContentType: ndjson, CloudEvent: true, Data: []byte("\n \n")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(c.want, c.post.Divide()); d != "" {
				t.Error(d)
			}
		})
	}
}

// An answer that is not Millrace's is no yes, whatever its status.
func TestStrangeAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		status      int
		kind, body  string
		unreachable bool
		want        string
	}{
		"page":          {200, "text/html", "<p>", true, "no Millrace (200 OK)"},
		"202 of others": {202, "application/json", `{"queued":true}`, true, "names no ids"},
		"redirect":      {307, "text/plain", "", true, "307"},
		"problem":       {503, "application/problem+json", `{"title":"Full","detail":"the outbox is full"}`, false, "refused with 503: the outbox is full"},
		"bare problem":  {400, "application/problem+json", `{}`, false, "refused with 400: Bad Request"},
		"no problem":    {400, "application/problem+json", `x`, true, "400"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", c.kind)
				w.Header().Set("Location", "/")
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			}))
			defer server.Close()
			s := NewSender()
			defer s.Close()
			ids, err := s.Send(t.Context(), server.URL, Post{Data: []byte("{}"), ContentType: "application/json"})
			var unreachable *UnreachableError
			if err == nil || !strings.Contains(err.Error(), c.want) || errors.As(err, &unreachable) != c.unreachable || ids != nil {
				t.Errorf("%v, %v", ids, err)
			}
		})
	}
}

// Where a webhook is follows from its own settings: variables of others need not be set.
func TestWebhookURL(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pipelines.yaml")
	if err := os.WriteFile(file, []byte(`
http: { listen: ":${PORT:-8080}" }
pipelines:
  a:
    source: { webhook: { path: "/a/{x}/{y}" } }
    sinks: { s: { http: { url: "${UNSET}" } } }
  b:
    source: { webhook: { path: "/${UNSET}" } }
    sinks: { s: { storage: { path: a.ndjson } } }
`), 0o600); err != nil {
		t.Fatal(err)
	}
	plan, report := Load(Source{Path: file, AllowUnset: true})
	if plan == nil {
		t.Fatal(report.Text())
	}
	for _, c := range []struct {
		pipeline, base string
		params         map[string]string
		want           string
	}{
		{"a", "", map[string]string{"x": "1", "y": "ü/ä"}, "http://127.0.0.1:8080/a/1/%C3%BC%2F%C3%A4"},
		{"a", "https://m.example.com/in/", map[string]string{"x": "1", "y": "2"}, "https://m.example.com/in/a/1/2"},
		{"a", "", map[string]string{"x": "1"}, "error: the path /a/{x}/{y} needs --param y=…"},
		{"a", "", map[string]string{"x": "1", "y": "2", "z": "3"}, "error: the path /a/{x}/{y} has no parameter z"},
		{"b", "", nil, "error: the source of pipeline b needs variables that are not set; not set are: UNSET"},
		{"c", "", nil, `error: there is no pipeline "c"; there are a, b`},
	} {
		got, err := WebhookURL(plan, c.pipeline, c.base, c.params)
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.pipeline, got, c.want)
		}
	}
}

// A post whose answer is lost goes out once: whoever sends decides whether it does again, also where it carries an
// Idempotency-Key, which net/http takes for leave to repeat it.
func TestSendOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	posts := make(chan int, 1)
	go func() {
		n := 0
		defer func() { posts <- n }()
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			for r := bufio.NewReader(conn); ; {
				req, err := http.ReadRequest(r)
				if err != nil {
					break
				}
				_, _ = io.Copy(io.Discard, req.Body)
				if n++; n > 1 {
					break // it is accepted, and nobody hears of it
				}
				_, _ = io.WriteString(conn, "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"ids\":[\"1\"]}")
			}
			_ = conn.Close()
		}
	}()
	s := NewSender()
	defer s.Close()
	p := Post{Data: []byte("{}"), ContentType: "application/json", ID: "k"}
	if _, err := s.Send(t.Context(), "http://"+l.Addr().String(), p); err != nil {
		t.Fatal(err)
	}
	var unreachable *UnreachableError
	if _, err := s.Send(t.Context(), "http://"+l.Addr().String(), p); !errors.As(err, &unreachable) {
		t.Error(err)
	}
	_ = l.Close()
	if n := <-posts; n != 2 {
		t.Errorf("%d posts arrived, want 2", n)
	}
}
