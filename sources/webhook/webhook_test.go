package webhook

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

// A package that declares an interface with this method must find that Source has it.
var _ interface {
	Run(ctx context.Context, emit func(ctx context.Context, b event.Batch) (ids []string, err error)) error
} = (*Source)(nil)

func TestConfigIsChecked(t *testing.T) {
	tests := []struct {
		change    func(*Config)
		key, want string
	}{
		{func(c *Config) { c.Path = "" }, "path", "must not be empty"},
		{func(c *Config) { c.Path = "orders" }, "path", "must begin with a slash: /orders"},
		{func(c *Config) { c.Path = "/a?b" }, "path", `without "?"`},
		{func(c *Config) { c.Path = "/a#b" }, "path", `without "?"`},
		{func(c *Config) { c.Path = "/a//b" }, "path", "two slashes"},
		{func(c *Config) { c.Path = "/a/../b" }, "path", "matches no request"},
		{func(c *Config) { c.Path = "/a b" }, "path", "%20"},
		{func(c *Config) { c.Path = "/a%2" }, "path", "invalid URL escape"},
		{func(c *Config) { c.Path = "/{x}/{x}" }, "path", "{x} is there twice"},
		{func(c *Config) { c.Path = "/{x" }, "path", "a parameter takes the whole place"},
		{func(c *Config) { c.Path = "/x}" }, "path", "a parameter takes the whole place"},
		{func(c *Config) { c.Path = "/{}" }, "path", "a parameter takes the whole place"},
		{func(c *Config) { c.Path = "/{x}.json" }, "path", "a parameter takes the whole place"},
		{func(c *Config) { c.Path = "/{x...}" }, "path", "a parameter takes the whole place"},
		{func(c *Config) { c.Path = "/{1x}" }, "path", "a parameter takes the whole place"},
		{func(c *Config) { c.MaxBody = 0 }, "max_body", "from 1 to 1073741824 bytes"},
		{func(c *Config) { c.MaxBody = 1<<30 + 1 }, "max_body", "from 1 to 1073741824 bytes"},
		{func(c *Config) { c.MaxDepth = 0 }, "max_depth", "from 1 to 10000"},
		{func(c *Config) { c.MaxDepth = 10_001 }, "max_depth", "from 1 to 10000"},
		{func(c *Config) { c.MaxHeaders = 100 }, "max_headers", "from 1024 to"},
		{func(c *Config) { c.ReadTimeout = 0 }, "read_timeout", "more than 0s"},
		{func(c *Config) { c.ReadTimeout = -time.Second }, "read_timeout", "more than 0s"},
		{func(c *Config) { c.Accept = []string{"application/json", "json"} }, "accept", `"json" is not a media type`},
		{func(c *Config) { c.Accept = []string{"*/*"} }, "accept", `"*/*" is not a media type`},
		{func(c *Config) { c.Type = template(t, "a\nb") }, "type", "control characters"},
		{func(c *Config) { c.Source = template(t, "a b") }, "source", "URI reference"},
		{func(c *Config) { c.Subject = template(t, "\x00") }, "subject", "control characters"},
		{func(c *Config) { c.Attributes = map[string]*rules.Expr{"Tenant": compile(t, "type")} }, "attributes.Tenant", "lower-case"},
		{func(c *Config) { c.Attributes = map[string]*rules.Expr{"time": compile(t, "type")} }, "attributes.time", "not an extension"},
	}
	for _, tt := range tests {
		c := Defaults()
		c.Path = "/hook"
		tt.change(&c)
		s, err := New(c)
		var fault *event.KeyError
		if !errors.As(err, &fault) || fault.Key != tt.key || !strings.Contains(err.Error(), tt.want) || s != nil {
			t.Errorf("got %v, want %s: …%s…", err, tt.key, tt.want)
		}
	}
}

func TestPathsAreAccepted(t *testing.T) {
	for path, exclusive := range map[string]string{"/": "/", "/a": "/a", "/a/": "/a/", "/{x}": "/{}",
		"/shops/{shop_1}/o": "/shops/{}/o", "/a%20b/é": "/a%20b/%C3%A9"} {
		s := build(t, func(c *Config) { c.Path = path })
		if s.Path() != path || s.Exclusive()[0] != "webhook path "+exclusive {
			t.Errorf("%s: got %s, %v", path, s.Path(), s.Exclusive())
		}
	}
}

func TestDefaultsAreThoseOfTheContract(t *testing.T) {
	c := Defaults()
	if c.MaxBody != 1<<20 || c.MaxDepth != 64 || c.MaxHeaders != 64<<10 || c.ReadTimeout != 30*time.Second || len(c.Accept) > 0 {
		t.Errorf("got %+v", c)
	}
}
