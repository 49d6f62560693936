// Package floor holds what a benchmark compares with: the least that a program can do for the same load, without the promises or
// without the design.
package floor

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"
	"golang.org/x/sys/unix"
)

// HTTP is a bare net/http server: it reads each body, answers 202 and keeps nothing. It returns when ctx ends.
func HTTP(ctx context.Context, l net.Listener) error {
	buffers := sync.Pool{New: func() any { return new([32 << 10]byte) }}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := buffers.Get().(*[32 << 10]byte)
		defer buffers.Put(b)
		for {
			if _, err := r.Body.Read(b[:]); err == io.EOF {
				w.WriteHeader(http.StatusAccepted)
				return
			} else if err != nil {
				return
			}
		}
	})}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// File appends groups of bodies to a new plain file for a time, each group with one write and one fdatasync, and returns how many
// bodies that were.
func File(ctx context.Context, path string, body []byte, group int, d time.Duration) (n int, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	all := bytes.Repeat(body, group)
	for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; n += group {
		if _, err := f.Write(all); err != nil {
			return n, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return n, err
		}
	}
	return n, ctx.Err()
}

// SQLite is the version of the library that the floors and the outbox use.
func SQLite() string {
	version, _, _ := sqlite3.Version()
	return version
}
