package outbox

import (
	"bytes"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/millrace-run/millrace/event"
)

// handClock stands where a test puts it. Its times have no monotonic part, as after a restart.
type handClock struct {
	event.SystemClock
	now atomic.Int64
}

func newHandClock() *handClock {
	c := &handClock{}
	c.now.Store(time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano())
	return c
}

func (c *handClock) Now() time.Time          { return time.Unix(0, c.now.Load()).UTC() }
func (c *handClock) forward(d time.Duration) { c.now.Add(int64(d)) }

// keyedOutbox is an outbox whose topic leaves out duplicates.
type keyedOutbox struct {
	*Outbox
	t       *testing.T
	options Options
	dedupe  *event.Dedupe
	clock   *handClock
}

func openKeyed(t *testing.T, d event.Dedupe) *keyedOutbox {
	t.Helper()
	clock := newHandClock()
	k := &keyedOutbox{t: t, dedupe: &d, clock: clock, options: Options{Path: filepath.Join(t.TempDir(), "outbox.db"), Clock: clock}}
	k.open()
	return k
}

func (k *keyedOutbox) open() {
	k.t.Helper()
	b, err := Open(k.t.Context(), k.options)
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { _ = b.Close() })
	k.Outbox = b
	k.configure()
}

func (k *keyedOutbox) configure(more ...event.Topic) {
	k.t.Helper()
	topics := append(more, event.Topic{Name: "t", Dedupe: k.dedupe})
	if err := k.Configure(k.t.Context(), event.Layout{Topics: topics}); err != nil {
		k.t.Fatal(err)
	}
}

// reopen closes the outbox, changes the file and opens it again.
func (k *keyedOutbox) reopen(statements ...string) {
	k.t.Helper()
	if err := k.Close(); err != nil {
		k.t.Fatal(err)
	}
	if len(statements) > 0 {
		change(k.t, k.path, statements...)
	}
	k.open()
}

// send appends an event with an id and a key in a commit of its own and returns the id that stands for it.
func (k *keyedOutbox) send(id, key string) string {
	k.t.Helper()
	return k.sendAll([]string{id}, key)[0]
}

func (k *keyedOutbox) sendAll(ids []string, keys ...string) []string {
	k.t.Helper()
	a := event.Append{Topic: "t", Keys: keys}
	for _, id := range ids {
		a.Events = append(a.Events, event.Event{ID: id, Source: "/s", Type: "t"})
	}
	got, err := k.Commit(k.t.Context(), event.Commit{Appends: []event.Append{a}})
	if err != nil {
		k.t.Fatal(err)
	}
	ids = slices.Clone(ids)
	for i, id := range got[0].Duplicates {
		ids[i] = id
	}
	return ids
}

// want sends an event and says which id must stand for it.
func (k *keyedOutbox) want(want, id, key string) {
	k.t.Helper()
	if got := k.send(id, key); got != want {
		k.t.Errorf("%s with the key %q: %s stands for it, want %s", id, key, got, want)
	}
}

// sameKeysOnDisk compares the keys in memory with those that a start would load.
func sameKeysOnDisk(t *testing.T, b *Outbox) {
	t.Helper()
	c := outside(t, b.path)
	defer func() { _ = c.close() }()
	for name, topic := range b.topics {
		d := topic.dedupe.Load()
		if d == nil {
			continue
		}
		disk := event.NewKeySet(d.Dedupe, time.Time{})
		err := c.each("SELECT body FROM keys WHERE topic = ? ORDER BY id", func(columns []driver.Value) error {
			_, err := decodeKeys(columns[0].([]byte), disk)
			return err
		}, topic.id)
		want := maps.Collect(keysOf(d.set))
		got := maps.Collect(keysOf(disk))
		maps.DeleteFunc(got, func(h event.KeyHash, k event.Key) bool { _, ok := want[h]; return !ok }) // forgotten, not yet deleted
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("topic %s: %d keys on disk and %d in memory, or they differ (%v)", name, len(got), len(want), err)
		}
	}
}

