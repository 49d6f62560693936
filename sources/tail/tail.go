// Package tail follows files as they are written and rotated. Each line is one event, and it is emitted together with the
// position behind it, so that both are committed or neither is: no line is repeated and none is left out, whatever ends the
// process.
//
// A file is known by its device and inode and by the digest of its first bytes, up to 1 KiB of those that were there when it was
// first read. What its position is known by, beside that, is the digest of the bytes before it. Both are compared at each
// read, so that a file that was truncated and grew again, an inode that is used again, and another file at the same path are
// noticed whatever their size. A file that is renamed goes on where it was.
//
// The engine (engine.go) decides what is read; it has no goroutine and no clock. Source drives it: one goroutine reads and
// makes batches, Run emits them in their order, so that the next batch is read while one is committed.
package tail

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"sync/atomic"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/millrace-run/millrace/event"
)

// Emit commits a batch: events and the positions behind them.
type Emit = func(context.Context, event.Batch) ([]string, error)

// Source follows the files that a pattern names. Open and Run must not be called at the same time.
type Source struct {
	settings settings
	clock    event.Clock
	log      *slog.Logger
	disk     disk
	watch    func(*slog.Logger) *watch
	state    map[string][]byte
	opened   bool
	running  atomic.Bool
	counts   counts
	prepare  func(event.Batch) (event.Prepared, error) // nil: batches are emitted as they are
}

// New checks the settings and opens nothing. Relative paths start at the working directory of this moment. Its error joins one
// *event.KeyError for each fault.
func New(c Config, options ...Option) (*Source, error) {
	s := &Source{clock: event.SystemClock{}, log: slog.New(slog.DiscardHandler), disk: systemDisk{}, watch: newWatch}
	var err error
	if s.settings, err = c.check(); err != nil {
		return nil, err
	}
	for _, o := range options {
		o(s)
	}
	return s, nil
}

// Open takes the committed positions. It must be called before each Run, since what a Run emitted without hearing of its end
// may or may not be committed. save is not needed: positions are committed with the lines.
func (s *Source) Open(_ context.Context, state map[string][]byte, _ func(context.Context, event.Changes) error) error {
	if _, err := newEngine(s.settings, s.disk, s.log, &s.counts, state); err != nil {
		return err
	}
	s.state, s.opened = state, true
	return nil
}

// Ahead has prepare called with each batch before its turn to be emitted comes. It must be called before Run, if at all.
func (s *Source) Ahead(prepare func(event.Batch) (event.Prepared, error)) { s.prepare = prepare }

// Counts is what the source has done so far. It may be called at any time.
func (s *Source) Counts() Counts { return s.counts.read() }

// Path is the pattern of the files, absolute.
func (s *Source) Path() string { return s.settings.glob }

// Shape makes an event that stands in a test one of this source: what it does not name is as in the event of a line, and its data,
// if that is a JSON string, is the line. An event that names its content type keeps its data.
func (s *Source) Shape(e *event.Event) {
	if e.Type == "" {
		e.Type = lineType
	}
	if e.Source == "" {
		e.Source = sourceOf(s.settings.glob)
	}
	if e.DataContentType != "" {
		return
	}
	e.DataContentType = "text/plain"
	var line string
	if json.Unmarshal(e.Data, &line) == nil {
		e.Data = []byte(line)
	}
}

// The pauses of Run.
const (
	lookEvery = time.Second           // between two looks when nothing is announced
	lookLeast = 20 * time.Millisecond // between two looks
	lookShare = 20                    // a look that took long is not repeated for so many times as long
)

// Run follows the files until ctx ends, and returns nil then. While the log is full or busy it waits and tries the same batch
// again. After any other failure of emit it returns it: what is committed is not known then, so the source must be opened again.
func (s *Source) Run(ctx context.Context, emit Emit) error {
	if !s.running.CompareAndSwap(false, true) {
		return errors.New("the source is already running")
	}
	defer s.running.Store(false)
	if !s.opened {
		return errors.New("the source was not opened")
	}
	s.opened = false
	e, err := newEngine(s.settings, s.disk, s.log, &s.counts, s.state)
	if err != nil {
		return err
	}
	reading, stop := context.WithCancel(ctx)
	f := &follower{engine: e, clock: s.clock, watch: s.watch(s.log), prepare: s.prepare, batches: make(chan event.Batch)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer stop()
		defer f.watch.close()
		defer e.closeAll()
		f.follow(reading)
	}()
	err = s.emitAll(reading, emit, f.batches)
	stop()
	<-ended
	switch {
	case f.fault != nil:
		return f.fault
	case err == nil:
		s.last(ctx, emit, f.held)
	case ctx.Err() != nil:
		return nil // nothing may be committed behind a batch that was not
	}
	return err
}

// lastMost is how long the last position waits for the log.
const lastMost = time.Second

// last commits a position behind lines of which nothing was left and that waits for company. Without it they would only be read
// again, so it is not insisted on.
func (s *Source) last(ctx context.Context, emit Emit, held *held) {
	if held == nil || held.Prepared.Len() > 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastMost)
	defer cancel()
	_, _ = emit(ctx, held.Batch)
}

