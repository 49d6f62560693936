package console_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/console"
)

// instance is a Millrace that remembers what it was asked.
type instance struct {
	reasons []string
	letters []console.DeadLetter
	subs    []console.Subscription
	changed string // what was done to dead letters
	asked   console.Query
	how     console.Redrive
	counts  []console.Count
	places  []console.Place
	rests   console.Pause
	seek    console.Seek
	sought  []console.Sought
	askedID string
	err     error
}

func (i *instance) NotReady() []string { return i.reasons }

func (i *instance) Metrics() []console.Metric {
	return []console.Metric{{
		Name: "millrace_events_received_total", Help: "Events accepted.", Counter: true, Labels: []string{"pipeline"},
		Samples: []console.Sample{{Labels: []string{"orders"}, Value: 3}, {Labels: []string{"warehouse"}, Value: 2}},
	}}
}

func (i *instance) DeadLetters(_ context.Context, q console.Query) ([]console.DeadLetter, error) {
	i.asked = q
	return i.letters, i.err
}

func (i *instance) Seek(_ context.Context, k console.Seek) ([]console.Sought, error) {
	i.seek = k
	switch k.To {
	case "nowhere":
		return nil, &console.InvalidError{Detail: "no such place"}
	case "memory":
		return nil, errors.ErrUnsupported
	}
	return i.sought, i.err
}

func (i *instance) CountDead(_ context.Context, q console.Query) ([]console.Count, error) {
	i.asked = q
	return i.counts, i.err
}

func (i *instance) Redrive(_ context.Context, q console.Query, how console.Redrive) (console.Redriven, error) {
	i.asked, i.how, i.changed = q, how, "redriven"
	return console.Redriven{Redriven: len(i.letters)}, i.err
}

func (i *instance) Drop(_ context.Context, q console.Query) (console.Dropped, error) {
	i.asked, i.changed = q, "dropped"
	return console.Dropped{Dropped: len(i.letters)}, i.err
}

func (i *instance) Events(_ context.Context, id string, limit int) ([]console.Place, error) {
	i.askedID, i.asked.Limit = id, limit
	return i.places, i.err
}

func (i *instance) Backup(_ context.Context, progress func(done, total int64)) (*os.File, error) {
	if i.err != nil {
		return nil, i.err
	}
	progress(1, 2)
	f, err := os.CreateTemp("", "backup")
	if err == nil {
		_, err = f.WriteString("all of it")
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return f, err
}

func (i *instance) Pause(_ context.Context, p console.Pause) (int, error) {
	i.rests, i.changed = p, "paused"
	return len(i.subs), i.err
}

func (i *instance) Resume(_ context.Context, p console.Pause) (int, error) {
	i.rests, i.changed = p, "resumed"
	return len(i.subs), i.err
}

func (i *instance) Subscriptions(context.Context) ([]console.Subscription, error) {
	return i.subs, i.err
}

// ask sends one request to a console of in and returns the answer with its body.
func ask(t *testing.T, in console.Instance, method, target, body string, header ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "http://127.0.0.1:8081"+target, strings.NewReader(body))
	for k := 0; k < len(header); k += 2 {
		if header[k] == "Host" {
			r.Host = header[k+1]
		}
		r.Header.Set(header[k], header[k+1])
	}
	w := httptest.NewRecorder()
	console.New(console.Options{Listen: "127.0.0.1:8081", Version: "v1", Instance: in}).ServeHTTP(w, r)
	return w.Result(), w.Body.String()
}

var oneLetter = []console.DeadLetter{{
	ID: 7, EventID: "o-1", Pipeline: "orders", Sink: "payments", Reason: "permanent", Status: 422, LastError: "422 Unprocessable",
	Attempts: 2, FirstAt: new(time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)), LastAt: new(time.Date(2026, 5, 1, 10, 0, 1, 0, time.UTC)),
}}

