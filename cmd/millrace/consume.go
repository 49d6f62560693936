package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace-run/millrace/app"
)

// consumeFlags are the flags of the command consume.
type consumeFlags struct {
	exec, url, token string
	lines            bool
	workers, max     int
	lease, idle      time.Duration
}

func (c *command) consumeCommand() *cobra.Command {
	f := &consumeFlags{}
	cmd := &cobra.Command{
		Use:   "consume PIPELINE.SINK --exec COMMAND",
		Short: "Work on the events of a queue",
		Long: `Takes events from a sink of type queue and runs a command of the shell for each. It gets the data on standard input, the attributes
as CE_ID, CE_TYPE, CE_SOURCE, CE_SUBJECT and so on, and MILLRACE_ATTEMPT. Exit code 0 says that the event is done, 65 that it is to be
a dead letter, any other that it is to come again. While the command runs the event stays ours.

With --lines the command stays: it gets a CloudEvent in JSON a line on standard input, and answers each with a line of JSON on standard
output: {} when it is done, {"error": "why"} when it failed, with "reject": true or "delay": "30s" if it should.

Ctrl-C takes no more events, and waits for those that are in work; a second one ends at once, and they come again.`,
		Example: "  millrace consume orders.work --exec './pack-order'\n" +
			"  millrace consume orders.work --exec 'jq -r .total' --max 10\n" +
			"  millrace consume orders.work --exec 'python3 worker.py' --lines --workers 4",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name one queue: the pipeline, a dot, and the sink")
			}
			return nil
		},
		RunE: action(func(cmd *cobra.Command, args []string) error { return c.consume(cmd.Context(), args[0], f) }),
	}
	c.configFlags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.exec, "exec", "", "the command")
	flags.BoolVar(&f.lines, "lines", false, "start the command once and give it an event a line")
	flags.IntVar(&f.workers, "workers", 1, "how many events are in work at the same time")
	flags.DurationVar(&f.lease, "lease", 30*time.Second, "after how long without a sign from us an event goes to another worker")
	flags.IntVar(&f.max, "max", 0, "end after so many events; 0: never")
	flags.DurationVar(&f.idle, "idle", 0, "end when there was no event for so long; 0s: never")
	flags.StringVar(&f.url, "url", "", "where Millrace listens, such as http://127.0.0.1:8080; else http.listen of the file")
	flags.StringVar(&f.token, "token", "", "the token of the queue; else MILLRACE_TOKEN")
	flags.SortFlags = false
	return cmd
}

func (c *command) consume(ctx context.Context, name string, f *consumeFlags) error {
	if err := f.check(); err != nil {
		return &exit{exitUsage, err}
	}
	address, err := c.queueAddress(name, f.url)
	if err != nil {
		return err
	}
	if f.token == "" {
		f.token, _ = c.env("MILLRACE_TOKEN")
	}
	work, end := c.workers(f)
	defer end()
	consumer := app.Consumer{
		URL: address, Token: f.token, Workers: work, Lease: f.lease, Max: f.max, Idle: f.idle, Logger: c.logger(),
	}
	consumed, err := consumer.Run(ctx)
	say(c.err, "%s done, %d failed\n", plural(consumed.Done, "event"), consumed.Failed)
	return consumeError(err, address)
}

func (f *consumeFlags) check() error {
	switch {
	case f.exec == "":
		return errors.New("--exec: say what to run for an event")
	case f.workers < 1 || f.workers > 1000:
		return errors.New("--workers: must be from 1 to 1000")
	case f.lease < time.Second || f.max < 0 || f.idle < 0:
		return errors.New("--lease must be at least 1s, --max and --idle at least 0")
	}
	return nil
}

// workers are as many as the flags say, and what ends them.
func (c *command) workers(f *consumeFlags) (work []app.Work, end func()) {
	var lines []*app.Lines
	for range f.workers {
		if !f.lines {
			work = append(work, app.Exec(f.exec, c.out, c.err))
			continue
		}
		l := app.NewLines(f.exec, c.err)
		lines, work = append(lines, l), append(work, l.Do)
	}
	return work, func() {
		for _, l := range lines {
			if err := l.Close(); err != nil {
				say(c.err, "the command ended: %v\n", err)
			}
		}
	}
}

// queueAddress needs only the names of the file, so that the variables of other sinks need not be set here.
func (c *command) queueAddress(name, base string) (string, error) {
	if base != "" {
		u, err := adminURL(base)
		if err != nil {
			return "", &exit{exitUsage, fmt.Errorf("--url: %w", err)}
		}
		base = u.String()
	}
	source := c.source()
	source.AllowUnset = true
	plan, report := app.Load(source)
	if plan == nil {
		if base != "" {
			return app.QueueBelow(base, name), nil
		}
		say(c.err, "%s", report.Text())
		return "", &exit{exitFailure, fmt.Errorf("%s does not tell where the queue is: %d to correct", c.config, report.Errors())}
	}
	address, err := app.QueueURL(plan, name, base)
	if err != nil {
		return "", &exit{exitUsage, err}
	}
	return address, nil
}

func consumeError(err error, address string) error {
	var unreachable *app.UnreachableError
	if errors.As(err, &unreachable) {
		return &exit{exitUnreachable, fmt.Errorf("no Millrace reached at %s: %w; start it, or say with --url where it is", address, err)}
	}
	return err
}
