package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// settle moves or deletes a file whose end is committed. When it has happened for good, the file is forgotten with the next commit;
// when it could not happen, it is tried again at the next look.
func (r *reader) settle(e *entry, path string) {
	to, what := r.settings.then, "a file that was read cannot be moved or deleted"
	if e.Phase == failed {
		to, what = r.settings.failed, "a file that failed cannot be moved"
	}
	if to.keeps() {
		return // the settings have changed since
	}
	switch is, err := isAt(e, path); {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		r.trouble(path, what, err)
		return
	case err == nil && !is:
		return // something else has its name now
	case err == nil:
		if err := r.carryOut(to, path); err != nil {
			r.trouble(path, what, err)
			return
		}
	}
	delete(r.told, path)
	r.drop(e)
}

// isAt says whether a path leads to the file of an entry.
func isAt(e *entry, path string) (bool, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	in, err := infoOf(fi)
	return err == nil && in.identity == e.identity && in.dev == e.Dev, nil
}

// carryOut does to a file what the settings say, so that it outlives a loss of power.
func (r *reader) carryOut(to fate, path string) error {
	if to.remove {
		return errors.Join(os.Remove(path), syncFolder(filepath.Dir(path)))
	}
	target := filepath.Join(to.folder, r.settings.relative(path))
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil { //nolint:gosec // as the folder that the file came from
		return err
	}
	free, err := freeName(target)
	if err != nil {
		return err
	}
	if err := move(path, free); err != nil {
		return err
	}
	return errors.Join(syncFolder(filepath.Dir(free)), syncFolder(filepath.Dir(path)))
}

// maxNames is how many names are tried.
const maxNames = 10_000

// freeName is a path where nothing is: the path itself, or one with a number before its first suffix.
func freeName(path string) (string, error) {
	folder, name := filepath.Split(path)
	stem, suffix := name, ""
	if dot := strings.Index(name[1:], "."); dot >= 0 {
		stem, suffix = name[:dot+1], name[dot+1:]
	}
	for n := 0; n < maxNames; n++ {
		candidate := path
		if n > 0 {
			candidate = fmt.Sprintf("%s%s-%d%s", folder, stem, n, suffix)
		}
		if _, err := os.Lstat(candidate); errors.Is(err, fs.ErrNotExist) {
			return candidate, nil
		} else if err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("%d files have the name %s already", maxNames, path)
}

// move renames a file, or copies it if the other path is on another disk.
func move(from, to string) error {
	err := os.Rename(from, to)
	if !errors.Is(err, syscall.EXDEV) {
		return err
	}
	part := filepath.Join(filepath.Dir(to), "."+filepath.Base(to)+".part")
	if err := copyFile(from, part); err != nil {
		_ = os.Remove(part)
		return err
	}
	if err := errors.Join(os.Rename(part, to), syncFolder(filepath.Dir(to))); err != nil {
		return err
	}
	return os.Remove(from)
}

// copyFile copies a file with its mode and time, synced.
func copyFile(from, to string) error {
	in, err := open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	fi, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(filepath.Clean(to), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fi.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close(), os.Chtimes(to, fi.ModTime(), fi.ModTime()))
}

func syncFolder(path string) error {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
