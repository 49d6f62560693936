package app

import (
	"testing"

	"github.com/millrace-run/millrace/sources/webhook"
)

func TestReachable(t *testing.T) {
	for listener, want := range map[string]string{
		"127.0.0.1:8080": "127.0.0.1:8080",
		"[::]:8080":      "127.0.0.1:8080",
		"0.0.0.0:8080":   "127.0.0.1:8080",
		"[::1]:8080":     "[::1]:8080",
		"192.0.2.7:80":   "192.0.2.7:80",
	} {
		if got := reachable(listener); got != want {
			t.Errorf("%s: %s, want %s", listener, got, want)
		}
	}
}

func TestExamples(t *testing.T) {
	for _, c := range []struct {
		accept []string
		want   string
	}{
		{nil, "application/json"},
		{[]string{"text/*", "application/json"}, "application/json"},
		{[]string{"*/*"}, "application/json"},
		{[]string{"application/cloudevents+json"}, "application/cloudevents+json"},
		{[]string{"text/*"}, "text/plain"},
		{[]string{"image/png"}, "image/png"},
		{[]string{"image/*"}, "image/octet-stream"},
	} {
		h := &hook{accept: c.accept}
		if kind, body := h.example(); kind != c.want || body == "" {
			t.Errorf("%v: %s %q, want %s", c.accept, kind, body, c.want)
		}
	}
}

func TestExamplePath(t *testing.T) {
	c := webhook.Defaults()
	c.Path = "/shops/{shop}/orders/{id}"
	h, err := newHook(c)
	if err != nil {
		t.Fatal(err)
	}
	if got := h.examplePath(); got != "/shops/shop/orders/id" {
		t.Error(got)
	}
}
