package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace-run/millrace/app"
)

// deadCommand holds the flags of the dead-letters commands.
type deadCommand struct {
	finder
	query app.Query
	how   app.Redrive
	all   bool
	yes   bool
	count bool

	redriven app.Redriven // so far
	dropped  app.Dropped
}

func (c *command) deadLettersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "dead-letters",
		Aliases: []string{"dead-letter"},
		Short:   "Events that could not be delivered: list and show them, send them again, drop them",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.listCommand(), c.showCommand(), c.redriveCommand(), c.dropCommand())
	return cmd
}

func (c *command) dead() *deadCommand { return &deadCommand{finder: finder{command: c}} }

func (c *command) listCommand() *cobra.Command {
	d := c.dead()
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead letters, oldest first",
		Args:  cobra.NoArgs,
		Long: `Lists dead letters, oldest first; all flags must hold. --where is an expression on the event as it was stored; an event at which
it fails is not listed.`,
		Example: "  millrace dead-letters list --sink warehouse --status 422 --since 2h\n" +
			"  millrace dead-letters list --error 'no such customer' --where 'data.total > 100' --count",
		RunE: action(func(cmd *cobra.Command, _ []string) error { return d.list(cmd.Context()) }),
	}
	d.flags(cmd)
	d.filterFlags(cmd)
	cmd.Flags().BoolVar(&d.count, "count", false, "only count them, by pipeline, sink, reason and status")
	cmd.Flags().IntVar(&d.query.Limit, "limit", 0, "at most so many; 0 is all")
	cmd.Flags().Int64SliceVar(&d.query.IDs, "id", nil, "only these ids")
	return cmd
}

func (c *command) showCommand() *cobra.Command {
	d := c.dead()
	cmd := &cobra.Command{
		Use:     "show ID…",
		Short:   "Show dead letters whole: the event, and what the destination answered",
		Example: "  millrace dead-letters show 17\n  millrace dead-letters show 17 18 -o json",
		RunE:    action(func(cmd *cobra.Command, args []string) error { return d.show(cmd.Context(), args) }),
	}
	d.flags(cmd)
	return cmd
}

func (c *command) redriveCommand() *cobra.Command {
	d := c.dead()
	cmd := d.changeCommand(&redriving{d}, &cobra.Command{
		Use:   "redrive [ID…]",
		Short: "Hand dead letters to their sinks again, as they are or mended",
		Long: `Hands dead letters to their sinks again. --edit changes their events: 'data.total = 120' sets a member or an attribute, an
expression by itself is the data anew; several run one after the other, on the event as it was stored. An edited event has a new
Idempotency-Key, the same for the same edit. --to gives them to another sink of the same pipeline, whatever its when says.

What was handed over is no dead letter any more. So one that was cut off is resumed by the same command.`,
		Example: "  millrace dead-letters redrive 17 18\n" +
			"  millrace dead-letters redrive --all --pipeline orders --sink warehouse --reason age\n" +
			"  millrace dead-letters redrive --all --sink payments --edit 'data.total = int(data.total)' --dry-run\n" +
			"  millrace dead-letters redrive --all --pipeline orders --to archive --rate 100/s",
	})
	cmd.Flags().StringVar(&d.how.To, "to", "", "give them to this sink of the same pipeline in place of their own")
	cmd.Flags().StringArrayVar(&d.how.Edit, "edit", nil, "change the events: 'path = expression', or an expression that is the data anew")
	cmd.Flags().StringVar(&d.how.Rate, "rate", "", "hand over so many in a time, such as 100/s")
	cmd.Flags().BoolVar(&d.how.DryRun, "dry-run", false, "change nothing; say how many they are, and show the first edited events")
	return cmd
}

func (c *command) dropCommand() *cobra.Command {
	d := c.dead()
	return d.changeCommand(&dropping{d}, &cobra.Command{
		Use:     "drop [ID…]",
		Short:   "Drop dead letters for good: nobody gets those events any more",
		Example: "  millrace dead-letters drop 17 18\n  millrace dead-letters drop --all --pipeline old-orders",
	})
}

func (d *deadCommand) changeCommand(ch change, cmd *cobra.Command) *cobra.Command {
	cmd.RunE = action(func(cmd *cobra.Command, args []string) error { return d.change(cmd.Context(), ch, args) })
	d.flags(cmd)
	d.filterFlags(cmd)
	cmd.Flags().BoolVar(&d.all, "all", false, "all of them, or all that the filters take")
	cmd.Flags().BoolVar(&d.yes, "yes", false, "do not ask")
	return cmd
}

func (d *deadCommand) filterFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&d.query.Pipeline, "pipeline", "", "only of this pipeline")
	cmd.Flags().StringVar(&d.query.Sink, "sink", "", "only of this sink")
	cmd.Flags().Var((*reasons)(&d.query.Reasons), "reason", "only with this reason: "+strings.Join(app.Reasons(), ", "))
	cmd.Flags().IntSliceVar(&d.query.Statuses, "status", nil, "only with this status of the last answer; 0 is none")
	cmd.Flags().Var(&moments{&d.query.Since}, "since",
		"only whose last attempt was not before this: RFC 3339, or so long ago, such as 2h or 7d")
	cmd.Flags().Var(&moments{&d.query.Until}, "until", "only whose last attempt was before this")
	cmd.Flags().StringVar(&d.query.Text, "error", "", "only with this text in the error")
	cmd.Flags().StringVar(&d.query.Where, "where", "", "only whose event this expression is true of, such as 'data.total > 100'")
}

