package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/millrace-run/millrace/event"
)

// Options are the settings of an outbox.
type Options struct {
	Path      string       // of the file; its folder is made if it is missing
	MaxSize   int64        // bytes in use at which it is full; appends are refused at nine tenths. 0 is no bound
	Reserve   int64        // bytes kept aside for settlings when the disk is full; 0 is none
	Retention Retention    // how much is kept of what is settled
	Receipts  int64        // bytes of receipts that are kept, the newest; 0 is 256 MiB
	Clock     event.Clock  // nil is the machine's
	Logger    *slog.Logger // nil discards
	Forced    bool         // open it even on a network file system

	idBlock int                      // events in a block of the index of ids; 0 is the constant
	fault   func(query string) error // see conn
}

// Outbox is an open outbox. All its methods may be called concurrently.
type Outbox struct {
	path    string
	clock   event.Clock
	log     *slog.Logger
	lock    *os.File
	readers *readers
	queue   queue
	writer  *writer
	ids     *ids
	packers chan *packer       // holds one that is not in use
	unindex context.CancelFunc // ends the goroutine of ids
	closing sync.Once
	closed  error         // what closing gave
	done    chan struct{} // closed when the writer has ended
	failed  chan struct{} // closed when the outbox failed
	cause   error         // why; readable once failed is closed
	backing sync.Mutex    // held by the one backup that may run

	mu            sync.RWMutex // guards the maps; what they hold is made by Configure and never removed
	topics        map[string]*topic
	subscriptions map[string]*subscription
	ring          ring
	secret        []byte // of the hashes of dedupe keys
}

// Open opens or makes an outbox and recovers it. A *LockedError names the process that has it, a *BehindError says that commits
// are missing.
func Open(ctx context.Context, o Options) (*Outbox, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path, err := resolve(o.Path)
	if err != nil {
		return nil, fmt.Errorf("outbox %s: %w", o.Path, err)
	}
	if !o.Forced {
		if err := checkFileSystem(path); err != nil {
			return nil, err
		}
	}
	held, err := lock(path)
	if err != nil {
		return nil, err
	}
	b, err := open(path, o)
	if err != nil {
		return nil, errors.Join(err, held.Close())
	}
	b.lock = held
	go b.run()
	ctx, b.unindex = context.WithCancel(context.WithoutCancel(ctx))
	go b.ids.run(ctx)
	return b, nil
}

// open does everything that needs the lock.
func open(path string, o Options) (*Outbox, error) {
	if err := finishRestore(path); err != nil {
		return nil, fmt.Errorf("outbox %s: finishing a restore: %w", path, err)
	}
	c, err := inspectAndOpen(path)
	if isFull(err) && (reserve{path + reserveSuffix, o.Reserve}).release() {
		c, err = inspectAndOpen(path)
	}
	if err != nil {
		return nil, err
	}
	b := &Outbox{
		path: path, clock: o.Clock, log: o.Logger, done: make(chan struct{}), failed: make(chan struct{}), packers: make(chan *packer, 1),
		topics: map[string]*topic{}, subscriptions: map[string]*subscription{},
	}
	if b.clock == nil {
		b.clock = event.SystemClock{}
	}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	b.queue.init(b.clock)
	if err := b.load(c); err != nil {
		return nil, errors.Join(fmt.Errorf("outbox %s: %w", path, err), c.close())
	}
	if b.ids, err = newIDs(b, c, o.idBlock); err != nil {
		return nil, errors.Join(fmt.Errorf("outbox %s: %w", path, err), c.close())
	}
	b.writer, err = newWriter(b, c, o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("outbox %s: %w", path, err), c.close())
	}
	b.readers = newReaders(path)
	return b, nil
}

func inspectAndOpen(path string) (*conn, error) {
	if err := inspect(path); err != nil {
		return nil, err
	}
	c, err := openFile(path)
	if err != nil {
		return nil, fmt.Errorf("outbox %s: %w", path, err)
	}
	return c, nil
}

// run is the writer's goroutine; Close waits for it.
func (b *Outbox) run() {
	defer close(b.done)
	if err := b.writer.run(); err != nil {
		b.fail(err)
		b.queue.abandon(event.ErrClosed)
	}
}

// fail ends the outbox: from here on everything is refused. Only the writer calls it; a second cause is dropped.
func (b *Outbox) fail(err error) {
	if b.Err() == nil {
		b.cause = err
		close(b.failed) // before anybody can hear that the outbox is closed: who does finds the reason
		b.queue.close()
	}
}

// Close commits what was given to the outbox, answers everybody and closes the file. Later calls get event.ErrClosed. It may
// be called more than once.
func (b *Outbox) Close() error {
	b.closing.Do(func() {
		b.unindex()
		<-b.ids.done
		b.queue.close()
		<-b.done
		b.closed = errors.Join(b.readers.close(), b.writer.close(), b.lock.Close())
	})
	return b.closed
}

