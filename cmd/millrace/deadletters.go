package main

import (
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
	all   bool
	yes   bool
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
		RunE:  action(func(cmd *cobra.Command, _ []string) error { return d.list(cmd.Context()) }),
	}
	d.flags(cmd)
	d.filterFlags(cmd)
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
	return d.changeCommand(redriving, &cobra.Command{
		Use:   "redrive [ID…]",
		Short: "Hand dead letters to their sinks again",
		Example: "  millrace dead-letters redrive 17 18\n" +
			"  millrace dead-letters redrive --all --pipeline orders --sink warehouse --reason age",
	})
}

func (c *command) dropCommand() *cobra.Command {
	d := c.dead()
	return d.changeCommand(dropping, &cobra.Command{
		Use:     "drop [ID…]",
		Short:   "Drop dead letters for good: nobody gets those events any more",
		Example: "  millrace dead-letters drop 17 18\n  millrace dead-letters drop --all --pipeline old-orders",
	})
}

func (d *deadCommand) changeCommand(ch *change, cmd *cobra.Command) *cobra.Command {
	cmd.RunE = action(func(cmd *cobra.Command, args []string) error { return d.change(cmd.Context(), ch, args) })
	d.flags(cmd)
	d.filterFlags(cmd)
	cmd.Flags().BoolVar(&d.all, "all", false, "all of them, or all of --pipeline, --sink and --reason")
	cmd.Flags().BoolVar(&d.yes, "yes", false, "do not ask")
	return cmd
}

func (d *deadCommand) filterFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&d.query.Pipeline, "pipeline", "", "only of this pipeline")
	cmd.Flags().StringVar(&d.query.Sink, "sink", "", "only of this sink")
	cmd.Flags().Var((*reasons)(&d.query.Reasons), "reason", "only with this reason: "+strings.Join(app.Reasons(), ", "))
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
	lines := [][]string{{"ID", "EVENT", "PIPELINE", "SINK", "REASON", "STATUS", "ATTEMPTS", "LAST", "ERROR"}}
	for _, l := range letters {
		sink := l.Sink
		if sink == "" {
			sink = "(stage " + l.Stage + ")"
		}
		lines = append(lines, []string{
			strconv.FormatInt(l.ID, 10), l.EventID, l.Pipeline, sink, l.Reason, statusText(l.Status), strconv.Itoa(l.Attempts),
			moment(l.LastAt), l.LastError,
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