// moments is a flag that takes a time, or how long ago it was.
type moments struct{ at *time.Time }

// String is the present value.
func (m *moments) String() string {
	if m.at == nil || m.at.IsZero() {
		return ""
	}
	return m.at.Format(time.RFC3339)
}

// Type is what the help shows after the flag.
func (m *moments) Type() string { return "time" }

// Set reads a time.
func (m *moments) Set(s string) (err error) {
	*m.at, err = app.Moment(s, time.Now())
	return err
}

// reasons is a flag that takes reasons of dead letters, also several with commas between them.
type reasons []string

// String is the present value.
func (r *reasons) String() string { return strings.Join(*r, ",") }

// Type is what the help shows after the flag.
func (r *reasons) Type() string { return "word" }

// Set adds reasons.
func (r *reasons) Set(s string) error {
	for word := range strings.SplitSeq(s, ",") {
		if !slices.Contains(app.Reasons(), word) {
			return fmt.Errorf("there are %s", strings.Join(app.Reasons(), ", "))
		}
		*r = append(*r, word)
	}
	return nil
}

func (d *deadCommand) list(ctx context.Context) error {
	if d.query.Limit < 0 {
		return &exit{exitUsage, errors.New("--limit is a number from 0 on")}
	}
	if d.count {
		return d.counts(ctx)
	}
	letters, err := d.letters(ctx)
	switch {
	case err != nil:
		return err
	case d.output == "json":
		return rows(d.command, letters...)
	case len(letters) == 0:
		say(d.out, "no dead letters\n")
		return nil
	}
	return table(d.out, letterLines(letters))
}

// counts prints how many there are, and all together for a person.
func (d *deadCommand) counts(ctx context.Context) error {
	if d.query.Limit > 0 || len(d.query.IDs) > 0 {
		return &exit{exitUsage, errors.New("--count counts all that the filters take: there is no --limit and no --id")}
	}
	from, err := d.open(ctx)
	if err != nil {
		return err
	}
	counts, err := from.CountDead(ctx, d.query)
	if err := errors.Join(err, from.Close()); err != nil {
		return err
	}
	if d.output == "json" {
		return rows(d.command, counts...)
	}
	lines := [][]string{{"PIPELINE", "SINK", "REASON", "STATUS", "COUNT"}}
	for _, c := range counts {
		lines = append(lines, []string{c.Pipeline, cmp.Or(c.Sink, "(stages)"), c.Reason, statusText(c.Status), strconv.Itoa(c.Count)})
	}
	if len(counts) > 0 {
		err = table(d.out, lines)
	}
	say(d.out, "%s\n", count(sum(counts)))
	return err
}

func sum(counts []app.Count) (n int) {
	for _, c := range counts {
		n += c.Count
	}
	return n
}

// letters reads what the query selects.
func (d *deadCommand) letters(ctx context.Context) ([]app.DeadLetter, error) {
	from, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	letters, err := from.DeadLetters(ctx, d.query)
	return letters, errors.Join(err, from.Close())
}

func letterLines(letters []app.DeadLetter) [][]string {
	lines := [][]string{{"ID", "EVENT", "PIPELINE", "SINK", "REASON", "STATUS", "ATTEMPTS", "OFFSET", "RECEIVED", "LAST", "ERROR"}}
	for _, l := range letters {
		sink := l.Sink
		if sink == "" {
			sink = "(stage " + l.Stage + ")"
		}
		lines = append(lines, []string{
			strconv.FormatInt(l.ID, 10), l.EventID, l.Pipeline, sink, l.Reason, statusText(l.Status), strconv.Itoa(l.Attempts),
			strconv.FormatInt(l.Offset, 10), moment(l.ReceivedAt), moment(l.LastAt), l.LastError,
		})
	}
	return lines
}

func statusText(status int) string {
	if status == 0 {
		return "-"
	}
	return strconv.Itoa(status)
}

func moment(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

// ids reads ids from the command line, each once.
func (d *deadCommand) ids(args []string) error {
	for _, a := range args {
		id, err := strconv.ParseInt(a, 10, 64)
		if err != nil || id < 1 {
			return fmt.Errorf("%q is no id of a dead letter; millrace dead-letters list shows them", a)
		}
		if !slices.Contains(d.query.IDs, id) {
			d.query.IDs = append(d.query.IDs, id)
		}
	}
	return nil
}

// missing is the error for ids that are no dead letters, if there are any.
func (d *deadCommand) missing(found int) error {
	asked := len(d.query.IDs)
	if found >= asked {
		return nil
	}
	return fmt.Errorf("%d of the %d ids are no dead letters (any more); millrace dead-letters list shows those that are", asked-found, asked)
}

func count(n int) string {
	if n == 1 {
		return "1 dead letter"
	}
	return fmt.Sprintf("%d dead letters", n)
}
