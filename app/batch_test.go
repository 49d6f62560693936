package app

import (
	"net/http"
	"strings"
	"testing"
)

// From the file to what a destination gets: two events in one request, which development shows one by one.
func TestBatchFromEndToEnd(t *testing.T) {
	t.Chdir(t.TempDir())
	d := startDev(t, `
http: { listen: "127.0.0.1:0" }
admin: { listen: "127.0.0.1:0" }
pipelines:
  orders:
    source: { webhook: { path: /orders } }
    sinks:
      shop:
        http: { url: "https://shop.example.com/in" }
        batch: { count: 2, wait: 1h }
`, false)
	s := <-d.started
	for _, body := range []string{`{"n":1}`, `{"n":2}`} {
		if status, answer := ask(t, "POST", s.Webhooks[0].URL, body); status != http.StatusAccepted {
			t.Fatal(answer)
		}
	}
	d.out.until(`"n": 2`)
	d.end(t)
	text := d.out.text.String()
	if strings.Count(text, "POST https://shop.example.com/in") != 1 || !strings.Contains(text, "a batch of 2 events") ||
		!strings.Contains(text, `"n": 1`) {
		t.Errorf("printed %s", text)
	}
	if len(d.tallies) != 2 || d.tallies[1].Delivered != 2 {
		t.Errorf("tallies %+v", d.tallies)
	}
}

// Only sinks that can send a batch take the key.
func TestBatchIsRefusedElsewhere(t *testing.T) {
	t.Chdir(t.TempDir())
	save(t, `
pipelines:
  orders:
    source: { webhook: { path: /orders } }
    sinks:
      files: { storage: { path: a.ndjson }, batch: { count: 2 } }
      mails:
        email: { server: "smtp://127.0.0.1:25", from: a@example.com, to: b@example.com, subject: s, text: "{{ id }}" }
        batch: { count: 2 }
      shop: { http: { url: "http://127.0.0.1:1/{{ id }}", headers: { X-A: "{{ id }}" } }, batch: { count: 2 } }
`)
	_, report := Load(Source{Path: "pipelines.yaml"})
	for _, want := range []string{":6:45  error  E0135", "E0131  text: a mail of several events has no id of its own", ":10:28  error  E0131  url: a batch is one request",
		":10:75  error  E0131  headers.X-A: a batch is one request"} {
		if !strings.Contains(report.Text(), want) {
			t.Errorf("the report does not say %q:\n%s", want, report.Text())
		}
	}
}
