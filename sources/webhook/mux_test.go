package webhook

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/millrace-run/millrace/event"
)

func TestMux(t *testing.T) {
	paths := []string{"/", "/orders", "/orders/", "/shops/{shop}/orders", "/shops/main/orders", "/shops/{shop}",
		"/{a}/{b}/{c}/{d}/{e}", "/shops/main/{x}/z", "/gr%C3%B6%C3%9Fe", "/a%2Fb"}
	sources := make([]*Source, len(paths))
	for i, p := range paths {
		sources[i] = build(t, func(c *Config) { c.Path = p })
	}
	in := &inbox{}
	base := serve(t, in.emit, sources...)
	for path, want := range map[string]string{ // to the event's source, which shows what was matched
		"/": "/", "": "/", "/orders": "/orders", "/orders/": "/orders/", "/%6frders": "/orders",
		"/shops/s-1/orders": "/shops/s-1/orders", "/shops/main/orders": "/shops/main/orders",
		"/shops/main": "/shops/main", "/shops/a%2Fb/orders": "/shops/a%2Fb/orders", "/shops/a%20b": "/shops/a%20b",
		"/shops/%7Bx%7D": "/shops/%7Bx%7D",
		"/1/2/3/4/5":     "/1/2/3/4/5", "/shops/main/y/z": "/shops/main/y/z", "/gr%C3%B6%C3%9Fe": "/gr%C3%B6%C3%9Fe",
		"/größe": "/gr%C3%B6%C3%9Fe", "/a%2Fb": "/a%2Fb",
		"/shops/main/orders/4/5": "/shops/main/orders/4/5",
	} {
		got := post(t, base+path, "{}", "Content-Type", jsonType)
		events := in.take()
		if got.status != http.StatusAccepted || len(events) != 1 || events[0].Source != want {
			t.Errorf("%s: got %d %s %v", path, got.status, got.body, events)
		}
	}
	for _, path := range []string{"/Orders", "/orders//", "//orders", "/shops//orders", "/shops/", "/shops", "/orders/1",
		"/1/2/3/4/5/6", "/a/b", "/shops/../orders", "/./orders"} {
		got := post(t, base+path, "{}", "Content-Type", jsonType)
		checkProblem(t, got, 404, "not-found", "no webhook")
		if location := got.header.Get("Location"); location != "" {
			t.Errorf("%s was redirected to %s", path, location)
		}
	}
}

// The literal goes first even where it was added last, which is why the source has its own literal part in the answer.
func TestMuxPrefersTheLiteral(t *testing.T) {
	seen := ""
	named := func(path string) *Source {
		s := build(t, func(c *Config) { c.Path = path; c.Type = template(t, path) })
		return s
	}
	emit := func(_ context.Context, b event.Batch) ([]string, error) { seen = b.Events[0].Type; return nil, nil }
	base := serve(t, emit, named("/x/y/b"), named("/{p}/y/{q}"), named("/x/{q}/c"), named("/x/y/{q}"))
	for path, want := range map[string]string{"/x/y/b": "/x/y/b", "/x/y/c": "/x/y/{q}", "/x/z/c": "/x/{q}/c",
		"/w/y/b": "/{p}/y/{q}", "/x/y/d": "/x/y/{q}"} {
		if got := post(t, base+path, "{}", "Content-Type", jsonType); got.status != http.StatusAccepted || seen != want {
			t.Errorf("%s: got %d, received by %s, want %s", path, got.status, seen, want)
		}
	}
}

func TestMuxRefusesEqualPaths(t *testing.T) {
	at := func(path string) *Source { return build(t, func(c *Config) { c.Path = path }) }
	for _, pair := range [][2]string{{"/a", "/a"}, {"/a/{x}", "/a/{y}"}, {"/%61", "/a"}} {
		a, b := at(pair[0]), at(pair[1])
		if _, err := NewMux(a, b); err == nil || !strings.Contains(err.Error(), "two webhooks have the path") {
			t.Errorf("%v: got %v", pair, err)
		}
		if a.Exclusive()[0] != b.Exclusive()[0] {
			t.Errorf("%v: got %v and %v", pair, a.Exclusive(), b.Exclusive())
		}
	}
	for _, pair := range [][2]string{{"/a", "/a/"}, {"/a/{x}", "/a/x"}, {"/{x}/b", "/a/{y}"}, {"/a%2Fb", "/a/b"}, {"/a", "/A"}} {
		a, b := at(pair[0]), at(pair[1])
		if _, err := NewMux(a, b); err != nil {
			t.Errorf("%v: %v", pair, err)
		}
		if a.Exclusive()[0] == b.Exclusive()[0] {
			t.Errorf("%v: both are %v", pair, a.Exclusive())
		}
	}
}

func TestMuxOfNone(t *testing.T) {
	mux, err := NewMux()
	if err != nil {
		t.Fatal(err)
	}
	if mux.MaxHeaderBytes() != 0 {
		t.Errorf("got %d", mux.MaxHeaderBytes())
	}
	checkProblem(t, post(t, serveHandler(t, mux, mux.MaxHeaderBytes(), nil)+"/", "{}"), 404, "not-found", "no webhook")
}

func TestSourceBehindServeMux(t *testing.T) {
	in := &inbox{}
	s := build(t, func(c *Config) { c.Path = "/shops/{shop}" })
	mux := http.NewServeMux()
	mux.Handle(s.Path(), s)
	base := serveHandler(t, mux, http.DefaultMaxHeaderBytes, in.emit, s)
	got := post(t, base+"/shops/s-1", "{}", "Content-Type", jsonType)
	if events := in.take(); got.status != http.StatusAccepted || len(events) != 1 || events[0].Source != "/shops/s-1" {
		t.Errorf("got %d %s %v", got.status, got.body, events)
	}
}
