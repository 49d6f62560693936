package storage

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"syscall"

	"github.com/millrace-run/millrace/event"
)

// maxNumber bounds how many names are tried for one path.
const maxNumber = 1000

// ready returns the entry that takes a path's lines, its file open and at its settled length. If the file had to be begun, the
// entry is in begun and counts only when its beginning is saved. Its error is a verdict.
func (s *Sink) ready(name string, begun map[string]*entry) (*entry, error) {
	if err := s.blocked(name); err != nil {
		return nil, s.verdict(name, err)
	}
	old := s.files[name]
	if old != nil && old.lost == "" {
		s.makeRoom(old)
		grown, err := old.examine(s.volume)
		s.track(old)
		if err != nil {
			return nil, s.verdict(name, err)
		}
		if s.strange(old) {
			return nil, event.Unavailable(fmt.Errorf("%s: it is in another form and could not be closed", s.absolute(old.at)))
		}
		if grown && old.Form == formatJSON {
			grown = false
			_ = old.lose("somebody added to it")
		}
		if old.lost == "" && !grown {
			return old, nil
		}
		s.report(old, grown)
		s.shut(old)
	}
	s.makeRoom(nil)
	e, err := s.begin(name, old, begun)
	if err != nil {
		return nil, s.verdict(name, err)
	}
	begun[name] = e
	s.track(e)
	return e, nil
}

// begin opens a file that takes a path's lines from now on. A path that the sink does not know, and a file to which somebody
// added, are continued behind their end. A path whose file was lost gets a new file, or an empty one, under the first name that
// is free.
func (s *Sink) begin(name string, old *entry, begun map[string]*entry) (*entry, error) {
	if old != nil && old.lost == "" {
		e, err := s.claim(name, old.at, true, begun)
		if e == nil && err == nil {
			err = errors.New("it belongs to another path by now")
		}
		if e != nil {
			e.Began = old.Began
		}
		return e, err
	}
	for n := range maxNumber {
		as := numbered(name, n)
		e, err := s.claim(name, as, old == nil && n == 0 && s.adopts(name), begun)
		if err != nil {
			return nil, err
		}
		if e != nil {
			if as != name {
				s.log.Warn("a file is begun under another name", "path", s.absolute(as))
			}
			return e, nil
		}
	}
	return nil, fmt.Errorf("this name and %d numbered ones are taken", maxNumber-1)
}

// adopts says whether a file that the sink does not know may be continued. A closed file never is, and where closing leaves a file
// its name any file may be one.
func (s *Sink) adopts(name string) bool { return !s.closes || s.renames && !isStamped(name) }

// claim opens or makes the file that has a name. It returns nil if the name is another path's, or if the file has content and
// continuing is not asked for.
func (s *Sink) claim(name, as string, proceed bool, begun map[string]*entry) (*entry, error) {
	if s.owned(name, func(e *entry) bool { return e.at == as }, begun) {
		return nil, nil
	}
	f, err := s.openOrCreate(as)
	if err != nil {
		if !proceed && isImpossible(err) && !errors.Is(err, syscall.ENOTDIR) && !errors.Is(err, syscall.ENAMETOOLONG) {
			return nil, nil // something that is no file has the name
		}
		return nil, err
	}
	e, err := s.claimFile(f, name, as, proceed, begun)
	if e == nil {
		err = errors.Join(err, f.Close())
	}
	return e, err
}

func (s *Sink) claimFile(f file, name, as string, proceed bool, begun map[string]*entry) (*entry, error) {
	in, err := f.info()
	if err != nil {
		return nil, err
	}
	if !in.regular && proceed {
		return nil, errNotRegular
	}
	same := func(e *entry) bool { return e.lost == "" && e.Ino == in.ino && e.Dev == in.dev && s.stands(e) }
	if !in.regular || in.size > 0 && !proceed || s.owned(name, same, begun) {
		return nil, nil
	}
	if fits, err := s.form.continues(f, in.size); err != nil || !fits {
		return nil, err
	}
	// What is there, the file itself and the names that lead to it are made durable before anything is said about them.
	if err := f.Sync(); err != nil {
		return nil, err
	}
	if err := s.syncFolders(path.Dir(as)); err != nil {
		return nil, err
	}
	tail, err := readTail(f, in.size)
	if err != nil {
		return nil, err
	}
	now := s.now()
	m := mark{Root: s.place.root, Name: path.Base(as), Dev: in.dev, Ino: in.ino, Length: in.size, Tail: hashOf(tail),
		Form: s.form.id, Began: now, Wrote: now}
	e := newEntry(name, m)
	e.file, e.tail = f, tail
	return e, nil
}

// owned says whether a file belongs to another path already: two templates or two ways of writing a name may lead to one file.
func (s *Sink) owned(name string, same func(*entry) bool, begun map[string]*entry) bool {
	for _, some := range []map[string]*entry{s.files, begun} {
		for _, e := range some {
			if e.path != name && same(e) {
				return true
			}
		}
	}
	return false
}

// stands says whether an entry's file is where it was. Where it is not, another file may have got its inode.
func (s *Sink) stands(e *entry) bool {
	in, err := s.volume.stat(e.at)
	return err == nil && e.is(in) || err != nil && !isMissing(err)
}

func (s *Sink) openOrCreate(name string) (file, error) {
	f, err := s.volume.create(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := s.makeFolders(path.Dir(name)); err != nil {
			return nil, err
		}
		f, err = s.volume.create(name)
	}
	if errors.Is(err, fs.ErrExist) {
		f, err = s.volume.open(name)
		if errors.Is(err, syscall.ENXIO) { // a socket, or a pipe that nobody reads
			err = errNotRegular
		}
	}
	return f, err
}

// makeFolders makes a folder below the root and those on the way to it.
func (s *Sink) makeFolders(name string) error {
	for i := range len(name) + 1 {
		if i < len(name) && name[i] != '/' {
			continue
		}
		if err := s.volume.mkdir(name[:i]); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// syncFolders syncs a folder and all on the way up to the root, including those that were there: who made them may have ended
// before it could sync them.
func (s *Sink) syncFolders(name string) error {
	for {
		if err := s.volume.syncFolder(name); err != nil {
			return err
		}
		if name == "." {
			return nil
		}
		name = path.Dir(name)
	}
}

// makeRoom closes the file that was not used for longest if no further one may be opened. Those of the current turn are still
// needed and stay open: they are fewer than may be, and no other was used more lately.
func (s *Sink) makeRoom(wanted *entry) {
	if len(s.opened) < s.limits.open || wanted != nil && wanted.file != nil {
		return
	}
	oldest := slices.MinFunc(s.opened, func(a, b *entry) int { return cmp.Compare(a.used, b.used) })
	s.shut(oldest)
}

// track notes that an entry is used now, and whether it is open.
func (s *Sink) track(e *entry) {
	e.used = s.turn
	at := slices.Index(s.opened, e)
	switch {
	case e.file != nil && at < 0:
		s.opened = append(s.opened, e)
	case e.file == nil && at >= 0:
		s.opened = slices.Delete(s.opened, at, at+1)
	}
}

func (s *Sink) shut(e *entry) {
	e.shut()
	if at := slices.Index(s.opened, e); at >= 0 {
		s.opened = slices.Delete(s.opened, at, at+1)
	}
}