func TestHealth(t *testing.T) {
	down := &instance{reasons: []string{"subscription orders/payments does not run"}}
	for _, c := range []struct {
		path   string
		in     *instance
		status int
		body   string
	}{
		{"/livez", down, 200, "ok\n"},
		{"/readyz", &instance{}, 200, "ready\n"},
		{"/readyz", down, 503, "not ready\n"},
		{"/readyz?verbose", down, 503, "not ready\n- subscription orders/payments does not run\n"},
		{"/readyz?verbose", &instance{}, 200, "ready\n"},
	} {
		if res, body := ask(t, c.in, "GET", c.path, ""); res.StatusCode != c.status || body != c.body {
			t.Errorf("%s: %d %q, want %d %q", c.path, res.StatusCode, body, c.status, c.body)
		}
	}
}

func TestIndexNamesEveryPath(t *testing.T) {
	_, body := ask(t, &instance{}, "GET", "/", "")
	for _, path := range []string{"/livez", "/readyz", "/metrics", "/api/v1/dead-letters", "/api/v1/dead-letters/redrive",
		"/api/v1/dead-letters/drop", "/api/v1/events/", "/api/v1/subscriptions"} {
		if !strings.Contains(body, path) {
			t.Errorf("the page does not name %s:\n%s", path, body)
		}
	}
}

func TestMetrics(t *testing.T) {
	res, body := ask(t, &instance{}, "GET", "/metrics", "")
	if res.StatusCode != 200 {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	for _, line := range []string{
		`# TYPE millrace_events_received_total counter`,
		`millrace_events_received_total{pipeline="orders"} 3`,
		`millrace_events_received_total{pipeline="warehouse"} 2`,
		`millrace_build_info{go=`,
		`go_goroutines `,
	} {
		if !strings.Contains(body, line) {
			t.Errorf("no %q", line)
		}
	}
}

func TestDeadLettersAsTheContractHasThem(t *testing.T) {
	_, body := ask(t, &instance{letters: oneLetter}, "GET", "/api/v1/dead-letters", "")
	want := `[{"id":7,"event_id":"o-1","pipeline":"orders","sink":"payments","stage":"","reason":"permanent","status":422,` +
		`"last_error":"422 Unprocessable","attempts":2,"first_at":"2026-05-01T10:00:00Z","last_at":"2026-05-01T10:00:01Z","durable":false,"offset":0,"received_at":null}]` + "\n"
	if d := cmp.Diff(want, body); d != "" {
		t.Error(d)
	}
	if _, body := ask(t, &instance{}, "GET", "/api/v1/dead-letters", ""); body != "[]\n" {
		t.Errorf("an empty list is %q", body)
	}
}

func TestDeadLettersQuery(t *testing.T) {
	for _, c := range []struct {
		query  string
		status int
		want   console.Query
	}{
		{"", 200, console.Query{Limit: console.DefaultPage}},
		{"?pipeline=orders&sink=payments", 200, console.Query{Pipeline: "orders", Sink: "payments", Limit: console.DefaultPage}},
		{"?id=4&id=9&after=3&limit=1", 200, console.Query{IDs: []int64{4, 9}, After: 3, Limit: 1}},
		{"?limit=1000", 200, console.Query{Limit: 1000}},
		{"?limit=1001", 400, console.Query{}},
		{"?limit=0", 400, console.Query{}},
		{"?after=-1", 400, console.Query{}},
		{"?id=x", 400, console.Query{}},
		{"?pipelin=orders", 400, console.Query{}},
		{"?reason=age&reason=on_error", 200, console.Query{Reasons: []string{"age", "on_error"}, Limit: console.DefaultPage}},
		{"?status=422&status=0&error=no+such&where=data.total+%3E+1&limit=2", 200,
			console.Query{Statuses: []int{422, 0}, Text: "no such", Where: "data.total > 1", Limit: 2}},
		{"?since=2026-05-01T10:00:00Z&until=2026-05-01T11:00:00Z", 200, console.Query{
			Since: time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC), Until: time.Date(2026, 5, 1, 11, 0, 0, 0, time.UTC), Limit: console.DefaultPage,
		}},
		{"?since=yesterday", 400, console.Query{}},
		{"?status=no", 400, console.Query{}},
		{"?reason=aged", 400, console.Query{}},
		{"?reason=", 400, console.Query{}},
		{"?event=true", 200, console.Query{Event: true, Limit: console.MaxEvents}},
		{"?event=true&limit=3&id=9", 200, console.Query{Event: true, IDs: []int64{9}, Limit: 3}},
		{"?event=true&limit=17", 400, console.Query{}},
		{"?event=false", 200, console.Query{Limit: console.DefaultPage}},
		{"?event=yes", 400, console.Query{}},
	} {
		in := &instance{}
		res, body := ask(t, in, "GET", "/api/v1/dead-letters"+c.query, "")
		if res.StatusCode != c.status {
			t.Errorf("%q: %d %s", c.query, res.StatusCode, body)
		}
		if d := cmp.Diff(c.want, in.asked); d != "" {
			t.Errorf("%q: %s", c.query, d)
		}
	}
}

