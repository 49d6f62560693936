package storage

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/millrace-run/millrace/event"
)

func TestElement(t *testing.T) {
	long := strings.Repeat("a", 120)
	for text, want := range map[string]string{
		"":                 "_",
		"_":                "%5F",
		"__":               "__",
		"a b-c_d.ndjson":   "a b-c_d.ndjson",
		"../../etc/passwd": "%2E.%2F..%2Fetc%2Fpasswd",
		".":                "%2E",
		"..":               "%2E.",
		".hidden":          "%2Ehidden",
		"a.b..c":           "a.b..c",
		`a\b`:              "a%5Cb",
		"100%":             "100%25",
		"%2F":              "%252F",
		"a\x00b\nc\x7f":    "a%00b%0Ac%7F",
		"\u0085":           "%C2%85",
		"Zoë 日本":           "Zoë 日本",
		"bad\xff\xfeutf8":  "bad%FF%FEutf8",
		long:               long,
		long + "a":         strings.Repeat("a", 86) + "%h" + "a9b3acfcac2cfb0e1d4c63dd44d1f7c5",
	} {
		got := element(text)
		if text == long+"a" { // the digits of the hash are not what this is about
			want = want[:88] + got[min(88, len(got)):]
		}
		if got != want || len(got) > maxElement {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// Different texts make different elements, each of which is one name that a folder may hold.
func TestElementIsInjective(t *testing.T) {
	seen := map[string]string{}
	text := rapid.OneOf(
		rapid.String(), rapid.StringMatching(`[._%/\\a0-9Fh]{0,6}`), rapid.StringMatching(`[aä/]{80,130}`),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
	)
	rapid.Check(t, func(rt *rapid.T) {
		s := text.Draw(rt, "text")
		got := element(s)
		if before, ok := seen[got]; ok && before != s {
			rt.Errorf("%q and %q are both %q", before, s, got)
		}
		seen[got] = s
		if got == "" || len(got) > maxElement || strings.HasPrefix(got, ".") || strings.ContainsAny(got, "/\\\x00\n") {
			rt.Errorf("%q: %q", s, got)
		}
		if again := element(got); again == got && got != s {
			rt.Errorf("%q is the element of %q and of itself", got, s)
		}
	})
}

func TestPlace(t *testing.T) {
	for _, c := range []struct{ path, subject, want, err string }{
		{"data/x.ndjson", "ignored", "x.ndjson", ""},
		{"data/{{ subject }}.ndjson", "a", "a.ndjson", ""},
		{"data/{{ subject }}/{{ type }}", "../..", "%2E.%2F../t", ""},
		{"data/{{ subject }}//x", "a", "a/x", ""},
		{"data/{{ subject }}/../../../x", "a", "", "below"},
		{"data/{{ subject }}", "", "", "subject"},
		{"data/{{ subject }}{{ subject }}{{ subject }}", strings.Repeat("x", 100), "", "longer"},
		{"data/" + strings.Repeat("{{ subject }}/", 40) + "x", strings.Repeat("x", 100), "", "longer"},
	} {
		config := Defaults()
		config.Path = template(t, c.path)
		s, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.place.of(&event.Event{Subject: c.subject, Type: "t"})
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s with %q: %q, %v, want %q %q", c.path, c.subject, got, err, c.want, c.err)
		}
	}
}

func TestNumbered(t *testing.T) {
	for _, c := range []struct {
		name string
		n    int
		want string
	}{
		{"a/archive.ndjson", 0, "a/archive.ndjson"},
		{"a/archive.ndjson", 1, "a/archive.1.ndjson"},
		{"archive", 12, "archive.12"},
		{"a.b/.log", 2, "a.b/.log.2"},
	} {
		if got := numbered(c.name, c.n); got != c.want {
			t.Errorf("%s %d: %s, want %s", c.name, c.n, got, c.want)
		}
	}
}
