package rules

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/millrace-run/millrace/event"
)

func line(text string) *event.Event {
	return &event.Event{ID: "1", Source: "s", Type: "t", DataContentType: "text/plain", Data: []byte(text),
		Received: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
}

func mustParse(t testing.TB, o ParseOptions) Op {
	t.Helper()
	op, err := Parse(o)
	if err != nil {
		t.Fatal(err)
	}
	return op
}

const webLineText = `192.0.2.7 - frank [10/Oct/2000:13:55:36 -0700] "GET /a?b=1 HTTP/1.0" 200 2326`

func TestParse(t *testing.T) {
	csvOptions := ParseOptions{Format: "csv", Columns: []string{"id", "total", "paid"}, Types: map[string]string{"total": "float", "paid": "bool"}}
	for _, c := range []struct {
		options  ParseOptions
		in, want string // want is an error where it does not begin with a value of JSON
	}{
		{ParseOptions{Format: "json"}, `{"b":1.50,"a":[]}`, `{"b":1.50,"a":[]}`},
		{ParseOptions{Format: "json"}, ` 7 `, ` 7 `},
		{ParseOptions{Format: "json"}, `{"b":`, "the text is broken"},
		{ParseOptions{Format: "json"}, ``, "the text is empty"},

		{ParseOptions{Format: "common"}, webLineText, `{"host":"192.0.2.7","ident":null,"user":"frank",` +
			`"time":"2000-10-10T13:55:36-07:00","method":"GET","path":"/a?b=1","protocol":"HTTP/1.0","status":200,"bytes":2326}`},
		{ParseOptions{Format: "combined"}, webLineText + ` "-" "curl/8 \"x\" \x41\q"` + "\r", `{"host":"192.0.2.7","ident":null,` +
			`"user":"frank","time":"2000-10-10T13:55:36-07:00","method":"GET","path":"/a?b=1","protocol":"HTTP/1.0","status":200,` +
			`"bytes":2326,"referer":null,"agent":"curl/8 \"x\" A\\q"}`},
		{ParseOptions{Format: "common"}, `example.com:443 ::1 - john [01/Feb/2024:00:00:00 +0000] "-" 408 - 12 34`,
			`{"vhost":"example.com:443","host":"::1","ident":null,"user":"john","time":"2024-02-01T00:00:00Z",` +
				`"method":null,"path":null,"protocol":null,"request":null,"status":408,"bytes":null,"extra":"12 34"}`},
		{ParseOptions{Format: "common"}, `::1 - John Doe [01/Feb/2024:00:00:00 +0000] "GET /a b HTTP/1.1" - 0`, `{"host":"::1","ident":null,` +
			`"user":"John Doe","time":"2024-02-01T00:00:00Z","method":"GET","path":"/a b","protocol":"HTTP/1.1","status":null,"bytes":0}`},
		{ParseOptions{Format: "common"}, `h - - [01/Feb/2024:00:00:00 +0000] "\x16\x03" 400 0`, `{"host":"h","ident":null,"user":null,` +
			`"time":"2024-02-01T00:00:00Z","method":null,"path":null,"protocol":null,"request":"\u0016\u0003","status":400,"bytes":0}`},
		{ParseOptions{Format: "combined"}, webLineText, "no quoted text at byte 78"},
		{ParseOptions{Format: "common"}, ``, "no time in brackets"},
		{ParseOptions{Format: "common"}, `a [10/Oct/2000:13:55:36 -0700] "x" 200 1`, "fewer than three words"},
		{ParseOptions{Format: "common"}, `a - - [10/Okt/2000:13:55:36 -0700] "x" 200 1`, "no time such as"},
		{ParseOptions{Format: "common"}, `a - - [10/Oct/2000:13:55:36 -0700] "x 200 1`, "without its end"},
		{ParseOptions{Format: "common"}, `a - - [10/Oct/2000:13:55:36 -0700] "x" 20 1`, "no number for status"},
		{ParseOptions{Format: "common"}, `a - - [10/Oct/2000:13:55:36 -0700] "x" 200 1.5`, "no number for bytes"},

		{ParseOptions{Format: "logfmt"}, `level=info n=7 rate=1.50 id=007 ok=true msg="a \"b\"" bare empty=`,
			`{"level":"info","n":7,"rate":1.50,"id":"007","ok":true,"msg":"a \"b\"","bare":true,"empty":""}`},
		{ParseOptions{Format: "logfmt"}, `a=b b= c="c=d \" e=" d e`, `{"a":"b","b":"","c":"c=d \" e=","d":true,"e":true}`},
		{ParseOptions{Format: "logfmt", Types: map[string]string{"n": "string"}}, `n=7 n=8`, `{"n":"7"}`},
		{ParseOptions{Format: "logfmt"}, `a="b`, "not logfmt"},
		{ParseOptions{Format: "logfmt"}, ``, "no key"},

		{csvOptions, `"a,1",2.50,TRUE`, `{"id":"a,1","total":2.50,"paid":true}`},
		{csvOptions, `1,,`, `{"id":"1","total":null,"paid":null}`},
		{csvOptions, `1,2`, "the line has 2 fields, and columns names 3"},
		{csvOptions, `1,x,true`, `total is "x", which is no float`},
		{csvOptions, `1,"2,true`, "not a line of CSV"},
		{ParseOptions{Format: "csv", Columns: []string{"a", "b"}, Delimiter: "\t"}, "1\t2", `{"a":"1","b":"2"}`},

		{ParseOptions{Format: "regex", Pattern: `(?P<level>[A-Z]+)(: (?P<n>\d+))?`, Types: map[string]string{"n": "int"}}, `x WARN: 012`, `{"level":"WARN","n":12}`},
		{ParseOptions{Format: "regex", Pattern: `(?P<level>[A-Z]+)(: (?P<n>\d+))?`}, `WARN`, `{"level":"WARN","n":null}`},
		{ParseOptions{Format: "regex", Pattern: `(?P<a>x)`}, `y`, "does not match"},

		{ParseOptions{Format: "syslog"}, `<165>1 2003-10-11T22:14:15.003Z host.example.com app 42 ID47 [ex@1 b="2" a="1"] hello`,
			`{"priority":165,"facility":"local4","severity":"notice","time":"2003-10-11T22:14:15.003Z","host":"host.example.com",` +
				`"app":"app","proc_id":"42","msg_id":"ID47","message":"hello","structured_data":{"ex@1":{"a":"1","b":"2"}}}`},
		{ParseOptions{Format: "syslog", Timezone: "Europe/Berlin"}, `<34>Dec 31 23:59:59 web su[7]: denied`,
			`{"priority":34,"facility":"auth","severity":"critical","time":"2025-12-31T23:59:59+01:00","host":"web","app":"su",` +
				`"proc_id":"7","msg_id":null,"message":"denied"}`},
		{ParseOptions{Format: "syslog"}, `hello`, "not a syslog message of RFC 3164"},
		{ParseOptions{Format: "syslog"}, `<34>1 x`, "not a syslog message of RFC 5424"},
		{ParseOptions{Format: "syslog"}, `<0>0`, "it ends before its time and text"},
	} {
		ev := line(c.in)
		keep, _, err := mustParse(t, c.options).Apply(ev)
		switch {
		case err != nil:
			if !strings.Contains(err.Error(), c.want) || string(ev.Data) != c.in || ev.DataContentType != "text/plain" {
				t.Errorf("%s of %q: %v, the data is %q; want %s", c.options.Format, c.in, err, ev.Data, c.want)
			}
		case !keep || string(ev.Data) != c.want || ev.DataContentType != "application/json":
			t.Errorf("%s of %q:\n got %s (%s)\nwant %s", c.options.Format, c.in, ev.Data, ev.DataContentType, c.want)
		}
	}
}

func TestParsePaths(t *testing.T) {
	for _, c := range []struct{ from, into, in, want string }{
		{"data.m", "data.f", `{"m":"a=\"1 2\"","x":1}`, `{"m":"a=\"1 2\"","x":1,"f":{"a":"1 2"}}`},
		{"data.m", "data", `{"m":"a=1","x":1}`, `{"a":1}`},
		{"data", "data.f", `"a=1"`, "and the data has a string there"},
		{"data.m", "data", `{"x":1}`, "data.m is missing"},
		{"data.m", "data", `{"m":1}`, "data.m is no text"},
		{"data.m", "data", `{`, "the data is broken"},
	} {
		ev := line(c.in)
		ev.DataContentType = "application/json"
		_, _, err := mustParse(t, ParseOptions{Format: "logfmt", From: c.from, Into: c.into}).Apply(ev)
		if got := string(ev.Data); got != c.want && (err == nil || !strings.Contains(err.Error(), c.want) || got != c.in) {
			t.Errorf("from %s into %s of %s: %s, %v", c.from, c.into, c.in, got, err)
		}
	}
}

func TestParseSettings(t *testing.T) {
	for _, c := range []struct {
		options   ParseOptions
		key, want string
	}{
		{ParseOptions{Format: "xml"}, "format", "expected one of"},
		{ParseOptions{Format: "json", From: "id"}, "from", "data"},
		{ParseOptions{Format: "json", Into: "data."}, "into", "unexpected end"},
		{ParseOptions{Format: "json", Columns: []string{"a"}}, "columns", "no meaning"},
		{ParseOptions{Format: "csv"}, "columns", "needs"},
		{ParseOptions{Format: "csv", Columns: []string{"a", "a"}}, "columns", "twice"},
		{ParseOptions{Format: "csv", Columns: []string{"a"}, Delimiter: "ab"}, "delimiter", "one character"},
		{ParseOptions{Format: "csv", Columns: []string{"a"}, Types: map[string]string{"b": "int"}}, "types", "there is no b"},
		{ParseOptions{Format: "csv", Columns: []string{"a"}, Types: map[string]string{"a": "date"}}, "types", "expected one of"},
		{ParseOptions{Format: "regex"}, "pattern", "needs"},
		{ParseOptions{Format: "regex", Pattern: "("}, "pattern", "missing closing"},
		{ParseOptions{Format: "regex", Pattern: "(a)"}, "pattern", "no named group"},
		{ParseOptions{Format: "syslog", Timezone: "Nowhere/X"}, "timezone", "not a time zone"},
	} {
		_, err := Parse(c.options)
		var fault *ParseFault
		if !errors.As(err, &fault) || fault.Key != c.key || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %s: %s", c.options, err, c.key, c.want)
		}
	}
}