// emitAll emits batches until ctx ends between two of them (nil), or one is not committed.
func (s *Source) emitAll(ctx context.Context, emit Emit, batches <-chan event.Batch) error {
	for {
		select {
		case b := <-batches:
			if err := s.emit(ctx, emit, b); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// emit commits one batch, however long that takes.
func (s *Source) emit(ctx context.Context, emit Emit, b event.Batch) error {
	return event.Insist(ctx, s.clock, func() error {
		_, err := emit(ctx, b)
		return err
	}, func(err error) { s.log.Warn("the outbox takes no lines, the files wait", "err", err) })
}

// follower drives an engine.
type follower struct {
	*engine
	clock event.Clock
	watch *watch

	prepare func(event.Batch) (event.Prepared, error) // nil: batches are handed out as they are
	batches chan event.Batch
	held    *held // prepared and not yet handed out; nil for none
	fault   error // why a batch could not be prepared

	next  time.Time // of the next look, if nothing hurries
	least time.Time // before which there is none
}

// follow reads and hands out batches until ctx ends or there is a fault.
func (f *follower) follow(ctx context.Context) {
	for ctx.Err() == nil && f.fault == nil {
		now := f.clock.Now()
		f.watch.tell(f.engine)
		f.lookAt(now)
		f.expire(now)
		b, ok := f.engine.next(now)
		switch {
		case ok && f.prepare == nil:
			f.handOut(ctx, b)
		case ok:
			f.fault = f.hold(ctx, b, now)
		case f.held != nil:
			f.release(ctx)
		case !f.busy():
			f.wait(ctx, now)
		}
	}
}

func (f *follower) handOut(ctx context.Context, b event.Batch) {
	select {
	case f.batches <- b:
	case <-ctx.Done():
	}
}

// held is what was prepared while another batch was committed, or what is only a position: a batch joined from several. All of it
// is one commit.
type held struct {
	event.Batch
	bytes int64     // read for it
	since time.Time // when the first of it was read
}

// Of a log of which nothing is left, positions alone are committed. Nobody waits for them, and a crash costs no more than to read
// again what lies behind the last: so they are committed at most so often, or after so many bytes.
const (
	heldTime  = 100 * time.Millisecond
	heldBytes = 64 << 20
)

// hold prepares a batch and joins it to what is held. That is handed out as soon as somebody wants it, if it is more than a
// position; and waited with when it is as large as a batch may be.
func (f *follower) hold(ctx context.Context, b event.Batch, now time.Time) error {
	read := f.last.bytes
	prepared, err := f.prepare(b)
	if err != nil {
		return err
	}
	if prepared.Own() {
		f.recycle()
	}
	h := f.held
	if h == nil {
		h = &held{Batch: event.Batch{State: b.State, Prepared: prepared}, since: now}
		f.held = h
	} else {
		maps.Copy(h.State, b.State)
		h.Prepared.Join(prepared)
	}
	h.bytes += read
	n := h.Prepared.Len()
	switch {
	case n >= f.limits.events || h.Prepared.Size() >= f.limits.bytes || h.bytes >= heldBytes:
		f.release(ctx)
	case n > 0 || now.Sub(h.since) >= heldTime:
		select {
		case f.batches <- h.Batch:
			f.held = nil
		default:
		}
	}
	return nil
}

// release hands out what is held.
func (f *follower) release(ctx context.Context) {
	select {
	case f.batches <- f.held.Batch:
		f.held = nil
	case <-ctx.Done():
	}
}

// lookAt looks if it is time.
func (f *follower) lookAt(now time.Time) {
	if now.Before(f.least) || now.Before(f.next) && !f.hurry {
		return
	}
	f.look(now)
	f.watch.follow(f.folders)
	after := f.clock.Now()
	took := after.Sub(now)
	f.least = after.Add(max(lookLeast, lookShare*took))
	f.next = after.Add(max(lookEvery, lookShare*took))
}

// wait waits until something happens or time makes a difference.
func (f *follower) wait(ctx context.Context, now time.Time) {
	until := f.next
	if f.hurry {
		until = f.least
	}
	if at, ok := f.deadline(); ok && at.Before(until) {
		until = at
	}
	timer, release := f.clock.After(until.Sub(now))
	defer release()
	select {
	case <-timer:
	case <-f.watch.signal:
	case <-ctx.Done():
	}
}

// baseOf is the folder that a pattern begins with.
func baseOf(pattern string) string {
	base, _ := doublestar.SplitPattern(pattern)
	return base
}

// follows says whether the glob names a path.
func (s *settings) follows(path string) bool {
	ok, err := doublestar.PathMatch(s.glob, path)
	return err == nil && ok && !s.isRotated(path)
}

// isRotated says whether a path is that of a rotated file.
func (s *settings) isRotated(path string) bool {
	if s.rotated == "" {
		return false
	}
	ok, err := doublestar.PathMatch(s.rotated, path)
	return err == nil && ok
}
