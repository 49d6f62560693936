//go:build !linux

package file

import "syscall"

// changedAt has no answer here, so that the first bytes are compared once for each file and start.
func changedAt(*syscall.Stat_t) int64 { return 0 }
