// Command bench measures Millrace against floors on the machine that it runs on; see docs/performance.md. `make bench`
// builds both and runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/millrace-run/millrace/bench/internal/floor"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// settings are what the command line says.
type settings struct {
	binary   string
	run      *regexp.Regexp
	runs     int
	duration time.Duration
	outage   time.Duration
	events   int
	backlogs []int
	logSize  int
	format   string
	to       string
	temp     string
	long     bool
}

func parse(args []string, stderr io.Writer) (settings, error) {
	s := settings{run: regexp.MustCompile(""), backlogs: []int{1_000_000, 5_000_000}}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&s.binary, "binary", "bin/millrace", "the program to measure")
	f.Func("run", "measure the cases whose name matches this `regexp`", func(text string) (err error) {
		s.run, err = regexp.Compile(text)
		return err
	})
	f.IntVar(&s.runs, "n", 0, "runs of each case and its floor; 0 is 5, or 1 of the long ones")
	f.DurationVar(&s.duration, "d", 3*time.Second, "how long a run sends")
	f.BoolVar(&s.long, "long", false, "measure the long cases in place of the others")
	f.IntVar(&s.events, "events", 10_000_000, "events that the long cases store first")
	f.DurationVar(&s.outage, "outage", time.Minute, "how long a sink is down in the long cases")
	f.Func("backlogs", "sizes of the backlog cases, the `list` with commas (default 1000000,5000000)", func(text string) (err error) {
		s.backlogs, err = integers(text)
		return err
	})
	f.IntVar(&s.logSize, "log", 1000, "size of the logs that the log cases read, in `megabytes`")
	f.StringVar(&s.format, "o", "table", "what to print: table, json or markdown")
	f.StringVar(&s.to, "to", "", "print into this `file` in place of the standard output")
	f.StringVar(&s.temp, "temp", "", "make the temporary folder in this `folder`: its disk is measured")
	if err := f.Parse(args); err != nil {
		return s, err
	}
	if f.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if formats[s.format] == nil {
		return s, fmt.Errorf("-o %s: want table, json or markdown", s.format)
	}
	if s.duration < 100*time.Millisecond || s.runs < 0 || s.events < 1 || s.logSize < 1 || s.outage <= 0 {
		return s, errors.New("-d is at least 100ms; -events, -log and -outage are more than 0; -n is not negative")
	}
	if s.runs == 0 {
		s.runs = 5
		if s.long {
			s.runs = 1
		}
	}
	return s, nil
}

func integers(text string) (all []int, err error) {
	for field := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is no number of events", field)
		}
		all = append(all, n)
	}
	return all, nil
}

// run is main without the process. With the first argument floor it is the bare server that the others are compared with.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	if len(args) == 2 && args[0] == "floor" {
		l, err := net.Listen("tcp", args[1])
		if err != nil {
			return err
		}
		return floor.HTTP(ctx, l)
	}
	s, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if s.binary, err = filepath.Abs(s.binary); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b := &bench{settings: s, self: self, progress: stderr}
	if b.dir, err = os.MkdirTemp(s.temp, "bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	report, failed := b.measure(ctx)
	text, err := formats[s.format](report)
	if err != nil {
		return err
	}
	if s.to != "" {
		return errors.Join(os.WriteFile(s.to, text, 0o644), failed)
	}
	_, err = stdout.Write(text)
	return errors.Join(err, failed)
}
