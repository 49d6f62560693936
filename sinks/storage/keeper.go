package storage

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/millrace-run/millrace/event"
)

// keeper looks after closed files that have their names: it packs them, and removes those that need not stay. One goroutine does
// it, one file after the other, beside the deliveries. It goes on while the sink is opened again, and ends with Close.
type keeper struct {
	sink   *Sink // of which it uses what New made only
	keep   Keep
	wake   chan struct{}
	end    func()        // ends the goroutine and waits for it; nil while there is none. Of those who call Open and Close, as is done
	done   chan struct{} // closed when the goroutine has ended
	counts counts
	packer func(suffix string, w io.Writer) (io.WriteCloser, error)

	mu    sync.Mutex // guards files; what they point to belongs to the keeper
	files map[string]*closed

	saving sync.Mutex // guards save, and is held during its call
	save   func(context.Context, event.Changes) error
}

// counts are what Counts returns.
type counts struct{ closed, packed, removed, left, problems atomic.Int64 }

// Counts are what a sink did with files since the process began, and Waiting, how many closed ones are not packed yet.
type Counts struct{ Closed, Packed, Removed, Left, Problems, Waiting int64 }

// Counts may be called at any time.
func (s *Sink) Counts() Counts {
	k := s.keeper
	return Counts{
		Closed: k.counts.closed.Load(), Packed: k.counts.packed.Load(), Removed: k.counts.removed.Load(),
		Left: k.counts.left.Load(), Problems: k.counts.problems.Load(), Waiting: k.waiting(),
	}
}

func (k *keeper) waiting() (n int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.files {
		if c.To != "" && !c.resting.Load() {
			n++
		}
	}
	return n
}

func newKeeper(s *Sink, keep Keep) *keeper {
	return &keeper{sink: s, keep: keep, wake: make(chan struct{}, 1), packer: newPacker, files: map[string]*closed{}}
}

