package tail

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"syscall"
	"time"
)

var (
	errMoved    = errors.New("another file is at its path")
	errReplaced = errors.New("what was read of it is not there any more")
)

// reach opens a file unless it is open.
func (e *engine) reach(f *file) error {
	e.uses++
	f.used = e.uses
	if f.handle != nil {
		return nil
	}
	for e.open >= e.limits.open && e.evict(e.open >= 2*e.limits.open) {
	}
	h, err := e.disk.open(f.Path)
	if err != nil {
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			e.evict(false)
		}
		return err
	}
	i, err := h.stat()
	if err == nil && i.inode != f.node() {
		err = errMoved
	}
	if err != nil {
		_ = h.Close()
		return err
	}
	f.handle = h
	e.open++
	born := h.born()
	f.reborn = f.text != "" && f.Born != 0 && born != 0 && born != f.Born
	if !f.reborn {
		f.Born = born
	}
	return nil
}

// evict closes the file that was not used for longest, of those that can be opened again; of all, if there are only others.
func (e *engine) evict(all bool) bool {
	var oldest *file
	for _, f := range e.files {
		if f.handle != nil && (f.on || all) && (oldest == nil || f.used < oldest.used) {
			oldest = f
		}
	}
	if oldest != nil {
		e.close(oldest)
	}
	return oldest != nil
}

func (e *engine) close(f *file) {
	if f.handle != nil {
		_ = f.handle.Close()
		f.handle = nil
		e.open--
	}
}

// closeAll closes every file.
func (e *engine) closeAll() {
	for _, f := range e.files {
		e.close(f)
	}
}

// compare finds out whether an open file is still the one whose beginning is known, and learns more of its beginning while it
// grows to headSize. errReplaced says that it is not.
func (e *engine) compare(f *file, i info) error {
	if f.reborn || i.size < f.Offset || i.size < int64(f.Head) {
		return errReplaced
	}
	var head [headSize]byte
	n, err := readUpTo(f.handle, head[:min(headSize, i.size)], 0)
	if err != nil {
		return err
	}
	if n < f.Head || f.Head > 0 && digestOf(head[:f.Head]) != f.HeadSum {
		return errReplaced
	}
	copy(f.mark16[:], head[:n])
	// An unfinished line may yet be taken back by its writer, so it is not what the file is known by.
	n = max(min(n, int(min(f.Offset, headSize))), bytes.LastIndexByte(head[:n], '\n')+1)
	if n > f.Head {
		f.Head, f.HeadSum = n, digestOf(head[:n])
	}
	return nil
}