func keysOf(s *event.KeySet) func(yield func(event.KeyHash, event.Key) bool) {
	return func(yield func(event.KeyHash, event.Key) bool) {
		for _, k := range s.From(0) {
			if !yield(k.Hash, k) {
				return
			}
		}
	}
}

func (k *keyedOutbox) rows() int64 {
	k.t.Helper()
	c := outside(k.t, k.path)
	defer func() { _ = c.close() }()
	n, err := c.integer("SELECT count(*) FROM keys")
	if err != nil {
		k.t.Fatal(err)
	}
	return n
}

// TestSameKeyAtOnce: callers that come together, in one commit or in several, get one event.
func TestSameKeyAtOnce(t *testing.T) {
	k := openKeyed(t, event.Dedupe{Window: time.Hour, MaxKeys: 1000})
	for round := range 20 {
		var ids sync.Map
		var callers sync.WaitGroup
		begin := make(chan struct{})
		for i := range 64 {
			callers.Go(func() {
				<-begin
				ids.Store(k.send(fmt.Sprintf("%d/%d", round, i), fmt.Sprint("key ", round)), true)
			})
		}
		close(begin)
		callers.Wait()
		ids.Range(func(id, _ any) bool {
			if got := allEvents(t, k.Outbox); len(got) != round+1 || got[round] != id {
				t.Fatalf("the events are %v, %v stands for the last", got, id)
			}
			return true
		})
	}
	sameOnDisk(t, k.Outbox)
}

