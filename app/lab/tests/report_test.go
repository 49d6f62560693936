package tests

import (
	"encoding/json"
	"encoding/xml"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/pipelines"
)

var sample = []Result{
	{Pipeline: "orders", Name: "good", Place: pipelines.Place{File: "a.yaml", Line: 3, Col: 9}, Took: 1200 * time.Microsecond},
	{Pipeline: "orders", Name: "bad \x1b[31m<&>", Place: pipelines.Place{File: "a.yaml", Line: 7, Col: 9}, Took: time.Millisecond,
		Passed: 72 * time.Hour, Notes: []string{"archive: 1 attempt, 0 accepted"}, Faults: []Fault{
			{Place: pipelines.Place{File: "a.yaml", Line: 9, Col: 5}, Path: "archive[0].data.a", Want: "1", Got: `"<\u202e>"` + "\u202e"},
			{Place: pipelines.Place{File: "a.yaml", Line: 7, Col: 9}, Want: "all", Got: "nothing"},
		}},
	{Pipeline: "mails", Name: "good", Place: pipelines.Place{File: "b.yaml", Line: 1, Col: 1}},
}

func TestPrint(t *testing.T) {
	var b strings.Builder
	p := Printer{Out: &b}
	for _, r := range sample {
		if err := p.Print(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Sum(sample); err != nil {
		t.Fatal(err)
	}
	want := "ok    orders  good (1.2ms)\n" +
		"FAIL  orders  bad \uFFFD[31m<&> (1ms)\n" +
		"      a.yaml:9:5  archive[0].data.a\n" +
		"        expected  1\n" +
		"        got       \"<\\u202e>\"\uFFFD\n" +
		"      a.yaml:7:9\n" +
		"        expected  all\n" +
		"        got       nothing\n" +
		"      what happened\n" +
		"        archive: 1 attempt, 0 accepted\n" +
		"ok    mails  good (0s)\n" +
		"3 tests, 1 failed (2.2ms)\n"
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
	b.Reset()
	_, _, _ = p.Sum(nil), p.Sum(sample[:1]), Printer{Out: &b, Color: true}.Print(sample[0])
	want = "no tests\n1 test, all passed (1.2ms)\n\x1b[32mok  \x1b[0m  orders  good \x1b[2m(1.2ms)\x1b[0m\n"
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}

func TestRows(t *testing.T) {
	b, err := json.Marshal(Rows(sample[:1]))
	want := `[{"pipeline":"orders","name":"good","ok":true,"file":"a.yaml","line":3,"col":9,"duration_ms":1.2,"passed_ms":0,` +
		`"faults":[],"notes":[]}]`
	if err != nil || string(b) != want {
		t.Errorf("%v: %s", err, b)
	}
	row := Rows(sample)[1]
	if row.OK || row.PassedMS != 72*3600*1000 || len(row.Faults) != 2 || row.Faults[0].Path != "archive[0].data.a" ||
		row.Faults[0].Line != 9 {
		t.Errorf("%+v", row)
	}
	if b, _ := json.Marshal(Rows(nil)); string(b) != "[]" {
		t.Errorf("no results are %s", b)
	}
}

func TestJUnit(t *testing.T) {
	var b strings.Builder
	if err := WriteJUnit(&b, sample); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Suites   []struct {
			Name     string `xml:"name,attr"`
			Tests    int    `xml:"tests,attr"`
			Failures int    `xml:"failures,attr"`
			Time     string `xml:"time,attr"`
			Cases    []struct {
				Name    string `xml:"name,attr"`
				File    string `xml:"file,attr"`
				Failure *struct {
					Message string `xml:"message,attr"`
					Text    string `xml:",chardata"`
				} `xml:"failure"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal([]byte(b.String()), &got); err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	if got.Tests != 3 || got.Failures != 1 || len(got.Suites) != 2 || got.Suites[0].Tests != 2 || got.Suites[0].Failures != 1 ||
		got.Suites[0].Time != "0.002200" || got.Suites[1].Name != "mails" {
		t.Errorf("%+v", got)
	}
	failure := got.Suites[0].Cases[1].Failure
	if failure == nil || failure.Message != "archive[0].data.a: expected 1, got \"<\\u202e>\"\u202e" ||
		!strings.Contains(failure.Text, "a.yaml:9:5") {
		t.Errorf("%+v", failure)
	}
	if got.Suites[0].Cases[0].Failure != nil || !strings.HasPrefix(b.String(), "<?xml") || strings.Contains(b.String(), "\x1b") {
		t.Error(b.String())
	}
}
