package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/millrace-run/millrace/app"
)

// deadLetters is where dead letters are reached: a running instance, or the outbox of one that does not run.
type deadLetters interface {
	DeadLetters(ctx context.Context, q app.Query) ([]app.DeadLetter, error)
	Redrive(ctx context.Context, q app.Query) (int, error)
	Close() error
}

// deadCommand holds the flags of the dead-letters commands.
type deadCommand struct {
	*command
	admin string
	query app.Query
	all   bool
	yes   bool
}

func (c *command) deadLettersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "dead-letters",
		Aliases: []string{"dead-letter"},
		Short:   "Events that could not be delivered: list them, send them again",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.listCommand(), c.redriveCommand())
	return cmd
}

func (c *command) listCommand() *cobra.Command {
	d := &deadCommand{command: c}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead letters, oldest first",
		Args:  cobra.NoArgs,
		RunE:  action(func(cmd *cobra.Command, _ []string) error { return d.list(cmd.Context()) }),
	}
	d.flags(cmd)
	cmd.Flags().IntVar(&d.query.Limit, "limit", 0, "at most so many; 0 is all")
	cmd.Flags().Int64SliceVar(&d.query.IDs, "id", nil, "only these ids")
	return cmd
}

func (c *command) redriveCommand() *cobra.Command {
	d := &deadCommand{command: c}
	cmd := &cobra.Command{
		Use:     "redrive [ID…]",
		Short:   "Hand dead letters to their sinks again",
		Example: "  millrace dead-letters redrive 17 18\n  millrace dead-letters redrive --all --pipeline orders --sink warehouse",
		RunE:    action(func(cmd *cobra.Command, args []string) error { return d.redrive(cmd.Context(), args) }),
	}
	d.flags(cmd)
	cmd.Flags().BoolVar(&d.all, "all", false, "all of them, or all of --pipeline and --sink")
	cmd.Flags().BoolVar(&d.yes, "yes", false, "do not ask")
	return cmd
}

func (d *deadCommand) flags(cmd *cobra.Command) {
	d.configFlags(cmd)
	d.outputFlag(cmd)
	cmd.Flags().StringVar(&d.admin, "admin", "", "address of the running instance (default $MILLRACE_ADMIN, else admin.listen of the file)")
	cmd.Flags().StringVar(&d.query.Pipeline, "pipeline", "", "only of this pipeline")
	cmd.Flags().StringVar(&d.query.Sink, "sink", "", "only of this sink")
}

// open finds the dead letters. The outbox itself is opened only when the address came from the file and nothing listens
// there: an address that somebody gave means an instance that should answer.
func (d *deadCommand) open(ctx context.Context) (deadLetters, error) {
	var plan *app.Plan
	in, err := findInstance(d.admin, d.env, func() (_ string, err error) {
		if plan, err = d.plan(); err != nil {
			return "", err
		}
		return plan.Admin.Listen, nil
	})
	if err != nil {
		return nil, err
	}
	r := newRemote(in)
	err = r.alive(ctx)
	if !in.fromFile || !errors.Is(err, errNobody) {
		return r, err
	}
	offline, err := app.OpenOffline(ctx, plan)
	var unreachable *app.UnreachableError
	switch {
	case errors.As(err, &unreachable):
		return nil, &exit{exitUnreachable, fmt.Errorf("nothing listens at %s (from %s), and %w", in.url, in.from, err)}
	case err != nil:
		return nil, err
	}
	return offline, nil
}

// plan reads the file for its addresses only: variables that only the running process has may be unset here.
func (d *deadCommand) plan() (*app.Plan, error) {
	src := d.source()
	src.AllowUnset = true
	plan, report := app.Load(src)
	if plan == nil {
		say(d.err, "%s", report.Text())
		return nil, &exit{exitFailure, fmt.Errorf("%s does not tell where an instance listens and where its outbox is; give --admin", d.config)}
	}
	return plan, nil
}

