package storage

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// volume is a folder and all below it, as far as the sink uses it. Names are relative to it, their elements divided by /. It is
// the seam at which tests make each step fail.
type volume interface {
	// open opens a file for reading and writing. It makes nothing, and it does not wait for a pipe's other end.
	open(name string) (file, error)
	// create makes a file and opens it. If something has the name, its error is fs.ErrExist.
	create(name string) (file, error)
	stat(name string) (info, error)
	mkdir(name string) error
	// rename gives a file another name below the folder. Whoever asks has seen that the name is free.
	rename(from, to string) error
	remove(name string) error
	// syncFolder makes the names in a folder durable.
	syncFolder(name string) error
	// attached says whether the folder's path still leads to this folder.
	attached() bool
	close() error
}

// file is an open file.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Sync() error
	info() (info, error)
}

// info is what tells one file from another.
type info struct {
	dev, ino uint64
	size     int64
	regular  bool
}

// mounter opens a folder as a volume, and first makes it durably if it is missing and shall be made.
type mounter func(folder string, create bool) (volume, error)

const (
	folderMode = 0o750
	fileMode   = 0o640
)

// folder is a volume on the machine's file system. os.Root sees to it that no name and no symbolic link leads out of it.
type folder struct{ root *os.Root }

func mountFolder(path string, create bool) (volume, error) {
	if create {
		if err := makeFolder(path); err != nil {
			return nil, err
		}
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return folder{root}, nil
}

// makeFolder makes a folder and those above it durably. Folders that were there are synced as well as possible: a run that
// ended between making and syncing them may have left them to the page cache.
func makeFolder(path string) error {
	existing := path
	for parent := filepath.Dir(existing); existing != parent; existing, parent = parent, filepath.Dir(parent) {
		if _, err := os.Stat(existing); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err := os.MkdirAll(path, folderMode); err != nil {
		return err
	}
	made := true
	for at := path; ; at = filepath.Dir(at) {
		if err := syncPath(at); err != nil && made {
			return err
		}
		made = made && at != existing
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return syncAndClose(f)
}

func syncAndClose(f *os.File) error {
	err := f.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil // a file system that cannot sync folders has nothing better to offer
	}
	return errors.Join(err, f.Close())
}

func (v folder) open(name string) (file, error) {
	f, err := v.root.OpenFile(name, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

func (v folder) create(name string) (file, error) {
	f, err := v.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

func (v folder) stat(name string) (info, error) {
	i, err := v.root.Stat(name)
	if err != nil {
		return info{}, err
	}
	return infoOf(i), nil
}

func (v folder) rename(from, to string) error { return v.root.Rename(from, to) }
func (v folder) remove(name string) error     { return v.root.Remove(name) }

func (v folder) mkdir(name string) error { return v.root.Mkdir(name, folderMode) }

func (v folder) syncFolder(name string) error {
	f, err := v.root.Open(name)
	if err != nil {
		return err
	}
	return syncAndClose(f)
}

func (v folder) attached() bool {
	here, err := v.root.Stat(".")
	if err != nil {
		return false
	}
	there, err := os.Stat(v.root.Name())
	return err == nil && os.SameFile(here, there)
}

func (v folder) close() error { return v.root.Close() }

type diskFile struct{ *os.File }

func (f diskFile) info() (info, error) {
	i, err := f.Stat()
	if err != nil {
		return info{}, err
	}
	return infoOf(i), nil
}

func infoOf(i fs.FileInfo) info {
	in := info{size: i.Size(), regular: i.Mode().IsRegular()}
	if st, ok := i.Sys().(*syscall.Stat_t); ok {
		in.dev, in.ino = uint64(st.Dev), st.Ino
	}
	return in
}