func TestDeadLettersNamesTheNextPage(t *testing.T) {
	res, _ := ask(t, &instance{letters: oneLetter}, "GET", "/api/v1/dead-letters?limit=1&sink=payments", "")
	if got, want := res.Header.Get("Link"), `</api/v1/dead-letters?after=7&limit=1&sink=payments>; rel="next"`; got != want {
		t.Errorf("Link: %s, want %s", got, want)
	}
	res, _ = ask(t, &instance{letters: oneLetter}, "GET", "/api/v1/dead-letters", "")
	if got := res.Header.Get("Link"); got != "" {
		t.Errorf("the last page has a next one: %s", got)
	}
}

// Event and answer are there when they were asked for, also when they are empty.
func TestDeadLettersWithTheirEvents(t *testing.T) {
	whole := oneLetter[0]
	whole.Event, whole.Answer = json.RawMessage(`{"specversion":"1.0","id":"o-1","data":{"a":1.00}}`), new("")
	_, body := ask(t, &instance{letters: []console.DeadLetter{whole}}, "GET", "/api/v1/dead-letters?id=7&event=true", "")
	if want := `,"event":{"specversion":"1.0","id":"o-1","data":{"a":1.00}},"answer":""}]` + "\n"; !strings.HasSuffix(body, want) {
		t.Errorf("%s does not end in %s", body, want)
	}
	whole.Event = json.RawMessage("null")
	if _, body = ask(t, &instance{letters: []console.DeadLetter{whole}}, "GET", "/api/v1/dead-letters?event=true", ""); !strings.Contains(body, `"event":null,`) {
		t.Errorf("an event that cannot be read: %s", body)
	}
}

// A redrive and a drop take the same selection.
func TestRedriveAndDrop(t *testing.T) {
	const json = "application/json"
	for _, c := range []struct {
		name, contentType, body string
		status                  int
		want                    console.Query
	}{
		{"ids", json, `{"ids":[7,8]}`, 200, console.Query{IDs: []int64{7, 8}}},
		{"all", json + "; charset=utf-8", `{"all":true}`, 200, console.Query{}},
		{"all of a sink", json, `{"all":true,"pipeline":"orders","sink":"payments"}`, 200, console.Query{Pipeline: "orders", Sink: "payments"}},
		{"nothing said", json, `{}`, 400, console.Query{}},
		{"ids and all", json, `{"ids":[1],"all":true}`, 400, console.Query{}},
		{"ids of a sink", json, `{"ids":[1],"sink":"payments"}`, 400, console.Query{}},
		{"all of a reason", json, `{"all":true,"reasons":["age","attempts"]}`, 200, console.Query{Reasons: []string{"age", "attempts"}}},
		{"ids of a reason", json, `{"ids":[7],"reasons":["age"]}`, 200, console.Query{IDs: []int64{7}, Reasons: []string{"age"}}},
		{"all with a text", json, `{"all":true,"error":"no","statuses":[422],"where":"id != ''","after":3,"limit":2}`, 200,
			console.Query{Text: "no", Statuses: []int{422}, Where: "id != ''", After: 3, Limit: 2}},
		{"a limit below 0", json, `{"all":true,"limit":-1}`, 400, console.Query{}},
		{"no time", json, `{"all":true,"since":"yesterday"}`, 400, console.Query{}},
		{"no reason", json, `{"all":true,"reasons":["aged"]}`, 400, console.Query{}},
		{"misspelled", json, `{"all":true,"pipelin":"orders"}`, 400, console.Query{}},
		{"two values", json, `{"all":true}{}`, 400, console.Query{}},
		{"no JSON", json, `all`, 400, console.Query{}},
		{"a form", "application/x-www-form-urlencoded", `{"all":true}`, 415, console.Query{}},
		{"plain text", "text/plain", `{"all":true}`, 415, console.Query{}},
		{"too large", json, `{"sink":"` + strings.Repeat("x", 1<<20) + `"}`, 413, console.Query{}},
	} {
		for path, done := range map[string]string{"redrive": "redriven", "drop": "dropped"} {
			t.Run(c.name+"/"+path, func(t *testing.T) {
				in := &instance{letters: oneLetter}
				res, body := ask(t, in, "POST", "/api/v1/dead-letters/"+path, c.body, "Content-Type", c.contentType)
				if res.StatusCode != c.status {
					t.Fatalf("%d %s", res.StatusCode, body)
				}
				if c.status == 200 && (body != `{"`+done+`":1}`+"\n" || in.changed != done) {
					t.Errorf("answered %s, and they were %s", body, in.changed)
				}
				if c.status != 200 && in.changed != "" {
					t.Errorf("they were %s", in.changed)
				}
				if d := cmp.Diff(c.want, in.asked); d != "" {
					t.Error(d)
				}
			})
		}
	}
}

