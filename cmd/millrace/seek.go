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

// seekCommand holds the flags of subscriptions seek.
type seekCommand struct {
	finder
	seek app.Seek
	yes  bool
}

func (c *command) subscriptionsSeekCommand() *cobra.Command {
	s := &seekCommand{finder: finder{command: c}}
	cmd := &cobra.Command{
		Use:   "seek PIPELINE/SINK",
		Short: "Let a sink go on at another place of its pipeline's history",
		Long: `Moves the subscription of a sink: back, so that events which it has had come again, or on, over events that wait. The place is
beginning (all that retention has left), end, an offset as subscriptions list shows it, or a time. Dead letters stay, and their
events do not come again; events at or behind the place that wait for another attempt begin anew. An event that comes again has
the idempotency key that it had. --dry-run says what it would come to. It may be done while no instance runs.`,
		Example: "  millrace subscriptions seek orders/warehouse --to 2026-11-20T08:00:00Z --dry-run\n" +
			"  millrace subscriptions seek orders/warehouse --to end",
		Args: cobra.ExactArgs(1),
		RunE: action(func(cmd *cobra.Command, args []string) error { return s.run(cmd.Context(), args[0]) }),
	}
	s.flags(cmd)
	cmd.Flags().StringVar(&s.seek.To, "to", "", "beginning, end, an offset, or a time such as 2026-11-20T08:00:00Z")
	cmd.Flags().BoolVar(&s.seek.DryRun, "dry-run", false, "only say how many events that are, and how many are gone")
	cmd.Flags().BoolVar(&s.yes, "yes", false, "do not ask")
	return cmd
}

func (s *seekCommand) run(ctx context.Context, name string) error {
	var ok bool
	if s.seek.Pipeline, s.seek.Sink, ok = strings.Cut(name, "/"); !ok || s.seek.Pipeline == "" || s.seek.Sink == "" {
		return &exit{exitUsage, fmt.Errorf("%q names no sink: write PIPELINE/SINK", name)}
	}
	if s.seek.To == "" {
		return &exit{exitUsage, errors.New("--to is missing: beginning, end, an offset, or a time")}
	}
	if _, err := app.ParseStart(s.seek.To); err != nil {
		return &exit{exitUsage, err}
	}
	on, err := s.open(ctx)
	if err != nil {
		return err
	}
	all, err := s.in(ctx, on)
	if err := errors.Join(err, on.Close()); err != nil {
		return err
	}
	if s.output == "json" {
		return rows(s.command, all...)
	}
	for _, k := range all {
		say(s.out, "%s\n", soughtText(k))
	}
	return nil
}

// in asks before it changes anything, where there is somebody to ask.
func (s *seekCommand) in(ctx context.Context, on target) ([]app.Sought, error) {
	if s.ask && !s.yes && !s.seek.DryRun {
		preview := s.seek
		preview.DryRun = true
		all, err := on.Seek(ctx, preview)
		if err != nil {
			return nil, err
		}
		for _, k := range all {
			say(s.err, "%s\n", soughtText(k))
		}
		if err := s.confirm(ctx, "Move it?"); err != nil {
			return nil, err
		}
	}
	return on.Seek(ctx, s.seek)
}

// soughtText says what a seek comes to.
func soughtText(k app.Sought) string {
	var b strings.Builder
	verb := "goes on"
	if k.DryRun {
		verb = "would go on"
	}
	fmt.Fprintf(&b, "%s/%s", k.Pipeline, k.Sink)
	if k.Priority != nil {
		fmt.Fprintf(&b, ", priority %d,", *k.Priority)
	}
	if k.Next > k.Head {
		fmt.Fprintf(&b, " %s behind the last event, %d", verb, k.Head)
	} else {
		fmt.Fprintf(&b, " %s at event %d of %d", verb, k.Next, k.Head)
	}
	part := func(n int64, what string) {
		if n > 0 {
			fmt.Fprintf(&b, "; %s %s", plural(int(n), "event"), what)
		}
	}
	part(k.Again, "again")
	part(k.Waiting, "that waited for another attempt anew")
	part(k.Skipped, "jumped over")
	if k.DeadLetters > 0 {
		fmt.Fprintf(&b, "; %s from there on stay", count(int(k.DeadLetters)))
	}
	if k.Gone > 0 {
		fmt.Fprintf(&b, "; up to %s asked for, gone by retention", plural(int(k.Gone), "event"))
		if k.OldestAt != nil {
			fmt.Fprintf(&b, ": the oldest left was received %s", k.OldestAt.Format(time.RFC3339))
		}
	}
	return b.String()
}
