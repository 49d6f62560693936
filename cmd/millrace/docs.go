package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/millrace-run/millrace/app"
)

func (c *command) docsCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "docs CODE",
		Short:   "Explain a code that validate prints",
		Example: "  millrace docs E0101",
		Args:    cobra.ExactArgs(1),
		RunE: action(func(_ *cobra.Command, args []string) error {
			text, ok := app.Explain(args[0])
			if !ok {
				return &exit{exitUsage, fmt.Errorf("there is no code %q; validate prints codes such as E0101", args[0])}
			}
			say(c.out, "%s\n", text)
			return nil
		}),
	}
}
