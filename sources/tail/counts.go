package tail

import (
	"errors"
	"sync/atomic"
)

// counts are what a source has done since it was made. They may be read at any time.
type counts struct {
	lines, bytes, over, losses, lost, replaced, problems atomic.Int64
}

// Counts tell what a source has done since the process began.
type Counts struct {
	Lines    int64 // events taken from files
	Bytes    int64 // of their data
	Over     int64 // lines that were longer than max_line.size
	Losses   int64 // files of which a part was lost before it could be read
	Lost     int64 // bytes of those parts, as far as they are known
	Replaced int64 // files that were truncated or replaced
	Problems int64 // files and folders that could not be read, as often as that was told
}

func (c *counts) read() Counts {
	return Counts{c.lines.Load(), c.bytes.Load(), c.over.Load(), c.losses.Load(), c.lost.Load(), c.replaced.Load(), c.problems.Load()}
}

var errTooLong = errors.New("it is cut or left out, as max_line.over says")
