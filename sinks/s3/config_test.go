package s3

import (
	"encoding/base64"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/millrace-run/millrace/event"
)

func TestSettings(t *testing.T) {
	key := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for name, c := range map[string]struct {
		set  func(c *Config)
		want []string // key: what the text has; nil is valid
	}{
		"the least":            {func(*Config) {}, nil},
		"no bucket":            {func(c *Config) { c.Bucket = "" }, []string{"bucket: required"}},
		"a bucket's URL":       {func(c *Config) { c.Bucket = "s3://orders" }, []string{"bucket: a name is expected, not a URL"}},
		"a path as bucket":     {func(c *Config) { c.Bucket = "orders/2026" }, []string{"bucket: a name is expected, without /"}},
		"an upper-case bucket": {func(c *Config) { c.Bucket = "Orders" }, []string{`bucket: "Orders" is no name of a bucket`}},
		"a template":           {func(c *Config) { c.Key = template(t, "a/{{ received.Format('2006') }}/") }, nil},
		"a key that is a URL":  {func(c *Config) { c.Key = template(t, "s3://orders/a/") }, []string{"key: it is what keys begin with"}},
		"a key with a slash":   {func(c *Config) { c.Key = template(t, "/a/") }, []string{"key: there is /"}},
		"a key that climbs":    {func(c *Config) { c.Key = template(t, "a/../{{ id }}") }, []string{"key: there is /"}},
		"a key in space":       {func(c *Config) { c.Key = template(t, " a/") }, []string{"key: there is white space"}},
		"an endpoint":          {func(c *Config) { c.Endpoint = "http://127.0.0.1:9000" }, nil},
		"no scheme":            {func(c *Config) { c.Endpoint = "store.example.com:9000" }, []string{"endpoint: expected http://"}},
		"a path behind":        {func(c *Config) { c.Endpoint = "https://store.example.com/orders" }, []string{"endpoint: there must be nothing behind"}},
		"a user in it":         {func(c *Config) { c.Endpoint = "https://me:geheim@store.example.com" }, []string{"endpoint: credentials do not belong"}},
		"no region":            {func(c *Config) { c.Region = "" }, []string{"region:"}},
		"half credentials":     {func(c *Config) { c.Credentials.AccessKey = "me" }, []string{"credentials.secret_key: required"}},
		"the other half":       {func(c *Config) { c.Credentials.SecretKey = "geheim" }, []string{"credentials.access_key: required"}},
		"a token alone": {func(c *Config) { c.Credentials.SessionToken = "geheim" },
			[]string{"credentials.access_key: required", "credentials.secret_key: required"}},
		"both kinds": {func(c *Config) {
			c.Credentials = Credentials{From: "env", AccessKey: "me", SecretKey: "geheim"}
		}, []string{"credentials.from: it has no meaning"}},
		"a profile of the environment": {func(c *Config) { c.Credentials.From, c.Credentials.Profile = "env", "a" }, []string{"credentials.profile: only"}},
		"raw in an array":              {func(c *Config) { c.Content, c.Format = "raw", "json" }, []string{"format: raw data makes no JSON array"}},
		"a key of KMS without it":      {func(c *Config) { c.SSE = SSE{Type: "AES256", KeyID: "k"} }, []string{"sse.key_id: only"}},
		"a customer's key":             {func(c *Config) { c.SSE = SSE{Type: "customer", Key: key} }, nil},
		"a short one":                  {func(c *Config) { c.SSE = SSE{Type: "customer", Key: "geheim"} }, []string{"sse.key: expected 32 bytes"}},
		"over http": {func(c *Config) { c.SSE, c.Endpoint = SSE{Type: "customer", Key: key}, "http://store.example.com" },
			[]string{"sse.type: a key is sent over https only"}},
		"too many tags": {func(c *Config) {
			c.Tags = map[string]string{}
			for _, r := range "abcdefghijk" {
				c.Tags[string(r)] = "x"
			}
		}, []string{"tags:"}},
		"metadata":        {func(c *Config) { c.Metadata = map[string]string{"a b": "x", "c": "ü"} }, []string{"metadata.a b:", "metadata.c:"}},
		"TLS over http":   {func(c *Config) { c.Endpoint, c.TLS.Insecure = "http://store.example.com", true }, []string{"tls: it has no meaning"}},
		"TLS twice":       {func(c *Config) { c.TLS = TLS{CA: "a.pem", Insecure: true} }, []string{"tls.ca: it has no meaning"}},
		"all that can be": {func(c *Config) { c.Bucket, c.Region = "", "?" }, []string{"bucket:", "region:"}},
	} {
		t.Run(name, func(t *testing.T) {
			config := Defaults()
			config.Bucket = bucket
			c.set(&config)
			_, err := New(config)
			if (err == nil) != (c.want == nil) {
				t.Fatalf("%v, want %q", err, c.want)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v, want %q", err, want)
				}
			}
			if err != nil && strings.Contains(err.Error(), "geheim") {
				t.Errorf("a secret is in %v", err)
			}
		})
	}
}

