package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace-run/millrace/app"
)

func (c *command) devCommand() *cobra.Command {
	d := &app.Dev{}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run the pipelines without reaching anybody: what sinks send is caught and shown",
		Long: `Runs the pipelines as run does, but nothing leaves this machine. What http and email sinks send goes to receivers in this
process, which take everything and print it; files are written below ` + app.DevFiles + `. Events are kept in ` + app.DevOutbox + `, which
is new at each start. Listeners are on loopback; where a port is taken, the next free one is used.`,
		Args: cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("log-level") {
				c.logLevel = devLogLevel
			}
			return c.dev(cmd.Context(), d)
		}),
	}
	c.configFlags(cmd)
	c.logFlags(cmd)
	cmd.Flags().Lookup("log-level").DefValue = devLogLevel
	cmd.Flags().BoolVar(&d.Keep, "keep", false, "go on with the events and files of the last time")
	cmd.Flags().BoolVar(&d.Reload, "reload", false, "start again whenever the file is saved without a mistake")
	return cmd
}

// devLogLevel leaves the terminal to what is delivered.
const devLogLevel = "warn"

func (c *command) dev(ctx context.Context, d *app.Dev) error {
	logger := c.logger()
	logLibraries(logger)
	d.Source, d.Logger, d.Version = c.source(), logger, versionOf()
	d.Out, d.Color = c.out, c.outColor
	d.Found = func(r app.Report) { say(c.err, "%s", r.Text()) }
	starts, outbox := 0, false
	d.Started = func(s app.Started, notes []string) {
		say(c.out, "%s", devBanner(s, notes, starts > 0))
		starts, outbox = starts+1, s.Outbox
	}
	begun := time.Now()
	done, err := d.Run(ctx)
	var invalid *app.InvalidError
	if errors.As(err, &invalid) {
		return &exit{exitConfig, fmt.Errorf("%s cannot be run: %w", c.config, err)}
	}
	if starts > 0 {
		say(c.out, "%s", summary(done, time.Since(begun), outbox))
	}
	return err
}

func devBanner(s app.Started, notes []string, again bool) string {
	var b strings.Builder
	if again {
		b.WriteString("Reloaded.\n\n")
	} else {
		b.WriteString("Millrace runs for development: sinks reach nobody.\n\n")
	}
	b.WriteString(places(s))
	fmt.Fprintf(&b, "  %-9s %s\n", "sinks", "what they send is shown here; files are below "+app.DevFiles)
	for _, n := range notes {
		fmt.Fprintf(&b, "  %-9s %s\n", "note", n)
	}
	if !again {
		b.WriteString(invitation(s))
	}
	return b.String() + "\n"
}

// summary says what came of a run, and where it is. outbox says whether there was one.
func summary(done []app.Tally, after time.Duration, outbox bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nStopped after %s.\n\n", after.Round(time.Second))
	width := 0
	for _, t := range done {
		width = max(width, len(name(t)))
	}
	for _, t := range done {
		what := plural(t.Received, "event") + " received"
		if t.Sink != "" {
			what = plural(t.Delivered, "event") + " delivered"
		}
		if t.Duplicates > 0 {
			what += ", " + plural(t.Duplicates, "duplicate") + " left out"
		}
		if t.DeadLetters > 0 {
			what += ", " + plural(t.DeadLetters, "dead letter")
		}
		if t.Lost > 0 {
			what += ", " + plural(t.Lost, "event") + " lost that " + were(t.Lost) + " in memory only"
		}
		fmt.Fprintf(&b, "  %-*s  %s\n", width, name(t), what)
	}
	if outbox {
		fmt.Fprintf(&b, "\n%s and %s stay until the next start; --keep goes on with them.\n", app.DevOutbox, app.DevFiles)
	} else {
		fmt.Fprintf(&b, "\n%s stays until the next start; --keep goes on with it.\n", app.DevFiles)
	}
	return b.String()
}

func were(n int) string {
	if n == 1 {
		return "was"
	}
	return "were"
}

func name(t app.Tally) string {
	if t.Sink == "" {
		return t.Pipeline
	}
	return t.Pipeline + "/" + t.Sink
}

// plural counts things: 1 event, 2 events.
func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
