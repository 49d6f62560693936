package codec

import (
	"strings"
	"testing"

	"github.com/millrace-run/millrace/event"
)

func TestPathElement(t *testing.T) {
	for text, want := range map[string]string{
		"": "_", "_": "%5F", "a": "a", "a/b": "a%2Fb", `a\b`: "a%5Cb", "..": "%2E.", "a.b": "a.b", "50%": "50%25", "a\x00\n": "a%00%0A", "\xff": "%FF", "ü": "ü",
		strings.Repeat("a", 120): strings.Repeat("a", 120),
	} {
		if got := PathElement(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
	a, b := PathElement(strings.Repeat("/", 100)+"a"), PathElement(strings.Repeat("/", 100)+"b")
	if a == b || len(a) > 120 || !strings.Contains(a, "%h") {
		t.Errorf("%q, %q", a, b)
	}
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
