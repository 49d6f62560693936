package main

import (
	"github.com/spf13/cobra"

	"github.com/millrace-run/millrace/app"
)

func (c *command) validateCommand() *cobra.Command {
	strict := false
	cmd := &cobra.Command{
		Use:     "validate",
		Aliases: []string{"lint"},
		Short:   "Check the configuration and say everything that is wrong with it",
		Args:    cobra.NoArgs,
		RunE:    action(func(*cobra.Command, []string) error { return c.validate(strict) }),
	}
	c.configFlags(cmd)
	c.outputFlag(cmd)
	cmd.Flags().BoolVar(&c.allowUnset, "allow-unset", false, "take variables that are not set as empty, such as in CI")
	cmd.Flags().BoolVar(&strict, "strict", false, "warnings are findings too")
	return cmd
}

// validate prints to stdout, because the findings are its result. It opens nothing that the configuration names.
func (c *command) validate(strict bool) error {
	src := c.source()
	src.Tests = true
	plan, report := app.Load(src)
	if c.output == "json" {
		if err := rows(c, report.Rows()...); err != nil {
			return err
		}
	} else {
		say(c.out, "%s", report.Text())
		if plan != nil {
			say(c.out, "%s: ok, %s\n", c.config, describe(plan))
			for _, line := range append(app.Outline(plan), app.Matches(plan)...) {
				say(c.out, "  %s\n", line)
			}
		}
	}
	if plan == nil || strict && report.Warnings() > 0 {
		return &exit{code: exitFindings}
	}
	return nil
}
