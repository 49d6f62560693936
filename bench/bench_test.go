package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

// TestMain lets this binary be the floor as well, which bench starts from itself.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "floor" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		all  []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{5, 1, 3}, 3}, {[]float64{4, 1, 3, 2}, 2.5}, {[]float64{1, 1, 100, 1, 1}, 1}} {
		before := slices.Clone(c.all)
		if got := median(c.all); got != c.want || !slices.Equal(c.all, before) {
			t.Errorf("median of %v is %v", c.all, got)
		}
	}
}

// TestRatio has a machine that is slower during the second pair: a ratio per pair does not see it.
func TestRatio(t *testing.T) {
	things := []reading{{"v": 50, cpu: 10}, {"v": 5, cpu: 11}, {"v": 60, cpu: 12}}
	floors := []reading{{"v": 100, cpu: 4}, {"v": 10, cpu: 5}, {"v": 100, cpu: 6}}
	got := figure{name: "f", value: "v", must: new(0.45), aim: new(0.6)}.result("c", things, floors)
	want := result{
		Case: "c", Figure: "f", Median: 0.5, Min: 0.5, Max: 0.6, Runs: []float64{0.5, 0.5, 0.6}, Must: new(0.45), Aim: new(0.6),
		Reached: "must", Thing: 50, Floor: 100, ThingCPU: 11, FloorCPU: 5,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	alone := figure{name: "f", value: "v", unit: "ms"}.result("c", things, []reading{nil, nil, nil})
	if alone.Median != 50 || alone.Min != 5 || alone.Max != 60 || alone.Floor != 0 || alone.Reached != "" {
		t.Errorf("%+v", alone)
	}
}

func TestReached(t *testing.T) {
	for _, c := range []struct {
		must, aim *float64
		less      bool
		value     float64
		want      string
	}{
		{new(2.0), new(4.0), false, 4, "aim"}, {new(2.0), new(4.0), false, 2, "must"}, {new(2.0), new(4.0), false, 1.99, "no"},
		{new(8.0), new(4.0), true, 4, "aim"}, {new(8.0), new(4.0), true, 8, "must"}, {new(8.0), new(4.0), true, 8.1, "no"},
		{new(0.0), nil, true, 0, "must"}, {nil, nil, false, 1, ""},
	} {
		if got := (figure{must: c.must, aim: c.aim, less: c.less}).reached(c.value); got != c.want {
			t.Errorf("%v of must %v, aim %v: %q, want %q", c.value, c.must, c.aim, got, c.want)
		}
	}
}

// TestAlternates runs a case of which it writes down the order.
func TestAlternates(t *testing.T) {
	var order string
	say := func(name string) measure {
		return func(context.Context) (reading, error) { order += name; return reading{"v": 1}, nil }
	}
	b := &bench{settings: settings{runs: 3}, progress: io.Discard}
	c := benchCase{"c", []figure{{name: "f", value: "v"}}, func(context.Context, *bench) (pair, error) {
		return pair{thing: say("t"), floor: say("f"), close: func() error { order += "."; return nil }}, nil
	}}
	results, err := b.one(t.Context(), c)
	if err != nil || len(results) != 1 || len(results[0].Runs) != 3 || order != "tffttf." {
		t.Errorf("%+v, %v, order %s", results, err, order)
	}
}

func TestSkips(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		err, want error
		said      string
	}{
		{fmt.Errorf("%w: unknown key", errUnsupported), nil, "not supported by this binary: unknown key"},
		{broken, broken, "failed"},
	} {
		b := &bench{settings: settings{runs: 1}, progress: io.Discard}
		results, err := b.one(t.Context(), benchCase{"c", []figure{{name: "f"}}, func(context.Context, *bench) (pair, error) {
			return pair{}, c.err
		}})
		if !errors.Is(err, c.want) || len(results) != 1 || results[0].Skipped != c.said {
			t.Errorf("%+v, %v", results, err)
		}
	}
}

