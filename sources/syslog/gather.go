package syslog

import "github.com/millrace-run/millrace/event"

// chunk is what a reader hands over at once.
type chunk struct {
	events []event.Event
	size   int
}

func (c *chunk) add(e event.Event) {
	c.events = append(c.events, e)
	c.size += e.Size()
}

// The bounds of a batch, those of a row of the outbox, and of a chunk.
const (
	batchEvents = 4096
	batchBytes  = 1 << 20
	chunkEvents = 512
)

// fits says whether more can be added; an empty one takes anything.
func (c *chunk) fits(more chunk) bool {
	return len(c.events) == 0 || len(c.events)+len(more.events) <= batchEvents && c.size+more.size <= batchBytes
}

// gather makes batches of what arrives: what came while one batch was committed is the next, without any wait for more. When a batch is
// full nothing is taken, so that readers stop. It ends when chunks is closed and everything was handed on, and closes batches then.
func gather(chunks <-chan chunk, batches chan<- []event.Event) {
	defer close(batches)
	var now, held chunk // held did not fit any more
	for {
		in, out := chunks, batches
		if len(held.events) > 0 {
			in = nil
		}
		if len(now.events) == 0 {
			out = nil
		}
		if in == nil && out == nil {
			return
		}
		select {
		case c, ok := <-in:
			switch {
			case !ok:
				chunks = nil
			case now.fits(c):
				now.events, now.size = append(now.events, c.events...), now.size+c.size
			default:
				held = c
			}
		case out <- now.events:
			now, held = held, chunk{}
		}
	}
}