// TestParsedIsJSON holds that expressions see the same in what a parser found as in the JSON that it becomes.
func TestParsedIsJSON(t *testing.T) {
	op := mustParse(t, ParseOptions{Format: "combined"})
	for _, source := range []string{
		`data.status`, `data.user`, `data.referer`, `data.time`, `data.none`, `data.status >= 500`, `data.bytes > 10 && data.method == "GET"`,
		`len(data)`, `len(data.agent)`, `data.agent`, `data`, `data.path.x`, `data["agent"]`, `data.status ?? 1`, `data.user == nil`, `keys(data)`, `datacontenttype`,
	} {
		x := mustCompile(t, source)
		s := Subject{Event: *line(webLineText + ` "-" "a \"b\" \xe4\xff\xc3\xa4 z"`)}
		if _, _, err := op(&s); err != nil {
			t.Fatal(err)
		}
		lazy, lazyMissing, lazyErr := x.Value(s.in())
		s.Finish()
		eager, missing, err := x.Value(s.in())
		if fmt.Sprintf("%q", []any{lazy, lazyMissing, lazyErr}) != fmt.Sprintf("%q", []any{eager, missing, err}) {
			t.Errorf("%s: %v %q %v as found, %v %q %v as JSON", source, lazy, lazyMissing, lazyErr, eager, missing, err)
		}
	}
}

