package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/millrace-run/millrace/databases/databasetest"
)

// reading is what one run measured, by the name of the value.
type reading map[string]float64

// Values that many readings have.
const (
	rate = "events/s"
	cpu  = "CPU µs/event" // of the server alone
)

// measure does one run.
type measure func(ctx context.Context) (reading, error)

// pair is a case made ready: the thing, and what it is compared with (nil if its figures stand for themselves).
type pair struct {
	thing, floor measure
	close        func() error // nil if there is nothing to take down
}

// figure is one line of the table.
type figure struct {
	name  string
	value string   // which value of the reading
	unit  string   // of a figure that stands for itself; empty for the ratio thing ÷ floor
	must  *float64 // nil is none
	aim   *float64
	less  bool // less is better
}

// benchCase is one load, and the figures that are read from it.
type benchCase struct {
	name    string
	figures []figure
	open    func(ctx context.Context, b *bench) (pair, error)
}

// bench runs cases.
type bench struct {
	settings
	dir      string // for everything on disk
	self     string // this program, which is the floor too
	progress io.Writer
}

// result is a figure that was measured, or why it was not. It is what -o json prints.
type result struct {
	Case     string    `json:"case"`
	Figure   string    `json:"figure"`
	Unit     string    `json:"unit,omitempty"` // empty: a ratio
	Skipped  string    `json:"skipped,omitempty"`
	Median   float64   `json:"median"`
	Min      float64   `json:"min"`
	Max      float64   `json:"max"`
	Runs     []float64 `json:"runs,omitempty"`
	Must     *float64  `json:"must,omitempty"`
	Aim      *float64  `json:"aim,omitempty"`
	Less     bool      `json:"less_is_better,omitempty"`
	Reached  string    `json:"reached,omitempty"` // aim, must or no; empty without a bound
	Thing    float64   `json:"thing,omitempty"`   // medians of what the ratio is of
	Floor    float64   `json:"floor,omitempty"`
	ThingCPU float64   `json:"cpu_us_per_event,omitempty"`
	FloorCPU float64   `json:"floor_cpu_us_per_event,omitempty"`
}

// report is everything that a run of bench has to say.
type report struct {
	Machine machine  `json:"machine"`
	Results []result `json:"results"`
}

// measure runs the chosen cases. A case that fails does not keep the others from being measured; the report has what there is.
func (b *bench) measure(ctx context.Context) (report, error) {
	all := cases(b.settings)
	if b.long {
		all = longCases(b.settings)
	}
	r := report{Machine: describe(ctx, b)}
	var errs []error
	for _, c := range all {
		if !b.run.MatchString(c.name) || ctx.Err() != nil {
			continue
		}
		results, err := b.one(ctx, c)
		r.Results = append(r.Results, results...)
		if err != nil {
			fmt.Fprintf(b.progress, "%s: %v\n", c.name, err)
			errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
		}
	}
	return r, errors.Join(append(errs, ctx.Err())...)
}

// one measures a case: runs of the thing and of its floor in turn, so that what slows the machine down for a while slows both.
func (b *bench) one(ctx context.Context, c benchCase) (results []result, err error) {
	begin := time.Now()
	p, err := c.open(ctx, b)
	if p.close != nil {
		defer func() { err = errors.Join(err, p.close()) }()
	}
	var things, floors []reading
	for i := 0; i < b.runs && err == nil; i++ {
		var thing, floor reading
		if thing, floor, err = p.run(ctx, i%2 == 1); err == nil {
			things, floors = append(things, thing), append(floors, floor)
			fmt.Fprintf(b.progress, "%s %d/%d: %s\n", c.name, i+1, b.runs, glance(c.figures, thing, floor))
		}
	}
	if errors.Is(err, errUnsupported) || errors.Is(err, databasetest.ErrMissing) {
		fmt.Fprintf(b.progress, "%s: %v\n", c.name, err)
		return skipped(c, err.Error()), nil
	}
	if err != nil {
		return skipped(c, "failed"), err
	}
	for _, f := range c.figures {
		results = append(results, f.result(c.name, things, floors))
	}
	fmt.Fprintf(b.progress, "%s: %.0f s\n", c.name, time.Since(begin).Seconds())
	return results, nil
}

// run does one run of each, the floor first every other time: so neither always has the warmer machine.
func (p pair) run(ctx context.Context, floorFirst bool) (thing, floor reading, err error) {
	if p.floor != nil && floorFirst {
		if floor, err = p.floor(ctx); err != nil {
			return nil, nil, fmt.Errorf("floor: %w", err)
		}
	}
	if thing, err = p.thing(ctx); err != nil {
		return nil, nil, err
	}
	if p.floor != nil && !floorFirst {
		if floor, err = p.floor(ctx); err != nil {
			return nil, nil, fmt.Errorf("floor: %w", err)
		}
	}
	return thing, floor, nil
}

func skipped(c benchCase, why string) (results []result) {
	for _, f := range c.figures {
		results = append(results, result{
			Case: c.name, Figure: f.name, Unit: f.unit, Must: f.must, Aim: f.aim, Less: f.less, Skipped: why,
		})
	}
	return results
}

// result makes a line of the runs: a ratio per pair of runs, or the values themselves, and their median.
func (f figure) result(name string, things, floors []reading) result {
	r := result{
		Case: name, Figure: f.name, Unit: f.unit, Must: f.must, Aim: f.aim, Less: f.less,
		Thing: median(column(things, f.value)), ThingCPU: median(column(things, cpu)), FloorCPU: median(column(floors, cpu)),
	}
	for i := range things {
		value := things[i][f.value]
		if f.unit == "" {
			value /= floors[i][f.value]
		}
		r.Runs = append(r.Runs, value)
	}
	if f.unit == "" {
		r.Floor = median(column(floors, f.value))
	}
	r.Median, r.Min, r.Max = median(r.Runs), slices.Min(r.Runs), slices.Max(r.Runs)
	r.Reached = f.reached(r.Median)
	return r
}

// reached says which bound a value keeps.
func (f figure) reached(value float64) string {
	keeps := func(bound *float64) bool {
		return bound != nil && (f.less && value <= *bound || !f.less && value >= *bound)
	}
	switch {
	case keeps(f.aim):
		return "aim"
	case keeps(f.must):
		return "must"
	case f.must != nil || f.aim != nil:
		return "no"
	default:
		return ""
	}
}

// column takes one value out of readings that have it.
func column(readings []reading, value string) (all []float64) {
	for _, r := range readings {
		if v, ok := r[value]; ok {
			all = append(all, v)
		}
	}
	return all
}

// median is the middle value, of an even number the mean of the two in the middle; 0 of none.
func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// glance is a run in a few words, for those who watch.
func glance(figures []figure, thing, floor reading) (text string) {
	for i, f := range figures {
		if i > 0 {
			text += ", "
		}
		if f.unit == "" {
			a, b := thing[f.value], floor[f.value]
			text += fmt.Sprintf("%s %s (%s ÷ %s)", f.name, round(a/b), round(a), round(b))
		} else {
			text += fmt.Sprintf("%s %s %s", f.name, round(thing[f.value]), f.unit)
		}
	}
	return text
}

// pause waits unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