// TestDuplicatesOfOneCommit: an event may be the duplicate of one before it, and those without a key never are.
func TestDuplicatesOfOneCommit(t *testing.T) {
	k := openKeyed(t, event.Dedupe{Window: time.Hour, MaxKeys: 1000})
	got := k.sendAll([]string{"a", "b", "c", "d", "e", "f"}, "1", "2", "1", "", "", "2")
	if want := []string{"a", "b", "a", "d", "e", "b"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := k.sendAll([]string{"g", "h"}, "2", "3"); !slices.Equal(got, []string{"b", "h"}) {
		t.Errorf("%v", got)
	}
	if got := allEvents(t, k.Outbox); !slices.Equal(got, []string{"a", "b", "d", "e", "h"}) {
		t.Errorf("the topic has %v", got)
	}
	for _, a := range []event.Append{
		{Topic: "t", Events: []event.Event{{ID: "x"}}, Keys: []string{}},
		{Topic: "plain", Events: []event.Event{{ID: "x"}}, Keys: []string{"x"}},
	} {
		k.configure(event.Topic{Name: "plain"})
		if _, err := k.Commit(t.Context(), event.Commit{Appends: []event.Append{a}}); err == nil {
			t.Errorf("%+v was taken", a)
		}
	}
}

// TestKeysOutliveTheirEvents: neither a restart nor the end of the events' segments makes a key forgotten; its window does.
func TestKeysOutliveTheirEvents(t *testing.T) {
	k := openKeyed(t, event.Dedupe{Window: time.Hour, MaxKeys: 1000})
	k.want("first", "first", "order")
	k.clock.forward(30 * time.Minute)
	k.want("other", "other", "other")
	k.reopen("DELETE FROM segments WHERE first = 1")
	k.want("first", "second", "order")
	k.clock.forward(30*time.Minute - time.Millisecond)
	k.want("first", "third", "order")
	k.clock.forward(time.Millisecond)
	k.want("fourth", "fourth", "order")
	k.want("other", "fifth", "other")
	k.reopen()
	k.want("fourth", "sixth", "order")
	sameOnDisk(t, k.Outbox)
}

// TestClockOfKeys: what a wrong clock does to a window of an hour, with a restart at each step and without.
func TestClockOfKeys(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, restarts := range []bool{false, true} {
		for name, c := range map[string]struct {
			steps []time.Duration
			known bool // after them
		}{
			"it goes on":                      {[]time.Duration{59 * time.Minute}, true},
			"an hour goes by":                 {[]time.Duration{time.Hour}, false},
			"an hour back":                    {[]time.Duration{-time.Hour}, true},
			"a year back, then 59 minutes":    {[]time.Duration{-year, 59 * time.Minute}, true},
			"a year back, then an hour":       {[]time.Duration{-year, time.Hour}, false},
			"half an hour, back, half of one": {[]time.Duration{30 * time.Minute, -2 * time.Hour, 30 * time.Minute}, false},
		} {
			t.Run(fmt.Sprint(name, restarts), func(t *testing.T) {
				k := openKeyed(t, event.Dedupe{Window: time.Hour, MaxKeys: 1000})
				k.want("first", "first", "order")
				for i, step := range c.steps {
					k.clock.forward(step)
					if restarts {
						k.reopen()
					}
					k.send("other", fmt.Sprint("other ", i))
				}
				want := "again"
				if c.known {
					want = "first"
				}
				k.want(want, "again", "order")
			})
		}
	}
}

// TestMaxKeys: the oldest is forgotten, and it is said.
func TestMaxKeys(t *testing.T) {
	k := openKeyed(t, event.Dedupe{Window: time.Hour, MaxKeys: 3})
	for _, key := range []string{"1", "2", "3"} {
		k.want(key, key, key)
	}
	k.want("1", "x", "1")
	got, err := k.Commit(t.Context(), event.Commit{Appends: []event.Append{
		{Topic: "t", Events: []event.Event{{ID: "4"}, {ID: "5"}}, Keys: []string{"4", "5"}}}})
	if err != nil || got[0].Forgotten != 2 {
		t.Errorf("%d keys were forgotten, %v", got[0].Forgotten, err)
	}
	k.want("3", "x", "3")
	k.want("1 again", "1 again", "1") // and 3 is forgotten
	k.reopen()
	k.want("4", "x", "4")
	k.dedupe = &event.Dedupe{Window: time.Hour, MaxKeys: 1}
	k.reopen()
	got, err = k.Commit(t.Context(), event.Commit{Appends: []event.Append{
		{Topic: "t", Events: []event.Event{{ID: "x"}}, Keys: []string{"1"}}}})
	if err != nil || got[0].Duplicates[0] != "1 again" || got[0].Forgotten != 0 {
		t.Errorf("with a smaller bound: %+v, %v", got, err)
	}
}

// body is an append of events whose ids are their keys, made of a body.
func body(text string, ids ...string) event.Commit {
	a := event.Append{Topic: "t", Keys: ids, Body: []byte(text)}
	for _, id := range ids {
		a.Events = append(a.Events, event.Event{ID: id})
	}
	return event.Commit{Appends: []event.Append{a}, States: []event.State{{Owner: "s", Changes: event.Changes{"k": []byte(text)}}}}
}

// TestConflict: the same key with another body refuses the whole commit; without a body, or under keys that do not say the id,
// nothing is compared.
func TestConflict(t *testing.T) {
	k := openKeyed(t, event.Dedupe{Window: time.Hour, MaxKeys: 1000, SameID: true})
	try := func(c event.Commit, want error) {
		t.Helper()
		if err := commit(t.Context(), k.Outbox, c); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	try(body("a", "1", "2"), nil)
	try(body("a", "1", "2"), nil)
	try(body("b", "3", "2"), event.ErrConflict)
	k.reopen()
	try(body("", "2"), event.ErrConflict)
	try(body("c", "3"), nil) // not remembered of the refused one
	k.want("2", "2", "2")    // says nothing of its body
	if got := allEvents(t, k.Outbox); !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("%v", got)
	}
	if state, err := k.State(t.Context(), "s"); err != nil || string(state["k"]) != "c" {
		t.Errorf("state %q, %v", state["k"], err)
	}
	k.dedupe = &event.Dedupe{Name: "data.x", Window: time.Hour, MaxKeys: 1000}
	k.reopen()
	try(body("d", "1"), nil)
	try(body("e", "1"), nil)
	if got := allEvents(t, k.Outbox); !slices.Equal(got, []string{"1", "2", "3", "1"}) {
		t.Errorf("keys of another name: %v", got)
	}
}

// TestConflictWithinACommit: who conflicts with a member of the same commit hears of it when that is on disk, and is tried again
// when it fails.
func TestConflictWithinACommit(t *testing.T) {
	var f faults
	k := openKeyed(t, event.Dedupe{Window: time.Hour, MaxKeys: 1000, SameID: true})
	k.options.fault = f.hook
	k.reopen()
	busy := true
	began, together := make(chan struct{}), make(chan struct{})
	f.set(func(query string) error {
		if query != "COMMIT" || !busy {
			return nil
		}
		busy = false
		close(began)
		<-together // until both wait
		return sqlite3.Error{Code: sqlite3.ErrBusy}
	})
	send := func(text string) <-chan error {
		answer := make(chan error, 1)
		go func() { answer <- commit(t.Context(), k.Outbox, body(text, "1")) }()
		return answer
	}
	first := send("a")
	<-began
	second := send("b")
	awaitQueued(t, k.Outbox)
	close(together)
	if err := <-first; err != nil {
		t.Errorf("the first: %v", err)
	}
	if err := <-second; !errors.Is(err, event.ErrConflict) {
		t.Errorf("the second: %v", err)
	}
	if ids := allEvents(t, k.Outbox); len(ids) != 1 {
		t.Errorf("the topic has %v", ids)
	}
}

// awaitQueued waits until a request waits for the writer.
func awaitQueued(t *testing.T, b *Outbox) {
	t.Helper()
	for t.Context().Err() == nil {
		b.queue.mu.Lock()
		n := len(b.queue.requests)
		b.queue.mu.Unlock()
		if n > 0 {
			return
		}
		runtime.Gosched()
	}
}

// TestNothingIsRememberedOfAFault: a member that is refused for a fault of its own leaves no keys.
func TestNothingIsRememberedOfAFault(t *testing.T) {
	k := openKeyed(t, event.Dedupe{Window: time.Hour, MaxKeys: 1000, SameID: true})
	k.configure(event.Topic{Name: "other", Subscriptions: []string{"other/1"}})
	beyond := body("a", "1")
	beyond.Settles = []event.Settle{{Subscription: "other/1", Outcomes: []event.Outcome{{Offset: 99}}}}
	if err := commit(t.Context(), k.Outbox, beyond); err == nil {
		t.Error("an event that is not there was settled")
	}
	two := body("a", "1")
	two.Appends = append(two.Appends, body("b", "2", "1").Appends...)
	if err := commit(t.Context(), k.Outbox, two); !errors.Is(err, event.ErrConflict) {
		t.Error(err)
	}
	sameOnDisk(t, k.Outbox)
	if got := k.sendAll([]string{"1", "2"}, "1", "2"); len(allEvents(t, k.Outbox)) != 2 {
		t.Errorf("%v", got)
	}
}

// TestNothingIsRememberedOfWhatFailed: a key counts from the commit that is on disk.
func TestNothingIsRememberedOfWhatFailed(t *testing.T) {
	var f faults
	k := openKeyed(t, event.Dedupe{Window: time.Hour, MaxKeys: 1000})
	k.options.fault, k.options.Clock = f.hook, hasty{}
	k.reopen()
	k.want("0", "0", "0")
	for _, statement := range []string{"INSERT INTO segments", "UPDATE keys", "COMMIT"} {
		f.set(func(query string) error {
			if strings.HasPrefix(query, statement) {
				return sqlite3.Error{Code: sqlite3.ErrFull}
			}
			return nil
		})
		_, err := k.Commit(t.Context(), event.Commit{Appends: []event.Append{{
			Topic: "t", Events: []event.Event{{ID: "a"}, {ID: "b"}, {ID: "c"}}, Keys: []string{statement, statement, "0"}}}})
		if !errors.Is(err, event.ErrFull) {
			t.Errorf("%s: %v", statement, err)
		}
		f.set(func(string) error { return nil })
		// The writer looks for room now and then; a settling makes it look at once.
		for k.writer.tight() {
			state := event.State{Owner: "s", Changes: event.Changes{"k": nil}}
			if err := commit(t.Context(), k.Outbox, event.Commit{States: []event.State{state}}); err != nil {
				t.Fatal(err)
			}
		}
		sameOnDisk(t, k.Outbox)
		k.want(statement, statement, statement)
		k.want("0", "x", "0")
	}
}

// TestRowsOfKeys: rows fill their page and are deleted a few at a time when they are over.
func TestRowsOfKeys(t *testing.T) {
	k := openKeyed(t, event.Dedupe{Window: time.Hour, MaxKeys: 1_000_000, SameID: true})
	fill := func(from, n int) {
		ids := make([]string, n)
		for i := range ids {
			ids[i] = fmt.Sprint(from + i)
		}
		k.sendAll(ids, ids...)
	}
	for i := range 40 {
		fill(i*1000, 1000)
	}
	full := k.rows()
	if full < 40_000*18/keysRow || full > 40_000*20/keysRow {
		t.Errorf("%d keys take %d rows", 40_000, full)
	}
	sameOnDisk(t, k.Outbox)
	k.clock.forward(time.Hour)
	before := full
	for i := 0; k.rows() > 1; i++ {
		fill(100_000+i, 1)
		now := k.rows()
		if before-now > 2*keysFreed || i > 100 {
			t.Fatalf("commit %d left %d rows of %d", i, now, before)
		}
		before = now
	}
	sameOnDisk(t, k.Outbox)
	k.clock.forward(time.Hour / keysBuckets)
	fill(200_000, 1)
	if n := k.rows(); n != 2 {
		t.Errorf("%d rows: an old row takes no more keys", n)
	}
}

// TestDedupeSwitchedOff: then the keys go, also those of a topic that is not named for longer than any window. Before that it
// finds its keys again.
func TestDedupeSwitchedOff(t *testing.T) {
	settings := event.Dedupe{Window: time.Hour, MaxKeys: 1000}
	k := openKeyed(t, settings)
	k.want("1", "1", "1")
	layout := func(topics ...event.Topic) {
		t.Helper()
		if err := k.Configure(t.Context(), event.Layout{Topics: topics}); err != nil {
			t.Fatal(err)
		}
	}
	push := func() {
		t.Helper()
		c := event.Commit{Appends: []event.Append{{Topic: "other", Events: []event.Event{{ID: "x"}}}}}
		if err := commit(t.Context(), k.Outbox, c); err != nil {
			t.Fatal(err)
		}
	}
	other := event.Topic{Name: "other"}
	layout(other)
	push()
	k.configure(other)
	k.want("1", "2", "1")
	k.reopen()
	layout(other)
	k.configure(other)
	k.want("1", "3", "1")

	k.dedupe = nil
	k.configure(other)
	if n := k.rows(); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	k.dedupe = &settings
	k.configure(other)
	k.want("4", "4", "1")

	layout(other)
	k.clock.forward(keysOrphaned + time.Second)
	layout(other)
	if n := k.rows(); n != 0 {
		t.Errorf("%d rows of a topic that is gone are left", n)
	}
	k.configure(other)
	k.want("5", "5", "1")
	k.reopen()
	k.want("5", "6", "1")
}

// TestDamagedKeys: a row that does not say what was written to it is reported and left out; the others count.
func TestDamagedKeys(t *testing.T) {
	k := openKeyed(t, event.Dedupe{Window: time.Hour, MaxKeys: 1000})
	k.want("1", "1", "1")
	k.reopen() // the next row
	k.want("2", "2", "2")
	var log bytes.Buffer
	k.options.Logger = slog.New(slog.NewTextHandler(&log, nil))
	k.reopen("UPDATE keys SET body = zeroblob(length(body)) WHERE id = 1")
	k.want("2", "x", "2")
	k.want("again", "again", "1")
	if !strings.Contains(log.String(), "keys of a topic are lost") || !strings.Contains(log.String(), "topic=t row=1") {
		t.Errorf("the log says %s", log.String())
	}
	k.reopen()
	k.want("again", "x", "1")
	k.reopen("UPDATE keys SET body = zeroblob(3)")
	k.want("new", "new", "1")
}

// TestDecodeKeys: no body can make a start fail, and a part of one is not taken.
func TestDecodeKeys(t *testing.T) {
	set := event.NewKeySet(event.Dedupe{Window: time.Hour, MaxKeys: 10}, time.Time{})
	whole := appendKey(appendKey([]byte{keysVersion}, event.Key{At: 300, ID: "id"}, 0), event.Key{At: 1000, Mark: 7}, 300)
	for n := range whole {
		if _, err := decodeKeys(sealed(whole[:n:n]), set); n > 1 && n != 22 && err == nil {
			t.Errorf("%d of %d bytes were taken", n, len(whole))
		}
		if n == 1 || n == 22 { // no key, and the first one
			set.Truncate(1)
		}
		if _, next := set.Bounds(); next != 1 {
			t.Fatalf("%d bytes left %d keys", n, next-1)
		}
	}
	if last, err := decodeKeys(sealed(whole), set); err != nil || last != 1000 {
		t.Errorf("%d, %v", last, err)
	}
	if k := set.At(1); k.ID != "id" || k.At != 300 {
		t.Errorf("%+v", k)
	}
}

// TestOldFile: a file of the first version gets what it lacks.
func TestOldFile(t *testing.T) {
	k := openKeyed(t, event.Dedupe{Window: time.Hour, MaxKeys: 10})
	k.want("1", "1", "1")
	k.reopen(toVersion1...)
	k.want("2", "2", "1")
	k.want("2", "3", "1")
	if got := allEvents(t, k.Outbox); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("%v", got)
	}
}

