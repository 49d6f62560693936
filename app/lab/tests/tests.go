// Package tests runs the tests that a configuration holds. A test is a run of the real router with its real stages, retry and
// breaker, on a log in memory, with sinks that answer as the test says and a clock that stands still while anything can happen
// without it. So an outage of three days takes milliseconds, and the outcome depends on neither the machine nor on other tests.
package tests

import (
	"context"
	"fmt"
	"regexp"
	"runtime"
	"sync"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
)

// Options say which tests run, and how. The zero value runs all.
type Options struct {
	// Run selects the tests whose "pipeline/name" it matches; nil selects all.
	Run *regexp.Regexp
	// Parallel is how many tests run at once; 0 is as many as there are processors.
	Parallel int
	// Done hears of each result in the order of the tests, as soon as those before it are done. It may be nil.
	Done func(Result)
	// Clock measures how long tests take; nil is the machine's. It has no influence on what happens in them.
	Clock event.Clock
}

// Result is what became of one test. It failed if there are faults.
type Result struct {
	Pipeline string
	Name     string
	Place    pipelines.Place
	Took     time.Duration // on the clock of the options
	Passed   time.Duration // on the clock of the test, until the last answer of a sink
	Faults   []Fault
	Notes    []string // what happened, for those who look into a fault; empty without one
}

// Fault is one difference between what a test demands and what came.
type Fault struct {
	Place pipelines.Place // of what is demanded
	Path  string          // such as payments[0].data.total; empty for the test as a whole
	Want  string
	Got   string
}

// OK says whether the test passed.
func (r Result) OK() bool { return len(r.Faults) == 0 }

// job is one test of a plan.
type job struct {
	pipeline *pipelines.Pipeline
	test     *pipelines.Test
	result   Result
	err      error
	done     chan struct{}
}

// Run runs the tests of a plan and returns the results in the order of the file; what must not be shown is replaced in them. The
// error is that of ctx, or of what should not be able to fail; tests that fail are no error.
func Run(ctx context.Context, plan *pipelines.Plan, o Options) ([]Result, error) {
	jobs := selectJobs(plan, o.Run)
	if o.Clock == nil {
		o.Clock = event.SystemClock{}
	}
	if o.Parallel < 1 {
		o.Parallel = runtime.GOMAXPROCS(0)
	}
	queue := make(chan *job, len(jobs))
	for _, j := range jobs {
		queue <- j
	}
	close(queue)
	var workers sync.WaitGroup
	defer workers.Wait()
	for range min(o.Parallel, len(jobs)) {
		workers.Go(func() {
			for j := range queue {
				j.run(ctx, plan, o.Clock)
				close(j.done)
			}
		})
	}
	results := make([]Result, 0, len(jobs))
	for _, j := range jobs {
		<-j.done
		if j.err != nil {
			return results, fmt.Errorf("test %q of pipeline %s: %w", j.test.Name, j.pipeline.Name, j.err)
		}
		results = append(results, j.result)
		if o.Done != nil {
			o.Done(j.result)
		}
	}
	return results, nil
}

func selectJobs(plan *pipelines.Plan, run *regexp.Regexp) []*job {
	var jobs []*job
	for _, p := range plan.Pipelines {
		for _, t := range p.Tests {
			if run == nil || run.MatchString(p.Name+"/"+t.Name) {
				jobs = append(jobs, &job{pipeline: p, test: t, done: make(chan struct{})})
			}
		}
	}
	return jobs
}

func (j *job) run(ctx context.Context, plan *pipelines.Plan, clock event.Clock) {
	began := clock.Now()
	j.result = Result{Pipeline: j.pipeline.Name, Name: j.test.Name, Place: j.test.Place}
	if ctx.Err() != nil {
		j.err = context.Cause(ctx)
		return
	}
	outcome, err := play(ctx, j.pipeline, j.test)
	if err != nil {
		j.err = err
		return
	}
	j.result.Passed = outcome.passed
	if j.result.Faults = judge(j.test, outcome); len(j.result.Faults) > 0 {
		j.result.Notes = outcome.notes(j.pipeline)
	}
	j.result.Took = clock.Now().Sub(began)
	j.result.hide(plan.Hide)
}

// hide replaces what must not be shown.
func (r *Result) hide(replace func(string) string) {
	if replace == nil {
		return
	}
	r.Name = replace(r.Name)
	for i := range r.Faults {
		f := &r.Faults[i]
		f.Path, f.Want, f.Got = replace(f.Path), replace(f.Want), replace(f.Got)
	}
	for i := range r.Notes {
		r.Notes[i] = replace(r.Notes[i])
	}
}
