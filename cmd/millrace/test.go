package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace-run/millrace/app"
	"github.com/millrace-run/millrace/app/lab/tests"
)

// testFlags are the flags of the command test.
type testFlags struct {
	paths []string
	run   string
	junit string
	watch bool
}

func (c *command) testCommand() *cobra.Command {
	t := &testFlags{}
	cmd := &cobra.Command{
		Use:   "test [FILE|FOLDER…]",
		Short: "Run the tests of the pipelines, with sinks that are caught and time that does not have to be waited for",
		Example: "  millrace test\n" +
			"  millrace test --run 'orders/' --watch\n" +
			"  millrace test examples/orders/pipelines.yaml --junit report.xml",
		RunE: action(func(cmd *cobra.Command, args []string) error {
			if t.paths = args; len(args) == 0 {
				t.paths = []string{c.config}
			} else if cmd.Flags().Changed("config") {
				return &exit{exitUsage, errors.New("name the files with -c or behind the command, not both")}
			}
			return c.test(cmd.Context(), t)
		}),
	}
	c.configFlags(cmd)
	c.outputFlag(cmd)
	cmd.Flags().StringVar(&t.run, "run", "", "run the tests whose pipeline/name matches this regular expression")
	cmd.Flags().StringVar(&t.junit, "junit", "", "write the results to this file too, as the XML of JUnit")
	cmd.Flags().BoolVar(&t.watch, "watch", false, "run again whenever a file is saved, until Ctrl-C")
	return cmd
}

// test runs the tests of all paths. With --watch it goes on until ctx ends, which is no failure then.
func (c *command) test(ctx context.Context, t *testFlags) error {
	o, err := c.testOptions(t)
	if err != nil {
		return err
	}
	if !t.watch {
		return c.testOnce(ctx, t, o)
	}
	for w := tests.Watch(t.paths, nil); ; {
		var e *exit
		if err := c.testOnce(ctx, t, o); err != nil && ctx.Err() == nil && (!errors.As(err, &e) || e.code != exitFindings) {
			return err
		}
		if ctx.Err() == nil {
			say(c.err, "\nwaiting for a file to change; Ctrl-C ends\n\n")
		}
		if w.Wait(ctx) != nil {
			return nil
		}
	}
}

func (c *command) testOptions(t *testFlags) (tests.Options, error) {
	var o tests.Options
	for _, path := range t.paths {
		if tests.IsTestFile(path) {
			return o, &exit{exitUsage, fmt.Errorf("%s holds tests only: name the file of its pipelines, or their folder", path)}
		}
	}
	if t.run == "" {
		return o, nil
	}
	pattern, err := regexp.Compile(t.run)
	if err != nil {
		return o, &exit{exitUsage, fmt.Errorf("--run: %w", err)}
	}
	o.Run = pattern
	return o, nil
}

// testOnce runs all tests once. Findings of the files go to stderr, so that stdout holds nothing but results.
func (c *command) testOnce(ctx context.Context, t *testFlags, o tests.Options) error {
	p := tests.Printer{Out: c.out, Color: c.outColor}
	if c.output != "json" {
		o.Done = func(r tests.Result) { _ = p.Print(r) } // an error there has nobody left to hear it
	}
	var all []tests.Result
	var invalid []string
	for _, path := range t.paths {
		src := c.source()
		src.Path, src.Tests = path, true
		plan, report := app.Load(src)
		say(c.err, "%s", report.Text())
		if plan == nil {
			invalid = append(invalid, path)
			continue
		}
		results, err := tests.Run(ctx, plan, o)
		if all = append(all, results...); err != nil {
			return err
		}
	}
	if err := c.testReport(t, p, all); err != nil {
		return err
	}
	switch {
	case len(invalid) > 0:
		return &exit{exitFindings, fmt.Errorf("not tested, because it is not valid: %s", strings.Join(invalid, ", "))}
	case tests.Failed(all) > 0:
		return &exit{code: exitFindings}
	}
	return nil
}

func (c *command) testReport(t *testFlags, p tests.Printer, all []tests.Result) error {
	if t.junit != "" {
		f, err := os.Create(t.junit)
		if err != nil {
			return err
		}
		if err := errors.Join(tests.WriteJUnit(f, all), f.Close()); err != nil {
			return err
		}
	}
	if c.output == "json" {
		return rows(c, tests.Rows(all)...)
	}
	return p.Sum(all)
}