// TestDuplicateOfWhatFailed: of two callers with one key, whose events come into one commit that fails, neither hears of an event that
// was never stored.
func TestDuplicateOfWhatFailed(t *testing.T) {
	var f faults
	k := openKeyed(t, event.Dedupe{Window: time.Hour, MaxKeys: 1000})
	k.options.fault, k.options.Clock = f.hook, hasty{}
	k.reopen()
	tries := 0
	began, together := make(chan struct{}), make(chan struct{})
	f.set(func(query string) error {
		if query != "COMMIT" {
			return nil
		}
		if tries++; tries == 1 {
			close(began)
			<-together // until both wait
			return sqlite3.Error{Code: sqlite3.ErrBusy}
		}
		return sqlite3.Error{Code: sqlite3.ErrFull}
	})
	send := func(id string) <-chan error {
		answer := make(chan error, 1)
		go func() {
			_, err := k.Commit(t.Context(), event.Commit{Appends: []event.Append{{
				Topic: "t", Events: []event.Event{{ID: id}}, Keys: []string{"key"}}}})
			answer <- err
		}()
		return answer
	}
	first := send("a")
	<-began
	second := send("b")
	awaitQueued(t, k.Outbox)
	close(together)
	for _, answer := range []<-chan error{first, second} {
		if err := <-answer; !errors.Is(err, event.ErrFull) {
			t.Error(err)
		}
	}
	f.set(func(string) error { return nil })
	for k.writer.tight() {
		state := event.State{Owner: "s", Changes: event.Changes{"k": nil}}
		if err := commit(t.Context(), k.Outbox, event.Commit{States: []event.State{state}}); err != nil {
			t.Fatal(err)
		}
	}
	k.want("c", "c", "key")
	sameOnDisk(t, k.Outbox)
}
