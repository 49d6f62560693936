package outbox

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/millrace-run/millrace/event"
)

const (
	checkpointEvery = 4 << 20  // bytes of WAL after which the writer checkpoints
	checkpointGate  = 16 << 20 // bytes of WAL at which readers are kept out for it
	fullRetry       = time.Second
	busyRetry       = 20 * time.Millisecond
	workSize        = 1 << 20 // about how many bytes of WAL a work writes
	closingRetries  = 50      // how often a commit is tried that cannot be made while the outbox closes
)

// writer is the one goroutine that writes, and what it owns.
type writer struct {
	box     *Outbox
	conn    *conn
	clock   event.Clock
	log     *slog.Logger
	mark    *mark
	id      []byte
	commits int64 // number of the last commit
	encoder segmentEncoder
	written int64 // about how many bytes the WAL has grown since the last checkpoint
	reserve reserve
	maxSize int64
	used    int64        // bytes in use when they were last measured
	spare   int64        // bytes of the file that are not in use, at that time
	seen    int64        // written at that time
	inUse   atomic.Int64 // the same, for who asks
	keyRow  int64        // the last id that a row of keys was given
	doomed  []int64      // rows of keys that are no longer needed, to be deleted a few at a time

	copying    *copying // the backup under way; nil is none
	keepBodies bool     // the table of rescued events cannot be changed

	receipts receipts
	failures int // commits in a row that found the disk full or the file busy

	retention retention

	full atomic.Bool // appends are refused: the disk is full
	over atomic.Bool // appends are refused but those that drain: nine tenths of maxSize are in use, and no history is left
	brim atomic.Bool // all appends are refused: maxSize is in use, and no history is left
}

func newWriter(b *Outbox, c *conn, o Options) (*writer, error) {
	w := &writer{
		box: b, conn: c, clock: b.clock, log: b.log, maxSize: o.MaxSize,
		reserve: reserve{path: b.path + reserveSuffix, size: o.Reserve},
	}
	w.retention.Retention, w.retention.dirty = o.Retention, true
	// From here on a lock of another program is waited for by retry, which lets callers go when their time is up.
	if _, err := c.db.Exec("PRAGMA busy_timeout = 100", nil); err != nil {
		return nil, err
	}
	c.fault = o.fault
	var err error
	if w.id, w.commits, err = identity(c); err != nil {
		return nil, err
	}
	if err := w.measure(); err != nil {
		return nil, err
	}
	if err := w.receipts.init(c, b.clock, o.Receipts); err != nil {
		return nil, err
	}
	if w.mark, err = openMark(b.path); err != nil {
		return nil, err
	}
	room, err := w.reserve.ensure()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reserve: %w", err), w.mark.file.Close())
	}
	if !room {
		w.fill("the disk was full at the start")
	}
	return w, nil
}

// refuses says whether a commit is refused at present because it appends. One that settles too drains the outbox: the last tenth
// is for it.
func (w *writer) refuses(c *event.Commit) bool {
	if len(c.Appends) == 0 {
		return false
	}
	return w.full.Load() || w.brim.Load() || w.over.Load() && !drains(c)
}

func drains(c *event.Commit) bool {
	return slices.ContainsFunc(c.Settles, func(s event.Settle) bool { return len(s.Outcomes) > 0 })
}

// tight says whether room is short, so that nothing is written that can be done without.
func (w *writer) tight() bool { return w.full.Load() || w.over.Load() }

// run commits what the queue holds until it is closed and empty. It returns the reason when it can't go on.
func (w *writer) run() error {
	for several := false; ; {
		if several {
			// This is no wait: whoever has an event at hand and only lacks a processor comes along, which makes fewer, larger commits.
			runtime.Gosched()
		}
		var err error
		tick, stop := w.tick()
		b, ok := w.box.queue.take(tick)
		stop()
		several = len(b.requests) > 1
		if !ok {
			return w.process(batch{}) // the last receipts
		}
		// Not while something waits for the room that the reserve gave up: under a quota it could be made again at once.
		if w.full.Load() && (b.size() == 0 || w.failures == 0) {
			w.refill()
		}
		if b.size() > 0 || w.receiptsDue() {
			err = w.process(b)
		} else {
			err = w.idle()
		}
		if err != nil {
			return err
		}
	}
}

// tick wakes the writer now and then while the disk is full, for receipts that found no commit to ride with, and when retention may
// have something to do.
func (w *writer) tick() (<-chan time.Time, func()) {
	if w.full.Load() {
		return w.clock.After(fullRetry)
	}
	receipts, waiting := w.receiptsWait()
	if look, ok := w.nextLook(); ok && (!waiting || look < receipts) {
		return w.clock.After(look)
	}
	if waiting {
		return w.clock.After(receipts)
	}
	return nil, func() {}
}