func TestParsedThenChanged(t *testing.T) {
	set, err := Set([]Assignment{{"data.status", mustCompile(t, `data.status + 1`)}})
	if err != nil {
		t.Fatal(err)
	}
	s := Subject{}
	for range 2 { // the second event reuses the buffers of the first
		s.Reset(*line(webLineText))
		for _, op := range []Op{mustParse(t, ParseOptions{Format: "common"}), Filter(mustCompile(t, `data.status == 200`)), set,
			Map(mustCompile(t, `{"s": data.status, "p": data.path}`))} {
			if keep, missing, err := op(&s); !keep || missing != "" || err != nil {
				t.Fatal(keep, missing, err)
			}
		}
		s.Finish()
		if got := string(s.Event.Data); got != `{"s":201,"p":"/a?b=1"}` {
			t.Fatal(got)
		}
	}
}

// TestParseAnything holds that no text makes a parser fail in another way than by an error, that what it accepts is JSON, and that the
// text of the event is left as it was.
func TestParseAnything(t *testing.T) {
	ops := map[string]Op{}
	for _, format := range []string{"json", "common", "combined", "logfmt", "syslog"} {
		ops[format] = mustParse(t, ParseOptions{Format: format})
	}
	ops["csv"] = mustParse(t, ParseOptions{Format: "csv", Columns: []string{"a", "b"}})
	pieces := []string{webLineText, ` "-" "x"`, `"`, `\`, `\x`, ` `, `[`, `]`, `<13>1 `, `<13>`, `Oct 11 22:14:15 `, `a=b`, `=`, `,`, "\n", "\x00", "\xff", `{"a":1}`, "-"}
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(pieces), rapid.String()), 0, 6).Draw(t, "text"), "")
		for name, op := range ops {
			ev := line(text)
			before := ev.Data
			_, _, err := op.Apply(ev)
			if string(before) != text {
				t.Fatalf("%s changed the text %q", name, text)
			}
			if err == nil {
				if _, err := decode(ev.Data); err != nil {
					t.Fatalf("%s of %q is no JSON: %s", name, text, ev.Data)
				}
			}
		}
	})
}

func TestClock(t *testing.T) {
	for m := time.January; m <= time.December; m++ {
		at := time.Date(2024, m, 28, 23, 59, 59, 0, time.FixedZone("", -12600))
		text := at.Format(clockForm)
		if !isClock(text) || string(appendClock(nil, text)) != at.Format(time.RFC3339) {
			t.Errorf("%s is %s", text, appendClock(nil, text))
		}
	}
	for _, bad := range []string{"", "32/Jan/2024:00:00:00 +0000", "01/anF/2024:00:00:00 +0000", "01/Jan/2024:24:00:00 +0000", "01/Jan/2024 00:00:00 +0000"} {
		if isClock(bad) {
			t.Errorf("%q is a time", bad)
		}
	}
}

func BenchmarkParseAndFilter(b *testing.B) {
	for _, status := range []string{"200", "503"} {
		b.Run(status, func(b *testing.B) {
			op, filter := mustParse(b, ParseOptions{Format: "combined"}), Filter(mustCompile(b, `data.status >= 500`))
			ev := *line(strings.Replace(webLineText, " 200 ", " "+status+" ", 1) + ` "http://www.example.com/start.html" "Mozilla/5.0 (X11; Linux x86_64)"`)
			var s Subject
			b.ReportAllocs()
			b.SetBytes(int64(len(ev.Data)))
			for b.Loop() {
				s.Reset(ev)
				if _, _, err := op(&s); err != nil {
					b.Fatal(err)
				}
				if keep, _, _ := filter(&s); keep {
					s.Finish()
				}
			}
		})
	}
}

// TestManyKeys holds that names are looked up by map where there are many: otherwise the time for a line would grow with the square
// of their number, to minutes for a line of a MiB.
func TestManyKeys(t *testing.T) {
	var b strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&b, "k%d=%d ", i, i)
	}
	b.WriteString("k7=again")
	s := Subject{Event: *line(b.String())}
	if _, _, err := mustParse(t, ParseOptions{Format: "logfmt"})(&s); err != nil {
		t.Fatal(err)
	}
	if got, _, err := mustCompile(t, "data.k1999 + data.k7").Value(s.in()); err != nil || fmt.Sprint(got) != "2006" {
		t.Errorf("%v, %v", got, err)
	}
	if len(s.found.index) != 2000 {
		t.Errorf("%d of 2000 names are in the map", len(s.found.index))
	}
	s.Reset(*line("a=1 a=2 b=3"))
	if _, _, err := mustParse(t, ParseOptions{Format: "logfmt"})(&s); err != nil {
		t.Fatal(err)
	}
	if s.Finish(); string(s.Event.Data) != `{"a":1,"b":3}` || s.found.index != nil {
		t.Errorf("%s, %d names in the map", s.Event.Data, len(s.found.index))
	}
}