// What a redrive takes beyond its selection is handed on, and a drop refuses it.
func TestRedriveMends(t *testing.T) {
	const body = `{"all":true,"to":"archive","edit":["data.total = 1"],"rate":"10/s","dry_run":true}`
	asJSON := []string{"Content-Type", "application/json"}
	in := &instance{letters: oneLetter}
	res, answer := ask(t, in, "POST", "/api/v1/dead-letters/redrive", body, asJSON...)
	want := console.Redrive{To: "archive", Edit: []string{"data.total = 1"}, Rate: "10/s", DryRun: true}
	if d := cmp.Diff(want, in.how); res.StatusCode != 200 || answer != `{"redriven":1}`+"\n" || d != "" {
		t.Errorf("%s %s %s", res.Status, answer, d)
	}
	if res, _ := ask(t, &instance{}, "POST", "/api/v1/dead-letters/drop", body, asJSON...); res.StatusCode != 400 {
		t.Errorf("a drop with an edit: %s", res.Status)
	}
	in = &instance{err: &console.UnknownError{Detail: "there is no such sink"}}
	if res, answer := ask(t, in, "POST", "/api/v1/dead-letters/redrive", body, asJSON...); res.StatusCode != 400 || !strings.Contains(answer, "no such sink") {
		t.Errorf("%s %s", res.Status, answer)
	}
}

func TestDeadLettersAreCounted(t *testing.T) {
	in := &instance{counts: []console.Count{{Pipeline: "orders", Sink: "payments", Reason: "permanent", Status: 422, Count: 7}}}
	_, body := ask(t, in, "GET", "/api/v1/dead-letters/counts?sink=payments", "")
	if want := `[{"pipeline":"orders","sink":"payments","reason":"permanent","status":422,"count":7}]` + "\n"; body != want {
		t.Errorf("%s, want %s", body, want)
	}
	if d := cmp.Diff(console.Query{Sink: "payments"}, in.asked); d != "" {
		t.Error(d)
	}
	if _, body := ask(t, &instance{}, "GET", "/api/v1/dead-letters/counts", ""); body != "[]\n" {
		t.Errorf("none are %q", body)
	}
	if res, _ := ask(t, &instance{}, "GET", "/api/v1/dead-letters/counts?limit=3", ""); res.StatusCode != 400 {
		t.Errorf("with a limit: %s", res.Status)
	}
}

