package outbox

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// LockedError says that another process has the outbox open.
type LockedError struct {
	Path   string
	Holder int // its process id, 0 if it could not be read
}

// Error names the file and the holder.
func (e *LockedError) Error() string {
	if e.Holder == 0 {
		return fmt.Sprintf("outbox %s is in use by another process", e.Path)
	}
	return fmt.Sprintf("outbox %s is in use by process %d", e.Path, e.Holder)
}

// lock takes the lock beside the outbox for the life of the returned file. The lock is the kernel's: it ends with the
// process, so that no stale file can ever keep anyone out. The file stays; removing it would let two holders exist.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if err != unix.EWOULDBLOCK {
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		return nil, &LockedError{Path: path, Holder: holder(f)}
	}
	if err := f.Truncate(0); err == nil {
		// The number is a courtesy to the one who is kept out; a full disk must not keep us from starting.
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}

func holder(f *os.File) int {
	b, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return pid
}
