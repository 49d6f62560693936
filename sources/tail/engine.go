package tail

import (
	"log/slog"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/millrace-run/millrace/event"
)

// limits bound what the engine holds.
type limits struct {
	open   int   // files open at once, at least 1
	chunk  int   // bytes of one read, and of one file's turn
	events int   // of a batch: as many as fit into one segment of the log
	bytes  int   // of a batch; a larger record goes alone
	turn   int64 // bytes that are read for one batch, whatever becomes of them
}

var usual = limits{open: 256, chunk: 256 << 10, events: 4096, bytes: 1 << 20, turn: 16 << 20}

// idle is how long a file that was rotated or deleted stays as it is before it counts as finished: its writer may have it open.
const idle = 5 * time.Second

// engine decides what is read from where. It has no goroutine and no clock: every call says what time it is, and it reaches the
// file system through disk only. Its methods are called by one goroutine.
//
// What it answers, in the order of its answers, is what is to be committed: next returns events together with the positions
// behind them. An engine that is made of the state after any one of these commits goes on behind it.
type engine struct {
	settings
	limits
	disk disk
	log  *slog.Logger
	tell *counts

	files   []*file // all that are known
	byInode map[inode]*file
	byPath  map[string]*file     // of the last look
	ready   []*file              // those that may have something to read, in turn
	changes event.Changes        // to be committed with the next batch
	started bool                 // the state says that files were looked for before
	looked  bool                 // look was called
	hurry   bool                 // something changed that only a look can tell
	folders []string             // to be watched
	targets map[string]bool      // folders to which symlinks lead
	open    int                  // handles
	uses    uint64               // counts reads
	looks   uint64               // counts looks
	folds   map[string]time.Time // when a problem was last told
	hint    int                  // how many events the next batch may have, by the last one
	scratch []byte               // of the look for a line's end; no event holds it
	spare   [][]byte             // rooms that nobody uses any more, for what is read next
	last    *batch               // that next made
}

func newEngine(s settings, d disk, log *slog.Logger, tell *counts, state map[string][]byte) (*engine, error) {
	e := &engine{
		settings: s, limits: usual, disk: d, log: log, tell: tell, byInode: map[inode]*file{}, changes: event.Changes{},
		folds: map[string]time.Time{}, started: len(state) > 0,
	}
	for _, key := range slices.Sorted(maps.Keys(state)) {
		if key == startedKey {
			continue
		}
		m, err := decodeMark(state[key])
		if err != nil {
			return nil, &stateError{key, err}
		}
		f := &file{identity: identityOf(key), mark: m, source: sourceOf(m.Name)}
		e.add(f)
	}
	return e, nil
}

type stateError struct {
	key string
	err error
}

func (s *stateError) Error() string {
	return "the position " + s.key + " cannot be read: " + s.err.Error()
}
func (s *stateError) Unwrap() error { return s.err }

// file is a file that is followed. Its mark is where the engine is, which is ahead of what is committed.
type file struct {
	identity         // the zero identity until its first bytes were read
	mark             //
	source   string  // of its events
	before   string  // the key of the file that its inode held before
	mark16   [2]byte // its first bytes, which say the byte order of UTF-16

	handle handle
	used   uint64 // when it was last read, in uses
	buf    []byte // read from the file, and not yet taken: it begins at Offset. Events hold parts of it, so it is never written again
	room   []byte // what buf is a part of
	want   int    // how much to read at once, when a record is larger than a chunk

	scanned int64     // no line ends in [Offset, scanned); valid if it is behind Offset
	changed time.Time // of the file, when its beginning was last compared
	grew    time.Time // when it was last seen to grow, or to be elsewhere than before
	held    bool      // whole lines wait for their record to end

	round   uint64 // the look that saw it last
	in      bool   // the glob names it
	on      bool   // some path is known to lead to it
	absent  int    // looks in a row that found it nowhere
	reborn  bool   // its inode belongs to a file that was made later
	last    info   // as it was listed
	moved   bool   // it is not where it was first seen
	end     bool   // it is finished: what is left is a record
	over    bool   // its rest was taken, and nothing was written since
	queued  bool
	gone    bool // no longer among files
	touched bool // it is among the files of the batch that is gathered
	first   bool // its order among its kin is not decided
	sure    bool // it was compared since somebody began to wait for it
	yields  bool // nobody waits for it: it cannot be read, or became shorter
	wait    *file
	waitFor int64 // how far wait must be read before
}

