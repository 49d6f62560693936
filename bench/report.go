package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
)

// formats are the ways to print a report.
var formats = map[string]func(report) ([]byte, error){"table": asTable, "json": asJSON, "markdown": asMarkdown}

func asJSON(r report) ([]byte, error) {
	text, err := json.MarshalIndent(r, "", "  ")
	return append(text, '\n'), err
}

var headings = []string{
	"case", "figure", "median [min-max]", "must", "aim", "reached", "measured", "floor", "CPU µs/event", "floor's CPU",
}

// cells are a result as it stands in a table.
func (r result) cells() []string {
	cells := []string{r.Case, r.Figure, "", bound(r.Must, r), bound(r.Aim, r), r.Reached, "", "", "", ""}
	if r.Skipped != "" {
		cells[2] = r.Skipped
		return cells
	}
	cells[2] = fmt.Sprintf("%s%s [%s-%s]", round(r.Median), unit(r.Unit), round(r.Min), round(r.Max))
	if r.Unit == "" {
		cells[6], cells[7] = round(r.Thing), round(r.Floor)
	}
	cells[8], cells[9] = known(r.ThingCPU), known(r.FloorCPU)
	return cells
}

func bound(b *float64, r result) string {
	if b == nil {
		return ""
	}
	sign := "≥ "
	if r.Less {
		sign = "≤ "
	}
	return sign + round(*b) + unit(r.Unit)
}

func unit(u string) string {
	if u == "" {
		return ""
	}
	return " " + u
}

func known(v float64) string {
	if v == 0 {
		return ""
	}
	return round(v)
}

// round keeps three digits that matter.
func round(v float64) string {
	switch abs := math.Abs(v); {
	case math.IsInf(v, 0) || math.IsNaN(v):
		return "-"
	case abs >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case abs >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case abs >= 1 || abs == 0:
		return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 2, 64), ".00")
	default:
		return strconv.FormatFloat(v, 'f', 3, 64)
	}
}

func asTable(r report) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n\n", r.Machine)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(headings, "\t"))
	for _, result := range r.Results {
		fmt.Fprintln(w, strings.Join(result.cells(), "\t"))
	}
	err := w.Flush()
	return b.Bytes(), err
}

func asMarkdown(r report) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "<!-- written by make bench -->\n\n%s\n\n", r.Machine)
	fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(headings, " | "), strings.Repeat(" --- |", len(headings)))
	for _, result := range r.Results {
		cells := result.cells()
		for i := range cells {
			cells[i] = strings.ReplaceAll(cells[i], "|", `\|`)
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
	}
	return b.Bytes(), nil
}
