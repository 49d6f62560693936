package app

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDedupeOfWebhooks: what a client hears that sends again, before and after a restart, in the outbox and in memory.
func TestDedupeOfWebhooks(t *testing.T) {
	for name, engine := range map[string]string{"sqlite": "sqlite: { path: o.db }", "memory": "memory: {}"} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			config := `
http: { listen: "127.0.0.1:0" }
admin: { listen: "127.0.0.1:0" }
outbox: { ` + engine + ` }
pipelines:
  orders:
    source: { webhook: { path: /orders } }
    dedupe: {}
    sinks: { all: { storage: { path: orders.ndjson, content: data } } }
  numbers:
    source: { webhook: { path: /numbers } }
    dedupe: { key: data.order }
    sinks: { all: { storage: { path: numbers.ndjson, content: data } } }
  ids:
    source: { webhook: { path: /ids } }
    dedupe: { key: id }
    sinks: { all: { storage: { path: ids.ndjson, content: data } } }
`
			if err := os.WriteFile("pipelines.yaml", []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}
			requests := []struct {
				path, key, body, answer string
				status                  int
			}{
				{"orders", "a", `{"n":1}`, `{"ids":["a"]}`, 202},
				{"orders", "a", `{"n":1}`, `{"ids":["a"]}`, 202},
				{"orders", "a", `{"n":2}`, "urn:millrace:problem:key-reused", 422},
				{"ids", "a", `{"n":1}`, `{"ids":["a"]}`, 202},
				{"ids", "a", `{"n":2}`, "urn:millrace:problem:key-reused", 422},
				{"numbers", "a", `{"order":1}`, `{"ids":["a"]}`, 202},
				{"numbers", "b", `{"order":1,"more":true}`, `{"ids":["a"]}`, 202},
				{"numbers", "a", `{"order":1,"again":true}`, `{"ids":["a"]}`, 202},
				{"numbers", "c", `{"order":"1"}`, `{"ids":["c"]}`, 202},
				{"numbers", "d", `{"order":null}`, `{"ids":["d"]}`, 202},
				{"numbers", "d", `{}`, `{"ids":["d"]}`, 202},
				{"numbers", "e", `{"order":1}` + "\n" + `{"order":2}` + "\n" + `{"order":2}`, `{"ids":["a","e/2","e/2"]}`, 202},
			}
			tallies := during(t, func(base string) {
				for _, r := range requests {
					status, answer := postKeyed(t, base+"/"+r.path, r.key, r.body)
					if status != r.status || !strings.Contains(answer, r.answer) {
						t.Errorf("%+v: %d %s", r, status, answer)
					}
				}
			})
			if name == "memory" {
				return
			}
			want := []Tally{
				{Pipeline: "orders", Received: 1, Duplicates: 1}, {Pipeline: "numbers", Received: 5, Duplicates: 4},
				{Pipeline: "ids", Received: 1},
			}
			var got []Tally
			for _, x := range tallies {
				if x.Sink == "" {
					got = append(got, x)
				}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			during(t, func(base string) {
				for _, r := range requests[1:5] {
					if status, answer := postKeyed(t, base+"/"+r.path, r.key, r.body); status != r.status || !strings.Contains(answer, r.answer) {
						t.Errorf("after a restart: %+v: %d %s", r, status, answer)
					}
				}
			})
			if b, err := os.ReadFile(filepath.Join("orders.ndjson")); err != nil || string(b) != "{\"n\":1}\n" {
				t.Errorf("%q %v", b, err)
			}
		})
	}
}

// during runs the file until use returns.
func during(t *testing.T, use func(base string)) (tallies []Tally) {
	t.Helper()
	plan, report := Load(Source{Path: "pipelines.yaml"})
	if plan == nil {
		t.Fatal(report.Text())
	}
	ctx, stop := context.WithCancel(t.Context())
	ended, started := make(chan error, 1), make(chan Started, 1)
	go func() {
		ended <- Run(ctx, Options{Plan: plan, Logger: quiet, Started: func(s Started) { started <- s },
			Stopped: func(all []Tally) { tallies = all }})
	}()
	select {
	case s := <-started:
		use(strings.TrimSuffix(s.Webhooks[0].URL, "/orders"))
	case err := <-ended:
		t.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	return tallies
}

func postKeyed(t *testing.T, url, key, body string) (status int, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if strings.Contains(body, "\n") {
		r.Header.Set("Content-Type", "application/x-ndjson")
	}
	r.Header.Set("Idempotency-Key", key)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}