func (d *deadCommand) list(ctx context.Context) error {
	if d.query.Limit < 0 {
		return &exit{exitUsage, errors.New("--limit is a number from 0 on")}
	}
	from, err := d.open(ctx)
	if err != nil {
		return err
	}
	letters, err := from.DeadLetters(ctx, d.query)
	if err := errors.Join(err, from.Close()); err != nil {
		return err
	}
	if d.output == "json" {
		if letters == nil {
			letters = []app.DeadLetter{} // [] and not null
		}
		return json.NewEncoder(d.out).Encode(letters)
	}
	return table(d.out, letters)
}

func table(w io.Writer, letters []app.DeadLetter) error {
	if len(letters) == 0 {
		say(w, "no dead letters\n")
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	say(t, "ID\tEVENT\tPIPELINE\tSINK\tREASON\tSTATUS\tATTEMPTS\tLAST\tERROR\n")
	for _, l := range letters {
		sink, status, last := l.Sink, "-", "-"
		if sink == "" {
			sink = "(stage " + l.Stage + ")"
		}
		if l.Status != 0 {
			status = strconv.Itoa(l.Status)
		}
		if l.LastAt != nil {
			last = l.LastAt.UTC().Format(time.RFC3339)
		}
		say(t, "%d\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", l.ID, plain(l.EventID), l.Pipeline, plain(sink), l.Reason, status, l.Attempts, last, plain(l.LastError))
	}
	return t.Flush()
}

// plain keeps text of others from moving the cursor or breaking a line of the table.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '·'
		}
		return r
	}, s)
}

func (d *deadCommand) redrive(ctx context.Context, args []string) error {
	if err := d.selection(args); err != nil {
		return &exit{exitUsage, err}
	}
	from, err := d.open(ctx)
	if err != nil {
		return err
	}
	n, err := d.redriveFrom(ctx, from)
	if err := errors.Join(err, from.Close()); err != nil {
		return err
	}
	if d.output == "json" {
		err = json.NewEncoder(d.out).Encode(app.Redriven{Redriven: n})
	} else {
		say(d.out, "%s redriven\n", count(n))
	}
	if n < len(d.query.IDs) {
		return errors.Join(err, fmt.Errorf("%d of the %d ids are no dead letters (any more); millrace dead-letters list shows those that are", len(d.query.IDs)-n, len(d.query.IDs)))
	}
	return err
}

func (d *deadCommand) selection(args []string) error {
	seen := map[int64]bool{}
	for _, a := range args {
		id, err := strconv.ParseInt(a, 10, 64)
		if err != nil || id < 1 {
			return fmt.Errorf("%q is no id of a dead letter; millrace dead-letters list shows them", a)
		}
		if !seen[id] {
			d.query.IDs = append(d.query.IDs, id)
		}
		seen[id] = true
	}
	_, err := app.Selection{IDs: d.query.IDs, All: d.all, Pipeline: d.query.Pipeline, Sink: d.query.Sink}.Query()
	if err != nil {
		return errors.New("say which: ids, or --all, which --pipeline and --sink narrow")
	}
	return nil
}

// redriveFrom asks before it changes many, where there is somebody to ask.
func (d *deadCommand) redriveFrom(ctx context.Context, from deadLetters) (int, error) {
	if d.all && d.ask && !d.yes {
		letters, err := from.DeadLetters(ctx, d.query)
		if err != nil || len(letters) == 0 {
			return 0, err
		}
		say(d.err, "Redrive %s? [y/N] ", count(len(letters)))
		answer, err := bufio.NewReader(d.in).ReadString('\n')
		if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
			return 0, errors.Join(errors.New("nothing was changed"), ignoreEOF(err))
		}
	}
	return from.Redrive(ctx, d.query)
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func count(n int) string {
	if n == 1 {
		return "1 dead letter"
	}
	return fmt.Sprintf("%d dead letters", n)
}
