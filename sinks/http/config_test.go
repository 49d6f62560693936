package http

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

func TestNewRefuses(t *testing.T) {
	header := func(name, value string) func(*testing.T, *Config) {
		return func(t *testing.T, c *Config) { c.Headers = map[string]rules.Template{name: template(t, value)} }
	}
	url := func(s string) func(*testing.T, *Config) {
		return func(t *testing.T, c *Config) { c.URL = template(t, s) }
	}
	for _, c := range []struct {
		name   string
		change func(*testing.T, *Config)
		key    string
		want   string
	}{
		{"no url", func(_ *testing.T, c *Config) { c.URL = rules.Template{} }, "url", "required"},
		{"no scheme", url("example.com/x"), "url", "http://"},
		{"another scheme", url("ftp://example.com/x"), "url", "http://"},
		{"scheme from the event", url("{{ data.s }}://example.com/"), "url", "http://"},
		{"host from the event", url("http://{{ data.host }}/"), "url", "literal"},
		{"end of the host from the event", url("http://example.{{ data.tld }}/"), "url", "literal"},
		{"port from the event", url("http://example.com:{{ data.port }}/"), "url", "literal"},
		{"no host", url("http:///x"), "url", "host is missing"},
		{"only a port", url("http://:80/x"), "url", "host is missing"},
		{"bad port", url("http://example.com:70000/"), "url", "port"},
		{"port 0", url("http://example.com:0/"), "url", "port"},
		{"bad host", url("http://exa mple.com/"), "url", "host"},
		{"user info", url("http://user:hunter2@example.com/"), "url", "headers"},
		{"bad user info", url("http://us er:hunter2@example.com/"), "url", "headers"},
		{"fragment", url("http://example.com/a#b"), "url", "fragment"},
		{"bad escape", url("http://example.com/%zz"), "url", "%"},
		{"dots", url("http://example.com/a/../b"), "url", ".."},
		{"encoded dots", url("http://example.com/a/%2E./{{ id }}"), "url", ".."},
		{"space around", url(" http://example.com/"), "url", "white space"},
		{"line feed in it", url("http://example.com/a\nb"), "url", "control"},
		{"method", func(_ *testing.T, c *Config) { c.Method = "post" }, "method", "POST"},
		{"no method", func(_ *testing.T, c *Config) { c.Method = "" }, "method", "POST"},
		{"mode", func(_ *testing.T, c *Config) { c.Mode = "batch" }, "mode", "structured"},
		{"host header", header("Host", "x"), "headers.Host", "connection"},
		{"length header", header("content-length", "1"), "headers.content-length", "connection"},
		{"encoding header", header("Transfer-Encoding", "chunked"), "headers.Transfer-Encoding", "connection"},
		{"connection header", header("CONNECTION", "close"), "headers.CONNECTION", "connection"},
		{"our key", header("idempotency-key", "x"), "headers.idempotency-key", "Millrace"},
		{"our keys", header("idempotency-keys", "x"), "headers.idempotency-keys", "Millrace"},
		{"our attempt", header("Millrace-Attempt", "x"), "headers.Millrace-Attempt", "Millrace"},
		{"an attribute", header("ce-id", "x"), "headers.ce-id", "attributes"},
		{"content type", header("Content-Type", "x"), "headers.Content-Type", "mode"},
		{"no name", header("", "x"), "headers.", "name"},
		{"name with a colon", header("a:b", "x"), "headers.a:b", "name"},
		{"name beyond ASCII", header("ä", "x"), "headers.ä", "name"},
		{"control character", header("X-A", "a\r\nb: c"), "headers.X-A", "control"},
		{"private literal", func(t *testing.T, c *Config) {
			c.URL, c.DenyPrivate = template(t, "http://127.0.0.1:1/"), true
		}, "url", "loopback"},
		{"private IPv6 literal", func(t *testing.T, c *Config) {
			c.URL, c.DenyPrivate = template(t, "http://[::ffff:10.0.0.1]/"), true
		}, "url", "private"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := Defaults()
			config.URL = template(t, "http://example.com/")
			c.change(t, &config)
			_, err := New(config)
			var k *event.KeyError
			if !errors.As(err, &k) {
				t.Fatalf("%v is no KeyError", err)
			}
			if k.Key != c.key || !strings.Contains(k.Err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q: %v, want key %q and %q", k.Key, k.Err, c.key, c.want)
			}
		})
	}
}

