package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/millrace-run/millrace/app/lab"
	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/outbox"
)

// Dev is a run for development: the pipelines of a file with sinks that reach nobody, an outbox of its own, and listeners on
// loopback. Source, Out and Logger must be set.
type Dev struct {
	Source  Source
	Keep    bool // go on with the events and files of the run before
	Reload  bool // start again whenever the file was saved without a mistake
	Out     io.Writer
	Color   bool // of what is written to Out
	Logger  *slog.Logger
	Version string
	Clock   event.Clock // nil: the machine's

	// Started is called whenever everything runs: once, and after each reload. notes are what is not as the file has it. May be nil.
	Started func(s Started, notes []string)
	// Found is called with what is wrong with a file that was saved, and with warnings. May be nil.
	Found func(Report)

	printer *lab.Printer
	own     ownWebhooks
	tallies tallies
	notes   []string
	seen    fingerprint // of the files that run
}

// The places below the working directory that a run for development writes to, and nothing else.
const (
	DevFolder = ".millrace"
	DevOutbox = DevFolder + "/dev.db"
	DevFiles  = DevFolder + "/dev"
)

// InvalidError says that the file cannot be run; nothing was opened.
type InvalidError struct{ Report Report }

// Error counts what there is to correct.
func (e *InvalidError) Error() string {
	return fmt.Sprintf("%d to correct, nothing was started", e.Report.Errors())
}

// Run runs until ctx ends, which is an orderly stop (nil), or until it cannot go on. It returns what it did in either case, in
// the order of the pipelines. It may be called once.
func (d *Dev) Run(ctx context.Context) ([]Tally, error) {
	if d.Clock == nil {
		d.Clock = event.SystemClock{}
	}
	d.printer = lab.NewPrinter(d.Out, d.Color, func() time.Time { return d.Clock.Now().Local() })
	receivers, err := lab.Receive(ctx, d.printer, d.Logger, d.own.onward)
	if err != nil {
		return nil, err
	}
	defer func() {
		now, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		receivers.Close(now)
	}()
	plan, err := d.first(receivers)
	if err != nil {
		return nil, err
	}
	if err := d.prepare(); err != nil {
		return nil, err
	}
	err = d.generations(ctx, plan)
	return d.tallies.all, err
}

// first loads the file for the first time.
func (d *Dev) first(receivers *lab.Receivers) (*Plan, error) {
	files, err := filepath.Abs(DevFiles)
	if err != nil {
		return nil, err
	}
	d.Source.Logger = d.Logger
	d.Source.Detour = &Detour{Folder: files, Dial: receivers.Dial, Roots: receivers.Roots(), Stored: d.printer.Stored, Row: d.printer.Row, Out: d.Out, Color: d.Color}
	if d.Reload { // else the path may be one that can be read once only
		d.seen = fingerprintOf(d.Source.Path)
	}
	return d.load()
}

// load reads the file. Its error is an *InvalidError.
func (d *Dev) load() (*Plan, error) {
	plan, report := Load(d.Source)
	if d.Found != nil && report.Text() != "" {
		d.Found(report)
	}
	if plan == nil {
		return nil, &InvalidError{report}
	}
	return plan, nil
}

// prepare makes the folder, without what the run before left there unless that is wanted. The outbox goes first: while another
// process has it, nothing is deleted.
func (d *Dev) prepare() error {
	if err := os.MkdirAll(DevFolder, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(DevFolder, ".gitignore"), []byte("*\n"), 0o600); err != nil {
		return err
	}
	if d.Keep {
		return nil
	}
	err := outbox.Remove(DevOutbox)
	var locked *outbox.LockedError
	switch {
	case errors.As(err, &locked):
		return fmt.Errorf("%w: another millrace dev runs in this folder; stop it, or go to another folder", err)
	case err != nil:
		return err
	}
	return os.RemoveAll(DevFiles)
}

// generations runs a plan, then the next one, until ctx ends.
func (d *Dev) generations(ctx context.Context, plan *Plan) error {
	var before *Plan
	for {
		started, next, err := d.generation(ctx, plan)
		switch {
		case err != nil && !started && before != nil:
			d.Logger.Error("the new file cannot be run, the one before goes on", "err", err)
			plan, before = before, nil
		case err != nil || next == nil:
			return err
		default:
			plan, before = next, plan
		}
	}
}

// generation runs one plan until ctx ends or the next plan is there.
func (d *Dev) generation(ctx context.Context, plan *Plan) (started bool, next *Plan, err error) {
	if err := d.adapt(ctx, plan); err != nil {
		return false, nil, err
	}
	run, stop := context.WithCancel(ctx)
	defer stop()
	watched := make(chan *Plan, 1)
	go func() {
		watched <- d.watch(run)
		stop()
	}()
	err = Run(run, Options{
		Plan: plan, Logger: d.Logger, Version: d.Version,
		Started: func(s Started) {
			started = true
			if d.Started != nil {
				d.Started(s, d.notes)
			}
		},
		Stopped: d.tallies.add,
	})
	stop()
	next = <-watched
	if ctx.Err() != nil {
		next = nil
	}
	return started, next, err
}

// tallies are the sums of all generations, in the order in which they came.
type tallies struct{ all []Tally }

func (t *tallies) add(some []Tally) {
	for _, s := range some {
		k := 0
		for k < len(t.all) && (t.all[k].Pipeline != s.Pipeline || t.all[k].Sink != s.Sink) {
			k++
		}
		if k == len(t.all) {
			t.all = append(t.all, Tally{Pipeline: s.Pipeline, Sink: s.Sink})
		}
		t.all[k].Received += s.Received
		t.all[k].Duplicates += s.Duplicates
		t.all[k].Delivered += s.Delivered
		t.all[k].DeadLetters += s.DeadLetters
		t.all[k].Lost += s.Lost
	}
}