func TestRefusals(t *testing.T) {
	const redrive, drop, all = "/api/v1/dead-letters/redrive", "/api/v1/dead-letters/drop", `{"all":true}`
	asJSON := []string{"Content-Type", "application/json"}
	for _, c := range []struct {
		name, method, path string
		header             []string
		status             int
	}{
		{"unknown path", "GET", "/api/v2/dead-letters", nil, 404},
		{"a path with a slash more", "GET", "/livez/", nil, 404},
		{"wrong method", "POST", "/livez", nil, 405},
		{"redrive by a link", "GET", redrive, nil, 405},
		{"drop by a link", "GET", drop, nil, 405},
		{"drop by another site", "POST", drop, append(asJSON, "Sec-Fetch-Site", "cross-site"), 403},
		{"a change of subscriptions", "POST", "/api/v1/subscriptions", asJSON, 405},
		{"subscriptions by another name", "GET", "/api/v1/subscriptions?sinks=payments", nil, 400},
		{"foreign name", "GET", "/livez", []string{"Host", "rebind.example.com:8081"}, 403},
		{"no name", "GET", "/livez", []string{"Host", ""}, 403},
		{"page of another site", "POST", redrive, append(asJSON, "Sec-Fetch-Site", "cross-site"), 403},
		{"origin of another site", "POST", redrive, append(asJSON, "Origin", "http://example.com"), 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := &instance{letters: oneLetter}
			res, body := ask(t, in, c.method, c.path, all, c.header...)
			if res.StatusCode != c.status || res.Header.Get("Content-Type") != "application/problem+json" {
				t.Fatalf("%s %s %s", res.Status, res.Header.Get("Content-Type"), body)
			}
			var p struct {
				Type, Title, Detail string
				Status              int
			}
			if err := json.Unmarshal([]byte(body), &p); err != nil || p.Status != c.status || p.Detail == "" || p.Title == "" {
				t.Errorf("%v in %s", err, body)
			}
		})
	}
}

func TestOwnNamesAreAnswered(t *testing.T) {
	for _, host := range []string{"localhost:8081", "LOCALHOST", "127.0.0.1", "[::1]:8081"} {
		if res, body := ask(t, &instance{}, "GET", "/livez", "", "Host", host); res.StatusCode != 200 {
			t.Errorf("%s: %d %s", host, res.StatusCode, body)
		}
	}
}

func TestEveryAnswerIsHardened(t *testing.T) {
	for _, path := range []string{"/", "/livez", "/metrics", "/nothing"} {
		res, _ := ask(t, &instance{}, "GET", path, "")
		h := res.Header
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" ||
			!strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
			t.Errorf("%s: %v", path, h)
		}
	}
}

func TestFailureOfTheInstance(t *testing.T) {
	in := &instance{err: errors.New("the outbox is closed")}
	for _, res := range []func() (*http.Response, string){
		func() (*http.Response, string) { return ask(t, in, "GET", "/api/v1/dead-letters", "") },
		func() (*http.Response, string) { return ask(t, in, "GET", "/api/v1/subscriptions", "") },
		func() (*http.Response, string) {
			return ask(t, in, "POST", "/api/v1/dead-letters/redrive", `{"all":true}`, "Content-Type", "application/json")
		},
	} {
		if r, body := res(); r.StatusCode != 503 || !strings.Contains(body, "the outbox is closed") {
			t.Errorf("%d %s", r.StatusCode, body)
		}
	}
}

// What the configuration does not have is the caller's mistake, not a failure that passes.
func TestRedriveOfAnUnknownSink(t *testing.T) {
	in := &instance{err: &console.UnknownError{Detail: "there is no such sink"}}
	res, body := ask(t, in, "POST", "/api/v1/dead-letters/redrive", `{"all":true,"sink":"nobody"}`, "Content-Type", "application/json")
	if res.StatusCode != 400 || !strings.Contains(body, `"detail":"there is no such sink"`) {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

func TestCheckListen(t *testing.T) {
	for listen, ok := range map[string]bool{
		"127.0.0.1:8081": true, "localhost:0": true, "[::1]:8081": true, "127.9.9.9:1": true, "[::ffff:127.0.0.1]:80": true,
		":8081": false, "0.0.0.0:8081": false, "[::]:8081": false, "192.0.2.1:8081": false, "admin.example.com:8081": false, "8081": false, "": false,
	} {
		if err := console.CheckListen(listen); (err == nil) != ok {
			t.Errorf("%q: %v", listen, err)
		}
	}
}

func Example() {
	in := &instance{letters: oneLetter}
	s := httptest.NewServer(console.New(console.Options{Listen: "127.0.0.1:0", Version: "v1", Instance: in}))
	defer s.Close()
	res, err := http.Get(s.URL + "/readyz")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer res.Body.Close()
	fmt.Println(res.Status)
	// Output: 200 OK
}