func TestNewJoinsAllFaults(t *testing.T) {
	_, err := New(Config{Headers: map[string]rules.Template{"Host": {}, "x-a": {}, "X-A": {}}})
	for _, want := range []string{"url: required", "method: ", "mode: ", "headers.Host: ", "headers.x-a: the same header"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not say %q", err, want)
		}
	}
}

func TestNewAccepts(t *testing.T) {
	for _, source := range []string{
		"http://example.com", "https://example.com:8443/a/{{ id }}?b={{ type }}", "HTTP://127.0.0.1:1/", "http://[::1]:80/x",
		"http://example.com?{{ id }}",
		"http://example.com/50%25/{{ id }}", "http://xn--bcher-kva.example/",
	} {
		newSink(t, source)
	}
	newSink(t, "http://example.com/", func(c *Config) {
		c.Mode, c.Headers = "data", map[string]rules.Template{"content-type": template(t, "text/plain")}
	})
	newSink(t, "http://8.8.8.8/", func(c *Config) { c.DenyPrivate = true })
}

func TestPrivateKind(t *testing.T) {
	for address, private := range map[string]bool{
		"8.8.8.8": false, "1.1.1.1": false, "2606:4700:4700::1111": false, "::ffff:8.8.8.8": false, "64:ff9b::808:808": false,
		"2002:808:808::1": false,
		"172.15.255.255":  false, "172.32.0.0": false, "100.63.255.255": false, "100.128.0.0": false, "11.0.0.0": false,
		"127.0.0.1": true, "127.255.255.254": true, "::1": true, "10.0.0.1": true, "172.16.0.1": true, "172.31.255.255": true,
		"192.168.1.1":     true,
		"169.254.169.254": true, "fe80::1%eth0": true, "fd00:ec2::254": true, "fc00::1": true,
		"100.64.0.1": true, "100.100.100.200": true,
		"0.0.0.0": true, "0.1.2.3": true, "::": true, "224.0.0.1": true, "ff02::1": true, "255.255.255.255": true, "240.0.0.1": true,
		"::ffff:127.0.0.1": true, "::ffff:10.0.0.1": true, "::127.0.0.1": true, "64:ff9b::7f00:1": true,
		"64:ff9b::a9fe:a9fe": true, "64:ff9b:1::1": true,
		"2002:7f00:1::": true, "2002:a00:1::1": true, "2001:0:1::1": true, "fec0::1": true, "198.18.0.1": true,
		"192.0.2.1": true, "192.0.0.192": true,
		"168.63.129.16": true, "2001:db8::1": true, "100::1": true,
	} {
		if kind := privateKind(netip.MustParseAddr(address)); (kind != "") != private {
			t.Errorf("%s: %q, want private %v", address, kind, private)
		}
	}
}

// The check is at the dial: a name that resolves to loopback is refused there, and no connection is made.
func TestDenyPrivateByName(t *testing.T) {
	url, _ := capture(t)
	byName := strings.Replace(url, "127.0.0.1", "localhost", 1)
	f := failure(t, newSink(t, byName, func(c *Config) { c.DenyPrivate = true }), order(), event.UnavailableClass)
	if !strings.Contains(f.Error(), "deny_private") || f.Refused {
		t.Errorf("refused %v: %v", f.Refused, f.Error())
	}
	if err := send(t, newSink(t, url), order()); err != nil {
		t.Errorf("a literal host may point anywhere: %v", err)
	}
}
