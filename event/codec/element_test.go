package codec

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/millrace-run/millrace/event"
)

func TestPathElement(t *testing.T) {
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
		got := PathElement(text)
		if text == long+"a" { // the digits of the hash are not what this is about
			want = want[:88] + got[min(88, len(got)):]
		}
		if got != want || len(got) > maxElement {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// Different texts make different elements, each of which is one name that a folder may hold.
func TestPathElementIsInjective(t *testing.T) {
	seen := map[string]string{}
	text := rapid.OneOf(
		rapid.String(), rapid.StringMatching(`[._%/\\a0-9Fh]{0,6}`), rapid.StringMatching(`[aä/]{80,130}`),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
	)
	rapid.Check(t, func(rt *rapid.T) {
		s := text.Draw(rt, "text")
		got := PathElement(s)
		if before, ok := seen[got]; ok && before != s {
			rt.Errorf("%q and %q are both %q", before, s, got)
		}
		seen[got] = s
		if got == "" || len(got) > maxElement || strings.HasPrefix(got, ".") || strings.ContainsAny(got, "/\\\x00\n") {
			rt.Errorf("%q: %q", s, got)
		}
		if again := PathElement(got); again == got && got != s {
			rt.Errorf("%q is the element of %q and of itself", got, s)
		}
	})
}

func TestAppendDataLine(t *testing.T) {
	for _, c := range []struct{ mediaType, data, want string }{
		{"application/json", "{ \"a\" :\n1 }", `{"a":1}`},
		{"", `[1, 2]`, `[1,2]`},
		{"application/json", "{", `"ew=="`},
		{"text/plain", "a\nb", `"a\nb"`},
		{"text/plain", "\xff", `"/w=="`},
		{"Application/Octet-Stream; x=y", "abc", `"YWJj"`},
	} {
		if got := string(AppendDataLine([]byte("> "), &event.Event{DataContentType: c.mediaType, Data: []byte(c.data)})); got != "> "+c.want {
			t.Errorf("%s %q is %s, want %s", c.mediaType, c.data, got, c.want)
		}
	}
	if got := string(AppendDataLine(nil, &event.Event{})); got != "null" {
		t.Errorf("no data is %s", got)
	}
}
