package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/millrace-run/millrace/app"
)

func (c *command) fsckCommand() *cobra.Command {
	f := &finder{command: c}
	repair := ""
	cmd := &cobra.Command{
		Use:   "fsck [PATH]",
		Short: "Look for damage in the file of an outbox",
		Long: `Reads all of an outbox, or of a backup, that no instance uses, and names each damage: the table, the topic, the offsets of its
events, the rows. It changes nothing. --repair writes a new file of all that is whole; what fsck names is what that lacks.
Ends with 0 when there is no damage and with 3 when there is.`,
		Example: "  millrace fsck\n  millrace fsck /backups/millrace-2026-11-20.db -o json\n  millrace fsck --repair data/repaired.db",
		Args:    cobra.MaximumNArgs(1),
		RunE:    action(func(cmd *cobra.Command, args []string) error { return f.fsck(cmd.Context(), args, repair) }),
	}
	f.configFlags(cmd)
	f.outputFlag(cmd)
	cmd.Flags().StringVar(&repair, "repair", "", "write a new file of what can be saved")
	return cmd
}

func (f *finder) fsck(ctx context.Context, args []string, repair string) error {
	path, err := f.fileOf(args)
	if err != nil {
		return err
	}
	r, err := app.Fsck(ctx, path, repair)
	if err != nil && (r == nil || len(r.Damages) == 0) {
		return unreachableExit(err)
	}
	if f.output == "json" {
		err = errors.Join(err, rows(f.command, r.Damages...))
	} else if len(r.Damages) > 0 {
		err = errors.Join(err, table(f.out, damageLines(r.Damages)))
	}
	if err != nil {
		return err
	}
	if len(r.Damages) == 0 {
		say(f.err, "%s has no damage: %d events up to commit %d\n", path, r.Events, r.Commits)
	}
	if repair != "" {
		say(f.err, "%s has what can be saved: %d events\n", repair, r.Events)
	}
	if len(r.Damages) > 0 {
		return &exit{exitFindings, fmt.Errorf("%s has %s", path, r.Count())}
	}
	return nil
}

// fileOf is the file that was named, else the outbox of the file of pipelines.
func (f *finder) fileOf(args []string) (string, error) {
	if len(args) == 1 {
		return args[0], nil
	}
	plan, err := f.plan()
	if err != nil {
		return "", err
	}
	if plan.Outbox.SQLite == nil {
		return "", errors.New("the outbox of this file is in memory only; give the path of a file")
	}
	return plan.Outbox.SQLite.Path, nil
}

func damageLines(damages []app.Damage) [][]string {
	lines := [][]string{{"TABLE", "TOPIC", "EVENTS", "ROWS", "DAMAGE"}}
	for _, d := range damages {
		events, topic := "-", "-"
		switch {
		case d.From > 0 && d.From == d.To:
			events = strconv.FormatInt(d.From, 10)
		case d.From > 0:
			events = fmt.Sprintf("%d-%d", d.From, d.To)
		}
		if d.Topic != "" {
			topic = d.Topic
		}
		lines = append(lines, []string{d.Table, topic, events, strconv.FormatInt(d.Rows, 10), d.What})
	}
	return lines
}