// process commits a batch and answers its members. An error ends the outbox.
func (w *writer) process(b batch) error {
	if len(b.requests) == 1 && b.requests[0].aside != nil {
		b.requests[0].done <- b.requests[0].aside(w.conn)
		return nil
	}
	if w.tight() {
		b = w.refuse(b)
	}
	if b.size() == 0 && !w.receiptsDue() {
		return nil
	}
	p, err := w.commit(b)
	var own *ownError
	switch {
	case goWithout(err):
		w.retry(p.batch, false, 0)
		return nil
	case errors.As(err, &own):
		p.batch.requests[0].done <- own.err
		return nil
	case err == nil:
		w.failures, w.retention.helped = 0, false
		w.publish(p)
		return w.checkpoint()
	case isFull(err):
		if again, err := w.makeRoom(); err != nil {
			w.abort(p.batch, w.end(err))
			return w.box.Err()
		} else if again {
			w.box.queue.putBack(p.batch)
			return nil
		}
		w.fill("the disk is full")
		rest, helpless := w.refuse(p.batch), !w.reserve.release() || w.failures > 0
		if helpless {
			rest = refuseWork(rest)
		}
		if rest.size() == 0 {
			return nil
		}
		w.retry(rest, helpless, fullRetry)
		return nil
	case isBusy(err):
		w.retry(p.batch, true, busyRetry)
		return nil
	}
	err = w.end(err)
	w.abort(p.batch, err)
	return err
}

// end ends the outbox and returns why.
func (w *writer) end(cause error) error {
	err := fmt.Errorf("writing the outbox failed: %w", cause)
	w.box.fail(err)
	return err
}

// abort answers those of whom nobody knows whether they are on disk.
func (w *writer) abort(b batch, err error) {
	for _, r := range b.requests {
		r.done <- fmt.Errorf("%w: %w", event.ErrUnknown, err)
	}
}

// ownError is the fault of a work itself, such as a layout that names a thing twice: it is rolled back and answered alone.
type ownError struct{ err error }

func (e *ownError) Error() string { return e.err.Error() }

// commit runs one transaction. Whatever the error, none is open when it returns.
func (w *writer) commit(b batch) (*plan, error) {
	p := &plan{batch: b}
	if err := w.conn.exec("BEGIN IMMEDIATE"); err != nil {
		return p, w.rollback(err)
	}
	if len(b.requests) == 1 && b.requests[0].work != nil {
		publish, err := b.requests[0].work(w.conn)
		if isOwn(err) {
			err = &ownError{err}
		}
		if err != nil {
			return p, w.rollback(err)
		}
		p.work = publish
		w.written += workSize
	} else {
		p = w.newPlan(b)
		p.change()
		if err := w.purgeWith(p); err != nil {
			return p, w.giveUp(p, err)
		}
		if err := w.apply(p); err != nil {
			return p, w.giveUp(p, err)
		}
	}
	if err := w.seal(); err != nil {
		return p, w.giveUp(p, err)
	}
	return p, nil
}

// seal counts the commit, makes it durable and writes the mark.
func (w *writer) seal() error {
	if err := w.conn.exec("UPDATE file SET commits = ?", w.commits+1); err != nil {
		return err
	}
	if err := w.conn.exec("COMMIT"); err != nil {
		if isIndex(err) {
			err = fmt.Errorf("after the sync of a commit: %v", err) // on disk, but not to be seen: neither full nor anything that passes
		}
		return err
	}
	w.commits++
	w.written += 4 * pageSize
	if err := w.mark.write(w.id, w.commits); err != nil {
		w.log.Warn("the outbox's mark could not be written; a lost commit would not be noticed", "err", err)
	}
	return nil
}

// giveUp rolls back a plan that was being carried out.
func (w *writer) giveUp(p *plan, cause error) error {
	err := w.rollback(cause)
	p.unchange()
	p.forget()
	return err
}

func (w *writer) rollback(cause error) error {
	if w.conn.db.AutoCommit() {
		return cause
	}
	if err := w.conn.exec("ROLLBACK"); err != nil {
		// Without the class of either error: a connection that cannot roll back is of no further use.
		return fmt.Errorf("rolling back after %v: %v", cause, err)
	}
	return cause
}

// publish makes a commit visible and answers its members. The order matters: who is answered must find what was committed.
func (w *writer) publish(p *plan) {
	for _, m := range p.cursors {
		m.subscription.moved(m.cursor)
	}
	for i := range p.appends {
		a := &p.appends[i]
		w.box.ring.add(a)
		a.topic.total.Store(a.total)
		a.topic.grow(a.last())
		w.box.ids.grown(a.first, a.last())
	}
	for _, r := range p.rows {
		r.subscription.changed(r)
	}
	w.remember(p)
	w.receipts.published(&p.receipts)
	p.unchange()
	w.publishRetention(p)
	if p.work != nil {
		p.work()
	}
	for i := range p.appends {
		p.appends[i].topic.wake()
	}
	for _, r := range p.batch.requests {
		r.done <- r.refusal
	}
}

