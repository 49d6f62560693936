package pipelines

import (
	"fmt"
	"strings"
	"testing"
)

// TestHostile holds that files made to cost much are refused or read in a time that a person would wait: the test has no
// clock, but any of these would take minutes, or end the process, without its bound.
func TestHostile(t *testing.T) {
	lines := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 12; i++ {
		fmt.Fprintf(&bomb, "a%d: &a%d [%s*a%d]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 9), i-1)
	}
	for name, text := range map[string]string{
		"brackets":     "a: " + strings.Repeat("[", 500_000),
		"braces":       strings.Repeat("{a: ", 250_000),
		"dashes":       strings.Repeat("- ", 500_000) + "x",
		"questions":    strings.Repeat("? ", 500_000),
		"anchors":      "a: " + strings.Repeat("&a ", 300_000),
		"tags":         "a: " + strings.Repeat("!a ", 300_000),
		"keys":         lines(100_000, "k%d: v\n"),
		"alias bomb":   bomb.String(),
		"unknown keys": lines(6_000, "k%d: v\n"),
		"one line":     "{" + strings.TrimSuffix(lines(19_000, "k%d: vvvvvvvvvvvvvvvvvvvvvvvvvv, "), ", ") + "}",
		"traps":        lines(15_000, "k%d: {a: [b\n"),
		"braced":       lines(6_000, "k%d: {{ x }}\n"),
		"open quotes":  lines(15_000, "k%d: 'x\n"),
		"tabs":         strings.Repeat("\ta: b\n", 150_000),
		"secrets": "pipelines: {p: {sinks: {s: {http: {" + strings.TrimSuffix(strings.Repeat("password: x, ", 15_000),
			", ") + "}}}}}",
		"nested in blocks":  lines(500, "%d:\n") + strings.Repeat(" ", 500),
		"questions in flow": "[" + strings.Repeat("? ", 500_000),
		"references":        "pipelines: {p: {description: \"" + strings.Repeat("${WORD}", 100_000) + "\"}}",
	} {
		t.Run(name, func(t *testing.T) {
			text = text[:min(len(text), maxFile)]
			plan, diagnostics := Parse([]File{{Name: "x.yaml", Data: []byte(text)}}, testOptions())
			if plan != nil || len(diagnostics) == 0 || len(diagnostics) > maxDiagnostics+1 {
				t.Errorf("plan: %v, %d diagnostics", plan != nil, len(diagnostics))
			}
			_ = Format(diagnostics)
		})
	}
}

// TestStairs holds that depth by indentation is bounded too.
func TestStairs(t *testing.T) {
	var b strings.Builder
	for i := range 200 {
		fmt.Fprintf(&b, "%sk:\n", strings.Repeat(" ", i))
	}
	_, diagnostics := Parse([]File{{Name: "x.yaml", Data: []byte(b.String())}}, testOptions())
	if len(diagnostics) == 0 || diagnostics[0].Code != codeLimit {
		t.Errorf("want a fault of the depth, got\n%s", Format(diagnostics))
	}
}

// TestLongFlow holds that a map on one line may have many keys: they are not within each other.
func TestLongFlow(t *testing.T) {
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, "k%d: [v, w], ", i)
	}
	c, diagnostics, _ := parse(t, testOptions(), "labels: { "+strings.ReplaceAll(b.String(), "[v, w]", "v")+" }")
	if c == nil || len(c.Labels) != 1000 {
		t.Error(Format(diagnostics))
	}
}
