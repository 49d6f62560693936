// Command millrace receives events, keeps them on disk and delivers them. See README.md; `millrace help` lists the commands.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(realMain()) }

// realMain is main for the tests of scripts too, which run it in a process of its own.
func realMain() int {
	ctx, stop := withSignals(context.Background(), os.Exit)
	defer stop()
	return execute(ctx, standard(), os.Args[1:])
}

// withSignals ends the context at the first SIGINT or SIGTERM, for an orderly stop. The second one ends the process at once,
// with 128 and the signal's number, as a shell would report it.
func withSignals(parent context.Context, exit func(int)) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	got := make(chan os.Signal, 2)
	signal.Notify(got, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := range got {
			if ctx.Err() != nil {
				n, _ := s.(syscall.Signal)
				exit(128 + int(n))
				return
			}
			cancel(fmt.Errorf("%s received", s))
		}
	}()
	return ctx, func() {
		signal.Stop(got)
		close(got)
		<-done
		cancel(nil)
	}
}

// The exit codes of every command.
const (
	exitFailure     = 1  // it did not work
	exitUsage       = 2  // the command line is wrong
	exitFindings    = 3  // validate, test or fsck found something
	exitUnreachable = 4  // no running instance, or its outbox is in use
	exitConfig      = 78 // run got a configuration that it cannot run
)

// exit is an error with the code to end with. err may be nil when what there is to say was said.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

// execute runs one command line and returns the exit code.
func execute(ctx context.Context, s streams, args []string) int {
	root := newRoot(s)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var e *exit
	if !errors.As(err, &e) { // cobra's own: it did not come as far as a command
		e = &exit{exitUsage, fmt.Errorf("%w\nmillrace help lists the commands, millrace help COMMAND its flags", err)}
	}
	if e.err != nil {
		say(s.err, "millrace: %v\n", e.err)
	}
	return e.code
}

// say writes to a terminal or a pipe. An error there has nobody left to hear it.
func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
