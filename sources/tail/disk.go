package tail

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/bmatcuk/doublestar/v4"
)

// disk is what the engine needs of the operating system. Its methods are called by one goroutine.
type disk interface {
	// glob returns the regular files that a pattern names, sorted by path, symlinks followed, without compressed ones.
	glob(pattern string) ([]entry, error)
	// folder returns the regular files in a folder in the same way.
	folder(path string) ([]entry, error)
	// open opens a regular file for reading, without waiting for anything.
	open(path string) (handle, error)
	// device is the device of a folder, or of the nearest folder above it that exists.
	device(folder string) (uint64, error)
}

// handle is an open file.
type handle interface {
	io.ReaderAt
	stat() (info, error)
	// born is when the file was made, in nanoseconds; 0 when that is not known.
	born() int64
	Close() error
}

// inode is what the operating system knows a file by, as long as it exists.
type inode struct{ dev, ino uint64 }

type info struct {
	inode
	size    int64
	changed time.Time
	// settled says that the last write is long enough ago that another one would show in changed.
	settled bool
}

// entry is a file at a path.
type entry struct {
	path string
	link bool // the path itself is a symlink
	info
}

var errNotRegular = errors.New("it is not a regular file")

// systemDisk is the machine's.
type systemDisk struct{}

// granularity is more than the ticks in which file systems count the time of a write.
const granularity = 100 * time.Millisecond

func infoOf(fi fs.FileInfo) (info, error) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || !fi.Mode().IsRegular() {
		return info{}, errNotRegular
	}
	return info{
		inode: inode{uint64(st.Dev), st.Ino}, size: fi.Size(), changed: fi.ModTime(), //nolint:unconvert // Dev is signed on some systems
		settled: time.Since(fi.ModTime()) > granularity,
	}, nil
}

func (d systemDisk) glob(pattern string) ([]entry, error) {
	paths, err := doublestar.FilepathGlob(pattern, doublestar.WithNoHidden())
	if err != nil {
		return nil, err
	}
	entries := make([]entry, 0, len(paths))
	for _, path := range paths {
		if e, ok := d.entry(path); ok {
			entries = append(entries, e)
		}
	}
	return entries, unreadable(pattern)
}

// unreadable says why the folder that a pattern begins with cannot be listed; one that is missing may come later.
func unreadable(pattern string) error {
	base, _ := doublestar.SplitPattern(pattern)
	f, err := os.Open(base)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	_, err = f.Readdirnames(1)
	_ = f.Close()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (systemDisk) entry(path string) (entry, bool) {
	if compressed(path) {
		return entry{}, false
	}
	fi, err := os.Lstat(path)
	if err != nil {
		return entry{}, false
	}
	e := entry{path: path, link: fi.Mode()&fs.ModeSymlink != 0}
	if e.link {
		if fi, err = os.Stat(path); err != nil {
			return entry{}, false
		}
	}
	e.info, err = infoOf(fi)
	return e, err == nil
}

func (d systemDisk) folder(path string) ([]entry, error) {
	names, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var entries []entry
	for _, n := range names {
		if n.IsDir() {
			continue
		}
		if e, ok := d.entry(filepath.Join(path, n.Name())); ok {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

func (systemDisk) open(path string) (handle, error) {
	// A path may have become a pipe since it was listed; opening that must not wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	h := openFile{f}
	if _, err := h.stat(); err != nil {
		_ = f.Close()
		return nil, err
	}
	return h, nil
}

func (systemDisk) device(folder string) (uint64, error) {
	for {
		fi, err := os.Stat(folder)
		if err == nil {
			if st, ok := fi.Sys().(*syscall.Stat_t); ok {
				return uint64(st.Dev), nil //nolint:unconvert // Dev is signed on some systems
			}
			return 0, errNotRegular
		}
		if !errors.Is(err, fs.ErrNotExist) || folder == filepath.Dir(folder) {
			return 0, err
		}
		folder = filepath.Dir(folder)
	}
}

type openFile struct{ *os.File }

func (f openFile) born() int64 { return bornAt(f.File) }

func (f openFile) stat() (info, error) {
	fi, err := f.Stat()
	if err != nil {
		return info{}, err
	}
	return infoOf(fi)
}

// compressed says whether a name is that of a compressed file, which holds no lines.
func compressed(path string) bool {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".gz", ".zst", ".bz2", ".xz":
		return true
	}
	return false
}
