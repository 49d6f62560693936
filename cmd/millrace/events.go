package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace-run/millrace/app"
)

func (c *command) eventsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "events",
		Aliases: []string{"event"},
		Short:   "What became of an event",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.eventsShowCommand())
	return cmd
}

func (c *command) eventsShowCommand() *cobra.Command {
	f := &finder{command: c}
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show where an event is, and how it stands with every sink",
		Long: `Shows every event with this id that is still stored, and how it stands with each sink: pending, settled, retry (it waits for
another attempt), dead, or not_owed (it came while the configuration did not name the sink). One that is settled and was delivered
has its receipts: the attempt that succeeded, what the destination answered, how long it took, and when. One without a receipt was
not wanted by the sink, was there before the sink, or its receipt made room for newer ones.`,
		Example: "  millrace events show 0198c5a2-7d1e-7c3a-9a52-3f1f6f0f6a11\n  millrace events show o-1 -o json",
		Args:    cobra.ExactArgs(1),
		RunE:    action(func(cmd *cobra.Command, args []string) error { return f.showEvent(cmd.Context(), args[0]) }),
	}
	f.flags(cmd)
	return cmd
}

// eventPlaces is how many places one command shows at most.
const eventPlaces = 1000

func (f *finder) showEvent(ctx context.Context, id string) error {
	if id == "" {
		return &exit{exitUsage, errors.New("say which: the id of an event, as millrace send prints it")}
	}
	from, err := f.open(ctx)
	if err != nil {
		return err
	}
	places, err := from.Events(ctx, id, eventPlaces)
	if err := errors.Join(err, from.Close()); err != nil {
		return err
	}
	if f.output == "json" {
		err = rows(f.command, places...)
	} else if len(places) > 0 {
		err = table(f.out, placeLines(places))
	}
	if err == nil && len(places) == 0 {
		err = fmt.Errorf("no event with the id %q is stored (any more)", id)
	}
	return errors.Join(err, faultsOf(places))
}

// faultsOf is what could not be read: the answer may lack something, and whoever asked should know.
func faultsOf(places []app.Place) error {
	for _, p := range places {
		if p.Fault != "" {
			return fmt.Errorf("not everything could be read: %s", p.Fault)
		}
	}
	return nil
}

func placeLines(places []app.Place) [][]string {
	lines := [][]string{{"PIPELINE", "OFFSET", "RECEIVED", "SINK", "STATE", "ATTEMPT", "STATUS", "TOOK", "AT", "ERROR"}}
	for _, p := range places {
		for _, d := range p.Deliveries {
			if d.Sink == "" {
				d.Sink = "(stages)"
			}
			head := []string{p.Topic, strconv.FormatInt(p.Offset, 10), moment(p.ReceivedAt), d.Sink, d.State}
			for _, r := range d.Receipts {
				took := (time.Duration(r.Millis) * time.Millisecond).String()
				lines = append(lines, lineOf(head, strconv.Itoa(r.Attempt), statusText(r.Status), took, moment(&r.At), ""))
			}
			if len(d.Receipts) == 0 || d.LastError != "" {
				lines = append(lines, lineOf(head, attemptText(d.Attempts), statusText(d.Status), "-", moment(d.LastAt), d.LastError))
			}
		}
	}
	return lines
}

// lineOf is a line of its own, whose head others share.
func lineOf(head []string, rest ...string) []string {
	return append(head[:len(head):len(head)], rest...)
}

func attemptText(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}