// readUpTo is ReadAt for which the end of a file is no error.
func readUpTo(r io.ReaderAt, b []byte, at int64) (int, error) {
	n, err := r.ReadAt(b, at)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// begun gives a file its identity when it is read for the first time.
func (e *engine) begun(f *file, now time.Time) {
	if f.text == "" {
		f.identity = newIdentity(f.node(), f.HeadSum, f.before, now.UnixNano())
	}
}

// fetch reads the next bytes of a file behind its position, at most want, and returns them. With them it reads again the last
// bytes before the position: if they are not what they were, the file was written anew and grew beyond the position, and
// fetch returns errReplaced. room is what they are a part of.
func (e *engine) fetch(f *file, size int64, want int) (b, room []byte, err error) {
	back := min(f.Offset, tailSize)
	room = e.space(int(back + min(int64(want), size-f.Offset)))
	n, err := readUpTo(f.handle, room, f.Offset-back)
	if err != nil {
		return nil, nil, err
	}
	if int64(n) < back || back > 0 && digestOf(room[:back]) != f.TailSum {
		return nil, nil, errReplaced
	}
	return room[:n], room, nil
}

// spares is how many rooms wait to be used again.
const spares = 8

// space is room for n bytes. That of a usual read may be used again.
func (e *engine) space(n int) []byte {
	whole := e.chunk + tailSize
	if n <= whole/2 || n > whole {
		return make([]byte, n)
	}
	last := len(e.spare) - 1
	if last < 0 {
		return make([]byte, n, whole)
	}
	room := e.spare[last]
	e.spare = e.spare[:last]
	return room[:n]
}

// advance moves the position to the end of taken, which begins with the bytes before the old position that fetch read.
func (f *file) advance(taken []byte, n int) {
	f.Offset += int64(n)
	f.TailSum = digestOf(taken[max(0, len(taken)-tailSize):])
}

// replaced deals with an inode that holds another file than before: it was truncated, written anew or used again. What was not
// read of the old one may be in a copy.
func (e *engine) replaced(f *file, i info, now time.Time) {
	e.log.Info("a file was truncated or replaced", "path", f.Path, "read_to", f.Offset, "size", i.size)
	e.tell.replaced.Add(1)
	h, in, path := f.handle, f.in, f.Path
	f.handle = nil // it leads to the new file
	e.open--
	if e.byInode[f.node()] == f {
		delete(e.byInode, f.node())
	}
	if !e.recover(f, now) {
		e.lose(f, "the file was truncated or replaced, and there is no copy of it")
		e.drop(f)
	}
	if !in || i.size == 0 {
		_ = h.Close()
		return
	}
	g := e.create(entry{path: path, info: i}, path, now)
	g.handle, g.before, g.Born = h, f.text, h.born()
	e.open++
	g.used = e.uses
	for _, w := range e.files {
		if w.wait == f && f.gone {
			w.wait = g // it was the content at this path that it waits for
		}
	}
	e.arrange(now)
}

// recover looks for a copy of a file whose own content is gone, as copytruncate leaves it: beside it, with something behind its
// name, or among the rotated ones. The file goes on there.
func (e *engine) recover(f *file, now time.Time) bool {
	if f.Head == 0 {
		return false
	}
	for _, x := range e.copies(f) {
		if x.size < f.Offset || x.size < int64(f.Head) {
			continue
		}
		h, err := e.disk.open(x.path)
		if err != nil {
			continue
		}
		known := e.byInode[x.inode]
		if !e.isCopy(f, h, x) || known != nil && (known.handle != nil || e.isCopy(known, h, x)) {
			_ = h.Close()
			continue
		}
		if known != nil {
			known.in, known.on = false, false // its inode was used again
		}
		if e.byInode[f.node()] == f {
			delete(e.byInode, f.node())
		}
		f.Path, f.Dev, f.Ino, f.Size = x.path, x.dev, x.ino, x.size
		f.handle, f.buf, f.in, f.on, f.moved, f.absent, f.grew = h, nil, false, true, true, 0, now
		f.over, f.scanned, f.reborn, f.Born = false, 0, false, h.born()
		e.settle(f, x.path)
		e.keep(f)
		e.open++
		e.byInode[f.node()] = f
		e.log.Info("the rest of a file is read from a copy", "path", f.Path, "from", f.Offset, "to", x.size)
		e.queue(f)
		return true
	}
	return false
}

func (e *engine) isCopy(f *file, h handle, x entry) bool {
	i, err := h.stat()
	if err != nil || i.inode != x.inode {
		return false
	}
	head := make([]byte, f.Head)
	back := make([]byte, min(f.Offset, tailSize))
	n, err1 := readUpTo(h, head, 0)
	m, err2 := readUpTo(h, back, f.Offset-int64(len(back)))
	return err1 == nil && err2 == nil && n == f.Head && m == len(back) && digestOf(head) == f.HeadSum &&
		(m == 0 || digestOf(back) == f.TailSum)
}

// copies are the files that may be a copy of f. The glob names none of them: those are followed as files of their own.
func (e *engine) copies(f *file) []entry {
	folder := filepath.Dir(f.Path)
	list, err := e.disk.folder(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var all []entry
	for _, x := range list {
		if x.path != f.Path && (kin(f.Path, x.path) || kin(f.Name, x.path)) && !e.follows(x.path) {
			all = append(all, x)
		}
	}
	if e.settings.rotated != "" {
		list, err := e.disk.glob(e.settings.rotated)
		if err == nil {
			all = append(all, list...)
		}
	}
	return all
}

// unreadable tells of a file that cannot be read now. It is tried again at every look.
func (e *engine) unreadable(f *file, now time.Time, err error) {
	f.held = false
	e.close(f)
	f.changed = time.Time{}
	if errors.Is(err, errMoved) || errors.Is(err, fs.ErrNotExist) {
		e.hurry = true // it was renamed since the last look
		return
	}
	f.yields = true
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		err = fmt.Errorf("%w: this process may not open more files; raise its limit (ulimit -n)", err)
	}
	e.problem(now, "a file cannot be read", f.Path, err)
}
