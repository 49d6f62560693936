package tests

import (
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Printer writes results for people.
type Printer struct {
	Out   io.Writer
	Color bool
}

const (
	red   = "31"
	green = "32"
	dim   = "2"
)

func (p Printer) paint(color, text string) string {
	if !p.Color {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// Print writes one result: a line, and for one that failed what differs and what happened.
func (p Printer) Print(r Result) error {
	word := p.paint(green, "ok  ")
	if !r.OK() {
		word = p.paint(red, "FAIL")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s  %s %s\n", word, r.Pipeline, clean(r.Name), p.took(r.Took))
	for _, f := range r.Faults {
		p.fault(&b, f)
	}
	for i, n := range r.Notes {
		if i == 0 {
			b.WriteString("      what happened\n")
		}
		fmt.Fprintf(&b, "        %s\n", clean(n))
	}
	_, err := io.WriteString(p.Out, b.String())
	return err
}

func (p Printer) fault(b *strings.Builder, f Fault) {
	at := f.Place.String()
	if f.Path != "" {
		at += "  " + clean(f.Path)
	}
	fmt.Fprintf(b, "      %s\n", at)
	fmt.Fprintf(b, "        expected  %s\n", p.paint(green, clean(f.Want)))
	fmt.Fprintf(b, "        got       %s\n", p.paint(red, clean(f.Got)))
}

// Sum writes how many tests there were and how many failed.
func (p Printer) Sum(results []Result) error {
	failed, took := Failed(results), time.Duration(0)
	for _, r := range results {
		took += r.Took
	}
	text := p.paint(green, "all passed")
	switch {
	case len(results) == 0:
		_, err := io.WriteString(p.Out, "no tests\n")
		return err
	case failed > 0:
		text = p.paint(red, fmt.Sprintf("%d failed", failed))
	}
	_, err := fmt.Fprintf(p.Out, "%s, %s %s\n", plural(len(results), "test"), text, p.took(took))
	return err
}

func (p Printer) took(d time.Duration) string {
	return p.paint(dim, "("+d.Round(100*time.Microsecond).String()+")")
}

// Failed counts the results with faults.
func Failed(results []Result) int {
	n := 0
	for _, r := range results {
		if !r.OK() {
			n++
		}
	}
	return n
}

// clean replaces what could move a terminal's cursor or turn its text.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// Row is a result for programs.
type Row struct {
	Pipeline   string     `json:"pipeline"`
	Name       string     `json:"name"`
	OK         bool       `json:"ok"`
	File       string     `json:"file"`
	Line       int        `json:"line"`
	Col        int        `json:"col"`
	DurationMS float64    `json:"duration_ms"` // on the machine's clock
	PassedMS   int64      `json:"passed_ms"`   // on the clock of the test
	Faults     []FaultRow `json:"faults"`
	Notes      []string   `json:"notes"`
}

// FaultRow is a fault for programs. Path is empty for the test as a whole.
type FaultRow struct {
	File     string `json:"file"`
	Line     int    `json:"line"`
	Col      int    `json:"col"`
	Path     string `json:"path"`
	Expected string `json:"expected"`
	Got      string `json:"got"`
}

// Rows are results for programs; never nil.
func Rows(results []Result) []Row {
	rows := make([]Row, len(results))
	for i, r := range results {
		rows[i] = Row{r.Pipeline, r.Name, r.OK(), r.Place.File, r.Place.Line, r.Place.Col, millis(r.Took), r.Passed.Milliseconds(),
			make([]FaultRow, len(r.Faults)), append([]string{}, r.Notes...)}
		for k, f := range r.Faults {
			rows[i].Faults[k] = FaultRow{f.Place.File, f.Place.Line, f.Place.Col, f.Path, f.Want, f.Got}
		}
	}
	return rows
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// The elements of JUnit's XML that programs agree on.
type (
	junitSuites struct {
		XMLName  xml.Name      `xml:"testsuites"`
		Tests    int           `xml:"tests,attr"`
		Failures int           `xml:"failures,attr"`
		Time     string        `xml:"time,attr"`
		Suites   []*junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Time     string      `xml:"time,attr"`
		Cases    []junitCase `xml:"testcase"`
		took     time.Duration
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		File    string        `xml:"file,attr"`
		Line    int           `xml:"line,attr"`
		Time    string        `xml:"time,attr"`
		Failure *junitFailure `xml:"failure"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
)

// WriteJUnit writes results as the XML of JUnit, a suite for each pipeline.
func WriteJUnit(w io.Writer, results []Result) error {
	all := junitSuites{Tests: len(results), Failures: Failed(results)}
	var took time.Duration
	for _, r := range results {
		took += r.Took
		all.suite(r.Pipeline).add(r)
	}
	all.Time = seconds(took)
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (s *junitSuites) suite(name string) *junitSuite {
	i := slices.IndexFunc(s.Suites, func(x *junitSuite) bool { return x.Name == name })
	if i < 0 {
		i = len(s.Suites)
		s.Suites = append(s.Suites, &junitSuite{Name: name})
	}
	return s.Suites[i]
}

func (s *junitSuite) add(r Result) {
	c := junitCase{Class: r.Pipeline, Name: r.Name, File: r.Place.File, Line: r.Place.Line, Time: seconds(r.Took)}
	s.Tests++
	s.took += r.Took
	s.Time = seconds(s.took)
	if !r.OK() {
		s.Failures++
		var text strings.Builder
		for _, f := range r.Faults {
			Printer{}.fault(&text, f)
		}
		for _, n := range r.Notes {
			text.WriteString("      " + clean(n) + "\n")
		}
		f := r.Faults[0]
		c.Failure = &junitFailure{Message: strings.TrimPrefix(f.Path+": ", ": ") + "expected " + f.Want + ", got " + f.Got,
			Type: "expectation", Text: text.String()}
	}
	s.Cases = append(s.Cases, c)
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 6, 64) }
