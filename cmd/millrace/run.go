package main

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace-run/millrace/app"
)

func (c *command) runCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the pipelines until SIGTERM or SIGINT; a second signal ends at once",
		Args:  cobra.NoArgs,
		RunE:  action(func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context()) }),
	}
	c.configFlags(cmd)
	c.logFlags(cmd)
	return cmd
}

// run prints findings to stderr and opens neither a port nor the outbox when there is an error among them.
func (c *command) run(ctx context.Context) error {
	logger := c.logger()
	logLibraries(logger)
	src := c.source()
	src.Logger = logger
	plan, report := app.Load(src)
	say(c.err, "%s", report.Text())
	if plan == nil {
		return &exit{exitConfig, fmt.Errorf("%s cannot be run: %d to correct, nothing was started", c.config, report.Errors())}
	}
	out := c.out
	if app.WritesOut(plan) {
		out = c.err // standard output has the events and nothing else
	}
	tune(plan)
	return app.Run(ctx, app.Options{
		Plan: plan, Logger: logger, Version: versionOf(),
		Started: func(s app.Started) { say(out, "%s", banner(s)) },
	})
}

// logLibraries sends what libraries write with the package log to logger, for those who debug: net/http reports there what a
// destination sent out of turn, as text of its own between the lines of ours.
func logLibraries(logger *slog.Logger) {
	log.SetFlags(0)
	log.SetOutput(slog.NewLogLogger(logger.Handler(), slog.LevelDebug).Writer())
}

// banner says where everything is, and what to paste to see it work.
func banner(s app.Started) string {
	return "Millrace runs.\n\n" + places(s) + invitation(s)
}

// places is where everything is, a line each.
func places(s app.Started) string {
	var b strings.Builder
	label := "webhooks"
	width := 0
	for _, w := range s.Webhooks {
		width = max(width, len(w.URL))
	}
	for _, w := range s.Webhooks {
		fmt.Fprintf(&b, "  %-9s %s %-*s  → %s\n", label, w.Method, width, w.URL, w.Pipeline)
		label = ""
	}
	fmt.Fprintf(&b, "  %-9s %s\n", "console", s.Console)
	fmt.Fprintf(&b, "  %-9s %s\n", "events", s.Data)
	return b.String()
}

// invitation says what to paste, and how to end it.
func invitation(s app.Started) string {
	text := "\nCtrl-C stops it in order.\n"
	if len(s.Webhooks) > 0 {
		text = "\nSend an event:\n\n  " + curl(s.Webhooks[0]) + "\n" + text
	}
	return text
}

// curl is a command that any shell takes as it stands.
func curl(w app.Webhook) string {
	return fmt.Sprintf("curl -i %s -H %s -d %s", quote(w.URL), quote("Content-Type: "+w.ContentType), quote(w.Example))
}

func quote(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:/.-_") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// describe counts what a plan holds.
func describe(plan *app.Plan) string {
	stages, sinks := 0, 0
	for _, p := range plan.Pipelines {
		stages, sinks = stages+len(p.Stages), sinks+len(p.Sinks)
	}
	plural := func(n int, word string) string {
		if n == 1 {
			return "1 " + word
		}
		return fmt.Sprintf("%d %ss", n, word)
	}
	return plural(len(plan.Pipelines), "pipeline") + ", " + plural(stages, "stage") + ", " + plural(sinks, "sink")
}