// checkpoint moves the WAL into the file when it has grown enough. A full disk is noted; any other failure ends the outbox.
func (w *writer) checkpoint() error {
	if w.written < checkpointEvery {
		if w.retention.tight || w.pressed() || w.scarce() {
			return w.remeasure()
		}
		return nil
	}
	if w.retention.tight {
		free, err := freeBytes(w.box.path)
		w.retention.tight = err != nil || free < minFree
	}
	w.written, w.seen = 0, 0
	frames, err := w.conn.checkpoint("PASSIVE")
	if err == nil && frames*pageSize > checkpointGate {
		w.box.readers.gate.Lock()
		_, err = w.conn.checkpoint("TRUNCATE")
		w.box.readers.gate.Unlock()
	}
	if isFull(err) {
		w.fill("the disk is full")
		w.reserve.release()
		return nil
	}
	if err != nil && !isBusy(err) {
		return fmt.Errorf("checkpointing the outbox failed: %w", err)
	}
	return w.remeasure()
}

// remeasure is measure for a writer that can go on with the last numbers when the file is locked, or its index cannot grow.
func (w *writer) remeasure() error {
	err := w.measure()
	if isFull(err) || isBusy(err) {
		return nil
	}
	return err
}

// bound is how many bytes may be in use before appends are refused; the last tenth is for what drains.
func (w *writer) bound() int64 { return w.maxSize / 10 * 9 }

// usedNow is about how much of maxSize is in use.
func (w *writer) usedNow() int64 { return w.used + max(0, w.written-w.seen) }

// measure looks how much of maxSize is in use.
func (w *writer) measure() error {
	pages, err := w.conn.integer("PRAGMA page_count")
	if err != nil {
		return err
	}
	unused, err := w.conn.integer("PRAGMA freelist_count")
	if err != nil {
		return err
	}
	w.used, w.spare, w.seen = (pages-unused)*pageSize, unused*pageSize, w.written
	w.inUse.Store(w.used)
	over := w.maxSize > 0 && w.used >= w.bound()
	if over {
		history, err := w.hasHistory()
		if err != nil {
			return err
		}
		over = !history // else the next commit has its room from it
	}
	w.brim.Store(over && w.used >= w.maxSize)
	if over != w.over.Swap(over) {
		w.log.Warn("outbox size", "bytes", w.used, "max_size", w.maxSize, "appends_refused", over)
	}
	return nil
}

// retry puts back what could not be committed now. An outbox that is closing does not try for ever: what is not settled then is
// delivered again after the next start.
func (w *writer) retry(b batch, wait bool, d time.Duration) {
	w.box.queue.putBack(b)
	w.failures++
	if wait {
		w.pause(d)
	}
	if w.failures > closingRetries && w.box.queue.isClosed() {
		w.log.Warn("outbox closes without its last settlings", "err", "no room, or the file is locked")
		w.box.queue.abandon(event.ErrClosed)
	}
}

// refuse answers the requests of a batch, and of the queue, that are refused at present. It returns the others.
func (w *writer) refuse(b batch) batch {
	for _, r := range w.box.queue.takeRefused(w.refuses) {
		r.done <- event.ErrFull
	}
	kept := batch{settles: b.settles}
	for _, r := range b.requests {
		if w.refuses(&r.commit) {
			r.done <- event.ErrFull
		} else {
			kept.requests = append(kept.requests, r)
		}
	}
	return kept
}

// refuseWork answers the work of a batch for which not even the reserve had room. Settlings wait instead: they can't be had again.
func refuseWork(b batch) batch {
	if len(b.requests) == 1 && b.requests[0].work != nil {
		b.requests[0].done <- event.ErrFull
		b.requests = nil
	}
	return b
}

// fill begins to refuse appends.
func (w *writer) fill(why string) {
	if !w.full.Swap(true) {
		w.log.Error("outbox refuses events until there is room", "reason", why, "path", w.box.path)
	}
}

// refill looks whether there is room again.
func (w *writer) refill() {
	room, err := w.reserve.ensure()
	if err != nil {
		w.log.Warn("the outbox's reserve could not be made", "err", err)
	}
	if room && w.full.Swap(false) {
		w.log.Info("outbox takes events again", "path", w.box.path)
	}
}

// pause waits a moment. The outbox may close meanwhile; the waits are short enough for that.
func (w *writer) pause(d time.Duration) {
	timer, stop := w.clock.After(d)
	defer stop()
	select {
	case <-timer:
	case <-w.box.queue.closing:
	}
}

func (w *writer) close() error {
	var errs []error
	if w.copying != nil { // its owner came too late to end it
		errs = append(errs, w.copying.end())
	}
	if w.box.Err() == nil {
		_, err := w.conn.checkpoint("TRUNCATE")
		if isFull(err) || isBusy(err) {
			err = nil // the WAL stays and is recovered at the next start
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, w.conn.close(), w.mark.file.Close())...)
}
