package rules

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/millrace-run/millrace/event"
)

// TestPlainWeb holds that a line which the short way reads is read alike by the long one, and that the usual ones take the short way.
func TestPlainWeb(t *testing.T) {
	parts := []string{"192.0.2.1", "h:80", "-", "a b", "[x", "[10/Oct/2000:13:55:36 -0700]", "[10/Oct/2000:13:55:37 +0000]",
		"[40/Oct/2000:13:55:36 -0700]", `"GET / HTTP/1.1"`, `"GET /a b HTTP/2.0"`, `"GET  HTTP/1.1"`, `"x"`, `""`, `"-"`, `"\x16"`, `"a\"b"`, `"`,
		"200", "500", "050", "2000", "1.5", "0", "00", "12", "", `"https://example.com/"`, `"agent 1.0"`, "extra", "é"}
	usual := []string{"192.0.2.1", "-", "-", "[10/Oct/2000:13:55:36 -0700]", `"GET / HTTP/1.1"`, "200", "12", `"-"`, `"agent 1.0"`}
	if !plainWeb(strings.Join(usual, " "), &record{}, true) || !plainWeb(strings.Join(usual[:7], " "), &record{}, false) {
		t.Error("a usual line takes the long way")
	}
	rapid.Check(t, func(t *rapid.T) {
		line := slices.Clone(usual)
		for range rapid.IntRange(0, 4).Draw(t, "changes") {
			at, part := rapid.IntRange(0, len(line)-1).Draw(t, "at"), rapid.SampledFrom(parts).Draw(t, "part")
			switch rapid.IntRange(0, 2).Draw(t, "change") {
			case 0:
				line[at] = part
			case 1:
				line = slices.Insert(line, at, part)
			default:
				line = append(slices.Delete(line, at, at+1), part)
			}
		}
		text := strings.Join(line, " ")
		text = text[:len(text)-rapid.SampledFrom([]int{0, 0, 0, 1, 2, 9}).Draw(t, "cut")]
		combined := rapid.Bool().Draw(t, "combined")
		var short, long record
		plain := plainWeb(text, &short, combined)
		err := parseWeb(text, &long, combined)
		if plain && (err != nil || !slices.Equal(short.names, long.names) || !slices.Equal(short.values, long.values)) {
			t.Fatalf("%q: short %q %v, long %q %v (%v)", text, short.names, short.values, long.names, long.values, err)
		}
	})
}

// BenchmarkLine is what a line of a log costs that a filter drops.
func BenchmarkLine(b *testing.B) {
	web := `198.51.100.7 - - [20/Nov/2026:10:11:12 +0000] "GET /items/000000007?page=7 HTTP/1.1" 200 5120 ` +
		`"https://www.example.com/catalog/7" "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox"`
	json := `{"time":"2026-11-20T10:11:12Z","level":"info","host":"web-3.example.com","client":"198.51.100.7","status":200,"bytes":5120,` +
		`"duration_ms":12.5,"method":"GET","path":"/items/000000007","user":null,"tags":["web","public"],"upstream":{"name":"catalog",` +
		`"attempts":1},"agent":"Mozilla/5.0 (X11; Linux x86_64)"}`
	for _, c := range []struct{ format, line, filter string }{
		{"combined", web, `data.status >= 500`},
		{"json", json, `data.status >= 500 && data.method == "POST"`},
		{"json", json, `data.status >= 200 && data.method == "POST"`},
	} {
		b.Run(c.format+" "+c.filter, func(b *testing.B) {
			parse, err := Parse(ParseOptions{Format: c.format})
			if err != nil {
				b.Fatal(err)
			}
			filter := Filter(mustCompile(b, c.filter))
			line := event.Event{DataContentType: "text/plain", Data: []byte(c.line)}
			var s Subject
			b.SetBytes(int64(len(c.line)))
			b.ReportAllocs()
			for b.Loop() {
				s.Reset(line)
				_, _, err := parse(&s)
				keep, _, err2 := filter(&s)
				if keep || err != nil || err2 != nil {
					b.Fatal(keep, err, err2)
				}
			}
		})
	}
}
