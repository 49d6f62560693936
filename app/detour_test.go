package app

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/event"
)

// With a detour nobody is reached but who dials, files are written below its folder, and a run tells at its end what it did.
func TestDetour(t *testing.T) {
	t.Chdir(t.TempDir())
	far := filepath.Join(t.TempDir(), "far.ndjson")
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer receiver.Close()
	dialed, stored := make(chan string, 10), make(chan string, 10)
	detour := &Detour{
		Folder: filepath.Join(t.TempDir(), "caught"),
		Dial: func(ctx context.Context, sink SinkName, scheme, address string) (net.Conn, error) {
			dialed <- sink.String() + " " + scheme + "://" + address
			return (&net.Dialer{}).DialContext(ctx, "tcp", receiver.Listener.Addr().String())
		},
		Stored: func(sink SinkName, e *event.Event, path string) {
			stored <- sink.String() + " " + e.Subject + " " + path
		},
	}
	config := `
http: { listen: "127.0.0.1:0" }
admin: { listen: "127.0.0.1:0" }
pipelines:
  orders:
    source: { webhook: { path: /orders, subject: "{{ body.id }}" } }
    stages: [{ set: { subject: data.id + "" } }]
    sinks:
      shop: { http: { url: "https://shop.example.com/orders" } }
      near: { storage: { path: "data/{{ subject }}.ndjson" } }
      far: { storage: { path: ` + far + ` } }
`
	if err := os.WriteFile("pipelines.yaml", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	plan, report := Load(Source{Path: "pipelines.yaml", Detour: detour})
	if plan == nil {
		t.Fatal(report.Text())
	}
	ctx, stop := context.WithCancel(t.Context())
	var tallies []Tally
	ended := make(chan error, 1)
	started := make(chan Started, 1)
	go func() {
		ended <- Run(ctx, Options{Plan: plan, Logger: quiet, Started: func(s Started) { started <- s },
			Stopped: func(all []Tally) { tallies = all }})
	}()
	var hook string
	select {
	case s := <-started:
		hook = s.Webhooks[0].URL
	case err := <-ended:
		t.Fatal(err)
	}
	for _, body := range []string{`{"id":7}`, `{"id":"o-1"}`} { // a number and a string do not add up: a dead letter
		res, err := http.Post(hook, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusAccepted {
			t.Fatalf("%s: %s", body, res.Status)
		}
	}
	if got := <-dialed; got != "orders/shop https://shop.example.com:443" {
		t.Errorf("dialed %s", got)
	}
	want := map[string]bool{
		"orders/near o-1 " + filepath.Join(detour.Folder, "data", "o-1.ndjson"): true,
		"orders/far o-1 " + filepath.Join(detour.Folder, "outside", far):        true,
	}
	got := map[string]bool{<-stored: true, <-stored: true}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]Tally{
		{Pipeline: "orders", Received: 2, DeadLetters: 1},
		{Pipeline: "orders", Sink: "shop", Delivered: 1},
		{Pipeline: "orders", Sink: "near", Delivered: 1},
		{Pipeline: "orders", Sink: "far", Delivered: 1},
	}, tallies); d != "" {
		t.Error(d)
	}
	for _, untouched := range []string{"data/o-1.ndjson", far} {
		if _, err := os.Stat(untouched); err == nil {
			t.Errorf("%s was written", untouched)
		}
	}
}
