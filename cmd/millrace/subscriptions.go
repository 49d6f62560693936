package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace-run/millrace/app"
)

func (c *command) subscriptionsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "subscriptions",
		Aliases: []string{"subscription"},
		Short:   "How far each sink has come; pause, resume, seek",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.subscriptionsListCommand(), c.subscriptionsPauseCommand(), c.subscriptionsResumeCommand(),
		c.subscriptionsSeekCommand())
	return cmd
}

func (c *command) subscriptionsListCommand() *cobra.Command {
	f := &finder{command: c}
	var pipeline, sink string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List subscriptions: state, what waits, and since when",
		Long: `Lists the subscription of each sink, and of each pipeline's own runner, which has the stages. LAG is what was not tried yet,
RETRYING what waits for another attempt, for its time or for the rate of its key, HELD what waits for an earlier event with its
order_key, OLDEST since when the oldest of these waits, POSITION the cursor and the end of the topic. A pipeline with priorities has a line for each PRIORITY that ever had an event. Where DURABLE is no, what
waits is in memory only and lost when the process ends. PAUSED says why a sink rests.`,
		Args: cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error { return f.subscriptions(cmd.Context(), pipeline, sink) }),
	}
	f.flags(cmd)
	cmd.Flags().StringVar(&pipeline, "pipeline", "", "only of this pipeline")
	cmd.Flags().StringVar(&sink, "sink", "", "only of this sink")
	return cmd
}

func (f *finder) subscriptions(ctx context.Context, pipeline, sink string) error {
	from, err := f.open(ctx)
	if err != nil {
		return err
	}
	all, err := from.Subscriptions(ctx)
	if err := errors.Join(err, from.Close()); err != nil {
		return err
	}
	all = app.SelectSubscriptions(all, pipeline, sink)
	switch {
	case f.output == "json":
		return rows(f.command, all...)
	case len(all) == 0:
		say(f.out, "no subscriptions\n")
		return nil
	}
	return table(f.out, standings(all, time.Now()))
}

func standings(all []app.Subscription, now time.Time) [][]string {
	head := []string{"PIPELINE", "SINK", "STATE", "LAG", "RETRYING", "HELD", "DEAD", "ATTEMPTS", "OLDEST", "PINNED", "POSITION", "DURABLE", "PAUSED"}
	prioritized := slices.ContainsFunc(all, func(s app.Subscription) bool { return s.Priority != nil })
	if prioritized {
		head = slices.Insert(head, 2, "PRIORITY")
	}
	lines := [][]string{head}
	for _, s := range all {
		sink, oldest, why := s.Sink, "-", "-"
		if sink == "" {
			sink = "(stages)"
		}
		if s.OldestAt != nil {
			oldest = age(now.Sub(*s.OldestAt))
		}
		if s.PausedAt != nil {
			why = fmt.Sprintf("%s ago: %s", age(now.Sub(*s.PausedAt)), s.PausedReason)
		}
		line := []string{
			s.Pipeline, sink, s.State, strconv.FormatInt(s.Lag, 10), strconv.FormatInt(s.Retrying, 10), strconv.FormatInt(s.Held, 10),
			strconv.FormatInt(s.DeadLetters, 10), strconv.Itoa(s.Attempts), oldest, sizeText(s.Pinned),
			fmt.Sprintf("%d/%d", s.Cursor, s.Head), yesNo(s.Durable), why,
		}
		if prioritized {
			line = slices.Insert(line, 2, priorityText(s.Priority))
		}
		lines = append(lines, line)
	}
	return lines
}

func priorityText(priority *int) string {
	if priority == nil {
		return "-"
	}
	return strconv.Itoa(*priority)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// sizeText is a size as people say it: 0, 912B, 1.5KiB, 31MiB.
func sizeText(n int64) string {
	switch {
	case n == 0:
		return "0"
	case n < 1<<10:
		return fmt.Sprintf("%dB", n)
	}
	v, unit := float64(n)/1024, 0
	for v >= 1023.95 && unit < 3 {
		v, unit = v/1024, unit+1
	}
	digits := 1
	if v >= 9.95 {
		digits = 0
	}
	return fmt.Sprintf("%.*f%ciB", digits, v, "KMGT"[unit])
}

// age is a duration as people say it: 3m12s, 2d4h. What the clocks of two machines make negative is 0s.
func age(d time.Duration) string {
	const day = 24 * time.Hour
	if d = max(d, 0); d >= day {
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	}
	return d.Truncate(time.Second).String()
}
