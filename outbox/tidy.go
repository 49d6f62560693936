package outbox

import (
	"context"
	"fmt"

	"github.com/millrace-run/millrace/event"
)

// idForget is how many blocks of the index one commit deletes at most: half a MiB of pages each.
const idForget = 4

// shrunk wakes the goroutine when a purge has come over the end of a block. The writer calls it after each purge.
func (x *ids) shrunk(from, to event.Offset) {
	if from/x.block != to/x.block {
		x.wake()
	}
}

// tidy deletes the index of what was purged, a few blocks in each commit. What is still there does no harm: a look-up begins with the
// block of the first segment. On a full disk all stays, because deleting takes room in the WAL first.
func (x *ids) tidy(ctx context.Context, t *topic) error {
	for t.id < maxIDTopic && !x.spent.Load() && !x.box.writer.full.Load() {
		upTo := t.purgedTo()
		some, err := x.hasBefore(ctx, t, int64(upTo/x.block))
		if err != nil || !some {
			return err
		}
		if err := x.box.do(ctx, func(c *conn) (func(), error) { return nil, x.forget(c, t, upTo) }); err != nil {
			return err
		}
	}
	return nil
}

// hasBefore says whether a block before end has an index.
func (x *ids) hasBefore(ctx context.Context, t *topic, end int64) (some bool, err error) {
	err = x.box.readers.with(ctx, func(c *conn) error {
		n, err := c.integer("SELECT EXISTS (SELECT 1 FROM id_blocks WHERE topic = ? AND block < ?)", t.id, end)
		some = n != 0
		return err
	})
	return some, err
}

// forget deletes the index of the first blocks that end at or before upTo. It runs on the writer's goroutine. After a damaged page
// SQLite refuses every change until the transaction ends: then this is an error once, and nothing is deleted any more.
func (x *ids) forget(c *conn, t *topic, upTo event.Offset) error {
	if x.spent.Load() {
		return nil
	}
	err := x.forgetBefore(c, t, int64(upTo/x.block))
	if isCorrupt(err) {
		x.spent.Store(true)
		return fmt.Errorf("%v; it is left alone from now on", indexError(t, err)) // without its class: only this transaction is lost
	}
	return err
}

func (x *ids) forgetBefore(c *conn, t *topic, end int64) error {
	last, err := c.integer(`SELECT coalesce(max(block), -1) FROM
		(SELECT block FROM id_blocks WHERE topic = ? AND block < ? ORDER BY block LIMIT ?)`, t.id, end, int64(idForget))
	if err != nil || last < 0 {
		return err
	}
	for bucket := range int64(idBuckets) {
		err := c.exec("DELETE FROM ids WHERE id BETWEEN ? AND ?", x.rowKey(t, bucket, 0), x.rowKey(t, bucket, last))
		if err != nil {
			return err
		}
	}
	return c.exec("DELETE FROM id_blocks WHERE topic = ? AND block <= ?", t.id, last)
}
