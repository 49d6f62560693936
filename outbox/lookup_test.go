package outbox

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/millrace-run/millrace/event"
)

const smallBlock = 64

func small(path string) Options { return Options{Path: path, idBlock: smallBlock} }

// found is where Find says that an id is, as topic@offset.
func found(t *testing.T, b *Outbox, id string, limit int) string {
	t.Helper()
	list, err := b.Find(t.Context(), id, limit)
	if err != nil {
		t.Errorf("%s: %v", id, err)
	}
	return places(list)
}

func places(list []event.Located) string {
	var all []string
	for _, l := range list {
		all = append(all, fmt.Sprintf("%s@%d", l.Topic, l.Record.Offset))
	}
	return strings.Join(all, " ")
}

// indexed waits until a number of blocks of a topic have their index.
func indexed(t *testing.T, b *Outbox, blocks int) {
	t.Helper()
	topic := b.topic("t")
	for t.Context().Err() == nil {
		_, whole, err := b.ids.blocks(t.Context(), topic, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(whole) >= blocks {
			return
		}
		runtime.Gosched()
	}
}

func everyID(t *testing.T, b *Outbox, n int) {
	t.Helper()
	for i := 1; i <= n; i++ {
		if got, want := found(t, b, fmt.Sprint("e", i), 0), fmt.Sprint("t@", i); got != want {
			t.Fatalf("e%d is at %q, want %q", i, got, want)
		}
	}
}

// Every event is found by its id, whether it is in a block, in memory or not looked at yet, after a restart too.
func TestFind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	b := opened(t, small(path))
	if got := found(t, b, "e1", 0); got != "" {
		t.Errorf("an empty outbox has %q", got)
	}
	n := 0
	for _, more := range []int{1, 62, 1, 1, 200, 63, 700} {
		putMany(t, b, n+1, n+more)
		n += more
		everyID(t, b, n)
	}
	indexed(t, b, n/smallBlock)
	everyID(t, b, n)
	for _, id := range []string{"", "e0", "e1029", "E1", "e1 "} {
		if got := found(t, b, id, 0); got != "" {
			t.Errorf("%q is at %q", id, got)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = opened(t, small(path))
	everyID(t, b, n)
	list, err := b.Find(t.Context(), "e900", 1)
	if err != nil || len(list) != 1 || list[0].Record.Event.ID != "e900" || list[0].Record.Event.Source != "/a" {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestFindRepeats(t *testing.T) {
	b, err := Open(t.Context(), small(filepath.Join(t.TempDir(), "outbox.db")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	layout := event.Layout{Topics: []event.Topic{{Name: "t"}, {Name: "a"}, {Name: "z"}}}
	if err := b.Configure(t.Context(), layout); err != nil {
		t.Fatal(err)
	}
	same := event.Event{ID: "same", Source: "/a", Type: "t"}
	for i := range 3 {
		putMany(t, b, i*100+1, i*100+100)
		commit := event.Commit{Appends: []event.Append{{Topic: "t", Events: []event.Event{same, same}}, {Topic: "z", Events: []event.Event{same}}}}
		if _, err := b.Commit(t.Context(), commit); err != nil {
			t.Fatal(err)
		}
	}
	want := "t@101 t@102 t@203 t@204 t@305 t@306 z@1 z@2 z@3"
	for _, c := range []struct {
		limit int
		want  string
	}{{0, want}, {100, want}, {1, "t@101"}, {3, "t@101 t@102 t@203"}, {7, "t@101 t@102 t@203 t@204 t@305 t@306 z@1"}} {
		if got := found(t, b, "same", c.limit); got != c.want {
			t.Errorf("limit %d: %q, want %q", c.limit, got, c.want)
		}
	}
}

// A file of the version before has events and no index. They are found at once, and the index is made.
func TestFindInAnOldFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	b := opened(t, small(path))
	putMany(t, b, 1, 1000)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	change(t, path, toVersion1...)
	b = opened(t, small(path))
	everyID(t, b, 10)
	indexed(t, b, 15)
	everyID(t, b, 1000)
}

// A damaged index is never a wrong answer: the events are read instead, and the index is made again.
func TestFindWithDamagedIndex(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	for _, damage := range []string{
		"UPDATE ids SET body = substr(body, 1, 5) || x'FF' || substr(body, 7) WHERE length(body) > 8",
		"UPDATE ids SET body = x''", "UPDATE ids SET body = substr(body, 1, 4)", "UPDATE ids SET body = substr(body, 1, 10)",
		"DELETE FROM ids WHERE id % 2 = 0", "DELETE FROM ids", "UPDATE ids SET id = -id", "DELETE FROM id_blocks WHERE block = 1",
		"DELETE FROM secrets WHERE name = 'ids'", "UPDATE secrets SET value = x'00112233445566778899aabbccddeeff' WHERE name = 'ids'",
		"UPDATE secrets SET value = 7 WHERE name = 'ids'",
		"INSERT INTO id_blocks VALUES (1, 7000)",
	} {
		t.Run(damage, func(t *testing.T) {
			b := opened(t, small(path))
			if b.topic("t").head() == 0 {
				putMany(t, b, 1, 200)
			}
			indexed(t, b, 3)
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			change(t, path, damage)
			b = opened(t, small(path))
			everyID(t, b, 200)
			for i := 1; i <= 200; i++ { // whatever is left to repair is repaired
				found(t, b, fmt.Sprint("e", i), 0)
			}
			for len(b.ids.signal) > 0 || repairing(b) {
				runtime.Gosched()
			}
			everyID(t, b, 200)
			if repairing(b) {
				t.Error("what was made again is damaged")
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func repairing(b *Outbox) bool {
	b.ids.mu.Lock()
	defer b.ids.mu.Unlock()
	return len(b.ids.again) > 0
}

// Events that cannot be read are told of; the others are found.
func TestFindWithDamagedSegments(t *testing.T) {
	for _, when := range []string{"before the index", "behind the index", "in the tail"} {
		t.Run(when, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "outbox.db")
			b := opened(t, small(path))
			for at := 1; at <= 290; at += 10 {
				putMany(t, b, at, at+9)
			}
			indexed(t, b, 4)
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			lost := 101
			switch when {
			case "before the index":
				change(t, path, "DELETE FROM id_blocks", "DELETE FROM ids")
			case "in the tail":
				lost = 271
			}
			change(t, path, fmt.Sprintf("UPDATE segments SET body = substr(body, 1, 20) || x'00' || substr(body, 22) WHERE first = %d", lost))
			b = opened(t, small(path))
			indexed(t, b, 3)
			for i := 1; i <= 290; i++ {
				list, err := b.Find(t.Context(), fmt.Sprint("e", i), 0)
				in := i >= lost && i < lost+10
				if got := places(list); in != (got == "") || !in && got != fmt.Sprint("t@", i) {
					t.Errorf("e%d is at %q", i, got)
				}
				if in && (!errors.Is(err, errDamaged) || !strings.Contains(err.Error(), fmt.Sprintf("topic t, events %d to %d", lost, lost+9))) {
					t.Errorf("e%d: %v", i, err)
				}
			}
			putMany(t, b, 291, 600)
			if got := places(must(b.Find(t.Context(), "e600", 0))); got != "t@600" {
				t.Errorf("e600 is at %q", got)
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// must is for a look-up that may tell of damage.
func must(list []event.Located, _ error) []event.Located { return list }

// What is deleted at the front of a topic is no longer found and no error, and takes its index along.
func TestForgetIDs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	b := opened(t, small(path))
	for at := 1; at <= 1000; at += 10 {
		putMany(t, b, at, at+9)
	}
	indexed(t, b, 15)
	topic := b.topic("t")
	forget := func(upTo event.Offset) {
		t.Helper()
		err := b.do(t.Context(), func(c *conn) (func(), error) {
			if err := c.exec("DELETE FROM segments WHERE topic = ? AND first + n - 1 <= ?", topic.id, int64(upTo)); err != nil {
				return nil, err
			}
			return nil, b.ids.forget(c, topic, upTo)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	b.ring.mu.Lock()
	b.ring.byname, b.ring.blocks = nil, nil // purged events are not of the last
	b.ring.mu.Unlock()
	left := func(upTo int) {
		t.Helper()
		for i := 1; i <= 1000; i++ {
			want := fmt.Sprint("t@", i)
			if i <= upTo {
				want = ""
			}
			if got := found(t, b, fmt.Sprint("e", i), 0); got != want {
				t.Fatalf("up to %d is gone, e%d is at %q", upTo, i, got)
			}
		}
	}
	rows := func() int64 {
		t.Helper()
		n, err := outside(t, path).integer("SELECT count(*) FROM ids")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	forget(60)
	left(60)
	if n := rows(); n != 15*idBuckets {
		t.Errorf("%d rows while the first block has events", n)
	}
	forget(130)
	left(130)
	if n := rows(); n != 13*idBuckets {
		t.Errorf("%d rows of ids, want those of 13 blocks", n)
	}
	forget(900) // 12 more blocks, of which one call deletes 4
	left(900)
	if n := rows(); n != 9*idBuckets {
		t.Errorf("%d rows of ids, want those of 9 blocks", n)
	}
	forget(900)
	forget(900)
	forget(900)
	if n := rows(); n != idBuckets {
		t.Errorf("%d rows of ids, want those of one block", n)
	}
	left(900)
	forget(1000)
	left(1000)
}

// Find while events come, blocks are made and others look.
func TestFindWhileItGrows(t *testing.T) {
	b := opened(t, small(""))
	const n = 1500
	done := make(chan struct{})
	go func() {
		defer close(done)
		for at := 1; at <= n; at += 15 {
			putMany(t, b, at, at+14)
		}
	}()
	for i := 1; i <= n; {
		at := b.topic("t").head()
		if at < event.Offset(i) {
			runtime.Gosched()
			continue
		}
		if got := found(t, b, fmt.Sprint("e", i), 0); got != fmt.Sprint("t@", i) {
			t.Fatalf("e%d is at %q of %d", i, got, at)
		}
		i += 7
	}
	<-done
}

// A look-up ends when its caller does, and the outbox when it is closed, whatever the index still has to do.
func TestFindEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	b := opened(t, small(path))
	putMany(t, b, 1, 4000)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Find(ctx, "e1", 0); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who has gone gets %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Find(t.Context(), "e1", 0); !errors.Is(err, event.ErrClosed) {
		t.Errorf("a closed outbox answers %v", err)
	}
}

// The tail does not grow without bound while the index cannot be written; what it dropped is read again.
func TestTailIsBounded(t *testing.T) {
	x := &idTail{from: 1}
	for range 10 * smallBlock {
		x.hashes = append(x.hashes, 7)
	}
	kept := x.hashes
	x.drop(6, smallBlock)
	if x.from != 6*smallBlock+1 || len(x.hashes) != 4*smallBlock || x.next() != 10*smallBlock+1 || len(kept) != 10*smallBlock {
		t.Errorf("from %d, %d hashes", x.from, len(x.hashes))
	}
}

// Ids that agree in the bits that the index keeps are told apart by the events.
func TestFindWithEqualHashes(t *testing.T) {
	b := opened(t, small(""))
	x, topic := b.ids, b.topic("t")
	putMany(t, b, 1, smallBlock)
	hash := x.hash("e5")
	hashes := slices.Repeat([]uint64{hash}, smallBlock)
	rows := x.rows(topic, 0, hashes)
	body := rows[hash>>bucketShift]
	if len(body) != idHeader+smallBlock*idEntry || !x.sound(x.rowKey(topic, int64(hash>>bucketShift), 0), body) {
		t.Fatalf("a row of %d bytes", len(body))
	}
	indexed(t, b, 1)
	err := b.do(t.Context(), func(c *conn) (func(), error) {
		return nil, c.exec("UPDATE ids SET body = ? WHERE id = ?", body, x.rowKey(topic, int64(hash>>bucketShift), 0))
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := found(t, b, "e5", 0); got != "t@5" {
		t.Errorf("e5 is at %q", got)
	}
}