// Failed is closed when the outbox can no longer keep its promise, such as after a failed fsync. The process must end: only a new
// start, which recovers the file, knows what is on disk.
func (b *Outbox) Failed() <-chan struct{} { return b.failed }

// Err returns why the outbox failed; nil while it has not.
func (b *Outbox) Err() error {
	select {
	case <-b.failed:
		return b.cause
	default:
		return nil
	}
}

// Can says that an outbox does everything.
func (b *Outbox) Can() event.Capabilities {
	return event.Capabilities{Durable: true, Atomic: true, Shared: true, Ordered: true, Stateful: true, Dead: true, Reopening: true,
		Dedupe: true, Keyed: true, History: true}
}

// Full says whether appends are refused at present.
func (b *Outbox) Full() bool { return b.writer.full.Load() }

func (b *Outbox) topic(name string) *topic {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.topics[name]
}

func (b *Outbox) subscription(name string) *subscription {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.subscriptions[name]
}

// Commit applies all of c in one transaction and returns when it is synced. It keeps the slices of the events: the caller must
// not change them afterwards. Should ctx end before the writer took the commit, it is withdrawn and nothing of it happens
// (event.ErrBusy when its deadline passed); once taken it is waited for.
func (b *Outbox) Commit(ctx context.Context, c event.Commit) ([]event.Appended, error) {
	r, err := b.request(c)
	if err != nil {
		return nil, err
	}
	if b.writer.refuses(&c) {
		return nil, event.ErrFull
	}
	if err := b.queue.put(ctx, r); err != nil {
		return nil, err
	}
	if err := b.queue.wait(ctx, r); err != nil {
		return nil, err
	}
	return r.appended, nil
}

// packFew is after how many events there may be as many as fill a segment.
const packFew = 256

// Pack brings n events, which next writes one after the other to *e, into the form in which they are kept. It is for events of
// which nobody needs to know more: what comes to Append.Packed costs a third of the memory, and is read by few.
func (b *Outbox) Pack(n int, next func(i int, e *event.Event)) ([]event.Packed, error) {
	p := &packer{}
	select {
	case p = <-b.packers:
	default:
	}
	defer func() {
		select {
		case b.packers <- p:
		default: // one is enough to keep
		}
	}()
	var e event.Event
	for i := range n {
		if i == packFew {
			p.events = slices.Grow(p.events, maxSegmentBytes-len(p.events))
		}
		next(i, &e)
		if e.Size() > maxValue {
			p.take()
			return nil, fmt.Errorf("event %q is larger than %d bytes", e.ID, maxValue)
		}
		p.add(&e)
	}
	return p.take(), nil
}

// request checks a commit before it is queued, so that no member of a transaction can fail by its own fault.
func (b *Outbox) request(c event.Commit) (*request, error) {
	r := &request{commit: c, done: make(chan error, 1)}
	r.topics = r.room.topics[:0] // most commits are one append
	b.mu.RLock()
	defer b.mu.RUnlock()
	for i := range c.Appends {
		a := &c.Appends[i]
		t := b.topics[a.Topic]
		if t == nil || !t.named.Load() {
			return nil, fmt.Errorf("outbox has no topic %q", a.Topic)
		}
		r.topics = append(r.topics, t)
		if a.Keys != nil {
			if err := b.hashKeys(r, t, a); err != nil {
				return nil, err
			}
		}
		for i := range a.Events {
			if a.Events[i].Size() > maxValue {
				return nil, fmt.Errorf("event %q is larger than %d bytes", a.Events[i].ID, maxValue)
			}
			r.bytes += int64(a.Events[i].Size()) + recordOverhead
		}
		for i := range a.Packed {
			r.bytes += int64(len(a.Packed[i].Body))
		}
	}
	for _, s := range c.States {
		for key, value := range s.Changes {
			if len(key)+len(value) > maxValue {
				return nil, fmt.Errorf("state of %q is larger than %d bytes", s.Owner, maxValue)
			}
		}
	}
	for _, s := range c.Settles {
		sub := b.subscriptions[s.Subscription]
		if sub == nil {
			return nil, fmt.Errorf("outbox has no subscription %q", s.Subscription)
		}
		r.subscriptions = append(r.subscriptions, sub)
	}
	switch len(c.Appends) {
	case 0:
	case 1:
		r.appended = r.room.appended[:]
	default:
		r.appended = make([]event.Appended, len(c.Appends))
	}
	return r, nil
}

// maxValue is the largest event or state that is taken, in bytes. SQLite takes twice as much in a row.
const maxValue = 512 << 20

// recordOverhead is about what a record takes beside its text and data.
const recordOverhead = 256

// State returns what a component's Changes have left.
func (b *Outbox) State(ctx context.Context, owner string) (map[string][]byte, error) {
	return b.readState(ctx, owner)
}