// add takes over a closed file, unless the keeper has it: then what it knows is newer than the state.
func (k *keeper) add(c *closed) {
	k.mu.Lock()
	if k.files[c.key()] == nil {
		k.files[c.key()] = c
	}
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// claims says whether a file that the keeper has stands, or will stand, under a name.
func (k *keeper) claims(root, name string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.files {
		if c.Root == root && (c.Name == name || c.To == name) {
			return true
		}
	}
	return false
}

// crowded refuses more lines while more closed files than most wait to be packed, so that what is known of them has a bound.
func (k *keeper) crowded(most int) error {
	if n := k.waiting(); n > int64(most) {
		return fmt.Errorf("%d closed files wait to be packed, and no more than max_files may", n)
	}
	return nil
}

func (k *keeper) has(key string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.files[key] != nil
}

// open takes another save. One that runs is waited for.
func (k *keeper) open(save func(context.Context, event.Changes) error) {
	k.saving.Lock()
	defer k.saving.Unlock()
	k.save = save
}

// start begins the goroutine. It ends when ctx does, or by close.
func (k *keeper) start(ctx context.Context) {
	if k.end != nil {
		select {
		case <-k.done: // its context ended
			k.end()
		default:
			return
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.run(ctx)
	}()
	k.done, k.end = done, func() { cancel(); <-done }
}

func (k *keeper) close() {
	if k.end != nil {
		k.end()
		k.end = nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.files)
}

func (k *keeper) run(ctx context.Context) {
	for {
		var alarm <-chan time.Time
		release := func() {}
		if wait := k.turn(ctx); wait > 0 {
			alarm, release = k.sink.clock.After(wait)
		}
		select {
		case <-ctx.Done():
			release()
			return
		case <-alarm:
		case <-k.wake:
		}
		release()
	}
}

// turn does all that can be done now, and returns how long to wait for more; 0 is until somebody adds a file.
func (k *keeper) turn(ctx context.Context) (wait time.Duration) {
	for _, c := range k.sorted() {
		err := k.tend(ctx, c)
		if ctx.Err() != nil {
			return 0
		}
		if err != nil {
			k.trouble(c, err)
			wait = retryPause
		}
	}
	next := k.expire(ctx)
	if wait == 0 || next > 0 && next < wait {
		wait = next
	}
	return wait
}

// sorted are the files, those first that were closed first.
func (k *keeper) sorted() []*closed {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.SortedFunc(maps.Values(k.files), func(a, b *closed) int {
		return cmp.Or(cmp.Compare(a.Stamp, b.Stamp), cmp.Compare(a.key(), b.key()))
	})
}

// trouble tells of each problem of a file once.
func (k *keeper) trouble(c *closed, err error) {
	if err.Error() != c.problem {
		k.sink.log.Warn("a closed file is not done with yet", "path", filepath.Join(c.Root, c.Name), "err", err)
		k.counts.problems.Add(1)
	}
	c.problem = err.Error()
}

// tend packs a file if it is to be packed, and forgets it if nothing counts it any more.
func (k *keeper) tend(ctx context.Context, c *closed) error {
	if c.pending() {
		v, err := k.sink.mount(c.Root, false)
		if err != nil {
			return err
		}
		defer func() { _ = v.close() }()
		if why, err := k.pack(ctx, v, c); err != nil {
			return err
		} else if why != "" {
			k.leave(c, c.Name, why)
			return k.drop(ctx, c)
		}
	}
	if !k.keep.any() {
		return k.drop(ctx, c)
	}
	return k.leaveFrom(ctx, c)
}

// leaveFrom forgets where a file came from that has its name for good: once it is removed, a new file there may get its inode.
func (k *keeper) leaveFrom(ctx context.Context, c *closed) error {
	from := c.From
	if from == "" {
		return nil
	}
	c.From = ""
	err := k.commit(ctx, event.Changes{c.key(): c.encode()})
	if err != nil {
		c.From = from
	}
	return err
}

// pending says that the file is still to be packed, or its plain form to be removed.
func (c *closed) pending() bool { return c.To != "" && (c.Packed == nil || !c.Packed.Alone) }

// rests says whether nothing is left to do with the file but to remove it one day.
func (c *closed) rests() bool { return !c.pending() && c.From == "" }

// leave reports a file that is left alone.
func (k *keeper) leave(c *closed, name, why string) {
	k.counts.left.Add(1)
	k.sink.log.Warn("a closed file is left alone", "path", filepath.Join(c.Root, name), "err", why)
}

// commit saves what is known of a file.
func (k *keeper) commit(ctx context.Context, changes event.Changes) error {
	k.saving.Lock()
	defer k.saving.Unlock()
	return k.save(ctx, changes)
}

func (k *keeper) drop(ctx context.Context, c *closed) error {
	if err := k.commit(ctx, event.Changes{c.key(): nil}); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.files, c.key())
	return nil
}

// pack makes the packed form, gives it its name and removes the plain one. The package comment has the steps. why says that the
// file is left alone.
func (k *keeper) pack(ctx context.Context, v volume, c *closed) (why string, err error) {
	if c.Packed == nil {
		p, why, err := k.write(ctx, v, c)
		if why != "" || err != nil {
			return why, err
		}
		c.Packed, c.From = p, "" // a file that is removed must not be looked for where it came from
		if err := k.commit(ctx, event.Changes{c.key(): c.encode()}); err != nil {
			c.Packed = nil
			return "", err
		}
	}
	if why, err := c.name(v); why != "" || err != nil {
		return why, err
	}
	if _, err := k.removeFile(v, c.at(c.Name)); err != nil {
		return "", err
	}
	c.Packed.Alone = true
	if k.keep.any() {
		if err := k.commit(ctx, event.Changes{c.key(): c.encode()}); err != nil {
			c.Packed.Alone = false
			return "", err
		}
	}
	c.resting.Store(true)
	k.counts.packed.Add(1)
	k.sink.log.Info("a closed file is packed", "path", filepath.Join(c.Root, c.To), "bytes", c.Packed.Size)
	return "", nil
}

// name gives the packed form its name, from the temporary one.
func (c *closed) name(v volume) (why string, err error) {
	in, err := v.stat(c.To)
	switch {
	case err == nil && c.Packed.is(in):
		return "", v.syncFolder(path.Dir(c.To)) // the rename may not be on disk yet
	case err == nil:
		_ = v.remove(partial(c.To))
		return c.To + " is taken, it stays plain", nil
	case !isMissing(err):
		return "", err
	}
	in, err = v.stat(partial(c.To))
	switch {
	case isMissing(err) || err == nil && !c.Packed.is(in):
		c.Packed = nil
		return "", errors.New("what it was packed into is gone, it is packed again")
	case err != nil:
		return "", err
	}
	if err := v.rename(partial(c.To), c.To); err != nil {
		return "", err
	}
	return "", v.syncFolder(path.Dir(c.To))
}

func (p *packed) is(in info) bool { return in.regular && in.ino == p.Ino && in.size == p.Size }

// write packs a file under a temporary name and syncs it.
func (k *keeper) write(ctx context.Context, v volume, c *closed) (p *packed, why string, err error) {
	plain := c.at(c.Name)
	defer plain.shut()
	if why, err := plain.altered(v); why != "" || err != nil {
		return nil, why, err
	}
	temporary := partial(c.To)
	if err := v.remove(temporary); err != nil && !isMissing(err) {
		return nil, "", err
	}
	f, err := v.create(temporary)
	if err != nil {
		return nil, "", err
	}
	p, err = k.packInto(ctx, f, plain.file, c)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = v.remove(temporary)
		return nil, "", fmt.Errorf("packing: %w", err)
	}
	return p, "", nil
}

const packBuffer = 32 << 10

