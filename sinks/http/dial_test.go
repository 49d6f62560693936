package http

import (
	"context"
	"io"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/event"
)

// Whatever the URL says, the request goes where dial leads, unchanged: host, path and body are those of the file.
func TestDial(t *testing.T) {
	var got []string
	receiver := httptest.NewServer(nethttp.HandlerFunc(func(_ nethttp.ResponseWriter, r *nethttp.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, r.Method+" "+r.Host+r.RequestURI+" "+string(body))
	}))
	defer receiver.Close()
	var dialed []string
	dial := Dial(func(ctx context.Context, scheme, address string) (net.Conn, error) {
		dialed = append(dialed, scheme+" "+address)
		return (&net.Dialer{}).DialContext(ctx, "tcp", strings.TrimPrefix(receiver.URL, "http://"))
	})
	for _, url := range []string{"http://shop.example.com/a?b=c", "https://shop.example.com/a", "https://192.0.2.1:8443/"} {
		c := Defaults()
		c.URL, c.DenyPrivate = template(t, url), !strings.Contains(url, "192.0.2.1")
		s, err := New(c, dial)
		if err != nil {
			t.Fatal(err)
		}
		e := &event.Event{ID: "1", Source: "/s", Type: "t", Data: []byte("x")}
		if v := s.Deliver(t.Context(), []event.Delivery{{Event: e, Key: "k", Attempt: 1}}).Verdicts[0]; v != nil {
			t.Errorf("%s: %v", url, v)
		}
		_ = s.Close()
	}
	want := []string{"http shop.example.com:80", "https shop.example.com:443", "https 192.0.2.1:8443"}
	if d := cmp.Diff(want, dialed); d != "" {
		t.Error(d)
	}
	want = []string{"POST shop.example.com/a?b=c x", "POST shop.example.com/a x", "POST 192.0.2.1:8443/ x"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