func (f *file) node() inode { return inode{f.Dev, f.Ino} }

// read is how far the file was looked at.
func (f *file) readTo() int64 { return max(f.Offset, f.scanned) }

func (e *engine) add(f *file) {
	f.first = true
	e.files = append(e.files, f)
	e.byInode[f.node()] = f
}

// drop forgets a file: its position is deleted.
func (e *engine) drop(f *file) {
	e.close(f)
	f.gone, f.buf, f.held = true, nil, false
	if e.byInode[f.node()] == f {
		delete(e.byInode, f.node())
	}
	if f.text != "" {
		e.changes[f.text] = nil
	}
}

// keep commits where a file is, though nothing more of it was read.
func (e *engine) keep(f *file) {
	if f.text != "" {
		e.changes[f.text] = f.mark.encode()
	}
}

// sourceOf writes a path as a URI reference.
func sourceOf(path string) string {
	parts := strings.Split(filepath.ToSlash(path), "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return strings.Join(parts, "/")
}

// queue puts a file at the end of those that may have something to read.
func (e *engine) queue(f *file) {
	if !f.queued && !f.gone {
		f.queued = true
		e.ready = append(e.ready, f)
	}
}

// touch says that something happened at a path: its content changed, or it came or went.
func (e *engine) touch(path string, content bool) {
	if f := e.byPath[path]; f != nil && content {
		e.queue(f)
		return
	}
	// Other files in these folders may be written to all the time.
	if !compressed(path) && (!content || e.follows(path) || e.targets[filepath.Dir(path)]) {
		e.hurry = true
	}
}

// next takes what can be read now, up to a batch, fairly from all files that have something. It returns false when there is
// nothing to commit and nothing more to read.
func (e *engine) next(now time.Time) (event.Batch, bool) {
	b := &batch{limits: e.limits}
	blocked := 0
	for len(e.ready) > blocked && !b.full() {
		f := e.ready[0]
		e.ready = e.ready[1:]
		f.queued = false
		switch {
		case f.gone:
		case e.waits(f):
			f.queued = true
			e.ready = append(e.ready, f)
			blocked++
		default:
			if e.read(f, b, now) {
				blocked = 0
			}
		}
	}
	return e.seal(b)
}

// seal adds the positions to a batch.
func (e *engine) seal(b *batch) (event.Batch, bool) {
	for _, f := range b.files {
		f.touched = false
		if !f.gone {
			e.keep(f)
		}
	}
	if len(b.spans) == 0 && len(e.changes) == 0 {
		return event.Batch{}, false
	}
	e.hint = min(len(b.spans)+len(b.spans)/8, e.limits.events)
	e.last = b
	out := event.Batch{State: e.changes}
	if len(b.spans) > 0 {
		r := b.records()
		out.Count, out.Make, out.Complete = len(b.spans), r.make, r.complete
	}
	e.changes = event.Changes{}
	e.tell.lines.Add(int64(out.Count))
	e.tell.bytes.Add(int64(b.size))
	return out, true
}

// recycle lets what was read for the last batch be written again: nobody has parts of it. What is not yet taken of a room keeps it.
func (e *engine) recycle() {
	for i := range e.last.pieces {
		room := e.last.pieces[i].room
		kept := func(f *file) bool { return f.buf != nil && &f.room[0] == &room[0] }
		if cap(room) == e.chunk+tailSize && len(e.spare) < spares && !slices.ContainsFunc(e.ready, kept) {
			e.spare = append(e.spare, room)
		}
	}
	e.last = nil
}

// busy says that there is something to read.
func (e *engine) busy() bool {
	for _, f := range e.ready {
		if !e.waits(f) {
			return true
		}
	}
	return false
}

// problem tells of something that went wrong at a path, the same at most once a minute.
func (e *engine) problem(now time.Time, text, path string, err error) {
	key := text + "\x00" + path
	if last, ok := e.folds[key]; ok && now.Sub(last) < time.Minute {
		return
	}
	if len(e.folds) >= 1000 {
		clear(e.folds)
	}
	e.folds[key] = now
	e.tell.problems.Add(1)
	e.log.Warn(text, "path", path, "err", err)
}
