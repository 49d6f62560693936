package pipelines

import (
	"strings"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"90s": 90 * time.Second, "72h": 72 * time.Hour, "7d": 168 * time.Hour,
		"1h30m": 90 * time.Minute,
		"1.5d":  36 * time.Hour, "250ms": 250 * time.Millisecond, "1d12h": 36 * time.Hour, "0s": 0,
		"1m5ms": time.Minute + 5*time.Millisecond} {
		if got, err := parseDuration(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "5", "abc", "-5s", "5 s", "1h 30m", "5S", "200000d", "300000000000h", "106751d106751d",
		"1e3s", ".5s", "s"} {
		if got, err := parseDuration(text); err == nil {
			t.Errorf("%q passed as %v", text, got)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"10MiB": 10 << 20, "2GB": 2e9, "5": 5, "0": 0, "1.5KiB": 1536, "1kB": 1000, "7B": 7,
		"9223372036854775807": 1<<63 - 1} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5", "10 MiB", "10M", "10mib", "9223372036854775808", "99999999TiB", "1e3",
		"9999999.5TiB"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q passed as %v", text, got)
		}
	}
}

func TestFormats(t *testing.T) {
	for d, want := range map[time.Duration]string{72 * time.Hour: "72h", 90 * time.Minute: "1h30m", 90 * time.Second: "1m30s",
		time.Millisecond: "1ms", 10 * time.Minute: "10m"} {
		if got := formatDuration(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
		if back, err := parseDuration(want); err != nil || back != d {
			t.Errorf("%s is not read back: %v, %v", want, back, err)
		}
	}
	for n, want := range map[int64]string{10 << 30: "10GiB", 64 << 20: "64MiB", 1000: "1000B", 1536: "1536B", 1 << 10: "1KiB"} {
		if got := formatSize(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"retry", "timeout", "concurrency", "breaker", "max_attempts", "when", "http"}
	for word, want := range map[string]string{"retires": "retry", "timout": "timeout", "Timeout": "timeout",
		"max-attempts": "max_attempts",
		"maxattempts":  "max_attempts", "wehn": "when", "conc": "concurrency", "frobnicate": "", "x": "", "": "", "htpt": "http",
		"url":                       "",
		strings.Repeat("retry", 20): ""} {
		if got := nearest(word, names); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
	if got := distance([]rune("abcd"), []rune("acbd")); got != 1 {
		t.Errorf("a swap costs %d", got)
	}
}

func TestHide(t *testing.T) {
	var s secrets
	s.add("p4ss/w0rd x", "${PASSWORD}")
	s.add("ab", "${SHORT}")
	s.add("", "${EMPTY}")
	for message, want := range map[string]string{
		`parse "p4ss/w0rd x": bad`:           `parse "${PASSWORD}": bad`,
		`invalid port "4ss" after host`:      `invalid port "…" after host`,
		`GET /p4ss%2Fw0rd%20x failed`:        `GET /${PASSWORD} failed`,
		`address p4ss/w0rd: missing port`:    `address …: missing port`,
		`tab, ab and cab`:                    `tab, ${SHORT} and cab`,
		`nothing to see, a word in "quotes"`: `nothing to see, a word in "quotes"`,
	} {
		if got := s.hide(message); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestAddress(t *testing.T) {
	for address, good := range map[string]bool{"127.0.0.1:8080": true, ":80": true, "localhost:0": true, "[::1]:8080": true,
		"[fe80::1%eth0]:1":  true,
		"example.com:65535": true, "127.0.0.1": false, ":65536": false, ":-1": false, "a b:80": false, "::1:80": false,
		":http": false, "": false, ":080": false} {
		if got := addressProblem(address) == ""; got != good {
			t.Errorf("%q: good is %v", address, got)
		}
	}
	for address, want := range map[string]bool{"127.0.0.1:1": true, "127.8.8.8:1": true, "[::1]:1": true, "localhost:1": true,
		":1": false, "0.0.0.0:1": false,
		"10.0.0.1:1": false, "example.com:1": false, "x": false} {
		if got := loopback(address); got != want {
			t.Errorf("loopback(%q) is %v", address, got)
		}
	}
}

// TestFormat holds the look of a diagnostic on a terminal: nothing of the file can change the terminal's state.
func TestFormat(t *testing.T) {
	d := Diagnostic{Place: Place{"a.yaml", 3, 5}, Code: "E0102", Problem: "bad \x1b[31m thing", Source: "\t日本\u202e: x\x1b[0m",
		Width: 2, Hint: "do\nit"}
	want := "a.yaml:3:5  error  E0102  bad \uFFFD[31m thing\n" +
		"  3 | \t日本\uFFFD: x\uFFFD[0m\n" +
		"    | \t     ^^\n" +
		"  do\uFFFDit\n" +
		"  help: millrace docs E0102\n"
	if got := d.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	beyond := Diagnostic{Place: Place{"a.yaml", 1, 99}, Source: "short", Width: 50, Warning: true}
	if got := beyond.String(); !strings.Contains(got, "warning") || !strings.Contains(got, "  1 | short\n    |      ^\n") {
		t.Errorf("got\n%s", got)
	}
}

// TestDescribe holds that the reference lists every key once, says what it takes, and tells the defaults that the loader uses.
func TestDescribe(t *testing.T) {
	sections := Describe(testTypes())
	seen := map[string]Key{}
	paths := map[string]bool{}
	for _, s := range sections {
		if paths[s.Path] {
			t.Errorf("the section %q is there twice", s.Path)
		}
		paths[s.Path] = true
		for _, k := range s.Keys {
			path := strings.TrimPrefix(s.Path+"."+k.Name, ".")
			if _, ok := seen[path]; ok {
				t.Errorf("%s is there twice", path)
			}
			if k.Doc == "" || k.Type == "" {
				t.Errorf("%s has no type or no sentence: %+v", path, k)
			}
			seen[path] = k
		}
	}
	for path, want := range map[string]string{
		"http.listen": "127.0.0.1:8080", "admin.listen": "127.0.0.1:8081", "shutdown_timeout": "10s",
		"outbox.sqlite.max_size": "10GiB", "outbox.sqlite.retention.age": "72h", "outbox.sqlite.retention.size": "2GiB",
		"outbox.sqlite.reserve": "64MiB", "outbox.sqlite.path": "data/millrace.db", "pipelines.<name>.unmatched": "drop",
		"pipelines.<name>.strict": "false", "pipelines.<name>.delivery": "at_least_once",
		"pipelines.<name>.stages[].on_error": "dead_letter", "pipelines.<name>.sinks.<name>.timeout": "15s",
		"pipelines.<name>.sinks.<name>.retry.initial": "1s", "pipelines.<name>.sinks.<name>.retry.factor": "2",
		"pipelines.<name>.sinks.<name>.retry.max": "15m", "pipelines.<name>.sinks.<name>.retry.max_attempts": "20",
		"pipelines.<name>.sinks.<name>.retry.max_age": "72h", "pipelines.<name>.sinks.<name>.breaker.after": "5",
		"pipelines.<name>.sinks.<name>.breaker.probe_max": "10s", "pipelines.<name>.source.webhook.max_body": "1MiB",
		"pipelines.<name>.sinks.<name>.http.method": "POST", "pipelines.<name>.sinks.<name>.http.tls.ca": "",
	} {
		if k, ok := seen[path]; !ok || k.Default != want {
			t.Errorf("%s: default %q (known: %v), want %q", path, k.Default, ok, want)
		}
	}
	if k := seen["pipelines.<name>.sinks.<name>.http.url"]; !k.Required || k.Type != "a template" {
		t.Errorf("url: %+v", k)
	}
	if k := seen["pipelines.<name>.source.webhook.verify.secret"]; !k.Secret {
		t.Errorf("secret: %+v", k)
	}
}

// TestRetentionFitsMaxSize: the default of retention.size is never more than there is room for; what a person writes is kept or refused.
func TestRetentionFitsMaxSize(t *testing.T) {
	for settings, want := range map[string]Retention{
		"max_size: 1GiB":                                {72 * time.Hour, 1 << 30 / 10 * 9},
		"max_size: 1GiB, retention: { age: 1h }":        {time.Hour, 1 << 30 / 10 * 9},
		"max_size: 1GiB, retention: { size: 0 }":        {72 * time.Hour, 0},
		"retention: { age: 0s, size: 9GiB }":            {0, 9 << 30},
		"max_size: 100GiB":                              {72 * time.Hour, 2 << 30},
		"max_size: 10MiB, retention: { size: 1000GiB }": {},
		"max_size: 16MiB, retention: { size: 15MiB }":   {},
	} {
		text := "outbox: { sqlite: { " + settings + " } }\npipelines:\n  p: { source: { tick: {} }, sinks: { s: { http: { url: http://127.0.0.1/ } } } }\n"
		plan, diagnostics := Parse([]File{{Name: "x.yaml", Data: []byte(text)}}, testOptions())
		switch {
		case want == Retention{}:
			if len(diagnostics) == 0 || diagnostics[0].Code != codeRange {
				t.Errorf("%s: %v", settings, diagnostics)
			}
		case plan == nil || plan.Outbox.SQLite.Retention != want:
			t.Errorf("%s: %+v, %v", settings, plan, diagnostics)
		}
	}
}
