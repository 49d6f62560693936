package outbox

import "errors"

// partError is a damaged page of something that the outbox can do without, such as receipts or the purge of a topic. From it on
// SQLite refuses every change until the transaction ends: what was to be done is done anew without that part, since an event that
// was accepted must not wait for it. It hides the class of its cause, so that it is taken for nothing worse.
type partError struct {
	err     error
	without func() // gives the part up for as long as the outbox is open; for the writer, when the transaction has ended
}

func (e *partError) Error() string { return e.err.Error() }

// ofPart marks an error that only a damaged page of a part makes.
func ofPart(err error, without func()) error {
	if isCorrupt(err) {
		return &partError{err, without}
	}
	return err
}

// goWithout gives up the part that an error is of. It reports whether it is of one.
func goWithout(err error) bool {
	var part *partError
	if !errors.As(err, &part) {
		return false
	}
	part.without()
	return true
}

// ofHistory marks an error that purging a topic makes.
func (w *writer) ofHistory(t *topic, err error) error {
	return ofPart(err, func() {
		w.log.Error("history is damaged on disk and is no longer purged", "topic", t.name, "err", err)
		t.stuck = true
	})
}

// ofReceipts marks an error that only receipts make.
func (w *writer) ofReceipts(err error) error {
	return ofPart(err, func() {
		w.log.Error("receipts are damaged on disk and no more are kept", "err", err)
		w.receipts.spent = true
	})
}

// ofBodies marks an error that deleting rescued events makes.
func (w *writer) ofBodies(err error) error {
	return ofPart(err, func() {
		w.log.Error("rescued events are damaged on disk and stay there when nothing names them any more", "err", err)
		w.keepBodies = true
	})
}
