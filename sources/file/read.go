package file

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec/records"
)

const nonblock = syscall.O_NONBLOCK

// maxWindow bounds what unpacking takes of the memory. zstd needs no more unless it was told to (--long).
const maxWindow = 32 << 20

// read reads a file to its end, or as far as it can be read. Its error is that of a commit or of ctx.
func (r *reader) read(ctx context.Context, f found) error {
	delete(r.waiting, f.path)
	disk, err := open(f.path)
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			r.trouble(f.path, "a file cannot be opened", err)
		}
		return nil
	}
	defer disk.Close()
	w := &work{reader: r, path: f.path, entry: f.entry, info: f.info, disk: disk}
	w.raw = &stream{File: disk, check: func() error { return context.Cause(ctx) }}
	if w.changed() {
		return nil // the next look sees what it is now
	}
	if w.entry == nil {
		head, err := headOf(disk)
		if err != nil {
			r.trouble(f.path, "a file cannot be read", err)
			return nil
		}
		w.entry = newEntry(f.path, f.info, head)
	}
	return w.run(ctx)
}

// work is the reading of one file.
type work struct {
	*reader
	path  string
	info  info
	entry *entry
	disk  *os.File
	raw   *stream

	events []event.Event
	size   int   // of their data
	first  int64 // the number of the first of them
}

// stream is a file that remembers what the system said, since those who unpack hide it, and that hears when the process stops.
type stream struct {
	*os.File
	check func() error
	err   error
}

// Read is that of the file.
func (s *stream) Read(p []byte) (int, error) {
	if s.err = s.check(); s.err != nil {
		return 0, s.err
	}
	n, err := s.File.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// changed says whether the file is no longer what it was when it was seen.
func (w *work) changed() bool {
	fi, err := w.disk.Stat()
	if err != nil {
		return true
	}
	in, err := infoOf(fi)
	return err != nil || in.identity != w.info.identity || in.dev != w.info.dev
}

// run reads records and commits them.
func (w *work) run(ctx context.Context) error {
	from, release, err := w.begin()
	if err != nil {
		return w.stopped(ctx, w.entry.At, err)
	}
	defer release()
	w.first = w.entry.At.Records
	source := sourceOf(w.entry.Path)
	for {
		rec, err := from.Next()
		if err != nil {
			return w.stopped(ctx, from.Position(), err)
		}
		w.events = append(w.events, event.Event{Source: source, Type: recordType, DataContentType: rec.ContentType, Data: rec.Data})
		w.size += len(rec.Data)
		if len(w.events) >= w.limits.events || w.size >= w.limits.bytes {
			if err := w.settleUpTo(ctx, from.Position(), reading); err != nil {
				return err
			}
		}
	}
}

// begin opens the records of the file, behind those that were committed.
func (w *work) begin() (from *records.Reader, release func(), err error) {
	release = func() {}
	o, ok := w.settings.options(w.entry.Path)
	if !ok {
		return nil, release, &records.Fault{Err: fmt.Errorf("the suffix %q names no format: set format", filepath.Ext(w.entry.Path))}
	}
	var src io.Reader = w.raw
	switch _, packing := unpacked(w.entry.Path); packing {
	case gzipSuffix:
		if src, err = gzip.NewReader(bufio.NewReaderSize(w.raw, 64<<10)); errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // nothing at all is no gzip
		}
	case zstdSuffix:
		var z *zstd.Decoder
		z, err = zstd.NewReader(w.raw, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err == nil {
			src, release = struct{ io.Reader }{z}, z.Close
		}
	}
	if err == nil {
		from, err = records.New(src, o, w.entry.At)
	}
	if err != nil {
		release()
		release = func() {}
	}
	return from, release, err
}

// stopped ends the reading with the reason why there is no further record.
func (w *work) stopped(ctx context.Context, at records.Position, reason error) error {
	var fault *records.Fault
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case w.raw.err != nil:
		w.trouble(w.path, "a file cannot be read", w.raw.err)
		return nil
	case w.changed():
		// What it is now is another file. What was committed of this one stays; the rest of it is in no file any more.
		w.log.Warn("a file was changed while it was read; it will be read as a new one", "path", w.path, "records", w.entry.At.Records)
		return nil
	case errors.Is(reason, io.EOF):
		if err := w.settleUpTo(ctx, at, done); err != nil {
			return err
		}
		w.counts.files.Add(1)
		w.log.Info("a file was read", "path", w.path, "records", at.Records)
	default:
		if !errors.As(reason, &fault) {
			reason = fmt.Errorf("it cannot be unpacked: %w", reason)
		}
		if err := w.settleUpTo(ctx, at, failed); err != nil {
			return err
		}
		w.counts.failed.Add(1)
		w.log.Error("a file has failed, what was read of it stays", "path", w.path, "records", at.Records, "err", reason)
	}
	delete(w.told, w.path)
	if w.entry.Owed {
		w.settle(w.entry, w.path)
	}
	return nil
}

// settleUpTo commits the records that were read, with the position behind them and how far the source is with the file.
func (w *work) settleUpTo(ctx context.Context, at records.Position, p phase) error {
	next := w.entry.mark
	next.At, next.Phase = at, p
	next.Owed = p == done && !w.settings.then.keeps() || p == failed && !w.settings.failed.keeps()
	w.pending[next.Seed] = next.encode()
	b := event.Batch{Events: w.events}
	if len(w.events) > 0 {
		b.Complete = next.naming(w.first)
	}
	if err := w.commit(ctx, b); err != nil {
		return err
	}
	w.entry.mark = next
	w.entry.round = w.round
	w.know()
	w.events, w.size, w.first = make([]event.Event, 0, len(w.events)), 0, at.Records
	return nil
}

// know puts the entry among those of the reader.
func (w *work) know() {
	same := w.entries[w.entry.identity]
	for _, e := range same {
		if e == w.entry {
			return
		}
	}
	w.entries[w.entry.identity] = append(same, w.entry)
}

// shapeData makes the data of an event that stands in a test what it would be of a record: in lines and whole files a JSON string is
// the text.
func (s *Source) shapeData(e *event.Event) {
	var text string
	switch o, _ := s.settings.options(s.settings.glob); {
	case (o.Format == records.Lines || o.Format == records.Whole) && json.Unmarshal(e.Data, &text) == nil:
		e.DataContentType, e.Data = "text/plain", []byte(text)
	default:
		e.DataContentType = "application/json"
	}
}
