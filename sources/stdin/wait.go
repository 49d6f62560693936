package stdin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// awaited reads a file that may be a terminal or a pipe, whose reads hear no context: it reads only when there is something to read,
// and waits for that together with the end of the context. The file itself is not changed, since others may have it open too.
type awaited struct {
	file  *os.File
	ended <-chan struct{}
	pause func() error // called before a wait
	wake  *os.File     // becomes readable when the context ends
}

// begin makes waits hear ctx; stop releases what that takes.
func (a *awaited) begin(ctx context.Context) (stop func(), err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	a.wake = r
	closed := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = w.Close()
	})
	return func() {
		if unhook() {
			_ = w.Close()
		} else {
			<-closed
		}
		_ = r.Close()
	}, nil
}

// Read is that of the file.
func (a *awaited) Read(p []byte) (int, error) {
	ready, err := a.poll(0)
	if err == nil && !ready {
		if err = a.pause(); err == nil {
			_, err = a.poll(-1)
		}
	}
	if err != nil {
		return 0, err
	}
	n, err := a.file.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("read standard input: %w", err)
	}
	return n, err
}

var errEnded = errors.New("the reading was ended")

// poll says whether there is something to read, an end too; it waits for that so many milliseconds, -1 for ever.
func (a *awaited) poll(wait int) (bool, error) {
	fds := []unix.PollFd{
		{Fd: int32(a.file.Fd()), Events: unix.POLLIN}, //nolint:gosec // descriptors are small
		{Fd: int32(a.wake.Fd()), Events: unix.POLLIN}, //nolint:gosec // as above
	}
	for {
		_, err := unix.Poll(fds, wait)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return false, fmt.Errorf("wait for standard input: %w", err)
		case fds[1].Revents != 0:
			return false, errEnded
		}
		return fds[0].Revents != 0, nil
	}
}
