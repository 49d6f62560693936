package tail

import (
	"os"

	"golang.org/x/sys/unix"
)

// bornAt is when an open file was made, in nanoseconds; 0 where the file system does not tell.
func bornAt(f *os.File) int64 {
	var x unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_BTIME, &x); err != nil || x.Mask&unix.STATX_BTIME == 0 {
		return 0
	}
	return x.Btime.Sec*1e9 + int64(x.Btime.Nsec)
}
