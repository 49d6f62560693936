package router

import (
	"context"
	"time"

	"github.com/millrace-run/millrace/event"
)

// Emit puts a batch into the log. The events and the position behind them are on disk when it returns nil, or neither is.
// Only then may the source confirm to its own origin. It returns the ids of the events, of those that were
// stored if the first stages of the pipeline ran before, none for a prepared batch; a batch of which they leave nothing is not
// waited for unless it has state. It is an alias, so that a package which may not import router satisfies Source by writing the
// same function type.
type Emit = func(ctx context.Context, b event.Batch) (ids []string, err error)

// Ahead is a source that can be read again and makes batches while others are committed. OpenSource gives it prepare, which it
// calls with each batch, in their order, before it emits it; prepare does not touch State. What prepare made of several may be joined.
type Ahead interface {
	Ahead(prepare func(event.Batch) (event.Prepared, error))
}

// Source is where events come from. Run blocks until ctx ends (nil) or it cannot go on (the reason).
type Source interface {
	Run(ctx context.Context, emit Emit) error
}

// Sink is a destination. Deliver answers one verdict for each delivery and must return when ctx ends. It is called
// concurrently, up to the sink's concurrency; a serial sink is called by one goroutine, in offset order. A serial sink whose
// batches wait for more events (see pipelines.Gathering) gets more than a window may hold, and so settles a batch as a whole.
type Sink interface {
	Deliver(ctx context.Context, batch []event.Delivery) event.Settling
}

// Stateful is a component with state. It is opened before its first use with what was committed, and again whenever changes
// that it answered could not be committed: before the next Deliver, the changes of the last are committed or Open is called. save
// is durable when it returns nil and may be called until the next Open.
type Stateful interface {
	Open(ctx context.Context, state map[string][]byte, save func(context.Context, event.Changes) error) error
}

// Timely is a serial sink that has something to do at times of its own, such as closing a file. Tend is called at Due, by the
// goroutine that calls Deliver and where nothing is delivered then, when all that was answered before is committed; a zero time is
// never. After an error the sink is opened again with the committed state.
type Timely interface {
	Due() time.Time
	Tend(ctx context.Context) error
}

// Finisher is a serial sink that wants to know that it ends in order. Finish is called by the goroutine that calls Deliver, when all
// that was answered before is committed and nothing more comes unless the sink is opened again; save may be called until it
// returns. Where the end is another, it is not called.
type Finisher interface {
	Finish(ctx context.Context) error
}
