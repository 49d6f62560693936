package outbox

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/event"
)

// hand is a clock that a test moves.
type hand struct {
	mu     sync.Mutex
	now    time.Time
	timers map[chan time.Time]time.Time
}

func newHand() *hand {
	return &hand{now: time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC), timers: map[chan time.Time]time.Time{}}
}

func (h *hand) Now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *hand) After(d time.Duration) (<-chan time.Time, func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := make(chan time.Time, 1)
	if d <= 0 {
		c <- h.now
		return c, func() {}
	}
	h.timers[c] = h.now.Add(d)
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.timers, c)
	}
}

// pass lets time pass.
func (h *hand) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
	for c, at := range h.timers {
		if !h.now.Before(at) {
			c <- h.now
			delete(h.timers, c)
		}
	}
}

func delivered(o event.Offset, attempt, status int, took time.Duration) event.Outcome {
	return event.Outcome{Offset: o, Receipt: event.Receipt{Attempt: attempt, Status: status, Took: took}}
}

func receiptsOf(t *testing.T, b *Outbox, subscription string, o event.Offset) []event.DatedReceipt {
	t.Helper()
	list, err := b.Receipts(t.Context(), subscription, o)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func putMany(t *testing.T, b *Outbox, from, to int) {
	t.Helper()
	var events []event.Event
	for i := from; i <= to; i++ {
		events = append(events, event.Event{ID: fmt.Sprint("e", i), Source: "/a", Type: "t"})
	}
	if _, err := b.Commit(t.Context(), appending(events...)); err != nil {
		t.Fatal(err)
	}
}

func receiptRows(t *testing.T, path string) int64 {
	t.Helper()
	c := outside(t, path)
	n, err := c.integer("SELECT count(*) FROM receipts")
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A receipt is known at once, rides with the first commit after a second, and is the same from memory, from disk and after a
// restart.
func TestReceiptsRideAlong(t *testing.T) {
	clock, path := newHand(), filepath.Join(t.TempDir(), "outbox.db")
	b := opened(t, Options{Path: path, Clock: clock})
	putMany(t, b, 1, 5)
	settle(t, b, "t/eager", delivered(1, 1, 202, 12*time.Millisecond), event.Outcome{Offset: 2}, delivered(3, 70000, 250, 99*24*time.Hour),
		retrying(4, false))
	at := clock.Now()
	want := []event.DatedReceipt{{Receipt: event.Receipt{Attempt: 1, Status: 202, Took: 12 * time.Millisecond}, At: at}}
	if d := cmp.Diff(want, receiptsOf(t, b, "t/eager", 1)); d != "" {
		t.Error(d)
	}
	if n := receiptRows(t, path); n != 0 {
		t.Errorf("%d rows before a second has passed", n)
	}
	clock.pass(999 * time.Millisecond)
	putMany(t, b, 6, 6)
	if n := receiptRows(t, path); n != 0 {
		t.Errorf("%d rows before a second has passed", n)
	}
	settle(t, b, "t/eager", delivered(4, 2, 200, 0), delivered(1, 1, 202, 0))
	clock.pass(time.Millisecond)
	putMany(t, b, 7, 7)
	if n := receiptRows(t, path); n != 1 {
		t.Errorf("%d rows after a second, want 1", n)
	}
	want[0].At = clock.Now()
	check := func(when string) {
		t.Helper()
		both := append(want[:1:1], event.DatedReceipt{Receipt: event.Receipt{Attempt: 1, Status: 202}, At: want[0].At})
		if d := cmp.Diff(both, receiptsOf(t, b, "t/eager", 1)); d != "" {
			t.Error(when, d)
		}
		for o, n := range map[event.Offset]int{2: 0, 3: 1, 4: 1, 5: 0, 99: 0} {
			if got := receiptsOf(t, b, "t/eager", o); len(got) != n {
				t.Errorf("%s: event %d has %v", when, o, got)
			}
		}
		if got := receiptsOf(t, b, "t/lazy", 1); len(got) != 0 {
			t.Errorf("%s: the other subscription has %v", when, got)
		}
	}
	check("on disk")
	big := receiptsOf(t, b, "t/eager", 3)[0]
	if big.Attempt != 65535 || big.Took != (1<<32-1)*time.Millisecond {
		t.Errorf("what does not fit is %+v", big)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = opened(t, Options{Path: path})
	check("after a restart")
	if _, err := b.Receipts(t.Context(), "nobody", 1); err == nil {
		t.Error("an unknown subscription has receipts")
	}
}

// Without any other commit receipts are written after a second, and at the end.
func TestReceiptsAlone(t *testing.T) {
	clock, path := newHand(), filepath.Join(t.TempDir(), "outbox.db")
	b := opened(t, Options{Path: path, Clock: clock})
	putMany(t, b, 1, 2)
	settle(t, b, "t/eager", delivered(1, 1, 200, 0))
	for n := 0; receiptRows(t, path) == 0; n++ { // the writer may not have gone to sleep yet when the time passes
		if n == 1000 {
			t.Fatal("the receipt was not written")
		}
		clock.pass(time.Second)
	}
	settle(t, b, "t/eager", delivered(2, 1, 200, 0))
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if n := receiptRows(t, path); n != 2 {
		t.Errorf("%d rows after the end, want 2", n)
	}
}

// A page of receipts does not wait for the second; rows are neither longer than a page nor wider than a look-up looks.
func TestReceiptsByThePage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	b := opened(t, Options{Path: path, Clock: newHand()})
	const n = 20_000
	for at := 1; at <= n; at += 4000 {
		putMany(t, b, at, at+3999)
		var outcomes []event.Outcome
		for o := at + 3999; o >= at; o-- { // some sink is through with the last first
			if o > 1 {
				outcomes = append(outcomes, delivered(event.Offset(o), 1, 200, time.Duration(o)*time.Millisecond))
			}
		}
		if at == 1 {
			outcomes = append(outcomes, retrying(1, false))
		}
		settle(t, b, "t/eager", outcomes...)
	}
	settle(t, b, "t/eager", event.Outcome{Offset: 1, Row: true, Receipt: event.Receipt{Attempt: 9, Status: 200}})
	if rows := receiptRows(t, path); rows < n/receiptsPerRow-9 {
		t.Errorf("%d rows although the clock stands", rows)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = opened(t, Options{Path: path})
	for o := event.Offset(1); o <= n; o += 97 {
		got := receiptsOf(t, b, "t/eager", o)
		if len(got) != 1 || o > 1 && got[0].Took != time.Duration(o)*time.Millisecond || o == 1 && got[0].Attempt != 9 {
			t.Fatalf("event %d: %v", o, got)
		}
	}
	c := outside(t, path)
	if wide, err := c.integer("SELECT max(high - low) FROM receipts"); err != nil || wide >= receiptSpan {
		t.Errorf("a row is %d offsets wide (%v)", wide, err)
	}
	if long, err := c.integer("SELECT max(length(body)) FROM receipts"); err != nil || long > pageSize-100 {
		t.Errorf("a row is %d bytes long (%v)", long, err)
	}
}

// Receipts stay within their bound, the oldest go, also across restarts.
func TestReceiptsBound(t *testing.T) {
	path, bound := filepath.Join(t.TempDir(), "outbox.db"), int64(40<<10)
	for round := range 3 {
		b := opened(t, Options{Path: path, Receipts: bound})
		for k := range 10 {
			at := round*10_000 + k*1000
			putMany(t, b, at+1, at+1000)
			var outcomes []event.Outcome
			for o := at + 1; o <= at+1000; o++ {
				outcomes = append(outcomes, delivered(event.Offset(o), 1, 200, 0))
			}
			settle(t, b, "t/eager", outcomes...)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		c := outside(t, path)
		size, err := c.integer("SELECT sum(length(body) + 64) FROM receipts")
		if err != nil || size > bound || size < bound/2 {
			t.Errorf("%d bytes of receipts, the bound is %d (%v)", size, bound, err)
		}
		b = opened(t, Options{Path: path, Receipts: bound})
		if got := b.writer.receipts.disk.size(); got != size {
			t.Errorf("a start finds %d bytes, there are %d", got, size)
		}
		last := event.Offset(round*10_000 + 10_000)
		if len(receiptsOf(t, b, "t/eager", last)) != 1 || len(receiptsOf(t, b, "t/eager", last-9000)) != 0 {
			t.Error("not the oldest went")
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A damaged row is an error that names it for those events that it covers, and nothing to the others.
func TestReceiptsDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	b := opened(t, Options{Path: path})
	putMany(t, b, 1, 40)
	for at := event.Offset(1); at <= 40; at += 10 {
		settle(t, b, "t/eager", delivered(at, 1, 200, 0), delivered(at+1, 1, 200, 0))
		if err := b.Close(); err != nil { // a row of their own
			t.Fatal(err)
		}
		b = opened(t, Options{Path: path})
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for _, damage := range []string{
		"body = substr(body, 1, 20) || x'01' || substr(body, 22)", "body = x''", "body = substr(body, 1, 20)", "at = at + 1",
		"low = low - 1", "high = high + 1", "subscription = 3 - subscription", "body = body || x'00'",
	} {
		c := outside(t, path, "BEGIN", "UPDATE receipts SET "+damage+" WHERE low = 11", "COMMIT")
		if err := c.close(); err != nil {
			t.Fatal(err)
		}
		b = opened(t, Options{Path: path})
		name := "t/eager"
		if strings.HasPrefix(damage, "subscription") {
			name = "t/lazy"
		}
		if _, err := b.Receipts(t.Context(), name, 11); err == nil || !strings.Contains(err.Error(), name+", receipts row") {
			t.Errorf("%s: %v", damage, err)
		}
		if got := receiptsOf(t, b, "t/eager", 21); len(got) != 1 {
			t.Errorf("%s: another event has %v", damage, got)
		}
		standings, err := b.Standings(t.Context(), "t", 11)
		if err == nil || len(standings) != 2 {
			t.Errorf("%s: standings are %v, %v", damage, standings, err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		undo := outside(t, path, "DELETE FROM receipts WHERE low BETWEEN 10 AND 11")
		if err := undo.close(); err != nil {
			t.Fatal(err)
		}
		b = opened(t, Options{Path: path})
		settle(t, b, "t/eager", delivered(11, 1, 200, 0), delivered(12, 1, 200, 0))
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// While too much is in use none are written and the old ones make room, without anybody asking.
func TestReceiptsMakeRoom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	b := opened(t, Options{Path: path})
	for at := 1; at <= 40_000; at += 4000 {
		putMany(t, b, at, at+3999)
		var outcomes []event.Outcome
		for o := at; o < at+4000; o++ {
			outcomes = append(outcomes, delivered(event.Offset(o), 1, 200, 0))
		}
		settle(t, b, "t/eager", outcomes...)
	}
	used := b.writer.used
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	rows := receiptRows(t, path)
	c := outside(t, path)
	pages, err := c.integer("PRAGMA page_count")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	clock := newHand()
	b, err = Open(t.Context(), Options{Path: path, MaxSize: pages * pageSize, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	if !b.writer.over.Load() {
		t.Fatalf("nothing is over: %d of %d", used, pages*pageSize)
	}
	for b.writer.over.Load() {
		clock.pass(receiptsRelease)
		runtime.Gosched()
	}
	if left := receiptRows(t, path); left >= rows || left == 0 {
		t.Errorf("%d of %d rows are left", left, rows)
	}
}

func TestStandings(t *testing.T) {
	b := opened(t, Options{})
	putMany(t, b, 1, 5)
	settle(t, b, "t/eager", delivered(1, 1, 200, 0), event.Outcome{Offset: 2}, retrying(3, false),
		event.Outcome{Offset: 4, Exception: &event.Exception{State: event.Dead, Reason: event.ReasonPermanent}})
	for o, want := range map[event.Offset]event.StandingState{
		1: event.StandsSettled, 2: event.StandsSettled, 3: event.StandsRetrying, 4: event.StandsDead, 5: event.StandsPending,
	} {
		all, err := b.Standings(t.Context(), "t", o)
		if err != nil || len(all) != 2 || all[0].Subscription != "t/eager" || all[0].State != want || all[1].State != event.StandsPending {
			t.Errorf("event %d: %+v, %v", o, all, err)
		}
		if o == 1 && len(all[0].Receipts) != 1 || o > 2 && o < 5 && all[0].Exception == nil {
			t.Errorf("event %d: %+v", o, all[0])
		}
	}
	if err := b.Configure(t.Context(), event.Layout{Topics: []event.Topic{{Name: "t", Subscriptions: []string{"t/lazy"}}}}); err != nil {
		t.Fatal(err)
	}
	putMany(t, b, 6, 6)
	if all, err := b.Standings(t.Context(), "t", 6); err != nil || all[0].State != event.StandsForeign {
		t.Errorf("behind its end: %+v, %v", all, err)
	}
	if err := b.Configure(t.Context(), crashLayout); err != nil {
		t.Fatal(err)
	}
	if all, err := b.Standings(t.Context(), "t", 6); err != nil || all[0].State != event.StandsForeign {
		t.Errorf("in a gap: %+v, %v", all, err)
	}
	if _, err := b.Standings(t.Context(), "nowhere", 1); err == nil {
		t.Error("an unknown topic has standings")
	}
}

// TestReceiptsGoFirst: where room is short, receipts go before any history does, and come back when there is room.
func TestReceiptsGoFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	b := opened(t, Options{Path: path, MaxSize: 16 << 20})
	settleTo := func(to int) {
		t.Helper()
		from, _ := b.subscription("t/eager").Position()
		var outcomes []event.Outcome
		for o := int(from) + 1; o <= to; o++ {
			outcomes = append(outcomes, delivered(event.Offset(o), 1, 200, 0))
		}
		settle(t, b, "t/eager", outcomes...)
		settle(t, b, "t/lazy", all(from+1, event.Offset(to))...)
	}
	for at := 1; at <= 40_000; at += 4000 {
		putMany(t, b, at, at+3999)
		settleTo(at + 3999)
	}
	head := 40_000
	if n := receiptRows(t, path); n < 60 {
		t.Fatalf("%d rows", n)
	}
	for b.Space().Purged == 0 {
		receive(t, b, "t", 300<<10, 1)
		head++
		settleTo(head)
	}
	if n := receiptRows(t, path); n != 0 {
		t.Errorf("history went, and %d rows of receipts are left", n)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = opened(t, Options{Path: path, MaxSize: 64 << 20})
	putMany(t, b, head+1, head+1000)
	settleTo(head + 1000)
	settleTo(head + 1000)
	if n := receiptRows(t, path); n == 0 {
		t.Error("there is room again, and no receipts are kept")
	}
}
