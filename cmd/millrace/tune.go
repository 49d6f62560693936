package main

import (
	"os"
	"runtime"
	"runtime/debug"
)

// tune sets what the Go runtime leaves to the program, unless the environment says otherwise. The writer of the outbox is in the
// kernel for most of a commit, and the scheduler keeps a processor for it there: one more lets all cores work meanwhile. Twice
// the usual heap between two collections takes a tenth off the cost of an event; what lives is little, since what is kept in memory is
// bounded. docs/decisions/0021-memory.md has the numbers.
func tune() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
	tuneMalloc()
}
