package tail

import (
	"cmp"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"time"
)

// look compares what is known with what is there. Afterwards ready holds every file that may have something to read.
func (e *engine) look(now time.Time) {
	e.hurry = false
	l := &listing{engine: e, now: now, folders: map[string]map[inode]entry{}, failed: map[string]bool{}}
	found, err := e.list()
	if err != nil {
		e.problem(now, "the folder cannot be listed", e.glob, err)
	}
	if len(found) == 0 && !e.looked {
		e.log.Warn("there is no file yet that the path names", "path", e.glob)
	}
	e.looks++
	e.byPath = make(map[string]*file, len(found))
	fresh := l.bind(found)
	for _, f := range e.files {
		if f.round != e.looks && !f.gone {
			l.search(f)
		}
	}
	e.begin(fresh, now)
	e.watchable(found)
	e.files = slices.DeleteFunc(e.files, func(f *file) bool { return f.gone })
	e.arrange(now)
	for _, f := range e.files {
		e.consider(f, now)
	}
	if !e.started {
		e.started = true
		e.changes[startedKey] = []byte("1")
	}
	e.looked = true
}

// list is what the pattern names. A rename during a listing may hide a file, and a younger one would be read before it. So if
// there is a file that is not known, it lists again until two listings agree, a few times at most.
func (e *engine) list() ([]entry, error) {
	found, err := e.disk.glob(e.glob)
	for range 5 {
		if !slices.ContainsFunc(found, func(x entry) bool { return e.byInode[x.inode] == nil }) {
			break
		}
		var again []entry
		again, err = e.disk.glob(e.glob)
		same := slices.EqualFunc(found, again, func(a, b entry) bool { return a.path == b.path && a.inode == b.inode })
		if found = again; same {
			break
		}
	}
	return found, err
}

// listing is one look.
type listing struct {
	*engine
	now     time.Time
	folders map[string]map[inode]entry // what was found in folders, listed once
	failed  map[string]bool            // folders that could not be listed
	rotated map[inode]entry
}

// bind finds out which entries are files that are known, and returns the others.
func (l *listing) bind(found []entry) (fresh []entry) {
	seen := make(map[inode]bool, len(found))
	// A file that has two names keeps the one that it had.
	for _, x := range found {
		if f := l.byInode[x.inode]; f != nil && f.Path == x.path {
			l.meet(f, x, true)
			seen[x.inode] = true
		}
	}
	for _, x := range found {
		f := l.byInode[x.inode]
		switch {
		case seen[x.inode]:
			if f != nil {
				l.byPath[x.path] = f
			}
			continue
		case f == nil && l.isRotated(x.path):
			continue
		case f == nil:
			f = l.renumbered(x)
		}
		seen[x.inode] = true
		if f == nil {
			fresh = append(fresh, x)
		} else {
			l.meet(f, x, true)
		}
	}
	return fresh
}

// renumbered finds a file that is the same but for the number of its device, which may be another after the machine was started.
func (l *listing) renumbered(x entry) *file {
	if l.looked {
		return nil
	}
	for _, f := range l.files {
		if f.Ino == x.ino && f.Dev != x.dev && f.Path == x.path && f.round != l.looks && f.Offset > 0 {
			delete(l.byInode, f.node())
			f.Dev = x.dev
			l.byInode[f.node()] = f
			l.keep(f)
			return f
		}
	}
	return nil
}

// meet notes where a file is.
func (l *listing) meet(f *file, x entry, in bool) {
	if f.Path != x.path || f.in != in {
		f.grew = l.now
	}
	if f.grew.IsZero() {
		f.grew = l.now
	}
	f.round, f.in, f.on, f.absent, f.last = l.looks, in, true, 0, x.info
	if filepath.Dir(f.Path) != filepath.Dir(x.path) {
		l.settle(f, x.path)
	}
	if f.Path != x.path {
		f.Path = x.path
		l.keep(f)
	}
	f.moved = f.Path != f.Name
	l.byPath[x.path] = f
	// A file whose position is where it ends is compared too: it may be another of the same length.
	if x.size != f.readTo() || !x.changed.Equal(f.changed) {
		l.queue(f)
	}
	if x.size != f.readTo() {
		f.over = false
	}
}

// search looks for a file that the glob does not name any more: by its inode in the folder where it was, and among the rotated
// ones; if it is found nowhere and is not open, by its content.
func (l *listing) search(f *file) {
	folder := filepath.Dir(f.Path)
	x, ok := l.inFolder(folder)[f.node()]
	if !ok {
		x, ok = l.inRotated()[f.node()]
	}
	if ok && l.byInode[f.node()] == f {
		l.meet(f, x, false)
		return
	}
	if f.in || f.grew.IsZero() {
		f.grew = l.now
	}
	f.in, f.on = false, false
	if f.handle != nil {
		l.queue(f)
		return
	}
	if !l.absent(f, folder) {
		return
	}
	// A rename between two listings may hide a file once.
	if f.absent++; f.absent < 2 {
		l.hurry = true
		return
	}
	if l.recover(f, l.now) {
		f.round = l.looks
		return
	}
	l.lose(f, "it is gone")
	l.drop(f)
}

