package console

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Output is where the console sinks of a process write. Several may use it at the same time.
type Output struct {
	to       writer
	terminal bool
	color    bool
	now      func() time.Time // its location is that of the times which are shown
	turn     chan struct{}    // holds a value while somebody writes
	torn     bool             // the last line has no end; held with turn
}

// writer writes all of b unless it returns an error. It returns when ctx ends.
type writer interface {
	write(ctx context.Context, b []byte) (int, error)
}

// NewOutput writes to a file such as os.Stdout. It opens and changes nothing. color is whether a terminal is written to in color.
func NewOutput(f *os.File, color bool) *Output {
	return newOutput(fileWriter{f}, term.IsTerminal(int(f.Fd())), color)
}

// NewPlainOutput writes to w for a person, as to a terminal. What w takes without an error was delivered.
func NewPlainOutput(w io.Writer, color bool) *Output { return newOutput(plainWriter{w}, true, color) }

func newOutput(w writer, terminal, color bool) *Output {
	return &Output{to: w, terminal: terminal, color: color && terminal, now: time.Now, turn: make(chan struct{}, 1)}
}

// write writes text, which ends a line, and returns how much of it was written.
func (o *Output) write(ctx context.Context, text []byte) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, context.Cause(ctx)
	}
	select {
	case o.turn <- struct{}{}:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	defer func() { <-o.turn }()
	if o.torn { // what was torn must not become part of another line
		if _, err := o.to.write(ctx, []byte("\n")); err != nil {
			return 0, err
		}
		o.torn = false
	}
	n, err := o.to.write(ctx, text)
	o.torn = n > 0 && text[n-1] != '\n'
	return n, err
}

type plainWriter struct{ io.Writer }

func (w plainWriter) write(_ context.Context, b []byte) (int, error) { return w.Write(b) }

// fileWriter writes to a file that may be a pipe whose reader is slow. Such a write hears no context, so it writes no more at once
// than a pipe takes that says it takes something. It does not use File.Write, because Go ends the process when standard output is a
// pipe that nobody reads any more; here that is an error like another.
type fileWriter struct{ *os.File }

// portion is what a pipe that is ready takes without waiting: its PIPE_BUF.
func portion() int {
	if runtime.GOOS == "linux" {
		return 4096
	}
	return 512
}

func (w fileWriter) write(ctx context.Context, b []byte) (written int, err error) {
	fd := int(w.Fd())
	most := len(b)
	if fi, err := w.Stat(); err != nil || !fi.Mode().IsRegular() {
		most = portion()
	}
	for written < len(b) {
		if err := await(ctx, fd); err != nil {
			return written, err
		}
		n, err := unix.Write(fd, b[written:min(len(b), written+most)])
		written += max(n, 0)
		switch {
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN):
		case err != nil:
			return written, err
		}
	}
	return written, nil
}

// lookAgain is how often the end of a context is looked for while a pipe is full.
const lookAgain = 50 // milliseconds

// await waits until fd takes something, or can say why not.
func await(ctx context.Context, fd int) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}} //nolint:gosec // descriptors are small
		n, err := unix.Poll(fds, lookAgain)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n > 0:
			return nil
		}
	}
}