func TestKeys(t *testing.T) {
	for prefix, ok := range map[string]bool{
		"": true, "a": true, "a/": true, "a/b": true, "a/.b/": true, "a/./": false, "a//b/": false, "/": false, "../": false, "a\n/": false,
		"\xff/": false, strings.Repeat("a", maxPrefix): true, strings.Repeat("a", maxPrefix+1): false,
	} {
		if err := checkKey(prefix); (err == nil) != ok {
			t.Errorf("%.20q: %v", prefix, err)
		}
	}
	names := []string{nameOf(day, 1, nil, ".x"), nameOf(day, 2, nil, ".x"), nameOf(day, 2, make([]byte, 16), ".x"), nameOf(day.Add(1e6), 1, nil, ".x")}
	if slices.Sort(names[2:]); len(slices.Compact(slices.Sorted(slices.Values(names)))) != 4 || !strings.HasPrefix(names[0], "20260102T150405.123Z-0000000001-") {
		t.Errorf("%q", names)
	}
}

// TestCredentials: what is not there is an error that says where to put it, and no request is sent without a signature.
func TestCredentials(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_PROFILE", "AWS_CONFIG_FILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", t.TempDir())
	file := t.TempDir() + "/credentials"
	if err := os.WriteFile(file, []byte("[default]\naws_access_key_id = me\naws_secret_access_key = geheim\n[other]\nregion = x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		set  Credentials
		env  map[string]string
		want string // empty: it is stored
	}{
		"none in the environment": {Credentials{From: "env"}, nil, "AWS_ACCESS_KEY_ID"},
		"in the environment":      {Credentials{From: "env"}, map[string]string{"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "geheim"}, ""},
		"in a file":               {Credentials{From: "auto", File: file}, nil, ""},
		"another profile":         {Credentials{From: "file", File: file, Profile: "other"}, nil, "aws_access_key_id"},
		"no file":                 {Credentials{From: "file", File: file + "x"}, nil, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			f := newFake(t)
			config := f.config()
			config.Credentials = c.set
			s := newSession(t, f, config)
			defer s.close()
			err := s.deliver(order(1, ""))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || len(f.requests()) > 0) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if err != nil && event.VerdictOf(err).Class != event.UnavailableClass {
				t.Errorf("%v is not Unavailable", err)
			}
		})
	}
}

func TestCertificates(t *testing.T) {
	c := Defaults()
	c.Bucket, c.TLS.CA = bucket, t.TempDir()+"/ca.pem"
	if err := mustNew(t, c).Open(t.Context(), nil, nil); err == nil || !strings.Contains(err.Error(), "tls.ca") {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := os.WriteFile(c.TLS.CA, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := mustNew(t, c).Open(t.Context(), nil, nil); err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("a file without one: %v", err)
	}
}

// TestTLS: the store's certificate is trusted by the file that names it, or without a look; not otherwise.
func TestTLS(t *testing.T) {
	f := newFake(t)
	defer f.server.Close()
	server := httptest.NewUnstartedServer(f.handler)
	server.Config.ErrorLog = f.server.Config.ErrorLog
	server.StartTLS()
	defer server.Close()
	ca := t.TempDir() + "/ca.pem"
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		set  TLS
		want string
	}{"the machine's": {TLS{}, "certificate"}, "the file's": {TLS{CA: ca}, ""}, "any": {TLS{Insecure: true}, ""}} {
		config := f.config()
		config.Endpoint, config.TLS = server.URL, c.set
		config.SSE = SSE{Type: "customer", Key: base64.StdEncoding.EncodeToString(make([]byte, 32))}
		s := newSession(t, f, config)
		err := s.deliver(order(1, ""))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		_ = s.sink.Close()
	}
}
