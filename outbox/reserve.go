package outbox

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

const reserveSuffix = ".reserve"

// reserve is the preallocated file <path>.reserve. Its room is given back when the disk is full, so that settlings can go on.
type reserve struct {
	path string // of the file itself
	size int64  // 0 is no reserve
}

// ensure makes the file if it is not there and there is room for it and as much again. It reports whether there is room.
func (r reserve) ensure() (bool, error) {
	if held, err := r.held(); held || err != nil {
		return held, err
	}
	free, err := freeBytes(r.path)
	if err != nil || free < 2*r.size+minFree {
		return false, err
	}
	if r.size == 0 {
		return true, nil
	}
	f, err := os.OpenFile(r.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return false, err
	}
	err = errors.Join(allocate(f, r.size), f.Close())
	if err != nil {
		err = errors.Join(err, os.Remove(r.path))
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return false, nil // less room than statfs promised
	}
	return err == nil, err
}

// held says whether the file is there in full. One of another size (a crash while it was made, other settings) is removed.
func (r reserve) held() (bool, error) {
	info, err := os.Stat(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if r.size > 0 && info.Size() == r.size {
		return true, nil
	}
	return false, os.Remove(r.path)
}

// release gives the room back. It reports whether there was any to give.
func (r reserve) release() bool { return r.size > 0 && os.Remove(r.path) == nil }

// minFree is the room that must be there besides the reserve before appends are taken again: one WAL at its usual size.
const minFree = 8 << 20

// allocate gives f real blocks: by fallocate, or with zeros where the file system has no such call.
func allocate(f *os.File, size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	zeros := make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), size-at)], at); err != nil {
			return err
		}
	}
	return nil
}

// freeBytes is the room left on the file system that holds path's folder, for a user without privileges.
func freeBytes(path string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(folder(path), &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}