func (k *keeper) packInto(ctx context.Context, to, from file, c *closed) (*packed, error) {
	out := bufio.NewWriterSize(io.NewOffsetWriter(to, 0), packBuffer)
	w, err := k.packer(path.Ext(c.To), out)
	if err != nil {
		return nil, err
	}
	in := io.NewSectionReader(from, 0, c.Length)
	n, err := io.CopyBuffer(w, hearing{ctx, in}, make([]byte, packBuffer))
	if err == nil && n != c.Length {
		err = io.ErrUnexpectedEOF
	}
	err = errors.Join(err, w.Close())
	if err == nil {
		err = out.Flush()
	}
	if err == nil {
		err = to.Sync()
	}
	if err != nil {
		return nil, err
	}
	i, err := to.info()
	if err != nil {
		return nil, err
	}
	tail, err := readTail(to, i.size)
	return &packed{Dev: i.dev, Ino: i.ino, Size: i.size, Tail: hashOf(tail)}, err
}

func newPacker(suffix string, w io.Writer) (io.WriteCloser, error) {
	if suffix == suffixGzip {
		return gzip.NewWriter(w), nil
	}
	return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
}

// hearing is a reader that ends with a context.
type hearing struct {
	ctx context.Context
	r   io.Reader
}

// Read reads unless the context has ended.
func (h hearing) Read(p []byte) (int, error) {
	if h.ctx.Err() != nil {
		return 0, context.Cause(h.ctx)
	}
	return h.r.Read(p)
}

// expire removes what keep does not keep, the oldest first, and forgets what is beyond max_files. It returns when the next file
// will be too old; 0 is never.
func (k *keeper) expire(ctx context.Context) (next time.Duration) {
	if !k.keep.any() {
		return 0
	}
	now := k.sink.now()
	files, bytes := 0, int64(0)
	for _, c := range slices.Backward(k.sorted()) {
		files++
		bytes += c.size()
		c.Closed = min(c.Closed, now) // the clock was set back
		left := time.Duration(c.Closed-now)*time.Millisecond + k.keep.Age
		over := k.keep.Files > 0 && files > k.keep.Files || k.keep.Size > 0 && bytes > k.keep.Size || k.keep.Age > 0 && left <= 0
		var err error
		switch {
		case ctx.Err() != nil:
			return 0
		case over && c.rests():
			err = k.remove(ctx, c)
		case files > k.sink.limits.known && !c.pending():
			k.leave(c, c.last(), "there are more closed files than max_files, it is not removed any more")
			err = k.drop(ctx, c)
		case k.keep.Age > 0:
			next = max(left, time.Second)
		}
		if err != nil && ctx.Err() == nil {
			k.trouble(c, err)
			next = retryPause
		}
	}
	return next
}

// size is how much room a closed file takes.
func (c *closed) size() int64 {
	if c.pending() || c.Packed == nil {
		return c.Length
	}
	return c.Packed.Size
}

// last is the name that a closed file has in the end.
func (c *closed) last() string { return cmp.Or(c.To, c.Name) }

// entry is the file that is left of a closed one in the end.
func (c *closed) entry() *entry {
	e := c.at(c.last())
	if p := c.Packed; p != nil {
		e.Dev, e.Ino, e.Length, e.Tail = p.Dev, p.Ino, p.Size, p.Tail
	}
	return e
}

// remove removes a closed file, if it is still the one that the sink made.
func (k *keeper) remove(ctx context.Context, c *closed) error {
	v, err := k.sink.mount(c.Root, false)
	if err != nil && !isMissing(err) {
		return err
	}
	if err == nil {
		defer func() { _ = v.close() }()
		var removed bool
		if removed, err = k.removeFile(v, c.entry()); removed {
			k.counts.removed.Add(1)
			k.sink.log.Info("a closed file is removed", "path", filepath.Join(c.Root, c.last()), "closed", time.UnixMilli(c.Closed).UTC())
		}
	}
	if err != nil && !isMissing(err) {
		return err
	}
	return k.drop(ctx, c)
}

// removeFile removes a file durably; one that is gone has perhaps been removed before. One that does not end as the sink closed it
// stays and is reported.
func (k *keeper) removeFile(v volume, e *entry) (removed bool, err error) {
	if _, err := v.stat(e.at); err == nil {
		why, err := e.altered(v)
		e.shut()
		switch {
		case err != nil:
			return false, err
		case why != "":
			k.counts.left.Add(1)
			k.sink.log.Warn("a closed file is not removed", "path", filepath.Join(e.Root, e.at), "err", why)
			return false, nil
		}
		if err := v.remove(e.at); err != nil {
			return false, err
		}
		removed = true
	} else if !isMissing(err) {
		return false, err
	}
	if err = v.syncFolder(path.Dir(e.at)); isMissing(err) {
		err = nil
	}
	return removed, err
}