// absent says whether a file that was not found is really not there: its folder could be listed and is the one in which it was
// seen, not one over which another file system is to be mounted.
func (l *listing) absent(f *file, folder string) bool {
	if l.failed[folder] {
		return false
	}
	dev, err := l.disk.device(folder)
	if err != nil || dev != f.Folder {
		l.problem(l.now, "a file cannot be looked for: its folder is not there", f.Path, err)
		return false
	}
	return true
}

func (l *listing) inFolder(folder string) map[inode]entry {
	if known, ok := l.folders[folder]; ok {
		return known
	}
	list, err := l.disk.folder(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.failed[folder] = true
		l.problem(l.now, "the folder cannot be listed", folder, err)
	}
	l.folders[folder] = byInode(list)
	return l.folders[folder]
}

func (l *listing) inRotated() map[inode]entry {
	if l.rotated == nil {
		l.rotated = map[inode]entry{}
		if l.settings.rotated != "" {
			list, err := l.disk.glob(l.settings.rotated)
			if err != nil {
				l.problem(l.now, "the folder cannot be listed", l.settings.rotated, err)
			}
			l.rotated = byInode(list)
		}
	}
	return l.rotated
}

func byInode(list []entry) map[inode]entry {
	all := make(map[inode]entry, len(list))
	for _, x := range list {
		if _, ok := all[x.inode]; !ok {
			all[x.inode] = x
		}
	}
	return all
}

// lose counts what of a file can no longer be read.
func (e *engine) lose(f *file, why string) {
	if f.Size <= f.Offset {
		return
	}
	e.tell.losses.Add(1)
	e.tell.lost.Add(f.Size - f.Offset)
	e.log.Error("a part of a file was lost before it could be read", "path", f.Path, "from", f.Offset, "to", f.Size, "reason", why)
}

// begin takes up files that were not known. One that is empty is taken up when something is in it: until then there is nothing
// to tell it by.
func (e *engine) begin(fresh []entry, now time.Time) {
	slices.SortStableFunc(fresh, func(a, b entry) int { return cmp.Or(a.changed.Compare(b.changed), cmp.Compare(b.path, a.path)) })
	for _, x := range fresh {
		if x.size == 0 {
			continue
		}
		f := e.create(x, x.path, now)
		if e.fromEnd && !e.started {
			e.toEnd(f, now)
		}
	}
}

func (e *engine) create(x entry, name string, now time.Time) *file {
	f := &file{source: sourceOf(name), grew: now, in: true, on: true, round: e.looks}
	f.Path, f.Name, f.Dev, f.Ino, f.Size = x.path, name, x.dev, x.ino, x.size
	f.moved, f.last = x.path != name, x.info
	e.settle(f, x.path)
	e.add(f)
	e.byPath[x.path] = f
	e.queue(f)
	return f
}

// settle notes the device of the folder in which a file is.
func (e *engine) settle(f *file, path string) {
	if dev, err := e.disk.device(filepath.Dir(path)); err == nil {
		f.Folder = dev
	}
}

// consider queues a file if time has made something of it a record.
func (e *engine) consider(f *file, now time.Time) {
	if !f.on && f.handle == nil {
		return // there is nothing that could be read
	}
	waited := now.Sub(f.grew)
	if f.held && waited >= e.timeout {
		e.queue(f)
	}
	if !f.over && (!f.in || f.moved) && waited >= idle {
		f.end = true
		e.queue(f)
	}
}

// deadline is when the first held record must go; false: none is held.
func (e *engine) deadline() (at time.Time, ok bool) {
	for _, f := range e.files {
		if t := f.grew.Add(e.timeout); f.held && !f.gone && (!ok || t.Before(at)) {
			at, ok = t, true
		}
	}
	return at, ok
}

// expire queues the files whose held records must go.
func (e *engine) expire(now time.Time) {
	for _, f := range e.files {
		if f.held && now.Sub(f.grew) >= e.timeout {
			e.queue(f)
		}
	}
}

// watchable notes the folders in which something may happen.
func (e *engine) watchable(found []entry) {
	folders := map[string]bool{baseOf(e.glob): true}
	e.targets = map[string]bool{}
	for _, x := range found {
		folders[filepath.Dir(x.path)] = true
		if x.link {
			if target, err := filepath.EvalSymlinks(x.path); err == nil {
				folders[filepath.Dir(target)], e.targets[filepath.Dir(target)] = true, true
			}
		}
	}
	e.folders = e.folders[:0]
	for f := range folders {
		e.folders = append(e.folders, f)
	}
	slices.Sort(e.folders)
}
