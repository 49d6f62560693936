package queue_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/sinks/queue"
)

// lender is one event and a memory of what it was asked.
type lender struct {
	err      error
	ask      event.Ask
	receipts []string
	back     event.Return
}

func (l *lender) Receive(_ context.Context, a event.Ask) ([]event.Leased, error) {
	l.ask = a
	e := &event.Event{ID: "o-1", Source: "/orders", Type: "order", DataContentType: "application/json", Data: []byte(`{"note":"<a & b>", "n":1.0}`)}
	d := event.Delivery{Event: e, Key: "00ff", Attempt: 2}
	return []event.Leased{{Receipt: "r-1", Delivery: d, Until: time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)}}, l.err
}

func (l *lender) Return(_ context.Context, receipts []string, back event.Return) ([]string, error) {
	l.receipts, l.back = receipts, back
	if l.err != nil {
		return nil, l.err
	}
	return receipts[1:], nil
}

func serve(t *testing.T, l *lender, token string) func(path, body, auth string) (int, string) {
	t.Helper()
	q, err := queue.New(queue.Config{Lease: 30 * time.Second, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	mux := queue.NewMux(map[string]queue.Served{"orders.work": {Queue: q, Lender: l}})
	return func(path, body, auth string) (int, string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, queue.Prefix+path, strings.NewReader(body))
		r.Header.Set("Authorization", auth)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		return w.Code, strings.TrimSpace(w.Body.String())
	}
}

func TestReceive(t *testing.T) {
	l := &lender{}
	ask := serve(t, l, "")
	status, body := ask("orders.work/receive", `{"max": 5, "wait": "2s", "lease": 90}`, "")
	want := `{"events":[{"receipt":"r-1","attempt":2,"key":"00ff","until":"2026-05-01T10:00:00Z","event":{"specversion":"1.0","id":"o-1",` +
		`"source":"/orders","type":"order","datacontenttype":"application/json","data":{"note":"<a & b>", "n":1.0}}}]}`
	if status != http.StatusOK || body != want {
		t.Errorf("%d %s\nwant %s", status, body, want)
	}
	if d := cmp.Diff(event.Ask{Max: 5, Wait: 2 * time.Second, Lease: 90 * time.Second}, l.ask); d != "" {
		t.Error(d)
	}
	if ask("orders.work/receive", "", ""); l.ask != (event.Ask{Max: 1, Lease: 30 * time.Second}) {
		t.Errorf("an empty body asks for %+v", l.ask)
	}
}

func TestReturn(t *testing.T) {
	for _, c := range []struct {
		path, body string
		want       event.Return
	}{
		{"ack", `{"receipts":["a","b"]}`, event.Return{Action: event.Acked}},
		{"nack", `{"receipts":["a","b"]}`, event.Return{Action: event.Nacked, Delay: -1}},
		{"nack", `{"receipts":["a","b"],"delay":"0s","error":"full"}`, event.Return{Action: event.Nacked, Problem: "full"}},
		{"nack", `{"receipts":["a","b"],"reject":true,"error":"bad"}`, event.Return{Action: event.Rejected, Delay: -1, Problem: "bad"}},
		{"extend", `{"receipts":["a","b"],"lease":"2m"}`, event.Return{Action: event.Extended, Delay: 2 * time.Minute}},
		{"extend", `{"receipts":["a","b"]}`, event.Return{Action: event.Extended, Delay: 30 * time.Second}},
	} {
		l := &lender{}
		status, body := serve(t, l, "")("orders.work/"+c.path, c.body, "")
		if status != http.StatusOK || body != `{"done":1,"gone":["b"]}` {
			t.Errorf("%s %s: %d %s", c.path, c.body, status, body)
		}
		if d := cmp.Diff(c.want, l.back); d != "" {
			t.Errorf("%s %s: %s", c.path, c.body, d)
		}
	}
}

func TestRefusals(t *testing.T) {
	const token = "s3cret"
	for _, c := range []struct {
		path, body, auth string
		err              error
		status           int
		says             string
	}{
		{"orders.work/receive", "", "", nil, 401, "Authorization: Bearer"},
		{"orders.work/receive", "", "Bearer s3cre", nil, 401, "token"},
		{"orders.work/receive", "", "Basic s3cret", nil, 401, "token"},
		{"orders.play/receive", "", "Bearer s3cret", nil, 404, "no queue"},
		{"orders.work/peek", "", "Bearer s3cret", nil, 404, "ack, extend, nack, receive"},
		{"orders.work/receive", `{"max":0}`, "bearer s3cret", nil, 400, "max: must be from 1 to 1000"},
		{"orders.work/receive", `{"max":1001}`, "Bearer s3cret", nil, 400, "max"},
		{"orders.work/receive", `{"wait":"2m"}`, "Bearer s3cret", nil, 400, "wait: must be from 0s to 1m0s"},
		{"orders.work/receive", `{"lease":"10ms"}`, "Bearer s3cret", nil, 400, "lease"},
		{"orders.work/receive", `{"lease":1e300}`, "Bearer s3cret", nil, 400, "time span"},
		{"orders.work/receive", `{"most":1}`, "Bearer s3cret", nil, 400, `"most" is not known here; there are max, wait, lease`},
		{"orders.work/receive", `[]`, "Bearer s3cret", nil, 400, "no JSON object"},
		{"orders.work/ack", ``, "Bearer s3cret", nil, 400, "receipts: name 1 to 1000"},
		{"orders.work/nack", `{"receipts":["a"],"delay":"13h"}`, "Bearer s3cret", nil, 400, "delay"},
		{"orders.work/nack", `{"receipts":["a"],"delay":"1s","reject":true}`, "Bearer s3cret", nil, 400, "does not come again"},
		{"orders.work/ack", `{"receipts":["a"]}`, "Bearer s3cret", event.ErrReceipt, 400, "no receipt"},
		{"orders.work/ack", `{"receipts":["a"]}`, "Bearer s3cret", event.ErrClosed, 503, "nothing was done"},
		{"orders.work/receive", ``, "Bearer s3cret", event.ErrClosed, 503, "nothing was done"},
	} {
		status, body := serve(t, &lender{err: c.err}, token)(c.path, c.body, c.auth)
		if status != c.status || !strings.Contains(body, c.says) && !strings.Contains(body, strings.ReplaceAll(c.says, `"`, `\"`)) {
			t.Errorf("%s %s: %d %s, want %d %s", c.path, c.body, status, body, c.status, c.says)
		}
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		config queue.Config
		key    string
	}{
		{queue.Defaults(), ""},
		{queue.Config{Lease: time.Millisecond}, "lease"},
		{queue.Config{Lease: 13 * time.Hour}, "lease"},
		{queue.Config{Lease: time.Minute, Token: "two words"}, "token"},
		{queue.Config{Lease: time.Minute, Token: "grün"}, "token"},
	} {
		_, err := queue.New(c.config)
		var key *event.KeyError
		if errors.As(err, &key); err != nil && key.Key != c.key || err == nil && c.key != "" {
			t.Errorf("%+v: %v, want an error about %q", c.config, err, c.key)
		}
	}
}
