package main

import (
	"os"
	"runtime"
	"runtime/debug"

	"github.com/millrace-run/millrace/app"
)

// tune sets what the Go runtime leaves to the program, unless the environment says otherwise. The writer of the outbox is in the
// kernel for most of a commit, and the scheduler keeps a processor for it there: one more lets all cores work meanwhile.
// docs/decisions/0021-memory.md has the numbers.
func tune(p *app.Plan) {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth(p))
	}
}

// heapGrowth is by how many percent of what lives the heap may grow between two collections. What lives is little, since what is
// kept in memory is bounded. Twice as much as usual takes a tenth off the cost of an event that comes in a request. A line of a log that
// is dropped costs no memory and one that is stored little more than its bytes, so that a process which does nothing else needs
// less: half as much as lives where all lines are stored.
func heapGrowth(p *app.Plan) int {
	growth := 100
	for _, x := range p.Pipelines {
		switch {
		case !x.Rereadable:
			return 200
		case x.PushDown == 0:
			growth = 50
		}
	}
	return growth
}
