package webhook

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/millrace-run/millrace/event"
)

// Every yes of a source whose events are in memory only says so, and no other answer does.
func TestVolatile(t *testing.T) {
	in := &inbox{}
	durable, volatile := build(t, nil), build(t, func(c *Config) { c.Path = "/volatile" })
	volatile.Volatile()
	url := serve(t, in.emit, durable, volatile)
	for _, c := range []struct {
		path, kind, body string
		fail             error
		status           int
		want             string
	}{
		{"/hook", jsonType, `{}`, nil, 202, ""},
		{"/volatile", jsonType, `{}`, nil, 202, "no"},
		{"/volatile", "application/cloudevents-batch+json", `[]`, nil, 202, "no"},
		{"/volatile", jsonType, `{`, nil, 400, ""},
		{"/volatile", jsonType, `{}`, event.ErrFull, 503, ""},
	} {
		in.failWith(c.fail)
		r, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodPost, url+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", c.kind)
		r.Close = true
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		if got := res.Header.Get("Millrace-Durable"); res.StatusCode != c.status || got != c.want {
			t.Errorf("%s %s: %s, Millrace-Durable %q", c.path, c.body, res.Status, got)
		}
	}
}
