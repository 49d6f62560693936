package pipelines

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

// A table of components such as the application has, made for these tests.

type hookConfig struct {
	Path       string                 `yaml:"path,required" doc:"The path that is listened on."`
	Type       rules.Template         `yaml:"type,intake" doc:"The type of plain posts."`
	Subject    rules.Template         `yaml:"subject,intake" doc:"The subject of plain posts."`
	Attributes map[string]*rules.Expr `yaml:"attributes,intake" doc:"Attributes that are set."`
	MaxBody    int64                  `yaml:"max_body,size,min=1KiB,max=64MiB" doc:"The largest body."`
	MaxDepth   int                    `yaml:"max_depth,min=1,max=1000" doc:"The deepest JSON."`
	Verify     *verifyConfig          `yaml:"verify" doc:"How signatures are checked."`
}

type verifyConfig struct {
	Scheme string `yaml:"scheme,oneof=github|stripe" doc:"The scheme."`
	Secret string `yaml:"secret,required,secret" doc:"The shared secret."`
}

type hook struct{ c hookConfig }

func (h *hook) Exclusive() []string { return []string{"webhook " + h.c.Path} }

type httpConfig struct {
	URL      rules.Template            `yaml:"url,required" doc:"Where events are posted."`
	Method   string                    `yaml:"method,oneof=POST|PUT|PATCH" doc:"The method."`
	Headers  map[string]rules.Template `yaml:"headers,secret" doc:"Headers that are added."`
	Password string                    `yaml:"password,secret" doc:"A password."`
	Ratio    float64                   `yaml:"ratio" doc:"A number."`
	Private  bool                      `yaml:"deny_private" doc:"A flag."`
	Statuses []string                  `yaml:"statuses" doc:"Some texts."`
	Labels   map[string]string         `yaml:"labels" doc:"More texts."`
	Wait     time.Duration             `yaml:"wait,max=1h" doc:"A while."`
	TLS      tlsConfig                 `yaml:"tls" doc:"Certificates."`
	Only     *rules.Expr               `yaml:"only" doc:"An expression."`
	To       []rules.Template          `yaml:"to" doc:"Some templates."`
}

type tlsConfig struct {
	CA       string `yaml:"ca" doc:"The authority's file."`
	Insecure bool   `yaml:"insecure" doc:"Whether certificates are not checked."`
}

type httpSink struct{ c httpConfig }

func (s *httpSink) Batched() error {
	if _, literal := s.c.URL.Literal(); !literal {
		return &event.KeyError{Key: "url", Err: errors.New("a batch has one URL")}
	}
	return nil
}

type storageConfig struct {
	Path rules.Template `yaml:"path,required" doc:"The file."`
}

type storageSink struct{ c storageConfig }

func (s *storageSink) Exclusive() []string { return []string{"file " + s.c.Path.String()} }

type queueConfig struct {
	Token string `yaml:"token,secret" doc:"What workers show."`
}

// Open is what makes it Guarded.
func (c *queueConfig) Open() bool { return c.Token == "" }

func buildQueue(decode Decode) (any, error) {
	c := queueConfig{}
	err := decode(&c)
	return &c, err
}

func testTypes() Types {
	return Types{
		Sources: []Type{
			{Name: "webhook", Doc: "Events by HTTP.", Config: &hookConfig{MaxBody: 1 << 20, MaxDepth: 64}, Build: buildHook,
				Once: DedupeOnce, Twice: "is posted some events again"},
			{Name: "tick", Doc: "A source without settings.", Twice: "forgets", Build: func(Decode) (any, error) { return new(int), nil }},
		},
		Sinks: []Type{
			{Name: "http", Doc: "One request per event.", Config: &httpConfig{Method: "POST"}, Concurrency: 16, Build: buildHTTP, Batches: true,
				Verdict: func(int) error { return nil }, Twice: "delivers at least once"},
			{Name: "storage", Doc: "Files.", Config: &storageConfig{}, Serial: true, Batch: Batch{Count: 4096, Bytes: 1 << 20},
				Build: buildStorage, Once: AlwaysOnce},
			{Name: "queue", Doc: "Workers.", Config: &queueConfig{}, Pull: true, Build: buildQueue},
		},
	}
}

func buildHook(decode Decode) (any, error) {
	c := hookConfig{MaxBody: 1 << 20, MaxDepth: 64}
	if err := decode(&c); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(c.Path, "/") {
		return nil, &event.KeyError{Key: "path", Err: errors.New("expected a path that begins with /")}
	}
	return &hook{c}, nil
}

func buildHTTP(decode Decode) (any, error) {
	c := httpConfig{Method: "POST"}
	if err := decode(&c); err != nil {
		return nil, err
	}
	var faults []error
	if u, err := url.Parse(c.URL.Prefix()); err != nil {
		faults = append(faults, &event.KeyError{Key: "url", Err: err})
	} else if u.Scheme != "http" && u.Scheme != "https" {
		faults = append(faults, &event.KeyError{Key: "url", Err: fmt.Errorf("the scheme is %q, expected http or https", u.Scheme)})
	}
	if c.TLS.CA != "" && c.TLS.Insecure {
		faults = append(faults, fmt.Errorf("tls: %w", &event.KeyError{Key: "tls.ca",
			Err: errors.New("has no effect together with insecure")}))
	}
	if _, ok := c.Headers["Host"]; ok {
		faults = append(faults, &event.KeyError{Key: "headers.Host", Err: errors.New("cannot be set")})
	}
	if c.Ratio < 0 {
		faults = append(faults, errors.New("the settings contradict each other"))
	}
	return &httpSink{c}, errors.Join(faults...)
}

func buildStorage(decode Decode) (any, error) {
	c := storageConfig{}
	if err := decode(&c); err != nil {
		return nil, err
	}
	return &storageSink{c}, nil
}

// testEnv is the environment of the tests.
func testEnv(name string) (string, bool) {
	v, ok := map[string]string{
		"TOKEN": "s3cr3t-t0ken", "URL": "http://127.0.0.1:9001/a", "PORT": "8080", "EMPTY": "", "FLAG": "true", "WORD": "abc",
		"BRACES": "{{ data.id }}", "BAD_URL": "http://user:p4ss/word@127.0.0.1/", "WAIT": "90s", "TRICK": "a: b # c\n- d",
	}[name]
	return v, ok
}

func testFile(path string) ([]byte, error) {
	if path == "/run/secrets/key" {
		return []byte("from-file\n"), nil
	}
	return nil, fmt.Errorf("no such file or directory")
}

func testOptions() Options {
	return Options{Types: testTypes(), Env: testEnv, ReadFile: testFile}
}
