package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace-run/millrace/app"
)

func (c *command) subscriptionsPauseCommand() *cobra.Command {
	f := &finder{command: c}
	var reason string
	cmd := &cobra.Command{
		Use:   "pause PIPELINE[/SINK]...",
		Short: "Let sinks rest until they are resumed",
		Long: `Pauses a sink, or all sinks of a pipeline: no new attempt begins, those in flight end, and events wait in the outbox; what
expires meanwhile is a dead letter when the sink is resumed. A pause survives a restart. It may be set while no instance runs.`,
		Args: cobra.MinimumNArgs(1),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			return f.rest(cmd.Context(), args, reason, target.Pause, "paused", func(n int) any { return app.Paused{Paused: n} })
		}),
	}
	f.flags(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who look at the list")
	return cmd
}

func (c *command) subscriptionsResumeCommand() *cobra.Command {
	f := &finder{command: c}
	cmd := &cobra.Command{
		Use:   "resume PIPELINE[/SINK]...",
		Short: "End the pause of sinks, whoever began it",
		Long: `Resumes a sink, or all sinks of a pipeline: what waits is delivered, also by an instance that runs. A sink whose destination answers 410
again pauses again.`,
		Args: cobra.MinimumNArgs(1),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			return f.rest(cmd.Context(), args, "", target.Resume, "resumed", func(n int) any { return app.Resumed{Resumed: n} })
		}),
	}
	f.flags(cmd)
	return cmd
}

// rest pauses or resumes what the arguments name.
func (f *finder) rest(
	ctx context.Context, args []string, reason string, do func(target, context.Context, app.Pause) (int, error), done string, row func(int) any,
) error {
	on, err := f.open(ctx)
	if err != nil {
		return err
	}
	n := 0
	for _, arg := range args {
		pipeline, sink, given := strings.Cut(arg, "/")
		if given && sink == "" {
			err = fmt.Errorf("%q names no sink: write PIPELINE/SINK, or PIPELINE for all of its sinks", arg)
			break
		}
		var some int
		some, err = do(on, ctx, app.Pause{Pipeline: pipeline, Sink: sink, Reason: reason})
		n += some
		if err != nil {
			break
		}
	}
	if err := errors.Join(err, on.Close()); err != nil {
		return err
	}
	if f.output == "json" {
		return rows(f.command, row(n))
	}
	say(f.out, "%s %s\n", plural(n, "sink"), done)
	return nil
}
