package file

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/millrace-run/millrace/event"
)

// reader is a Source at work. It has no goroutine.
type reader struct {
	*Source
	emit    func(context.Context, event.Batch) error
	entries map[identity][]*entry // those with one identity differ by device
	waiting map[string]waiting    // files that may still change, by path
	pending event.Changes         // what is to be committed with the next batch
	told    map[string]string     // by path, what was told last
	round   int
	looked  time.Duration // what the last look took
}

// waiting is a file that may still change.
type waiting struct {
	info
	since time.Time
	round int
}

// found is a file that can be read. entry is nil for one that was never begun.
type found struct {
	path  string
	info  info
	entry *entry
}

// turn looks once and reads all that is ready. Its error is that of emit.
func (r *reader) turn(ctx context.Context) error {
	begun := r.clock.Now()
	ready := r.look(begun)
	r.looked = r.clock.Now().Sub(begun)
	for _, f := range ready {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.read(ctx, f); err != nil {
			return err
		}
	}
	if len(r.pending) == 0 {
		return nil
	}
	return r.commit(ctx, event.Batch{})
}

// look compares what is there with what is known, and returns the files that can be read, the oldest first.
func (r *reader) look(now time.Time) (ready []found) {
	r.round++
	paths, whole := r.list()
	files := 0
	for _, path := range paths {
		fi, err := os.Stat(path)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				r.trouble(path, "a file cannot be looked at", err)
			}
			continue
		}
		in, err := infoOf(fi)
		if err != nil {
			continue // a folder or a pipe is nothing to read
		}
		files++
		if f, ok := r.consider(now, path, in); ok {
			ready = append(ready, f)
		}
	}
	if files == 0 && r.round == 1 {
		r.log.Warn("there is no file yet that the path names", "path", r.settings.glob)
	}
	for path, w := range r.waiting {
		if w.round != r.round {
			delete(r.waiting, path)
		}
	}
	if whole {
		r.forget(now)
	}
	slices.SortFunc(ready, func(a, b found) int {
		return cmp.Or(cmp.Compare(a.info.MTime, b.info.MTime), cmp.Compare(a.path, b.path))
	})
	return slices.DeleteFunc(ready, secondName())
}

// secondName says whether a file was asked about before, under another name.
func secondName() func(found) bool {
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	return func(f found) bool {
		n := inode{f.info.dev, f.info.Ino}
		before := seen[n]
		seen[n] = true
		return before
	}
}

// consider says whether a file can be read now.
func (r *reader) consider(now time.Time, path string, in info) (found, bool) {
	if e := r.known(path, in); e != nil {
		if e.round == r.round {
			return found{}, false // another name of the same file
		}
		e.round, e.gone = r.round, time.Time{}
		if e.Phase == reading {
			return found{path, in, e}, true
		}
		if e.Owed {
			r.settle(e, path)
		}
		return found{}, false
	}
	w, ok := r.waiting[path]
	if !ok || w.identity != in.identity || w.dev != in.dev {
		w = waiting{info: in, since: now}
	}
	w.round = r.round
	r.waiting[path] = w
	if now.Sub(w.since) < r.settings.stable {
		return found{}, false
	}
	return found{path: path, info: in}, true
}

// known returns the entry of a file, nil if it is a new one.
func (r *reader) known(path string, in info) *entry {
	for _, e := range r.entries[in.identity] {
		// The number of a device may be another after the machine was started.
		if e.Dev != in.dev && (e.Path != path || e.round == r.round) {
			continue
		}
		if e.CTime == in.ctime && in.ctime != 0 && e.Dev == in.dev {
			return e
		}
		if same, err := hasHead(path, e.Head); err == nil && !same {
			continue
		}
		// In memory only: at the next start the comparison is made again.
		e.CTime, e.Dev = in.ctime, in.dev
		return e
	}
	return nil
}

func hasHead(path, head string) (bool, error) {
	f, err := open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	h, err := headOf(f)
	return h == head, err
}

// list returns the paths of the files. whole is false if some may be missing because a folder could not be read.
func (r *reader) list() (paths []string, whole bool) {
	whole = true
	paths, err := doublestar.FilepathGlob(r.settings.glob, doublestar.WithNoHidden(), doublestar.WithFailOnIOErrors())
	if err == nil {
		err = unreadable(r.settings.base)
	}
	if err != nil {
		whole = false
		if !errors.Is(err, fs.ErrNotExist) {
			r.trouble(r.settings.glob, "a folder cannot be read", err)
		}
		paths, _ = doublestar.FilepathGlob(r.settings.glob, doublestar.WithNoHidden())
	} else {
		delete(r.told, r.settings.glob)
	}
	paths = slices.DeleteFunc(paths, r.aside)
	return paths, whole
}

// unreadable says why a folder cannot be listed.
func unreadable(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	_, err = f.Readdirnames(1)
	_ = f.Close()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// aside says whether a file lies where the source itself puts files.
func (r *reader) aside(path string) bool {
	for _, f := range []fate{r.settings.then, r.settings.failed} {
		if f.folder != "" && strings.HasPrefix(path, strings.TrimSuffix(f.folder, "/")+"/") && !strings.HasPrefix(r.settings.base+"/", f.folder+"/") {
			return true
		}
	}
	return false
}

// forgetAfter is how long a file must be gone before it is forgotten: a disk that is away for a while does not make its files new.
const forgetAfter = time.Hour

// forget forgets the files that are gone.
func (r *reader) forget(now time.Time) {
	for _, same := range r.entries {
		for _, e := range slices.Clone(same) {
			switch {
			case e.round == r.round:
			case e.gone.IsZero():
				e.gone = now
				if e.Phase == reading {
					r.counts.lost.Add(1)
					r.log.Error("a file is gone, or was changed, before it was read to its end", "path", e.Path, "records", e.At.Records)
				}
			case now.Sub(e.gone) >= forgetAfter:
				r.drop(e)
			}
		}
	}
	for path := range r.told {
		if path != r.settings.glob && !exists(path) {
			delete(r.told, path)
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// drop forgets a file with the next commit.
func (r *reader) drop(e *entry) {
	r.pending[e.Seed] = nil
	left := slices.DeleteFunc(r.entries[e.identity], func(x *entry) bool { return x == e })
	if r.entries[e.identity] = left; len(left) == 0 {
		delete(r.entries, e.identity)
	}
}

// commit commits events together with all that is pending.
func (r *reader) commit(ctx context.Context, b event.Batch) error {
	b.State = r.pending
	if err := r.emit(ctx, b); err != nil {
		return err
	}
	r.pending = event.Changes{}
	return nil
}

// trouble tells once what the system does not let us do with a file or folder.
func (r *reader) trouble(path, what string, err error) {
	text := what + ": " + err.Error()
	if r.told[path] == text {
		return
	}
	r.told[path] = text
	r.counts.problems.Add(1)
	r.log.Error(what+", it is tried again", "path", path, "err", err)
}

// open opens a regular file. A path may have become a pipe since it was listed; opening that must not wait for a writer.
func open(path string) (*os.File, error) {
	return os.OpenFile(filepath.Clean(path), os.O_RDONLY|nonblock, 0)
}
