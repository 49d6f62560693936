package engine

import "github.com/millrace-run/millrace/event"

// overhead is about what an event takes in memory beside its text and data.
const overhead = 512

func cost(e *event.Event) int64 { return int64(e.Size()) + overhead }

// flight is what is appended and not settled by everyone, in memory.
type flight struct {
	bytes  int64
	events int
	room   chan struct{} // closed when something was settled; nil while nobody waits for that
}

// held is one event in flight and how many subscriptions still owe it.
type held struct {
	bytes  int64
	owners int
}

// waiting returns a channel that is closed when there is more room than now.
func (f *flight) waiting() <-chan struct{} {
	if f.room == nil {
		f.room = make(chan struct{})
	}
	return f.room
}

// freed tells those who wait for room.
func (f *flight) freed() {
	if f.room != nil {
		close(f.room)
		f.room = nil
	}
}

// hold counts one event of a topic, owed by a number of subscriptions.
func (e *Engine) hold(t *topic, o event.Offset, bytes int64, owners int) {
	if h := t.held[o]; h != nil {
		h.owners += owners
		return
	}
	t.held[o] = &held{bytes, owners}
	e.flight.bytes += bytes
	e.flight.events++
}

// release says that one subscription no longer owes the event.
func (e *Engine) release(t *topic, o event.Offset) {
	h := t.held[o]
	if h == nil {
		return
	}
	if h.owners--; h.owners == 0 {
		delete(t.held, o)
		e.flight.bytes -= h.bytes
		e.flight.events--
		e.flight.freed()
	}
}

// fits says whether so much more may be in flight; ever is whether it would if nothing else were. As in the outbox, the last
// tenth is for commits that settle something: they are what empties it.
func (e *Engine) fits(bytes int64, events int, settles bool) (now, ever bool) {
	maxBytes, maxEvents := e.options.MaxBytes, e.options.MaxEvents
	if !settles {
		maxBytes, maxEvents = maxBytes-maxBytes/10, maxEvents-maxEvents/10
	}
	if events == 0 {
		return true, true
	}
	return e.flight.bytes+bytes <= maxBytes && e.flight.events+events <= maxEvents, bytes <= maxBytes && events <= maxEvents
}