func TestFormats(t *testing.T) {
	r := report{Machine: machine{Cores: 2, CPU: "a CPU"}, Results: []result{
		{
			Case: "a", Figure: "ratio", Median: 0.5123, Min: 0.4, Max: 0.6, Must: new(0.45), Aim: new(0.6), Reached: "must",
			Thing: 43210, Floor: 83210, ThingCPU: 24.91,
		},
		{Case: "b", Figure: "time", Unit: "ms", Median: 2.5, Min: 2, Max: 3, Must: new(8.0), Less: true, Reached: "must"},
		{Case: "c", Figure: "x|y", Skipped: "not supported by this binary"},
	}}
	table, err := asTable(r)
	words := strings.Join(strings.Fields(string(table)), " ")
	if err != nil || !strings.Contains(words, "a CPU") ||
		!strings.Contains(words, "a ratio 0.512 [0.400-0.600] ≥ 0.450 ≥ 0.600 must 43210 83210 24.9") {
		t.Errorf("%s%v", table, err)
	}
	markdown, err := asMarkdown(r)
	if err != nil || !strings.Contains(string(markdown), "| b | time | 2.50 ms [2-3] | ≤ 8 ms |  | must |") ||
		!strings.Contains(string(markdown), `| c | x\|y | not supported by this binary |`) {
		t.Errorf("%s%v", markdown, err)
	}
	text, err := asJSON(r)
	var back report
	if err := errors.Join(err, json.Unmarshal(text, &back)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(r, back); d != "" {
		t.Error(d)
	}
}

func TestFlags(t *testing.T) {
	s, err := parse([]string{"-run", "^a", "-d", "1s", "-backlogs", "10,2000", "-o", "json"}, io.Discard)
	if err != nil || !s.run.MatchString("ack") || s.runs != 5 || !slices.Equal(s.backlogs, []int{10, 2000}) {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := parse([]string{"-long"}, io.Discard); err != nil || s.runs != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	for _, args := range []string{"-run (", "-o xml", "-d 1ms", "-n -1", "-backlogs 0", "-backlogs x", "-events 0", "-log 0", "more"} {
		if _, err := parse(strings.Fields(args), io.Discard); err == nil {
			t.Errorf("%s is taken", args)
		}
	}
}

// TestNames has each case once and every figure with a bound that it can be held against.
func TestNames(t *testing.T) {
	s, err := parse(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, c := range append(cases(s), longCases(s)...) {
		if seen[c.name] || len(c.figures) == 0 {
			t.Errorf("%s: twice, or without a figure", c.name)
		}
		seen[c.name] = true
		for _, f := range c.figures {
			if f.must != nil && f.aim != nil && (f.less && *f.aim > *f.must || !f.less && *f.aim < *f.must) {
				t.Errorf("%s %s: the aim is below the must", c.name, f.name)
			}
		}
	}
	if !seen["backlog-5m"] || !seen["stored-10m"] {
		t.Errorf("%v", seen)
	}
}

// TestWhole measures the real program for a moment: every case gives its figures, or says that the program cannot do it.
func TestWhole(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "millrace")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../cmd/millrace").CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v\n%s", err, out)
	}
	for _, args := range [][]string{{"-backlogs", "2000", "-log", "1"}, {"-long", "-run", "stored", "-events", "2000"}} {
		var out, progress bytes.Buffer
		err := run(t.Context(), append(args, "-binary", program, "-temp", dir, "-n", "1", "-d", "100ms", "-o", "json"), &out, &progress)
		if err != nil {
			t.Fatalf("%v\n%s", err, progress.String())
		}
		var r report
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		for _, result := range r.Results {
			supported := !strings.Contains(result.Skipped, errUnsupported.Error())
			if supported && (result.Skipped != "" || len(result.Runs) != 1) {
				t.Errorf("%+v\n%s", result, progress.String())
			}
		}
		if len(r.Results) < 4 || r.Machine.Cores == 0 || r.Machine.FileSystem == unknown {
			t.Errorf("%+v", r)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "bench-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
