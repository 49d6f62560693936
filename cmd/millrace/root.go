package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/millrace-run/millrace/app"
)

// streams are what a command reads and writes. Color and Ask are false where nobody is there to see.
type streams struct {
	in       io.Reader
	out, err io.Writer
	env      func(string) (string, bool)
	outColor bool // out is a terminal that shows colors
	errColor bool // err is one
	ask      bool // in is a terminal: a person can be asked
}

func standard() streams {
	isTerminal := func(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
	colors := os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return streams{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.LookupEnv,
		outColor: colors && isTerminal(os.Stdout),
		errColor: colors && isTerminal(os.Stderr),
		ask:      isTerminal(os.Stdin),
	}
}

// heed reads standard input, which hears no context, until ctx ends. The read is left behind then: nothing but more input can
// end it, and the process is about to.
func heed[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := read()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// command is what all subcommands share.
type command struct {
	streams
	config     string
	allowUnset bool
	output     string
	logFormat  string
	logLevel   string
}

func newRoot(s streams) *cobra.Command {
	c := &command{streams: s}
	root := &cobra.Command{
		Use:           "millrace",
		Short:         "An event router: webhooks in, on disk, delivered to every sink",
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.AddCommand(c.runCommand(), c.devCommand(), c.sendCommand(), c.consumeCommand(), c.validateCommand(), c.testCommand(), c.initCommand(), c.deadLettersCommand(), c.eventsCommand(), c.subscriptionsCommand(), c.backupCommand(), c.restoreCommand(), c.fsckCommand(), c.docsCommand(), c.versionCommand())
	return root
}

// action is the body of a command: an error without an exit code of its own is a failure.
func action(f func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := f(cmd, args)
		var e *exit
		if err == nil || errors.As(err, &e) {
			return err
		}
		return &exit{exitFailure, err}
	}
}

func (c *command) configFlags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&c.config, "config", "c", "./pipelines.yaml", "file of pipelines, or folder of such files")
}

// source is the configuration that the flags name.
func (c *command) source() app.Source {
	return app.Source{Path: c.config, AllowUnset: c.allowUnset, Env: c.env}
}

func (c *command) outputFlag(cmd *cobra.Command) {
	cmd.Flags().VarP(oneOf(&c.output, "table", "json"), "output", "o", "how to print: table or json")
}

// rows prints what -o json asks for: one array on one line, and nothing else on stdout.
func rows[T any](c *command, all ...T) error {
	e := json.NewEncoder(c.out)
	e.SetEscapeHTML(false)                 // a terminal is no page, and > is easier to look for than \u003e
	return e.Encode(append([]T{}, all...)) // [] and not null
}

func (c *command) logFlags(cmd *cobra.Command) {
	cmd.Flags().Var(oneOf(&c.logFormat, "text", "json"), "log-format", "how to write the log to stderr: text or json")
	cmd.Flags().Var(oneOf(&c.logLevel, "info", "debug", "warn", "error"), "log-level", "the least that is logged: debug, info, warn or error")
}

func (c *command) logger() *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.logLevel)); err != nil {
		level = slog.LevelInfo // not reached: the flag takes names of levels only
	}
	if c.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(c.err, &slog.HandlerOptions{Level: level}))
	}
	return slog.New(tint.NewTextHandler(c.err, &tint.Options{Level: level, TimeFormat: "15:04:05.000", NoColor: !c.errColor}))
}

// choice is a flag that takes one of a few words; the first is the default.
type choice struct {
	value *string
	words []string
}

func oneOf(value *string, words ...string) *choice {
	*value = words[0]
	return &choice{value, words}
}

// String is the present value.
func (c *choice) String() string { return *c.value }

// Type is what the help shows after the flag.
func (c *choice) Type() string { return "word" }

// Set takes one of the words.
func (c *choice) Set(s string) error {
	if !slices.Contains(c.words, s) {
		return fmt.Errorf("there are %s", strings.Join(c.words, ", "))
	}
	*c.value = s
	return nil
}
